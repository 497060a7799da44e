"""Bring your own protocol: a codec, and a user that speaks it.

    class LineCodec:                                   # sans-I/O, a dozen lines
        error = None

        def encode(self, request_id, payload) -> bytes: ...
        def receive_data(self, data) -> list[Reply]: ...

    class LineUser(FramedUser):
        codec = LineCodec
        host = "tcp://127.0.0.1:7000"

        @task
        def ask(self):
            self.client.request(b"hello")              # None when it failed; otherwise the reply's payload

That is all: connecting, `--depth`, timeouts, checks, histograms and failures come with it. A codec is made anew
for each connection, so it may keep what a connection needs. A protocol that names no request gives replies with
`request_id` None; they are matched by their order (say `matches_by_id = False` in the codec).

By default a reply must equal the request's payload. Another rule goes into the user's `check`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from protocols.errors import RemoteProtocolError
from records.violations import PAYLOAD
from users import options
from users.client import Client, first_difference
from users.engine.exchange import Exchange
from users.engine.framed import FramedExchange
from users.failures import RequestFailure
from users.protocol_user import ProtocolUser
from users.session import CodecSession, Session
from users.transport import Endpoint

options.offer("payload_bytes", "depth", "timeout", "connect_deadline", "engine")


class Reply(NamedTuple):
    """What a codec's `receive_data` gives: the id of the request that it answers (or None), and its content."""

    request_id: Any
    payload: Any


class FrameCodec(Protocol):
    """What a codec of one's own has. Optional: `error`, `receive_eof()`, `matches_by_id`."""

    def encode(self, request_id: int, payload: Any) -> bytes:
        """The bytes of one request. `request_id` is a unique u64."""
        ...

    def receive_data(self, data: bytes) -> Sequence[Any]:
        """Replies that `data` completes, each with `request_id` and `payload`."""
        ...


class FramedSession(CodecSession):
    """A codec that somebody else wrote: it may raise on bytes that it does not expect."""

    def __init__(self, codec: Any) -> None:
        super().__init__(codec)
        self.matches_by_id = getattr(codec, "matches_by_id", True)
        self._fault: RemoteProtocolError | None = None
        self.receive_data = self._receive_guarded  # type: ignore[method-assign]

    def _receive_guarded(self, data: bytes) -> Sequence[Any]:
        try:
            replies: Sequence[Any] = self.codec.receive_data(data)
        except RemoteProtocolError as fault:
            self._fault = fault
        except Exception as fault:
            self._fault = RemoteProtocolError("the codec cannot read it", f"{type(fault).__name__}: {fault}")
        else:
            return replies
        return []

    @property
    def error(self) -> RemoteProtocolError | None:  # type: ignore[override]
        error: RemoteProtocolError | None = self._fault or getattr(self.codec, "error", None)
        return error

    def example(self, reply: Any) -> bytes:
        return _bytes(reply.payload)


class FramedClient(Client):
    """`request` sends a payload and checks what comes back."""

    def __init__(self, user: "FramedUser", endpoint: Endpoint) -> None:
        self.request_type = user.protocol_name  # type: ignore[misc]
        super().__init__(user, endpoint)

    def request(self, payload: Any, name: str = "request") -> Any | None:
        """One checked round trip: the reply's payload, or None when it failed. `name` is its row in the tables."""
        reply = self.perform(name, payload, len(payload) if isinstance(payload, (bytes, str)) else 0)
        return None if reply is None else reply.payload

    def _session(self) -> Session:
        return FramedSession(self.user.codec())

    def _encode(self, request_id: int, request: Any) -> tuple[Any, bytes, Any]:
        session: Any = self.connection.session
        return request_id, session.codec.encode(request_id, request), request

    def _check(self, name: str, reply: Any, expected: Any) -> RequestFailure | None:
        wrong = self.user.check(expected, reply.payload)
        if not wrong:
            return None
        return self._violation(PAYLOAD, name, _bytes(expected), _bytes(reply.payload), wrong)


class FramedUser(ProtocolUser):
    """Abstract. Set `codec`, `host` and, for the tables, `protocol_name`; override `check` for other rules."""

    abstract = True
    client_class: ClassVar[type[Client]] = FramedClient
    client: FramedClient

    #: Class (or factory) of a FrameCodec; called for each connection.
    codec: ClassVar[Any]
    #: The operation's name in engine mode.
    request_name: ClassVar[str] = "request"
    #: Locust's "type" column and the first word of the operations' names.
    protocol_name: ClassVar[str] = "framed"

    def next_payload(self) -> Any:
        """What to send next in engine mode (`--engine`), where tasks are not run. Without one, tasks are."""
        raise NotImplementedError

    def exchange_class(self) -> type[Exchange] | None:
        return None if type(self).next_payload is FramedUser.next_payload else FramedExchange

    def check(self, sent: Any, received: Any) -> str:
        """What is wrong with a reply, in a few words for the record, or "". Must not raise."""
        if sent == received:
            return ""
        return first_difference(_bytes(sent), _bytes(received))


def _bytes(payload: Any) -> bytes:
    if isinstance(payload, str):
        return payload.encode("utf-8", "surrogatepass")
    return bytes(payload) if isinstance(payload, (bytes, bytearray, memoryview)) else repr(payload).encode()
