"""What the WebSocket users share: a session around the sans-I/O protocol, and the address of a ws:// host."""

from collections.abc import Sequence
from typing import Any

from protocols.errors import RemoteProtocolError
from protocols.websocket import Binary, Closed, Opened, Text, WebSocketClient
from users.session import Session
from users.transport import Endpoint


def uri_of(endpoint: Endpoint) -> str:
    """The ws:// or wss:// address of an endpoint."""
    return f"{'wss' if endpoint.tls else 'ws'}://{endpoint.address}{endpoint.path or '/'}"


class WebSocketSession(Session):
    """One WebSocket connection: handshake, messages, pongs, close. A subclass reads messages as replies."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._ws = WebSocketClient(uri_of(endpoint))
        self.ready = False
        self._receive = self._ws.receive_data
        self._has_chatter = False

    @property
    def error(self) -> RemoteProtocolError | None:  # type: ignore[override]
        return self._ws.error

    def read(self, payload: str | bytes) -> Any:
        """A text (str) or binary (bytes) message as a reply with a `request_id`."""
        raise NotImplementedError

    def receive_data(self, data: bytes) -> Sequence[Any]:
        replies = []
        for event in self._receive(data):
            if isinstance(event, (Text, Binary)):
                replies.append(self.read(event.data))
            else:
                self._has_chatter = True
                if isinstance(event, Opened):
                    self.ready = True
                elif isinstance(event, Closed) and not self.finished:
                    self.finished = f"websocket closed by server with code {event.code}"
        return replies

    def receive_eof(self) -> None:
        for event in self._ws.receive_eof() or ():
            if isinstance(event, Closed) and not self.finished:
                self.finished = f"websocket closed by server with code {event.code}"

    def frame(self, payload: str | bytes) -> bytes:
        """The bytes of one message: text for str, binary for bytes."""
        ws = self._ws
        if isinstance(payload, str):
            ws.send_text(payload)
        else:
            ws.send_binary(payload)
        pieces = ws.data_to_send()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def opening(self) -> bytes:
        return b"".join(self._ws.data_to_send())

    def output(self) -> bytes:
        if not self._has_chatter:
            return b""
        self._has_chatter = False
        return b"".join(self._ws.data_to_send())

    def closing(self) -> bytes:
        if self.finished or not self.ready or self._ws.error is not None:
            return b""
        self._ws.send_close()
        return b"".join(self._ws.data_to_send())
