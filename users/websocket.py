"""What the WebSocket users share: a session around the sans-I/O protocol, and the address of a ws:// host."""

import ssl
from collections.abc import Sequence
from typing import Any, Final

from protocols.errors import RemoteProtocolError
from protocols.host import Host
from protocols.websocket import Binary, Closed, Opened, Text, WebSocketClient
from users import options
from users.client import Client
from users.failures import ConnectionLost
from users.protocol_user import ProtocolUser, endpoint_of
from users.session import Session
from users.transport import Endpoint, client_context

NOT_OPEN: Final = "websocket is not open"

# Not in users.options: only those who speak WebSocket offer them.
options.OPTIONS["tls_ca"] = {
    "default": "",
    "help": "file of the CA (PEM) that wss:// servers are verified by; the system's CAs without it",
}
options.OPTIONS["headers"] = {
    "default": "",
    "help": "headers of the WebSocket handshake, as 'Name: value | Name: value'",
}
options.OPTIONS["subprotocols"] = {
    "default": "",
    "help": "WebSocket subprotocols to offer, most wanted first, separated by commas",
}
options.offer("tls_ca", "headers", "subprotocols")


def uri_of(endpoint: Endpoint) -> str:
    """The ws:// or wss:// address of an endpoint."""
    return f"{'wss' if endpoint.tls else 'ws'}://{endpoint.address}{endpoint.path or '/'}"


class WebSocketSession(Session):
    """One WebSocket connection: handshake, messages, pongs, close. A subclass reads messages as replies."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._ws = WebSocketClient(uri_of(endpoint), dict(endpoint.headers), subprotocols=endpoint.subprotocols or None)
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
        """The bytes of one message: text for str, binary for bytes.

        Raises ConnectionLost when the server said goodbye before this greenlet had its turn.
        """
        ws = self._ws
        self._must_be_open()
        if isinstance(payload, str):
            ws.send_text(payload)
        else:
            ws.send_binary(payload)
        pieces = ws.data_to_send()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _must_be_open(self) -> None:
        if not self._ws.open:
            raise ConnectionLost(self.finished or NOT_OPEN)

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


def with_handshake(endpoint: Endpoint, parsed_options: Any) -> Endpoint:
    """The endpoint with what the options say about TLS and the handshake. Raises OptionMistake."""
    ca_file: str = options.value(parsed_options, "tls_ca")
    if endpoint.tls:
        try:
            client_context(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise options.OptionMistake(f"--tls-ca: {ca_file!r} is no file of CA certificates ({error})") from None
    return endpoint._replace(
        ca_file=ca_file,
        headers=parse_headers(options.value(parsed_options, "headers")),
        subprotocols=tuple(
            name.strip() for name in options.value(parsed_options, "subprotocols").split(",") if name.strip()
        ),
    )


def parse_headers(text: str) -> tuple[tuple[str, str], ...]:
    """`Name: value | Name: value` as pairs. Raises OptionMistake."""
    headers = []
    for part in filter(None, (part.strip() for part in text.split("|"))):
        name, colon, value = part.partition(":")
        if not colon:
            raise options.OptionMistake(f"--headers: {part!r} is not 'Name: value'")
        headers.append((name.strip(), value.strip()))
    return tuple(headers)


class WebSocketUser(ProtocolUser):
    """Abstract: a user whose connection is a WebSocket, with `--tls-ca`, `--headers` and `--subprotocols`."""

    abstract = True
    schemes = ("ws", "wss")

    def _make_client(self, target: Host) -> Client:
        return self.client_class(self, with_handshake(endpoint_of(target), self.environment.parsed_options))
