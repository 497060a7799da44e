"""What a connection needs to know of its protocol: how bytes become replies.

A session is born with each TCP connection and dies with it. Any sans-I/O codec whose `receive_data(data)` gives
replies with a `request_id` makes one (`CodecSession`); a protocol with an opening (WebSocket) overrides more.

A reply whose `request_id` is None belongs to the oldest request under way: for protocols that answer in order
and name nothing (a raw `ACK`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from protocols.errors import RemoteProtocolError
from records.violations import SHAPE, UNKNOWN_ID


class Reply(Protocol):
    """The least that a reply has."""

    @property
    def request_id(self) -> Any: ...


class Codec(Protocol):
    """A sans-I/O client codec (see protocols.errors for the contract of `receive_data`)."""

    error: Any

    def receive_data(self, data: bytes) -> Sequence[Any]: ...


class Stray(NamedTuple):
    """What broke the protocol outside the check of one reply."""

    kind: str  # of records.violations
    detail: str
    request_id: Any
    got: bytes
    connection: str
    request_fails: bool  # a request fails (or has failed) with it: it must not be counted twice


class Session:
    """Protocol state of one connection. The defaults suit a protocol without opening, closing or own chatter."""

    #: May requests be sent? False until an opening handshake is through.
    ready: bool = True
    #: Do replies name their requests? If not, one timeout makes everything after it doubtful.
    matches_by_id: bool = True
    #: Are replies sent in the order of the requests? Then one with a damaged id still tells whose it is.
    answers_in_order: bool = False
    #: Does every request get a reply while its connection lives, whatever the state of the system behind it?
    answers_always: bool = True
    #: What a reply is called that no request explains, and one that cannot be read.
    unasked_kind: str = UNKNOWN_ID
    malformed_kind: str = SHAPE
    #: The notice of a server that turns a connection away: nothing that was sent on it was or will be done.
    turned_away: str = "server at capacity"

    error: RemoteProtocolError | None = None
    #: Set when the server has said goodbye: the text of what that means for a request under way.
    finished: str = ""

    @property
    def judge(self) -> Any:
        """Whose `error` is this session's: asked after each recv, so without a step between."""
        return self

    def receive_data(self, data: bytes) -> Sequence[Any]:
        """Replies that `data` completes. Never raises on remote bytes; sets `error`."""
        raise NotImplementedError

    def receive_eof(self) -> None:
        """The server closed. Sets `error` when it did so inside a message."""

    def opening(self) -> bytes:
        """What the client sends first, before `ready`."""
        return b""

    def output(self) -> bytes:
        """What the protocol itself wants sent by now (a pong, an answer to a close). Asked after each recv."""
        return b""

    def closing(self) -> bytes:
        """What the client sends last."""
        return b""

    def notice(self, reply: Any) -> str | None:
        """The text of a reply that speaks about the connection and answers no request, if it is one."""
        return None

    def identify(self, request_id: Any) -> int | None:
        """A request id as the number it was issued as; None when it cannot be one of ours."""
        return request_id if isinstance(request_id, int) else None

    def example(self, reply: Any) -> bytes:
        """Some bytes of a reply, for the record of a violation."""
        return repr(reply).encode()[:256]


class CodecSession(Session):
    """A session that is just a codec."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.receive_data = codec.receive_data  # type: ignore[method-assign]  # no frame between recv and codec

    @property
    def error(self) -> RemoteProtocolError | None:  # type: ignore[override]
        error: RemoteProtocolError | None = self.codec.error
        return error

    @property
    def judge(self) -> Any:
        return self.codec if type(self).error is CodecSession.error else self

    def receive_eof(self) -> None:
        ended = getattr(self.codec, "receive_eof", None)
        if ended is not None:
            ended()
