"""WebSocket (RFC 6455): the client's and the server's side of one connection, bytes in and events out.

    connection = WebSocketClient("ws://127.0.0.1:8080/")
    sock.sendall(b"".join(connection.data_to_send()))       # the handshake, and after every call below
    for event in connection.receive_data(sock.recv(65536)):
        ...                                                 # Opened, then Text, Binary, Ping, Pong; Closed, once

`error` is set when the peer broke the protocol (see `protocols.errors`); `close_now` says that the TCP
connection should be closed once `data_to_send()` is flushed. Pings are answered by themselves.
How it works: `protocols.websocket_connection`.
"""

import os
import re
import struct
from collections.abc import Callable, Mapping, Sequence

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from protocols.errors import LocalProtocolError
from protocols.websocket_connection import (
    FIN_BINARY,
    FIN_TEXT,
    LOGGER,
    MASKED,
    ClosesInsideMessages,
    Connection,
    apply_mask,
    plain_headers,
    plain_message_at,
    plain_messages,
    unmasked_frame,
)
from protocols.websocket_events import (
    ABNORMAL_CLOSURE,
    MAX_MESSAGE_BYTES,
    Binary,
    Closed,
    Event,
    HttpAnswer,
    Opened,
    Ping,
    Pong,
    Respond,
    Text,
)

__all__ = [
    "CLIENT_FRAMES",
    "FIN_BINARY",
    "FIN_TEXT",
    "MAX_MESSAGE_BYTES",
    "Binary",
    "ClientFrames",
    "Closed",
    "Event",
    "HttpAnswer",
    "Opened",
    "Ping",
    "Pong",
    "Respond",
    "Text",
    "WebSocketClient",
    "WebSocketServer",
    "plain_message_at",
    "plain_messages",
    "unmasked_frame",
]

# Masks are drawn from the operating system's generator (section 5.3 asks for strong entropy), many at a time:
# one system call for each frame would cost more than the frame.
MASK_POOL_BYTES = 1024

# RFC 9110, section 5.6.2: a token.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_pack_head = struct.Struct(">BB").pack
_pack_head_16 = struct.Struct(">BBH").pack
_pack_head_64 = struct.Struct(">BBQ").pack


class _Client(ClosesInsideMessages, ClientProtocol):
    pass


class _Server(ClosesInsideMessages, ServerProtocol):
    pass


class ClientFrames:
    """Masked frames. Masks come from a pool: one call of `random_bytes` for hundreds of them."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self.forget_masks()

    def forget_masks(self) -> None:
        """Draw new ones for the next frame."""
        self._masks = b""
        self._next_mask = 0

    def frame(self, first: int, data: bytes) -> bytes:
        """The bytes of one uncompressed message; `first` is FIN and the opcode."""
        start = self._next_mask
        if start == len(self._masks):
            self._masks = self._random_bytes(MASK_POOL_BYTES)
            start = 0
        self._next_mask = start + 4
        mask = self._masks[start : start + 4]
        length = len(data)
        if length < 126:
            head = _pack_head(first, MASKED | length)
        elif length < 65_536:
            head = _pack_head_16(first, MASKED | 126, length)
        else:
            head = _pack_head_64(first, MASKED | 127, length)
        return head + mask + apply_mask(data, mask)

    def frames(self, first: int, payloads: Sequence[bytes]) -> bytes:
        """As `frame` for each of these (one at least), one after the other; all have the same length."""
        length = len(payloads[0])
        if len(payloads) == 1 or length >= 126:
            return b"".join([self.frame(first, payload) for payload in payloads])
        head = _pack_head(first, MASKED | length)
        masks = self._random_bytes(4 * len(payloads))
        pieces: list[bytes] = []
        for number, payload in enumerate(payloads):
            mask = masks[4 * number : 4 * number + 4]
            pieces += (head, mask, apply_mask(payload, mask))
        return b"".join(pieces)


#: Those of all connections of this process: a thousand pools would each be cold memory when its turn comes.
CLIENT_FRAMES = ClientFrames(os.urandom)
# Forked workers share no masks.
os.register_at_fork(after_in_child=CLIENT_FRAMES.forget_masks)


class WebSocketClient(Connection):
    """The client's side; its handshake request is the first `data_to_send()`.

    `uri`: ws:// or wss:// (TLS is the socket owner's). `compression`: offer permessage-deflate; off by
    default, because a load generator measures the server and not zlib.

    Raises LocalProtocolError for a uri, header or subprotocol that cannot be sent.
    """

    def __init__(
        self,
        uri: str,
        headers: Mapping[str, str] | None = None,
        *,
        subprotocols: Sequence[str] | None = None,
        origin: str | None = None,
        max_size: int = MAX_MESSAGE_BYTES,
        compression: bool = False,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        try:
            protocol = _Client(
                parse_uri(uri),
                origin=None if origin is None else Origin(origin),
                extensions=[ClientPerMessageDeflateFactory()] if compression else None,
                subprotocols=[Subprotocol(name) for name in subprotocols] if subprotocols else None,
                max_size=max_size,
                logger=LOGGER,
            )
            request = protocol.connect()
            for name, value in (headers or {}).items():
                if not _HEADER_NAME.fullmatch(name):
                    raise ValueError(f"{name!r} is no header name")
                request.headers[name] = value
            protocol.send_request(request)
        except (InvalidURI, InvalidHandshake, ValueError, TypeError) as error:
            raise LocalProtocolError(f"no websocket handshake can be made for {uri!r}: {error}") from None
        super().__init__(protocol, max_size, masks_received=False)
        self._path = request.path
        self._frames = CLIENT_FRAMES if random_bytes is os.urandom else ClientFrames(random_bytes)

    def _on_handshake(self, message: Request | Response) -> None:
        # A refusal is an event too; its reason is the library's handshake_exc.
        if self._protocol.handshake_exc is None:
            self._on_open(self._path, message.headers)

    def frame(self, first: int, data: bytes) -> bytes:
        """The bytes of one uncompressed message, as `send_text` (FIN_TEXT) and `send_binary` (FIN_BINARY) queue it."""
        return self._frames.frame(first, data)

    _frame = frame


class WebSocketServer(Connection):
    """The server's side of one connection. It answers the handshake by itself.

    `subprotocols`: those served, most wanted first; a client must then offer one of them. `origins`: those
    allowed (None in it: no Origin header), all by default. `compression`: accept permessage-deflate.
    `respond(path, headers)`: asked before the handshake; an HttpAnswer is sent instead of it and closes
    the connection, None goes on. Header names are in lower case.
    """

    def __init__(
        self,
        max_size: int = MAX_MESSAGE_BYTES,
        *,
        subprotocols: Sequence[str] | None = None,
        origins: Sequence[str | None] | None = None,
        compression: bool = True,
        respond: Respond | None = None,
    ) -> None:
        protocol = _Server(
            origins=None if origins is None else [o if o is None else Origin(o) for o in origins],
            extensions=[ServerPerMessageDeflateFactory()] if compression else None,
            subprotocols=[Subprotocol(name) for name in subprotocols] if subprotocols else None,
            max_size=max_size,
            logger=LOGGER,
        )
        super().__init__(protocol, max_size, masks_received=True)
        self._server = protocol
        self._respond = respond

    def _on_handshake(self, message: Request | Response) -> None:
        if not isinstance(message, Request):
            return
        answer = self._respond(message.path, plain_headers(message.headers)) if self._respond else None
        if answer is not None:
            response = self._server.reject(answer.status, answer.body)
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = answer.content_type
            self._server.send_response(response)
            self._close(ABNORMAL_CLOSURE, f"answered with HTTP {answer.status}")
            return
        self._server.send_response(self._server.accept(message))
        if self._server.handshake_exc is None:
            self._on_open(message.path, message.headers)

    def _frame(self, first: int, data: bytes) -> bytes:
        return unmasked_frame(first, data)
