"""HTTP/1.1 as far as a keep-alive client of a JSON gateway needs it: requests out, responses in, no sockets.

    POST /v3/kv/range HTTP/1.1          ->  encode_post("/v3/kv/range", b"{...}", "127.0.0.1:2379")
    HTTP/1.1 200 OK ... {"header": ...} ->  ResponseDecoder().receive_data(data)

Responses come in the order of the requests (RFC 9112, 9.3.2). Bodies are framed by Content-Length or by chunks, with
or without trailers (9112, 6 and 7.1); a body that only ends with the connection is refused, because a keep-alive
client could not tell a whole one from a torn one.
"""

from typing import Final, NamedTuple

from protocols.errors import RemoteProtocolError
from protocols.frames import TRUNCATED

# Status line and all header fields together; a gateway's are about 300 bytes.
MAX_HEAD_BYTES: Final = 16 * 1024
# A value of 64 KiB is 88 KiB of base64, and a reply carries a handful of them at most.
MAX_BODY_BYTES: Final = 1024 * 1024
# One chunk's size line: 16 hex digits, and room for an extension that is ignored.
MAX_CHUNK_LINE_BYTES: Final = 256

MALFORMED: Final = "malformed HTTP response"
TOO_LARGE: Final = "HTTP response too large"

_HEX_DIGITS: Final = frozenset(b"0123456789abcdefABCDEF")


class HttpResponse(NamedTuple):
    """One whole response. `closes`: the server will close the connection after it."""

    status: int
    body: bytes
    closes: bool = False


def encode_post(path: str, body: bytes, host: str = "localhost") -> bytes:
    """The bytes of a POST with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


class ResponseDecoder:
    """Received bytes to responses. `receive_data` never raises on them: it sets `error`, and then returns nothing."""

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.error: RemoteProtocolError | None = None
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes of a response that is not whole yet."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> list[HttpResponse]:
        """The responses that `data` completes, in order."""
        if self.error is not None:
            return []
        self._buffer += data
        responses: list[HttpResponse] = []
        try:
            while self._buffer:
                response = self._next()
                if response is None:
                    break
                responses.append(response)
        except RemoteProtocolError as error:
            self.error = error
            self._buffer.clear()
        return responses

    def receive_eof(self) -> None:
        """The server closed. Sets `error` when it did so inside a response."""
        if self._buffer and self.error is None:
            self.error = RemoteProtocolError(TRUNCATED, f"{len(self._buffer)} bytes of an HTTP response")

    def _next(self) -> HttpResponse | None:
        """Take one response off the buffer; None when it is not whole yet."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if end < 0:
            if len(buffer) >= MAX_HEAD_BYTES:
                raise RemoteProtocolError(TOO_LARGE, f"no end of the header in {len(buffer)} bytes")
            if not buffer.startswith(b"HTTP/1."[: len(buffer)]):
                raise RemoteProtocolError(MALFORMED, "it does not begin with HTTP/1.")
            return None
        status, length, chunked, closes = _head(bytes(buffer[:end]))
        body_at = end + 4
        if chunked:
            found = self._chunks(body_at)
            if found is None:
                return None
            body, after = found
        else:
            if length > self._max_body_bytes:
                raise RemoteProtocolError(TOO_LARGE, f"Content-Length {length}")
            after = body_at + length
            if len(buffer) < after:
                return None
            body = bytes(buffer[body_at:after])
        del buffer[:after]
        return HttpResponse(status, body, closes)

    def _chunks(self, position: int) -> tuple[bytes, int] | None:
        """The body made of the chunks that begin at `position`, and where the response ends."""
        buffer = self._buffer
        pieces: list[bytes] = []
        total = 0
        while True:
            end = buffer.find(b"\r\n", position, position + MAX_CHUNK_LINE_BYTES)
            if end < 0:
                if len(buffer) - position >= MAX_CHUNK_LINE_BYTES:
                    raise RemoteProtocolError(MALFORMED, "a chunk's size line has no end")
                return None
            digits = bytes(buffer[position:end]).partition(b";")[0].strip()
            if not digits or len(digits) > 16 or not _HEX_DIGITS.issuperset(digits):
                raise RemoteProtocolError(MALFORMED, "a chunk's size is not a hex number")
            size = int(digits, 16)
            position = end + 2
            if size == 0:
                break
            total += size
            if total > self._max_body_bytes:
                raise RemoteProtocolError(TOO_LARGE, f"chunks of {total} bytes")
            if len(buffer) < position + size + 2:
                return None
            if buffer[position + size : position + size + 2] != b"\r\n":
                raise RemoteProtocolError(MALFORMED, "a chunk does not end where its size says")
            pieces.append(bytes(buffer[position : position + size]))
            position += size + 2
        trailer_at = position
        while True:  # trailer fields, then an empty line
            end = buffer.find(b"\r\n", position)
            if end < 0 or end - trailer_at > MAX_HEAD_BYTES:
                if len(buffer) - trailer_at > MAX_HEAD_BYTES:
                    raise RemoteProtocolError(TOO_LARGE, "the trailer has no end")
                return None
            if end == position:
                return b"".join(pieces), end + 2
            position = end + 2


def _head(head: bytes) -> tuple[int, int, bool, bool]:
    """(status, content length, chunked, closes) of a response's head."""
    lines = head.split(b"\r\n")
    line = lines[0]
    status_text = line[9:12]
    if (
        not line.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))
        or len(status_text) != 3
        or not status_text.isdigit()
        or line[12:13] not in b" "
    ):
        raise RemoteProtocolError(MALFORMED, "the status line is not HTTP/1.x")
    status = int(status_text)
    length: int | None = None
    chunked = False
    closes = line.startswith(b"HTTP/1.0")
    for field in lines[1:]:
        name, colon, value = field.partition(b":")
        if not colon or not name or name[-1:].isspace() or name[:1].isspace():
            raise RemoteProtocolError(MALFORMED, "a header field has no name")
        lower = name.lower()
        if lower == b"content-length":
            text = value.strip()
            if not text.isdigit() or len(text) > 18 or (length is not None and length != int(text)):
                raise RemoteProtocolError(MALFORMED, "Content-Length is not one number")
            length = int(text)
        elif lower == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise RemoteProtocolError(MALFORMED, "an unknown Transfer-Encoding")
            chunked = True
        elif lower == b"connection" and b"close" in value.lower():
            closes = True
    if status < 200 or status == 204:
        raise RemoteProtocolError(MALFORMED, f"status {status} answers nothing that was asked")
    if chunked == (length is not None):
        raise RemoteProtocolError(MALFORMED, "the body's length is not stated once")
    return status, length or 0, chunked, closes
