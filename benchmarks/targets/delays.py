"""An envelope server whose delays are known: each answer after a chosen time, and now and then a freeze.

    python -m benchmarks.targets.delays --delays uniform:10:30 --freeze 20:2 --log delays.npy

Delays are in milliseconds: `constant:1`, `uniform:LOW:HIGH`, `exponential:MEAN`, `two:FIRST:SECOND:SHARE_OF_SECOND`.
`--freeze AT:LENGTH` in seconds from the first request: nothing is read or written meanwhile, as in a long pause of a
garbage collector. At SIGTERM the log is written, one row per request: received, chosen delay, answered (ns).
Received is when the kernel had it, if that can be known (`users.kernel_times`): a machine that keeps this process from
reading it does not add to the delay, as long as it is read before it is due.

It answers all requests side by side. It sleeps until shortly before the next answer is due, and looks at the clock
from then on; with `--awake` it never sleeps, which wants a processor of its own (a virtual machine's is woken up to
some milliseconds late, whatever the timer says). A busy machine makes it late all the same: what it really did is in
the log, to be told apart from what the load generator says.
"""

import argparse
import contextlib
import ctypes
import gc
import heapq
import select
import signal
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np

from users.kernel_times import KernelTimes, kernel_times

_LENGTH = struct.Struct(">I")
_PR_SET_TIMERSLACK = 29
_ONE_NS = 1
_AS_BEFORE = 0
#: Delays are drawn in advance, so many, and used over and over.
DRAWN = 1 << 16
#: So long before an answer is due it does not sleep any more: to be woken takes as long, and now and then longer.
AWAKE_NS = 150_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


def draw_ns(text: str, seed: int = 1) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """`DRAWN` delays of a distribution, shuffled: its quantiles at equal distances, so that it is met exactly."""
    kind, *numbers = text.split(":")
    values = [float(number) for number in numbers]
    at = (np.arange(DRAWN) + 0.5) / DRAWN
    shapes: dict[str, Callable[[], Any]] = {
        "constant": lambda: np.full(DRAWN, values[0]),
        "uniform": lambda: values[0] + at * (values[1] - values[0]),
        "exponential": lambda: -values[0] * np.log1p(-at),
        "two": lambda: np.where(at < 1 - values[2], values[0], values[1]),
    }
    delays: np.ndarray[Any, np.dtype[np.int64]] = (shapes[kind]() * NS_PER_MS).astype(np.int64)
    np.random.default_rng(seed).shuffle(delays)
    return delays


class DelayServer:
    def __init__(
        self, delays_ns: list[int], freeze: tuple[float, float] | None, log: str, *, is_awake: bool = False
    ) -> None:
        self._delays_ns = delays_ns
        self._longest_sleep_s = 0.0 if is_awake else 0.1
        self._freeze = freeze
        self._log_path = log
        self._log = array("q")
        self._epoll = select.epoll()
        self._peers: dict[int, tuple[socket.socket, bytearray, KernelTimes | None]] = {}
        self._due: list[tuple[int, int, int, bytes]] = []  # when, number, fd, answer
        self._number = 0
        self._first_ns = self._thawed_ns = 0
        self._stopped = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: Any) -> None:
        self._stopped = True

    def serve(self) -> None:
        print(f"delays listening on 127.0.0.1:{self._listener.getsockname()[1]}", flush=True)
        epoll = self._epoll.fileno()
        while not self._stopped:
            wait_s = self._longest_sleep_s
            if self._due:
                wait_s = min(wait_s, max(0, self._due[0][0] - AWAKE_NS - time.monotonic_ns()) / NS_PER_S)
            try:
                select.select([epoll], [], [], wait_s)  # microseconds, where epoll's own timeout has milliseconds
            except InterruptedError:
                continue
            self._freeze_if_due()
            for fd, _ in self._epoll.poll(0):
                if fd == self._listener.fileno():
                    self._accept()
                else:
                    self._read(fd)
            self._answer()
        np.save(self._log_path, np.frombuffer(self._log, dtype=np.int64).reshape(-1, 3))

    def _freeze_if_due(self) -> None:
        if self._freeze is None or not self._first_ns:
            return
        at_s, length_s = self._freeze
        if time.monotonic_ns() >= self._first_ns + int(at_s * NS_PER_S):
            end_ns = self._first_ns + int((at_s + length_s) * NS_PER_S)
            self._freeze, self._thawed_ns = None, end_ns
            time.sleep(max(0, end_ns - time.monotonic_ns()) / NS_PER_S)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peers[sock.fileno()] = (sock, bytearray(), kernel_times(sock, wanted=True))
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _read(self, fd: int) -> None:
        sock, received, timed = self._peers[fd]
        try:
            data = sock.recv(1 << 18) if timed is None else timed.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._epoll.unregister(fd)
            del self._peers[fd]
            sock.close()
            return
        received += data
        came_ns = time.monotonic_ns() if timed is None else max(timed.came_ns, self._thawed_ns)
        self._first_ns = self._first_ns or came_ns
        place = 0
        while len(received) - place >= _LENGTH.size:
            end = place + _LENGTH.size + _LENGTH.unpack_from(received, place)[0]
            if end > len(received):
                break
            self._number += 1
            delay_ns = self._delays_ns[self._number % DRAWN]
            heapq.heappush(self._due, (came_ns + delay_ns, self._number, fd, bytes(received[place:end])))
            place = end
        del received[:place]

    def _answer(self) -> None:
        """Everything that is due, in one send for each client: after a freeze that is a good deal."""
        now_ns = time.monotonic_ns()
        answers: dict[int, list[bytes]] = {}
        rows: list[tuple[int, int]] = []
        while self._due and self._due[0][0] <= now_ns:
            due_ns, number, fd, answer = heapq.heappop(self._due)
            answers.setdefault(fd, []).append(answer)
            delay_ns = self._delays_ns[number % DRAWN]
            rows.append((due_ns - delay_ns, delay_ns))
        for fd, parts in answers.items():
            peer = self._peers.get(fd)
            if peer is not None:
                with contextlib.suppress(OSError):
                    peer[0].send(b"".join(parts))  # some kilobytes at most: the kernel takes them
        sent_ns = time.monotonic_ns()
        for received_ns, delay_ns in rows:
            self._log.extend((received_ns, delay_ns, sent_ns))


def exact_timers(*, exact: bool = True) -> None:
    """The kernel may wake a process 50 us late to save work; not this one, nor those that it starts meanwhile."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _ONE_NS if exact else _AS_BEFORE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delays", default="constant:1")
    parser.add_argument("--freeze", default="", metavar="AT:LENGTH")
    parser.add_argument("--log", default="delays.npy")
    parser.add_argument("--awake", action="store_true")
    arguments = parser.parse_args()
    freeze = None
    if arguments.freeze:
        at, length = arguments.freeze.split(":")
        freeze = (float(at), float(length))
    exact_timers()
    server = DelayServer(draw_ns(arguments.delays).tolist(), freeze, arguments.log, is_awake=arguments.awake)
    gc.disable()  # going through the delays takes two milliseconds, once a second; nothing here is in a cycle
    server.serve()


if __name__ == "__main__":
    main()
