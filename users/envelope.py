"""Users of the envelope protocol: framed messages with a header, echoed back (seed 000).

    class Echo(EnvelopeUser):
        wait_time = constant(0)

        @task
        def echo(self):
            self.client.echo(self.random_payload())   # id, payload and version are checked; the event is fired

An echo must come back as it went: same version, type, request id, timestamp and payload.
"""

import time
from typing import Any, ClassVar, Final

from protocols.envelope import SERVER_BUSY, VERSION, Envelope, EnvelopeCodec, MsgType
from records.violations import PAYLOAD, TIMESTAMP, TYPE
from records.violations import VERSION as WRONG_VERSION
from users import options
from users.client import Busy, Client, first_difference
from users.engine.envelope import EnvelopeExchange
from users.engine.exchange import Exchange
from users.failures import RequestFailure, ServerRefused
from users.payloads import Payloads
from users.protocol_user import ProtocolUser
from users.session import CodecSession, Session
from users.transport import Endpoint

_ECHO: Final = int(MsgType.ECHO)
_LOG: Final = int(MsgType.LOG)
_ERROR: Final = int(MsgType.ERROR)
# Error texts are the server's own; longer or stranger ones would make the error table grow without end.
_MAX_ERROR_TEXT: Final = 80

#: Those of an Envelope; a plain tuple, which equals it, is made in half the time.
Fields = tuple[int, int, int, int, bytes]

options.offer("payload_bytes", "depth", "codec", "timeout", "connect_deadline", "engine")


class EnvelopeSession(CodecSession):
    """Envelopes on one connection. An ERROR that answers no request speaks about the connection itself."""

    def notice(self, reply: Envelope) -> str | None:
        return error_text(reply.payload) if reply.msg_type == _ERROR and reply.request_id == 0 else None

    def example(self, reply: Envelope) -> bytes:
        return reply.payload


class EnvelopeClient(Client):
    """`echo`, a checked round trip, and `log`, which goes one way."""

    request_type = "envelope"

    def __init__(self, user: Any, endpoint: Endpoint) -> None:
        self.codec: str = options.value(user.environment.parsed_options, "codec")
        # Encoding keeps no state of a connection: one encoder serves all that this client will have.
        self._pack = EnvelopeCodec(self.codec).encode
        super().__init__(user, endpoint)

    def echo(self, payload: bytes) -> bytes | None:
        """Send `payload` and have it come back unchanged. None when it failed."""
        reply = self.perform("echo", (_ECHO, payload), len(payload))
        return None if reply is None else reply.payload

    def log(self, payload: bytes) -> bool:
        """Send `payload` for the server's log, which is not answered. False when it could not be sent."""
        return self.post("log", (_LOG, payload))

    def _session(self) -> Session:
        return EnvelopeSession(EnvelopeCodec(self.codec))  # type: ignore[arg-type]

    def _encode(self, request_id: int, request: tuple[int, bytes]) -> tuple[int, bytes, Fields]:
        msg_type, payload = request
        timestamp_ms = time.time_ns() // 1_000_000
        data = self._pack(request_id, payload, msg_type, timestamp_ms)
        return request_id, data, (VERSION, msg_type, request_id, timestamp_ms, payload)

    def _check(self, name: str, reply: Envelope, fields: Fields) -> RequestFailure | None:
        if reply == fields:
            return None
        expected = Envelope(*fields)
        if reply.version != VERSION:
            detail = f"version {reply.version} instead of {VERSION}"
            return self._violation(WRONG_VERSION, name, expected.payload, reply.payload, detail)
        if reply.msg_type == _ERROR:
            return Busy() if reply.payload == SERVER_BUSY else ServerRefused(error_text(reply.payload))
        if reply.msg_type != expected.msg_type:
            detail = f"type {reply.msg_type} instead of {expected.msg_type}"
            return self._violation(TYPE, name, expected.payload, reply.payload, detail)
        if reply.payload != expected.payload:
            detail = first_difference(expected.payload, reply.payload)
            return self._violation(PAYLOAD, name, expected.payload, reply.payload, detail)
        detail = f"{reply.timestamp_ms} instead of {expected.timestamp_ms}"
        return self._violation(TIMESTAMP, name, expected.payload, reply.payload, detail)


class EnvelopeUser(ProtocolUser):
    """Abstract user with an `EnvelopeClient` as `client`."""

    abstract = True
    client_class: ClassVar[type[Client]] = EnvelopeClient
    host = "tcp://127.0.0.1:9000"
    client: EnvelopeClient

    def configure(self, parsed_options: Any) -> None:
        self._payload_bytes: int = options.payload_bytes(parsed_options)
        self._payloads = Payloads(self._payload_bytes)

    def exchange_class(self) -> type[Exchange]:
        return EnvelopeExchange

    def random_payload(self) -> bytes:
        """Random bytes, as many as `--payload-bytes` says."""
        return self._payloads.next()


def error_text(payload: bytes) -> str:
    """A server's error as failure text."""
    text = payload.decode("utf-8", "replace")
    return text if 0 < len(text) <= _MAX_ERROR_TEXT and text.isprintable() else "server error"
