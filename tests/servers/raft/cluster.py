"""A cluster of real node processes for tests, and a plain client for one connection.

with Cluster(3, tmp_path) as cluster:
    leader = cluster.leader()
    cluster.call(leader, KvRequest("put", "k", "v"))
    cluster.kill(leader)
"""

import random
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from protocols import kv
from protocols.kv import KvCodec, KvReply, KvRequest, KvStatus
from tests.processes import Process, wait_until

# Below the range from which the system takes the ports of outgoing connections, so that none is lost to one of them.
FIRST_PORT, LAST_PORT = 15000, 32000
ANSWER_DEADLINE_S = 15.0
STATUS_DEADLINE_S = 1.0
POLL_S = 0.01


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(FIRST_PORT, LAST_PORT)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class KvConnection:
    """One connection to one node; requests may be sent ahead of their replies."""

    def __init__(self, address: tuple[str, int], timeout_s: float = ANSWER_DEADLINE_S) -> None:
        self.sock = socket.create_connection(address, timeout=timeout_s)
        self._codec = KvCodec()
        self._next_id = 1
        self._replies: dict[int, KvReply] = {}

    def send(self, request: KvRequest) -> int:
        request_id = self._next_id
        self._next_id += 1
        self.sock.sendall(self._codec.encode(request_id, request))
        return request_id

    def reply_to(self, request_id: int) -> KvReply:
        """Raises EOFError or OSError when the connection ends first."""
        while request_id not in self._replies:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("the node closed the connection")
            for number, reply in self._codec.receive_data(data):
                assert number not in self._replies, "a second reply to one request"
                self._replies[number] = reply
            assert self._codec.error is None, self._codec.error
        return self._replies.pop(request_id)

    def call(self, request: KvRequest) -> KvReply:
        return self.reply_to(self.send(request))

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Cluster:
    """Nodes 1..size on free ports of loopback, each with a directory of its own under `directory`."""

    def __init__(self, size: int, directory: Path, *options: str) -> None:
        self.directory = directory
        self.options = options
        self.ids = list(range(1, size + 1))
        ports = free_ports(2 * size)
        self.ports = dict(zip(self.ids, ports[:size], strict=True))
        self.peer_ports = dict(zip(self.ids, ports[size:], strict=True))
        self.secret_file = directory / "secret"
        self.secret_file.write_text("correct horse battery staple")
        self.processes: dict[int, Process] = {}
        self._all: list[Process] = []

    def command(self, node: int, *options: str) -> list[str]:
        """The command line of a node; `options` come last, so they win."""
        peers = ",".join(f"{n}=127.0.0.1:{port}" for n, port in self.peer_ports.items())
        clients = ",".join(f"{n}=127.0.0.1:{port}" for n, port in self.ports.items())
        return [
            *(sys.executable, "-m", "servers.raft", "--id", str(node), "--peers", peers, "--clients", clients),
            *("--data-dir", str(self.data_dir(node)), "--cluster-id", "test"),
            *("--secret-file", str(self.secret_file), *self.options, *options),
        ]

    def data_dir(self, node: int) -> Path:
        return self.directory / f"n{node}"

    def address(self, node: int) -> tuple[str, int]:
        return ("127.0.0.1", self.ports[node])

    # --- processes -----------------------------------------------------------------------------------------------

    def start(self, *nodes: int, options: Sequence[str] = (), prefix: Sequence[str] = ()) -> None:
        """Start nodes side by side and await each one's startup line."""
        for node in nodes:
            process = Process([*prefix, *self.command(node, *options)])
            self.processes[node] = process
            self._all.append(process)
        for node in nodes:
            assert self.processes[node].read_line() == f"raft listening on 127.0.0.1:{self.ports[node]}"

    def kill(self, *nodes: int) -> None:
        for node in nodes:
            self.processes[node].kill()

    def terminate(self, node: int) -> int:
        """SIGTERM; the exit code."""
        return self.processes[node].stop()

    def pause(self, node: int) -> None:
        self.processes[node].signal(signal.SIGSTOP)

    def resume(self, node: int) -> None:
        self.processes[node].signal(signal.SIGCONT)

    def running(self) -> list[int]:
        return [node for node, process in self.processes.items() if process.running]

    def __enter__(self) -> Self:
        try:
            self.start(*self.ids)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                for node, process in self.processes.items():
                    print(f"log of n{node}:\n{process.log_tail()}")
                return
            running = {node: self.processes[node] for node in self.running()}
            for process in running.values():
                process.signal(signal.SIGTERM)
            for node, process in running.items():
                assert process.wait() == 0, f"n{node} ended badly; log:\n{process.log_tail()}"
            for process in self._all:
                assert "Traceback" not in process.log(), process.log_tail()
                assert self.secret_file.read_text() not in process.log()
        finally:
            self.close()

    def close(self) -> None:
        for process in self._all:
            process.close()

    # --- asking --------------------------------------------------------------------------------------------------

    def connect(self, node: int) -> KvConnection:
        return KvConnection(self.address(node))

    def call(self, node: int, request: KvRequest) -> KvReply:
        with self.connect(node) as connection:
            return connection.call(request)

    def status(self, node: int) -> KvStatus | None:
        """None when the node does not answer."""
        try:
            with KvConnection(self.address(node), STATUS_DEADLINE_S) as connection:
                return connection.call(KvRequest(kv.STATUS)).status
        except (OSError, EOFError):
            return None

    def leader(self, but_not: int = 0) -> int:
        """The node that leads the highest term, awaited; `but_not` is somebody known to be gone."""

        def find() -> int:
            seen = [self.status(node) for node in self.running() if node != but_not]
            leaders = [status for status in seen if status is not None and status.role == "leader"]
            return max(leaders, key=lambda status: status.term).id if leaders else 0

        return wait_until(find, "a leader")

    def write(self, request: KvRequest) -> KvReply:
        """Carry a write through, as a client would: follow the leader and retry with the same client id and seq."""
        assert request.client_id is not None
        end = time.monotonic() + 2 * ANSWER_DEADLINE_S
        node = self.running()[0]
        last: object = None
        while time.monotonic() < end:
            try:
                with KvConnection(self.address(node), 5.0) as connection:
                    reply = connection.call(request)
            except (OSError, EOFError) as error:
                last = error
            else:
                if reply.result not in (kv.NOT_LEADER, kv.BUSY, kv.UNKNOWN):
                    return reply
                last = reply
                if reply.leader is not None:
                    node = reply.leader.id
                    time.sleep(POLL_S)
                    continue
            node = random.choice(self.running())
            time.sleep(POLL_S)
        raise AssertionError(f"no node carried out {request}: {last}")

    def read(self, node: int, key: str) -> KvReply:
        """A linearizable read at one node, awaited through elections."""

        def attempt() -> KvReply | None:
            try:
                reply = self.call(node, KvRequest(kv.GET, key))
            except (OSError, EOFError):
                return None
            return reply if reply.result in (kv.OK, kv.NOT_FOUND) else None

        reply = wait_until(attempt, f"a read of {key} at n{node}")
        assert reply is not None
        return reply
