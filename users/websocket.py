"""What the WebSocket users share: a session around the sans-I/O protocol, options, and the address of a ws:// host."""

import logging
import ssl
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any, ClassVar, Final

from protocols.errors import RemoteProtocolError
from protocols.host import Host
from protocols.websocket import MAX_MESSAGE_BYTES, Binary, Closed, Opened, Pong, Text, WebSocketClient
from users import options
from users.client import Client
from users.failures import ConnectionLost
from users.protocol_user import ProtocolUser, endpoint_of
from users.session import Session
from users.transport import Endpoint, client_context
from users.websocket_keepalive import Keepalive, interval_text, parse_interval_s

logger = logging.getLogger(__name__)

NOT_OPEN: Final = "websocket is not open"
# The largest frame that any of the dialects allows (tool calls, seed 002).
MAX_PAYLOAD_BYTES: Final = 32 * 1024 * 1024
MAX_MESSAGE_LIMIT_BYTES: Final = 2**31 - 1

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
options.OPTIONS["compression"] = {
    "action": "store_true",
    "default": False,
    "help": "offer permessage-deflate; then --engine reads and writes each message singly",
}
options.OPTIONS["max_message_bytes"] = {
    "type": options.whole(0, MAX_MESSAGE_LIMIT_BYTES),
    "default": 0,
    "help": "largest message accepted from a WebSocket server, decompressed (0: 1 MiB, for tool calls 32 MiB)",
}
options.OPTIONS["keepalive"] = {
    "type": interval_text,
    "default": "",
    "help": "ping each connection so often, such as 10s, and measure the pongs as 'websocket ping'; without it "
    "connections are not pinged",
}
options.offer("tls_ca", "headers", "subprotocols", "compression", "max_message_bytes", "keepalive")
options.carry_payloads_of(MAX_PAYLOAD_BYTES)

_uncompressed: set[str] = set()  # addresses that were told of already


def uri_of(endpoint: Endpoint) -> str:
    """The ws:// or wss:// address of an endpoint."""
    return f"{'wss' if endpoint.tls else 'ws'}://{endpoint.address}{endpoint.path or '/'}"


class WebSocketSession(Session):
    """One WebSocket connection: handshake, messages, pongs, close. A subclass reads messages as replies."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._ws = WebSocketClient(
            uri_of(endpoint),
            dict(endpoint.headers),
            subprotocols=endpoint.subprotocols or None,
            max_size=endpoint.max_message_bytes,
            compression=endpoint.compression,
        )
        self._wants_compression = endpoint.compression
        self._address = endpoint.address
        self.ready = False
        self.is_leaving = False  # we said goodbye
        self._receive = self._ws.receive_data
        self._has_chatter = False
        self._pongs_due: dict[bytes, Callable[[int], None]] = {}

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
                    self._on_opened()
                    self.ready = True
                elif isinstance(event, Pong):
                    self._take_pong(event)
                elif isinstance(event, Closed) and not self.finished:
                    self.finished = f"websocket closed by server with code {event.code}"
        return replies

    def _on_opened(self) -> None:
        if self._wants_compression and not self._ws.compressed and self._address not in _uncompressed:
            _uncompressed.add(self._address)
            logger.warning("%s does not speak permessage-deflate: messages go uncompressed", self._address)

    def _take_pong(self, pong: Pong) -> bool:
        """Whether this answers one of `ping`."""
        heard = self._pongs_due.pop(pong.data, None)
        if heard is not None:
            heard(monotonic_ns())
        return heard is not None

    def ping(self, payload: bytes, heard: Callable[[int], None] | None = None) -> bytes:
        """The bytes of a ping; `heard` is told when (monotonic ns) its pong has come."""
        self._must_be_open()
        if heard is not None:
            self._pongs_due[payload] = heard
        self._ws.send_ping(payload)
        return b"".join(self._ws.data_to_send())

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
        self.is_leaving = True
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
        compression=options.value(parsed_options, "compression"),
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
    """Abstract: a user whose connection is a WebSocket, with the options of this module."""

    abstract = True
    schemes = ("ws", "wss")
    #: What `--max-message-bytes` is unless somebody says otherwise.
    default_message_bytes: ClassVar[int] = MAX_MESSAGE_BYTES
    #: What the largest message that this user sends may have, and what of it is not payload.
    max_sent_bytes: ClassVar[int] = MAX_PAYLOAD_BYTES
    overhead_bytes: ClassVar[int] = 0

    def _make_client(self, target: Host) -> Client:
        parsed = self.environment.parsed_options
        self._keepalive_s = parse_interval_s(options.value(parsed, "keepalive"))
        endpoint = with_handshake(endpoint_of(target), parsed)
        return self.client_class(self, endpoint._replace(max_message_bytes=self.message_limit_bytes(parsed)))

    def message_limit_bytes(self, parsed_options: Any) -> int:
        """The largest message that is accepted."""
        given: int = options.value(parsed_options, "max_message_bytes")
        return given or self.default_message_bytes

    def payload_bytes(self, parsed_options: Any) -> int:
        """`--payload-bytes`, which must come back in a message that is accepted. Raises OptionMistake."""
        limit_bytes = self.message_limit_bytes(parsed_options)
        most = min(limit_bytes, self.max_sent_bytes) - self.overhead_bytes
        why = (
            f", which a message of --max-message-bytes {limit_bytes} carries"
            if limit_bytes < self.max_sent_bytes
            else ""
        )
        return options.payload_bytes(parsed_options, most, why)

    def run(self) -> None:  # type: ignore[misc]  # as ProtocolUser's
        if self.client is None or not self._keepalive_s:
            super().run()
            return
        keepalive = Keepalive(self.client, self._keepalive_s)
        keepalive.start()
        try:
            super().run()
        finally:
            keepalive.stop()
