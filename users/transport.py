"""Bytes to and from one server: dialling, and TLS as a filter.

`dial` gives a connected *plain* socket, non-blocking, without Nagle's delay. The connection core drives it
directly: no cooperative wrapper stands between it and the kernel.

TLS is done on memory buffers (`TlsFilter`), so that encrypted and plain connections share one reader and one
writer: what the socket brought goes through `receive`, what is to be sent through `send`.
"""

import _socket
import errno
import os
import socket
import ssl
from functools import lru_cache
from typing import Final, NamedTuple

import gevent.socket
from gevent import Timeout

from protocols.host import format_address
from protocols.websocket_events import MAX_MESSAGE_BYTES
from users.failures import ConnectFailed

# Plaintext handed out per read of the TLS layer: one record carries at most 16 KiB.
_TLS_READ_BYTES: Final = 65_536

_REFUSALS: Final = {
    errno.ECONNREFUSED: "connection refused: nothing listens at the host's port",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.ECONNRESET: "connection reset while connecting",
    errno.EMFILE: "out of file descriptors: raise the limit with ulimit -n",
    errno.ENFILE: "the system is out of file descriptors",
    errno.EADDRNOTAVAIL: "out of local ports: too many connections to one address",
}


class Endpoint(NamedTuple):
    """Where a server is. `tls` asks for TLS with the host's name verified, by the CA of `ca_file` (PEM) if given.

    `headers`, `subprotocols` and `compression` go with a WebSocket's handshake; of its messages none may exceed
    `max_message_bytes`.
    """

    host: str
    port: int
    tls: bool = False
    path: str = ""
    ca_file: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    subprotocols: tuple[str, ...] = ()
    compression: bool = False
    max_message_bytes: int = MAX_MESSAGE_BYTES

    @property
    def address(self) -> str:
        return format_address(self.host, self.port)


@lru_cache(maxsize=16)
def client_context(ca_file: str) -> ssl.SSLContext:
    """The TLS context for a CA file ("": the system's CAs), made once: reading them takes milliseconds."""
    return ssl.create_default_context(cafile=ca_file or None)


class TlsFilter:
    """One TLS client session without a socket. `ssl.SSLError` from any method means that the session is dead."""

    def __init__(self, server_name: str, context: ssl.SSLContext | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        context = context or client_context("")
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def handshake(self, sock: socket.socket) -> None:
        """Shake hands over a blocking socket. Raises ssl.SSLError, OSError."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush(sock)
                data = sock.recv(_TLS_READ_BYTES)
                if not data:
                    raise ssl.SSLError("closed during the TLS handshake") from None
                self._incoming.write(data)
        self._flush(sock)

    def _flush(self, sock: socket.socket) -> None:
        data = self._outgoing.read()
        if data:
            sock.sendall(data)

    def send(self, data: bytes) -> bytes:
        """The encrypted bytes of `data`."""
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        return self._outgoing.read()

    def receive(self, data: bytes) -> bytes:
        """The plain bytes that `data` completes, perhaps none."""
        self._incoming.write(data)
        pieces = []
        try:
            while True:
                piece = self._tls.read(_TLS_READ_BYTES)
                if not piece:
                    break
                pieces.append(piece)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return b"".join(pieces)


def dial(endpoint: Endpoint, timeout_s: float) -> tuple[socket.socket, TlsFilter | None]:
    """Connect a cooperative socket and shake TLS hands; blocks this greenlet only. Raises ConnectFailed."""
    limit = Timeout(timeout_s, ConnectFailed("connecting timed out"))
    sock = None
    try:
        with limit:
            sock = _connect(endpoint.host, endpoint.port)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = None
            if endpoint.tls:
                tls = TlsFilter(endpoint.host, client_context(endpoint.ca_file))
                tls.handshake(sock)
            connected, sock = sock, None
            return connected, tls
    except ssl.SSLCertVerificationError as error:
        raise ConnectFailed(f"TLS certificate refused: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise ConnectFailed(f"TLS handshake failed: {error.reason or 'closed'}") from None
    except (socket.gaierror, UnicodeError):  # UnicodeError: a name that the resolver is not even asked for
        raise ConnectFailed("the host's name cannot be resolved") from None
    except OSError as error:
        raise ConnectFailed(_REFUSALS.get(error.errno or 0, f"cannot connect: {error.strerror}")) from None
    finally:
        if sock is not None:
            sock.close()


def _connect(host: str, port: int) -> socket.socket:
    """A connected cooperative socket. Raises OSError."""
    family = _numeric_family(host)
    if family is None:
        connected: socket.socket = gevent.socket.create_connection((host, port))
        return connected
    # gevent asks a pool of threads even for an address that is none to resolve: with thousands of users that
    # connect at once, most of the time goes there.
    sock = gevent.socket.socket(family, socket.SOCK_STREAM)
    try:
        problem = sock._sock.connect_ex((host, port))
        if problem in (errno.EINPROGRESS, errno.EWOULDBLOCK):
            gevent.socket.wait_write(sock.fileno())
            problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise OSError(problem, os.strerror(problem))
    except BaseException:
        sock.close()
        raise
    cooperative: socket.socket = sock
    return cooperative


def _numeric_family(host: str) -> int | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family
    return None


def raw_socket(sock: socket.socket) -> "_socket.socket":
    """The same connection as the C socket without wrapper, non-blocking; `sock` is spent."""
    raw = _socket.socket(fileno=sock.detach())
    raw.setblocking(False)
    return raw
