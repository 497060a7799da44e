"""How bytes leave a connection: at once if the kernel takes them, else as soon as it does.

Nobody waits here: what the kernel does not take is kept (`_unsent`), whoever shares the connection sends behind it,
and the connection is told when its socket takes bytes again. How it is told is the owner's: a watcher of gevent's hub
for scripted users (`users.connection`), the engine's own epoll (`users.engine.exchange`).
"""

from collections.abc import Callable
from typing import Final

from users.failures import ConnectionLost, RequestFailure
from users.opening import loss
from users.transport import TlsFilter

# Unsent bytes above which callers wait for the kernel to take some: a stalled server must not fill our memory.
MAX_UNSENT_BYTES: Final = 4 * 1_048_576


class Sender:
    """One open socket's outgoing half."""

    __slots__ = ("_sock_send", "_tls", "_unsent", "_writing")

    _sock_send: Callable[[bytes | bytearray], int]
    _tls: TlsFilter | None
    _unsent: bytearray
    _writing: bool

    # -- what an owner defines -----------------------------------------------------------------------------------

    def watch_writing(self, wanted: bool) -> None:
        """Have `on_writable` called while the socket takes bytes, or no longer."""
        raise NotImplementedError

    def lose(self, failure: RequestFailure) -> None:
        """The connection is over."""
        raise NotImplementedError

    def write(self, data: bytes | bytearray) -> int:
        """Hand bytes to the kernel; how many it took. Errors: OSError, BlockingIOError when it takes none."""
        return self._sock_send(data)

    def written(self) -> None:
        """All that was kept has gone."""

    # -- sending -------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Hand `data` to the kernel; what it does not take is kept and sent when it does."""
        if self._tls is not None:
            data = self._tls.send(data)
        if self._writing:  # something is kept
            self._unsent += data
            return
        try:
            sent = self.write(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.lose(ConnectionLost(loss(error)))
            return
        if sent != len(data):
            self.keep(memoryview(data)[sent:])

    def keep(self, data: bytes | memoryview) -> None:
        """Send this as soon as the kernel takes bytes again."""
        self._unsent += data
        self._writing = True
        self.watch_writing(True)

    def on_writable(self) -> None:
        """The kernel takes bytes again."""
        try:
            sent = self.write(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self.lose(ConnectionLost(loss(error)))
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._stop_writing()
            self.written()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self.watch_writing(False)
