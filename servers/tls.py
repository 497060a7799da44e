"""TLS for event-driven connections: a socket's face on memory buffers.

`servers.connection` needs five methods of a non-blocking socket. `TlsSocket` has them, so that encrypted and plain
connections share one code path: `recv_into` gives plain bytes or raises BlockingIOError, `send` takes plain bytes.
Neither ever blocks, and a peer that shakes hands slowly meets the deadline of its first message like any other.
"""

import errno
import socket
import ssl
from typing import Any

from servers.connection import RECEIVE_BYTES
from servers.serving import CannotServe

# One TLS record and its overhead may wait from an earlier recv: what is decrypted must fit the caller's buffer.
_RECV_BYTES = RECEIVE_BYTES - 18 * 1024
# Encrypted at a time: so much of one connection's replies exists twice.
_SEND_BYTES = 64 * 1024


def server_context(certificate: str, key: str | None) -> ssl.SSLContext:
    """A server's context, TLS 1.2 and later. Raises CannotServe with the sentence for the user."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "it is no PEM certificate with its key"
        raise CannotServe(
            f"cannot use the certificate {certificate!r}: {reason}; give --certificate and --key"
        ) from None
    return context


class TlsSocket:
    """The server's end of one TLS connection over a non-blocking `sock`. Errors of TLS are OSError(EPROTO)."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False
        self._unsent = b""  # ciphertext that the kernel did not take
        self._owed = 0  # plain bytes in it, not reported as sent yet
        self._raw = bytearray()
        self.fileno = sock.fileno
        self.setsockopt = sock.setsockopt
        self.close = sock.close

    def recv_into(self, buffer: bytearray) -> int:
        data = self._sock.recv(_RECV_BYTES)
        if not data:
            return 0
        self._incoming.write(data)
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
        except ssl.SSLWantReadError:
            self._flush()
            raise BlockingIOError from None
        except ssl.SSLError as error:
            self._fail(error)
        self._flush()
        count = 0
        view = memoryview(buffer)
        try:
            while count < len(buffer):
                piece = self._tls.read(len(buffer) - count, view[count:])
                if not piece:
                    break
                count += int(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            return count  # 0: the peer said goodbye, as good as an end of stream
        except ssl.SSLError as error:
            self._fail(error)
        if not count:
            raise BlockingIOError
        return count

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """How many bytes of `data` have left. After BlockingIOError the next call must begin with the same bytes:

        they are encrypted already, and count as sent when their ciphertext is.
        """
        if not self._owed:
            if not self._shaken:
                raise BlockingIOError
            piece = memoryview(data)[:_SEND_BYTES]
            try:
                self._owed = self._tls.write(piece)
            except ssl.SSLError as error:
                self._fail(error)
            self._unsent += self._outgoing.read()
        self._push()
        if self._unsent:
            raise BlockingIOError
        owed, self._owed = self._owed, 0
        return owed

    def shutdown(self, how: int) -> None:
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # it has sent our goodbye, which is all that was wanted
        self._flush()
        self._sock.shutdown(how)

    def _flush(self) -> None:
        """Send what TLS itself has to say: some kilobytes on an idle connection."""
        self._unsent += self._outgoing.read()
        self._push()

    def _push(self) -> None:
        if not self._unsent:
            return
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            return
        self._unsent = self._unsent[sent:]

    def _fail(self, error: ssl.SSLError) -> Any:
        try:
            self._flush()  # the alert, so that the peer knows why
        except OSError:
            pass
        raise OSError(errno.EPROTO, f"TLS failed: {error.reason}") from None
