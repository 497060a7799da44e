"""One thread that waits for sockets and for times: epoll and a heap; `selectors` where there is no epoll.

Straight to epoll because what `selectors` adds to each event is a good part of what a link costs.
"""

import heapq
import itertools
import math
import select
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import FrameType

READ = 1  # EPOLLIN
WRITE = 4  # EPOLLOUT
MAX_READY = 256  # in one turn, before timers are looked at
LONGEST_WAIT_S = 3600.0


class _Epoll:
    """Linux."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.register, self.modify, self.unregister = self._epoll.register, self._epoll.modify, self._epoll.unregister
        self.close = self._epoll.close

    def wait(self, timeout_s: float) -> list[tuple[int, int]]:
        """Whole milliseconds, rounded up: a timer is never looked at too early, again and again."""
        return self._epoll.poll(math.ceil(timeout_s * 1000) / 1000, MAX_READY)


class _Portable:
    """Everything else."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.unregister, self.close = self._selector.unregister, self._selector.close

    def register(self, descriptor: int, mask: int) -> None:
        self._selector.register(descriptor, self._own(mask))

    def modify(self, descriptor: int, mask: int) -> None:
        self._selector.modify(descriptor, self._own(mask))

    def wait(self, timeout_s: float) -> Iterable[tuple[int, int]]:
        for key, mask in self._selector.select(timeout_s):
            yield key.fd, (READ if mask & selectors.EVENT_READ else 0) | (WRITE if mask & selectors.EVENT_WRITE else 0)

    @staticmethod
    def _own(mask: int) -> int:
        return (selectors.EVENT_READ if mask & READ else 0) | (selectors.EVENT_WRITE if mask & WRITE else 0)


class Loop:
    """Callbacks on sockets get the ready mask (errors and ends have further bits); timers are one-shot.

    Everything runs in the thread of `run`.
    """

    def __init__(self) -> None:
        self._poller = _Epoll() if sys.platform == "linux" else _Portable()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._stopped = False
        self._awake, self._alarm = socket.socketpair()
        self._awake.setblocking(False)
        self._alarm.setblocking(False)
        self.watch(self._awake, READ, self._empty)

    def stop_on(self, numbers: Sequence[signal.Signals]) -> None:
        """These signals end `run`. Only in the main thread."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._stopped = True

        for number in numbers:
            signal.signal(number, stop)
        signal.set_wakeup_fd(self._alarm.fileno())

    def watch(self, sock: socket.socket, mask: int, callback: Callable[[int], None]) -> None:
        self._poller.register(sock.fileno(), mask)
        self._callbacks[sock.fileno()] = callback

    def change(self, sock: socket.socket, mask: int) -> None:
        self._poller.modify(sock.fileno(), mask)

    def forget(self, sock: socket.socket) -> None:
        del self._callbacks[sock.fileno()]
        self._poller.unregister(sock.fileno())

    def call_at(self, due_s: float, callback: Callable[[], None]) -> None:
        """`due_s` as `time.monotonic` has it. It cannot be taken back: the callback looks whether it still counts."""
        heapq.heappush(self._timers, (due_s, next(self._order), callback))

    def run(self) -> None:
        """Serve until `stop`."""
        wait, timers, now_s, callbacks = self._poller.wait, self._timers, time.monotonic, self._callbacks
        while not self._stopped:
            wait_s = min(max(timers[0][0] - now_s(), 0.0), LONGEST_WAIT_S) if timers else LONGEST_WAIT_S
            for descriptor, mask in wait(wait_s):
                callback = callbacks.get(descriptor)  # None: an earlier one of this round has closed it
                if callback is not None:
                    callback(mask)
            while timers and timers[0][0] <= now_s():
                heapq.heappop(timers)[2]()

    def stop(self) -> None:
        """End `run`. May be called from any thread."""
        self._stopped = True
        self.wake()

    def wake(self) -> None:
        """Look at the timers now. May be called from any thread."""
        self._alarm.send(b"!")

    def close(self) -> None:
        self._poller.close()
        self._awake.close()
        self._alarm.close()

    def _empty(self, mask: int) -> None:
        self._awake.recv(4096)
