"""Users of a WebSocket echo server: text and binary messages that must come back as they went (seed 001).

An echo names nothing, so each message starts with its request id (16 hex digits in text, 8 bytes in binary):
that tells a duplicate or a reply on the wrong connection from a damaged one. Messages too short for an id are
matched by their order.
"""

import random
from typing import Any, ClassVar, Final, NamedTuple

from records.violations import PAYLOAD, TYPE
from users import options
from users.client import Client, first_difference
from users.engine.exchange import Exchange, Request
from users.engine.websocket_echo import WebSocketEchoExchange
from users.failures import RequestFailure
from users.payloads import random_text
from users.session import Session
from users.transport import Endpoint
from users.websocket import WebSocketSession, WebSocketUser

TEXT_ID_CHARS: Final = 16
BINARY_ID_BYTES: Final = 8
# Filler of text messages: every character is one byte, so that sizes are what the option says.
_FILLER: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_FILLER_POOL_CHARS: Final = 65_536

options.offer("payload_bytes", "depth", "message", "timeout", "connect_deadline", "engine")


class EchoReply(NamedTuple):
    """One message from the server; `request_id` None where it has no room for one."""

    request_id: int | None
    payload: str | bytes


class EchoSession(WebSocketSession):
    """Messages as replies. An echo server answers in order, so a message whose id is damaged is the oldest's."""

    answers_in_order = True

    def __init__(self, endpoint: Endpoint, has_ids: bool) -> None:
        super().__init__(endpoint)
        self.matches_by_id = self._has_ids = has_ids

    def read(self, payload: str | bytes) -> EchoReply:
        if not self._has_ids:
            return EchoReply(None, payload)
        if type(payload) is bytes:
            return EchoReply(int.from_bytes(payload[:BINARY_ID_BYTES], "big"), payload)
        try:
            return EchoReply(int(payload[:TEXT_ID_CHARS], 16), payload)
        except ValueError:
            return EchoReply(None, payload)

    def example(self, reply: EchoReply) -> bytes:
        return as_bytes(reply.payload)


class WebSocketEchoClient(Client):
    """`text` and `binary`, each one checked round trip of a random message."""

    request_type = "websocket"

    def __init__(self, user: Any, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._size_bytes: int = user.payload_bytes(user.environment.parsed_options)
        self._has_ids = self._size_bytes >= TEXT_ID_CHARS
        self._filler = "".join(random.choices(_FILLER, k=_FILLER_POOL_CHARS))
        super().__init__(user, endpoint)

    def text(self) -> str | None:
        """Echo a text message; what came back, or None when it failed."""
        reply = self.perform("echo text", str, self._size_bytes)
        return None if reply is None else reply.payload

    def binary(self) -> bytes | None:
        """Echo a binary message; what came back, or None when it failed."""
        reply = self.perform("echo binary", bytes, self._size_bytes)
        return None if reply is None else reply.payload

    def _session(self) -> Session:
        return EchoSession(self._endpoint, self._has_ids)

    def _encode(self, request_id: int, request: type) -> tuple[int, bytes, str | bytes]:
        message: str | bytes
        if request is bytes:
            start = request_id.to_bytes(BINARY_ID_BYTES, "big") if self._has_ids else b""
            message = start + random.randbytes(self._size_bytes - len(start))
        else:
            message = f"{request_id:016x}" if self._has_ids else ""
            message += self._random_text(self._size_bytes - len(message))
        session: Any = self.connection.session
        return request_id, session.frame(message), message

    def _random_text(self, size: int) -> str:
        if size > _FILLER_POOL_CHARS // 2:
            return random_text(size)
        start = int(random.random() * (_FILLER_POOL_CHARS - size))
        return self._filler[start : start + size]

    def _check(self, name: str, reply: EchoReply, expected: str | bytes) -> RequestFailure | None:
        got = reply.payload
        if got == expected:
            return None
        if type(got) is not type(expected):
            kinds = {str: "text", bytes: "binary"}
            detail = f"{kinds[type(got)]} message instead of a {kinds[type(expected)]} one"
            return self._violation(TYPE, name, as_bytes(expected), as_bytes(got), detail)
        detail = first_difference(as_bytes(expected), as_bytes(got))
        return self._violation(PAYLOAD, name, as_bytes(expected), as_bytes(got), detail)


class CompressedEchoExchange(Exchange):
    """Echoes in the engine, by the client's own methods: what compressed replies look like cannot be foretold."""

    __slots__ = ()

    first_name = "echo text"

    def next_request(self, intended_ns: int) -> Request:
        client = self.client
        kind = client.user.next_kind()
        return Request("echo text" if kind is str else "echo binary", kind, client._size_bytes, intended_ns)


class WebSocketEchoUser(WebSocketUser):
    """Abstract user with a `WebSocketEchoClient` as `client`."""

    abstract = True
    client_class: ClassVar[type[Client]] = WebSocketEchoClient
    host = "ws://127.0.0.1:8080"
    client: WebSocketEchoClient

    def configure(self, parsed_options: Any) -> None:
        self._message: str = options.value(parsed_options, "message")

    def exchange_class(self) -> type[Exchange]:
        is_compressed = options.value(self.environment.parsed_options, "compression")
        return CompressedEchoExchange if is_compressed else WebSocketEchoExchange

    def next_kind(self) -> type:
        """`str` or `bytes`, as `--message` asks for."""
        return str if self._message == "text" or (self._message == "both" and random.random() < 0.5) else bytes

    def echo(self) -> None:
        """Echo one message of the kind that `--message` asks for."""
        if self.next_kind() is str:
            self.client.text()
        else:
            self.client.binary()


def as_bytes(payload: str | bytes) -> bytes:
    return payload.encode("utf-8", "surrogatepass") if type(payload) is str else bytes(payload)  # type: ignore[arg-type]
