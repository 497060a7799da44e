"""One measured client in a process of its own: prints a JSON line with what each round trip cost it.

    python -m benchmarks.client ROW PORT --users 20 --depth 1 --seconds 4

Users are swarmproof's or those of a bare loop. The CPU is that of this process alone (getrusage), counted between two
moments well inside the run, together with the round trips that were *checked and recorded* between them. Everything is
on: Locust's statistics, the histograms, the run directory's records.
"""

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections import deque  # noqa: E402
from types import SimpleNamespace  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from gevent.monkey import get_original  # noqa: E402
from locust import User  # noqa: E402
from locust.env import Environment  # noqa: E402

from benchmarks import stock  # noqa: E402
from locustfiles import envelope, f00d, websocket_echo, websocket_rpc  # noqa: E402
from records.latency import LatencyStore  # noqa: E402
from records.recorder import recorder  # noqa: E402
from users import statistics as batches  # noqa: E402
from users.engine.loop import engine_of_this_thread  # noqa: E402
from users.statistics import Tally  # noqa: E402

WARM_UP_S = 1.0


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Floor:
    """The least that gevent sockets can cost: no codec, no check, no record."""

    def __init__(self, port: int, users: int) -> None:
        self.count = 0
        self._greenlets = [gevent.spawn(self._loop, port) for _ in range(users)]

    def _loop(self, port: int) -> None:
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        message = b"\0\0\0\x40" + b"x" * 64
        while True:
            sock.sendall(message)
            got = sock.recv(65_536)
            while len(got) < len(message):
                got += sock.recv(65_536)
            self.count += 1

    def stop(self) -> None:
        gevent.killall(self._greenlets)


class BareLoop:
    """The least that many connections can cost a Python program: one epoll; read, compare, write; no codec, no record.

    Its growth with the number of connections is what the kernel and cold caches take from anybody.
    """

    def __init__(self, port: int, users: int) -> None:
        self.count = 0
        self._epoll = get_original("select", "epoll")()
        self._socks = {}
        for _ in range(users):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            self._socks[sock.fileno()] = sock
            self._epoll.register(sock.fileno(), 1)
        self._greenlet = gevent.spawn(self._loop)

    def _loop(self) -> None:
        message = b"\0\0\0\x40" + b"x" * 64
        poll, read, write = self._epoll.poll, os.read, os.write
        for fd in self._socks:
            write(fd, message)
        while True:
            turn_ends = time.monotonic() + 0.003
            while time.monotonic() < turn_ends:
                for fd, _ in poll(0.001, 128):
                    if read(fd, 65_536) != message:
                        raise SystemExit("the target did not answer with what it was sent, in one piece")
                    write(fd, message)
                    self.count += 1
            gevent.sleep(0)

    def stop(self) -> None:
        self._greenlet.kill()


class RpcEchoOnly(websocket_rpc.WebSocketRpc):
    """Every call an echo of 64 bytes: the payload that the other rows carry."""

    engine_mix = {"echo": 1}  # noqa: RUF012

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.tasks = [RpcEchoOnly.echo]


CLASSES: dict[str, tuple[type[User], str]] = {
    "envelope": (envelope.Echo, "tcp"),
    "f00d": (f00d.Device, "tcp"),
    "f00d_raw": (f00d.Device, "tcp"),
    "websocket_echo": (websocket_echo.WebSocketEcho, "ws"),
    "websocket_rpc": (RpcEchoOnly, "ws"),
    "websocket_rpc_mix": (websocket_rpc.WebSocketRpc, "ws"),
    "stock_tcp": (stock.StockTcpUser, "tcp"),
    "stock_websocket": (stock.StockWebSocketUser, "ws"),
}
#: Loops that do nothing of what a load generator is for.
BARE: dict[str, Any] = {"floor": Floor, "bare_loop": BareLoop}
#: The name of the requests that are counted.
COUNTED = ("echo", "toggle", "echo text", "echo binary", "add", "get_time", "error_test")


class LocustLoad:
    """A scenario in a Locust environment of this process."""

    def __init__(self, row: str, port: int, users: int, *, depth: int, engine: bool, options: dict[str, Any]) -> None:
        user_class, scheme = CLASSES[row]
        parsed = {"depth": depth, "engine": engine, "payload_bytes": 64, "message": "text", "connect_deadline": 30.0}
        if row.startswith("f00d"):
            parsed |= {"ack": "raw" if row == "f00d_raw" else "framed", "f00d_connections": "reuse"}
        self.environment = Environment(
            user_classes=[user_class],
            host=f"{scheme}://127.0.0.1:{port}",
            parsed_options=SimpleNamespace(**(parsed | options)),
        )
        self._directory = tempfile.TemporaryDirectory()
        recorder.start(self._directory.name, "benchmark")
        self.store = LatencyStore()
        self._runner = self.environment.create_local_runner()
        self._ticker = gevent.spawn(self._tick)
        self._runner.start(users, spawn_rate=max(users, 1000))

    def _tick(self) -> None:
        while True:
            gevent.sleep(1)
            recorder.gather()
            self.store.add(recorder.flush())

    @property
    def count(self) -> int:
        recorder.gather()
        entries = self.environment.stats.entries
        return sum(entry.num_requests for (name, _), entry in entries.items() if name in COUNTED)

    @property
    def failures(self) -> int:
        return int(self.environment.stats.total.num_failures)

    @property
    def connected(self) -> int:
        """How many users have a connection, as far as they tell (F00D's and the stock ones do not)."""
        users: int = self._runner.user_count
        told = [entry.num_requests for (name, _), entry in self.environment.stats.entries.items() if name == "connect"]
        return min(users, *told) if told else (users if self.count else 0)

    def stop(self) -> None:
        self._runner.stop()
        self._ticker.kill()
        recorder.stop()
        self._directory.cleanup()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    options = json.loads(arguments.options)
    if arguments.unrecorded:
        record_nothing()
    load: Any
    if arguments.row in BARE:
        load = BARE[arguments.row](arguments.port, arguments.users)
    else:
        load = LocustLoad(
            arguments.row,
            arguments.port,
            arguments.users,
            depth=arguments.depth,
            engine=arguments.engine,
            options=options,
        )
        deadline = time.monotonic() + 120
        while load.connected < arguments.users and time.monotonic() < deadline:
            gevent.sleep(0.1)
    engine = engine_of_this_thread()
    gevent.sleep(WARM_UP_S if arguments.users < 500 else 3 * WARM_UP_S)
    lag = Probe()
    engine.longest_turn_ns = 0
    user_s = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    cpu, count, started = cpu_s(), load.count, time.monotonic()
    gevent.sleep(arguments.seconds)
    cpu, count, spent = cpu_s() - cpu, load.count - count, time.monotonic() - started
    user_s = resource.getrusage(resource.RUSAGE_SELF).ru_utime - user_s
    result = {
        "cpu_us": cpu / max(1, count) * 1e6,
        "rate": count / spent,
        "busy": cpu / spent,
        "user_us": user_s / max(1, count) * 1e6,
        "failures": getattr(load, "failures", 0),
        "lag_ms": lag.stop(),
        "turn_ms": engine.longest_turn_ns / 1e6,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    load.stop()
    return result


def record_nothing() -> None:
    """Only count round trips: no times are kept, no histograms made, and Locust's statistics get a number."""

    class Uncounted(Tally):
        __slots__ = ()

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            nothing: Any = deque(maxlen=0)
            self.intended = self.call = nothing
            self.appends = (nothing.append, nothing.append, self.returned.append, self.counts.append)

        def flush(self) -> None:
            number = sum(self.counts) or len(self.returned)
            del self.counts[:], self.returned[:]
            self._environment.stats.entries[self.name, self.request_type].num_requests += number

    batches.Tally = Uncounted  # type: ignore[misc]


class Probe:
    """How late the hub wakes a greenlet that sleeps 5 ms at a time: the worst, in ms."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._greenlet = gevent.spawn(self._loop)

    def _loop(self) -> None:
        while True:
            due = time.monotonic() + 0.005
            gevent.sleep(0.005)
            self.worst_s = max(self.worst_s, time.monotonic() - due)

    def stop(self) -> float:
        self._greenlet.kill()
        return self.worst_s * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row", choices=[*BARE, *CLASSES])
    parser.add_argument("port", type=int)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--engine", action="store_true")
    parser.add_argument("--unrecorded", action="store_true", help="leave out what records cost")
    parser.add_argument("--options", default="{}", help="further options of the scenario, as JSON")
    result = measure(parser.parse_args())
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    main()
