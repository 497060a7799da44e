"""Which sockets have something to read: one interface over epoll, kqueue, and gevent's own watchers.

Epoll and kqueue sets have a file descriptor of their own. gevent's hub watches that one descriptor, however many
sockets are in the set: no watcher is started, run and stopped for each of them. Where neither exists each socket
gets a watcher of the hub; slower, and the same to the engine.

Locust's monkey-patching removes epoll and kqueue from the `select` module: the originals are asked for.
"""

import select
from collections.abc import Callable
from typing import Any, Protocol

from gevent import get_hub
from gevent.monkey import get_original

READ = 1
WRITE = 2
END = 4  # with READ: the other side has closed, or the connection is broken

# Sockets told of in one poll: enough to share its system call, few enough to look at the clock between two.
MAX_EVENTS = 64


class Readiness(Protocol):
    """A set of descriptors. `wake` (given at creation) is called by the hub while any of them is ready.

    What has come may be told of once: who leaves some of it unread remembers that.
    """

    def add(self, fd: int) -> None:
        """Watch for bytes to read."""

    def watch_writing(self, fd: int, wanted: bool) -> None:
        """Also watch for room to write, or no longer."""

    def remove(self, fd: int) -> None:
        """Forget it; before it is closed."""

    def poll(self, wait_s: float) -> list[tuple[int, int]]:
        """What is ready: (descriptor, READ | WRITE). Waits for the first at most `wait_s`, some milliseconds."""

    def close(self) -> None: ...


class _InKernel:
    """What the sets with a descriptor share: the hub watches it."""

    def __init__(self, fd: int, wake: Callable[[], None]) -> None:
        self._watcher = get_hub().loop.io(fd, READ)
        self._watcher.start(wake)

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()


class EpollReadiness(_InKernel):
    """Linux. Edge-triggered: otherwise each socket that was told of is looked at once more in the next poll."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._epoll = get_original("select", "epoll")()
        # EPOLLIN with EPOLLRDHUP and EPOLLET, and EPOLLOUT. Errors and hang-ups are told as something to read, where
        # recv tells what it is.
        self._in, self._out = 0x1 | 0x2000 | 1 << 31, 0x4
        self._poll = self._epoll.poll
        super().__init__(self._epoll.fileno(), wake)

    def add(self, fd: int) -> None:
        self._epoll.register(fd, self._in)

    def watch_writing(self, fd: int, wanted: bool) -> None:
        self._epoll.modify(fd, self._in | self._out if wanted else self._in)

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)

    def poll(self, wait_s: float) -> list[tuple[int, int]]:
        # The kernel goes round: what did not fit into this answer comes first in the next.
        ready: list[tuple[int, int]] = self._poll(wait_s, MAX_EVENTS)
        for place, (fd, mask) in enumerate(ready):
            if mask != READ:
                wants = (READ if mask & ~self._out else 0) | (WRITE if mask & self._out else 0)
                wants |= END if mask & ~(READ | self._out) else 0
                ready[place] = (fd, wants)
        return ready

    def close(self) -> None:
        super().close()
        self._epoll.close()


class KqueueReadiness(_InKernel):
    """macOS and the BSDs."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._kqueue: Any = get_original("select", "kqueue")()
        self._event: Any = get_original("select", "kevent")
        super().__init__(self._kqueue.fileno(), wake)

    def _change(self, fd: int, kind: int, add: bool) -> None:
        flags = 0x1 if add else 0x2  # KQ_EV_ADD, KQ_EV_DELETE
        self._kqueue.control([self._event(fd, kind, flags)], 0, 0)

    def add(self, fd: int) -> None:
        self._change(fd, -1, True)  # KQ_FILTER_READ

    def watch_writing(self, fd: int, wanted: bool) -> None:
        self._change(fd, -2, wanted)  # KQ_FILTER_WRITE

    def remove(self, fd: int) -> None:
        for kind in (-1, -2):
            try:
                self._change(fd, kind, False)
            except OSError:
                pass  # it was not watched for that

    def poll(self, wait_s: float) -> list[tuple[int, int]]:
        events = self._kqueue.control(None, MAX_EVENTS, wait_s)
        return [(event.ident, WRITE if event.filter == -2 else READ) for event in events]

    def close(self) -> None:
        super().close()
        self._kqueue.close()


class HubReadiness:
    """Everywhere else: one watcher of the hub for each socket."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._watchers: dict[int, Any] = {}
        self._ready: dict[int, int] = {}
        self._loop = get_hub().loop

    def _watch(self, fd: int, events: int) -> None:
        watcher = self._watchers[fd] = self._loop.io(fd, events)

        def on_ready(seen: int) -> None:
            self._ready[fd] = self._ready.get(fd, 0) | (seen & events or READ)
            self._wake()

        watcher.start(on_ready, pass_events=True)

    def add(self, fd: int) -> None:
        self._watch(fd, READ)

    def watch_writing(self, fd: int, wanted: bool) -> None:
        self._watchers.pop(fd).close()
        self._watch(fd, READ | WRITE if wanted else READ)

    def remove(self, fd: int) -> None:
        self._watchers.pop(fd).close()
        self._ready.pop(fd, None)

    def poll(self, wait_s: float) -> list[tuple[int, int]]:
        ready = list(self._ready.items())
        self._ready.clear()
        return ready

    def close(self) -> None:
        for watcher in self._watchers.values():
            watcher.close()
        self._watchers.clear()


def best_readiness(wake: Callable[[], None]) -> Readiness:
    """The fastest kind that this machine has."""
    for name, kind in (("epoll", EpollReadiness), ("kqueue", KqueueReadiness)):
        try:
            get_original("select", name)
        except AttributeError:
            continue
        return kind(wake)
    return HubReadiness(wake)


assert select  # imported so that get_original finds the module patched or not
