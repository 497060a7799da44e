"""One WebSocket connection (RFC 6455), sans-I/O: what the client's and the server's side share.

The `websockets` library's sans-I/O protocols do the handshake, permessage-deflate (RFC 7692), the closing
handshake and every kind of refusal. Around them stands one idea: nearly all traffic of a load test is whole,
plain data frames, and those need no state machine. So the byte stream is cut into frames here; a plain one
becomes an event at once, and anything else (control frames, fragments, compression, every violation) is
handed to the library, whole and in order, which remains the authority. That is a third of its cost.
"""

import logging
import struct
from typing import Final

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import (
    InvalidHandshake,
    InvalidMessage,
    InvalidState,
    InvalidStatus,
    PayloadTooBig,
)
from websockets.exceptions import ProtocolError as WebSocketViolation
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.websocket_events import (
    ABNORMAL_CLOSURE,
    BAD_HANDSHAKE,
    HANDSHAKE_REFUSED,
    INTERNAL,
    INTERNAL_ERROR,
    INVALID_DATA,
    INVALID_UTF8,
    MAX_DETAIL_CHARS,
    MAX_HANDSHAKE_BYTES,
    MESSAGE_TOO_BIG,
    NORMAL_CLOSURE,
    VIOLATION,
    Binary,
    Closed,
    Event,
    Opened,
    Ping,
    Pong,
    Text,
)

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiler was there when it was installed: one big-integer xor instead
    from websockets.utils import apply_mask

__all__ = [
    "FIN_BINARY",
    "FIN_TEXT",
    "LOGGER",
    "MASKED",
    "Connection",
    "apply_mask",
    "plain_headers",
    "plain_messages",
    "unmasked_frame",
]

# RFC 6455, section 5.2: FIN and the opcode; the MASK bit.
FIN_TEXT: Final = 0x81
FIN_BINARY: Final = 0x82
MASKED: Final = 0x80
_OPCODES = frozenset(int(opcode) for opcode in Opcode)
_unpack_16 = struct.Struct(">H").unpack_from
_unpack_64 = struct.Struct(">Q").unpack_from
# The three sizes of a frame's head, before the mask.
_pack_head = struct.Struct(">BB").pack
_pack_head_16 = struct.Struct(">BBH").pack
_pack_head_64 = struct.Struct(">BBQ").pack
_HEAD_END: Final = b"\r\n\r\n"

# The library logs every connection; what matters of it is in `error` here.
LOGGER = logging.getLogger("protocols.websocket")
LOGGER.setLevel(logging.CRITICAL)


class ClosesInsideMessages(Protocol):
    """The library's protocol, except that a close between the fragments of a message is a close like any other.

    Section 5.4: "Control frames (see Section 5.5) MAY be injected in the middle of a fragmented message." A close is
    one, so it is answered with its own code (section 5.5.1); the library calls it a violation and says 1002.
    """

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)


class Connection:
    """What both sides share. A subclass makes `_protocol`, answers the handshake and writes frame heads."""

    # The MASK bit that the peer's frames must have, and the bytes of head and mask before a short payload.
    _mask_bit: Final[int]
    _head_bytes: Final[int]

    def __init__(self, protocol: ClientProtocol | ServerProtocol, max_size: int, masks_received: bool) -> None:
        self._protocol = protocol
        self._mask_bit = MASKED if masks_received else 0
        self._head_bytes = 6 if masks_received else 2
        self.max_size = max_size
        self.error: RemoteProtocolError | None = None
        self.subprotocol: str | None = None
        self._opened = False
        self._sendable = False
        self._closed = False
        # Whether plain data frames may bypass the library: no extension, no fragmented message under way.
        self._compressed = False
        self._bypass = True
        # After the first sign of a violation the library gets everything, until it says what is wrong.
        self._handed_over = False
        self._handshake_tail = b""
        self._handshake_bytes = 0
        self._handshake_done = False
        self._buffer = bytearray()
        self._wanted_bytes = 2
        self._fragments = bytearray()
        self._fragments_are_text = False
        self._events: list[Event] = []

    @property
    def open(self) -> bool:
        """Whether messages can be sent: after Opened and before a close frame of either side."""
        return self._sendable

    @property
    def compressed(self) -> bool:
        """Whether permessage-deflate was agreed upon."""
        return self._compressed

    @property
    def close_now(self) -> bool:
        """Whether the TCP connection should be closed once `data_to_send()` is flushed.

        False on a client after a clean close: the server closes first (RFC 6455, section 7.1.1), which leaves
        TIME_WAIT with the server. A client need not wait for it longer than it likes.
        """
        return self.error is not None or self._protocol.eof_sent

    @property
    def between_messages(self) -> bool:
        """Whether nothing unfinished is kept and plain frames need no state: they may be read by `plain_messages`."""
        return self._sendable and self._bypass and not self._buffer and not self._handed_over

    @property
    def pending_bytes(self) -> int:
        """How many bytes of unfinished frames and messages are kept: at most `max_size` and a frame's head."""
        return len(self._buffer) + len(self._protocol.reader.buffer) + len(self._fragments)

    # --- receiving

    def receive_data(self, data: bytes) -> list[Event]:
        """The events that `data` completes, oldest first. Never raises on what the peer sent."""
        if type(data) is not bytes:
            data = bytes(data)
        if not self._opened and not self._closed:
            data = self._receive_handshake(data)
        if data and not self._closed:
            if self._opened and not self._handed_over:
                self._receive_frames(data)
            else:
                self._feed(data)
        events, self._events = self._events, []
        return events

    def receive_eof(self) -> list[Event]:
        """The peer closed the TCP connection. Returns Closed(1006) unless the end was told before."""
        if not self._closed:
            try:
                self._protocol.receive_eof()
            except Exception as error:  # as in _feed
                self._fail(INTERNAL, ABNORMAL_CLOSURE, repr(error))
            self._take_events()
            self._close(ABNORMAL_CLOSURE, "connection lost without a close frame")
        events, self._events = self._events, []
        return events

    def _receive_handshake(self, data: bytes) -> bytes:
        """Feed the head of the HTTP message to the library and return what follows it.

        The library would parse frames that an eager peer sent along before the handshake was answered.
        """
        if self._handshake_done:
            return data  # the body of a refusal
        seen = self._handshake_tail + data
        end = seen.find(_HEAD_END)
        if end >= 0:
            self._handshake_done = True
            cut = end + len(_HEAD_END) - len(self._handshake_tail)
            self._feed(data[:cut])
            return data[cut:]
        self._handshake_tail = seen[-3:]
        self._handshake_bytes += len(data)
        if self._handshake_bytes > MAX_HANDSHAKE_BYTES:
            self._fail(BAD_HANDSHAKE, ABNORMAL_CLOSURE, f"its head exceeds {MAX_HANDSHAKE_BYTES} bytes")
        else:
            self._feed(data)
        return b""

    def _receive_frames(self, data: bytes) -> None:
        """Cut frames: plain data frames become events here, the library gets the others."""
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._wanted_bytes:
                return
            data = bytes(buffer)
            buffer.clear()
        start, available = 0, len(data)
        wanted = 2
        while available - start >= 2:
            first, second = data[start], data[start + 1]
            length = second & 0x7F
            body = start + self._head_bytes
            if length >= 126:
                size_bytes = 2 if length == 126 else 8
                if available >= start + 2 + size_bytes:
                    (length,) = (_unpack_16 if length == 126 else _unpack_64)(data, start + 2)
                    body += size_bytes
                elif not self._is_violation(first, second, 0):
                    wanted = 2 + size_bytes
                    break
            end = body + length
            plain = (
                self._bypass
                and (first == FIN_TEXT or first == FIN_BINARY)  # noqa: PLR1714, SIM109 - half the cost of `in`
                and second & MASKED == self._mask_bit
                and length <= self.max_size
            )
            if not plain and self._is_violation(first, second, length):
                self._handed_over = True
                self._feed(data[start:])
                return
            if end > available:
                wanted = end - start
                break
            if plain:
                payload = data[body:end]
                if self._mask_bit:
                    payload = apply_mask(payload, data[body - 4 : body])
                if first == FIN_BINARY:
                    self._events.append(Binary(payload))
                else:
                    self._add_text(payload)
            else:
                self._feed(data[start:end])
            start = end
            if self._closed:
                return
        if start < available:
            buffer += data[start:]
            self._wanted_bytes = wanted

    def _is_violation(self, first: int, second: int, length: int) -> bool:
        """Whether the library will refuse this head whatever follows: then it need not be waited for."""
        opcode = first & 0x0F
        return (
            second & MASKED != self._mask_bit
            or opcode not in _OPCODES
            or (opcode >= Opcode.CLOSE and (length > 125 or not first & 0x80))
            or length > self.max_size - (self._protocol.current_size or 0)
        )

    def _feed(self, data: bytes) -> None:
        try:
            self._protocol.receive_data(data)
        except Exception as error:  # its parser means never to raise; one remote byte must not prove it wrong
            self._fail(INTERNAL, INTERNAL_ERROR, repr(error))
        self._take_events()

    def _take_events(self) -> None:
        protocol = self._protocol
        for event in protocol.events_received():
            if self._closed:
                return
            if isinstance(event, Frame):
                self._on_frame(event)
            else:
                self._on_handshake(event)
        problem = protocol.parser_exc or protocol.handshake_exc
        if problem is not None and not self._closed:
            self._on_problem(problem)

    def _on_handshake(self, message: Request | Response) -> None:
        raise NotImplementedError

    def _on_open(self, path: str, headers: Headers) -> None:
        protocol = self._protocol
        self._opened = self._sendable = True
        self._compressed = bool(protocol.extensions)
        self._bypass = not self._compressed
        self.subprotocol = protocol.subprotocol
        self._events.append(Opened(path, plain_headers(headers), protocol.subprotocol))

    def _on_frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.PING:
            self._events.append(Ping(bytes(frame.data)))
        elif opcode is Opcode.PONG:
            self._events.append(Pong(bytes(frame.data)))
        elif opcode is Opcode.CLOSE:
            received = self._protocol.close_rcvd
            if received is not None:
                self._close(int(received.code), received.reason)
        else:
            if opcode is not Opcode.CONT:
                self._fragments_are_text = opcode is Opcode.TEXT
            # One growing buffer: a list of fragments would grow without bound by empty ones.
            self._fragments += frame.data
            self._bypass = frame.fin and not self._compressed
            if frame.fin:
                message = bytes(self._fragments)
                self._fragments.clear()
                if self._fragments_are_text:
                    self._add_text(message)
                else:
                    self._events.append(Binary(message))

    def _add_text(self, payload: bytes) -> None:
        try:
            self._events.append(Text(payload.decode()))
        except UnicodeDecodeError as error:
            # Section 8.1: "[...] is not, in fact, valid UTF-8, that endpoint MUST _Fail the WebSocket
            # Connection_".
            self._fail(INVALID_UTF8, INVALID_DATA, f"{error.reason} at byte {error.start}")

    def _on_problem(self, problem: Exception) -> None:
        """The library stopped: say why in our words, and with the code that it sent."""
        sent = self._protocol.close_sent
        code = int(sent.code) if sent is not None else ABNORMAL_CLOSURE
        if isinstance(problem, EOFError):
            self._close(ABNORMAL_CLOSURE, "connection lost without a close frame")
        elif isinstance(problem, InvalidStatus):
            self._fail(HANDSHAKE_REFUSED, code, f"HTTP {problem.response.status_code}")
        elif isinstance(problem, InvalidHandshake):
            detail = problem.__cause__ if isinstance(problem, InvalidMessage) else problem
            self._fail(BAD_HANDSHAKE, code, str(detail))
        elif isinstance(problem, PayloadTooBig):
            self._fail(MESSAGE_TOO_BIG, code, str(problem))
        elif isinstance(problem, UnicodeDecodeError):
            self._fail(INVALID_UTF8, code, f"{problem.reason} at byte {problem.start} of the close reason")
        elif isinstance(problem, WebSocketViolation):
            self._fail(VIOLATION, code, str(problem))
        else:
            self._fail(INTERNAL, code, repr(problem))

    def _fail(self, reason: str, code: int, detail: str) -> None:
        if self.error is None:
            self.error = RemoteProtocolError(reason, detail[:MAX_DETAIL_CHARS])
        if self._protocol.state is State.OPEN:
            self._protocol.fail(code, reason)
        self._close(code, reason)

    def _close(self, code: int, reason: str) -> None:
        self._sendable = False
        if not self._closed:
            self._closed = True
            self._events.append(Closed(code, reason))
            self._buffer.clear()
            self._fragments.clear()

    # --- sending

    def data_to_send(self) -> list[bytes]:
        """What is to be written, in order; empty when nothing is. Ask after every call of any other method."""
        return [data for data in self._protocol.data_to_send() if data]

    def send_text(self, text: str | bytes) -> None:
        """One text message; bytes must be UTF-8 already. Raises LocalProtocolError unless `open`."""
        try:
            self._send(FIN_TEXT, text.encode() if isinstance(text, str) else text)
        except UnicodeEncodeError as error:
            raise LocalProtocolError(f"this text has no UTF-8: {error}") from None

    def send_binary(self, data: bytes) -> None:
        """One binary message. Raises LocalProtocolError unless `open`."""
        self._send(FIN_BINARY, data)

    def send_ping(self, data: bytes = b"") -> None:
        """One ping of at most 125 bytes."""
        self._require_open()
        try:
            self._protocol.send_ping(data)
        except (WebSocketViolation, InvalidState) as error:
            raise LocalProtocolError(f"this ping cannot be sent: {error}") from None

    def send_close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Start the closing handshake; Closed follows when the peer answers, or at the end of the stream."""
        self._require_open()
        try:
            self._protocol.send_close(code, reason)
        except (WebSocketViolation, InvalidState, UnicodeEncodeError) as error:
            raise LocalProtocolError(f"this close cannot be sent: {error}") from None
        self._sendable = False

    def _require_open(self) -> None:
        if not self._sendable:
            raise LocalProtocolError("the websocket is not open")

    def _send(self, first: int, data: bytes) -> None:
        if not self._sendable:
            raise LocalProtocolError("the websocket is not open")
        if not self._compressed:
            self._protocol.writes.append(self._frame(first, data))
        elif first == FIN_TEXT:
            self._protocol.send_text(data)
        else:
            self._protocol.send_binary(data)

    def _frame(self, first: int, data: bytes) -> bytes:
        raise NotImplementedError


def unmasked_frame(first: int, data: bytes) -> bytes:
    """A server's frame: `first` is FIN and the opcode."""
    length = len(data)
    if length < 126:
        return _pack_head(first, length) + data
    if length < 65_536:
        return _pack_head_16(first, 126, length) + data
    return _pack_head_64(first, 127, length) + data


def plain_messages(data: bytes, first: int, max_size: int) -> list[bytes] | None:
    """The payloads in `data` if it is exactly whole unmasked frames that all begin with `first`; None otherwise.

    A fast path for a client that is `between_messages`: what it gives is what `receive_data` would. Text is not
    checked to be UTF-8 here: that is left to whoever decodes it.
    """
    start, available = 0, len(data)
    payloads = []
    while start < available:
        body = start + 2
        if body > available or data[start] != first:
            return None
        length = data[start + 1]  # with the MASK bit, which a server must not set
        if length >= 126:
            size_bytes = 2 if length == 126 else 8
            if length > 127 or body + size_bytes > available:
                return None
            (length,) = (_unpack_16 if length == 126 else _unpack_64)(data, body)
            body += size_bytes
        start = body + length
        if start > available or length > max_size:
            return None
        payloads.append(data[body:start])
    return payloads


def plain_message_at(data: bytes, start: int, first: int, max_size: int) -> tuple[bytes, int] | None:
    """The payload of the one frame of `plain_messages` that begins at `start`, and where it ends."""
    body, available = start + 2, len(data)
    if body > available or data[start] != first:
        return None
    length = data[start + 1]
    if length >= 126:
        size_bytes = 2 if length == 126 else 8
        if length > 127 or body + size_bytes > available:
            return None
        (length,) = (_unpack_16 if length == 126 else _unpack_64)(data, body)
        body += size_bytes
    end = body + length
    return None if end > available or length > max_size else (data[body:end], end)


def plain_headers(headers: Headers) -> dict[str, str]:
    """Names in lower case; several values of one name joined, as RFC 9110 (section 5.2) has it."""
    plain: dict[str, str] = {}
    for name, value in headers.raw_items():
        key = name.lower()
        plain[key] = f"{plain[key]}, {value}" if key in plain else value
    return plain
