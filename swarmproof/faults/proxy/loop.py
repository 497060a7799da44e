"""One thread that waits for sockets and for times: `selectors` and a heap."""

import heapq
import itertools
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from types import FrameType

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE
LONGEST_WAIT_S = 3600.0


class Loop:
    """Callbacks on sockets get the ready mask; timers are one-shot. Everything runs in the thread of `run`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
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
        self._selector.register(sock, mask, callback)

    def change(self, sock: socket.socket, mask: int, callback: Callable[[int], None]) -> None:
        self._selector.modify(sock, mask, callback)

    def forget(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)

    def call_at(self, due_s: float, callback: Callable[[], None]) -> None:
        """`due_s` as `time.monotonic` has it. It cannot be taken back: the callback looks whether it still counts."""
        heapq.heappush(self._timers, (due_s, next(self._order), callback))

    def run(self) -> None:
        """Serve until `stop`."""
        select, timers, now_s = self._selector.select, self._timers, time.monotonic
        while not self._stopped:
            wait_s = min(max(timers[0][0] - now_s(), 0.0), LONGEST_WAIT_S) if timers else LONGEST_WAIT_S
            for key, mask in select(wait_s):
                if key.fileobj.fileno() >= 0:  # type: ignore[union-attr] # closed by an earlier one of this round?
                    key.data(mask)
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
        self._selector.close()
        self._awake.close()
        self._alarm.close()

    def _empty(self, mask: int) -> None:
        self._awake.recv(4096)
