"""A listening port that can be shut: as long as nobody is behind it, whoever knocks is refused, as at the server's own.

A proxy that accepts before it knows whether there is a server turns "connection refused", after which a client knows
that nothing was done, into a reset connection, after which it knows nothing. So the first refusal of the server shuts
the door, and a look at the server every few milliseconds opens it again. The port stays ours meanwhile: the socket is
bound but does not listen.
"""

import contextlib
import errno
import socket
import time
from collections.abc import Callable
from typing import Final

from swarmproof.faults.proxy.loop import READ, WRITE, Loop

BACKLOG: Final = 1024
# A restarted server is reachable so soon after it listens; on loopback a look costs some microseconds.
LOOK_EVERY_S: Final = 0.02


class Door:
    """`accept` is called with each socket's readiness while it is open. Errors: OSError when the port cannot be had."""

    def __init__(
        self, loop: Loop, listen: tuple[str, int], upstream: tuple[str, int], accept: Callable[[int], None]
    ) -> None:
        self._loop = loop
        self._upstream = upstream
        self._accept = accept
        self.listener = _bound(listen)
        self.address: tuple[str, int] = self.listener.getsockname()[:2]
        self.is_open = False
        self._closed = False
        self._looking: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Accept. Idempotent."""
        if self.is_open or self._closed:
            return
        self.listener.listen(BACKLOG)
        self.listener.setblocking(False)
        self.is_open = True
        self._loop.watch(self.listener, READ, self._accept)

    def shut(self) -> None:
        """Refuse, until the server can be reached again. Where a system cannot do that, the door stays open."""
        if not self.is_open:
            return
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        self._loop.forget(self.listener)
        self.is_open = False
        self._look_later()

    def close(self) -> None:
        """Give the port back. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self.is_open:
            self._loop.forget(self.listener)
        self.is_open = False
        self._stop_looking()
        self.listener.close()

    def _look_later(self) -> None:
        self._loop.call_at(time.monotonic() + LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        if self.is_open or self._closed or self._looking is not None:
            return
        host, _ = self._upstream
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        self._looking = sock
        self._loop.watch(sock, WRITE, self._looked)
        if sock.connect_ex(self._upstream) not in (0, errno.EINPROGRESS):
            self._stop_looking()
            self._look_later()

    def _looked(self, mask: int) -> None:
        sock = self._looking
        is_there = sock is not None and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._stop_looking()
        if is_there:
            self.open()
        else:
            self._look_later()

    def _stop_looking(self) -> None:
        if self._looking is not None:
            self._loop.forget(self._looking)
            with contextlib.suppress(OSError):
                self._looking.close()
            self._looking = None


def _bound(listen: tuple[str, int]) -> socket.socket:
    """Bound to the port by its number: one that the system chose would be let go when the door is shut."""
    host, port = listen
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        asked.bind((host, port))
        port = asked.getsockname()[1]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
