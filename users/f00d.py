"""Users that act as the controller of F00D devices: toggle, wait for the acknowledgement, try again (seed 003).

As in the original, an attempt has a connection and a message id of its own by default, connecting may take 1.0 s
(`--f00d-connect-timeout`), the acknowledgement 1.5 s (`--f00d-timeout`), and between attempts it waits 0.25 s * 2^(n-1)
(`--f00d-retry-delay`) and up to 0.1 s more (`--f00d-retry-jitter`). An attempt is repeated when nothing came back; an
acknowledgement that is *wrong* is a failure at once, never hidden by a retry.

`--ack raw` demands exactly the bytes `ACK`; `--ack any` takes any reply, as the original. `--ack framed` demands the
acknowledgement of this very packet, and with `--f00d-connections reuse` lets `--depth` packets share a connection.
"""

import random
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any, ClassVar, Final, NamedTuple, Self

import gevent
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random

from protocols.f00d import PACKET_TAILS, RAW_ACK, TOGGLE, FramedAckDecoder, RawAckDecoder, packet_heads
from records.violations import ACK
from users import options
from users.client import Client
from users.connection import Connection
from users.engine.exchange import Exchange
from users.engine.f00d import F00DExchange
from users.f00d_metrics import CONNECTION_FAILED, TIMEOUT, DeviceMetrics, samples
from users.failures import CheckFailed, ConnectFailed, ConnectionLost, ReplyTimeout, RequestFailure
from users.options import OptionMistake
from users.protocol_user import ProtocolUser
from users.session import CodecSession, Session
from users.transport import Endpoint

#: What is tried again: nothing came back.
RETRIED: Final = (ConnectFailed, ConnectionLost, ReplyTimeout)

_NS_PER_MS: Final = 1e6
MSG_ID_CHARS: Final = 16

options.offer("depth", "ack", "f00d_connections", "attempts", "engine")
options.offer("f00d_connect_timeout", "f00d_timeout", "f00d_retry_delay", "f00d_retry_jitter")


class RawAck(NamedTuple):
    """`ACK`: names no packet, so it is the oldest's."""

    request_id: None
    data: bytes


class FramedAck(NamedTuple):
    """The acknowledgement of the packet with this msg_id."""

    request_id: str


class RawAckSession(CodecSession):
    """Unframed acknowledgements, matched by order."""

    matches_by_id = False
    unasked_kind = ACK
    malformed_kind = ACK

    def __init__(self, decoder: RawAckDecoder | None = None) -> None:
        super().__init__(decoder or RawAckDecoder())
        self.receive_data = self._receive  # type: ignore[method-assign]

    def _receive(self, data: bytes) -> Sequence[RawAck]:
        return [RawAck(None, ack) for ack in self.codec.receive_data(data)]

    def example(self, reply: RawAck) -> bytes:
        return reply.data


class AnyAckSession(RawAckSession):
    """The first reply on a connection is its acknowledgement, whatever it says; it may come in pieces."""

    def __init__(self) -> None:
        super().__init__(RawAckDecoder(accept_any=True))
        self._is_acknowledged = False

    def _receive(self, data: bytes) -> Sequence[RawAck]:
        if self._is_acknowledged:
            return ()
        self._is_acknowledged = bool(data)
        return super()._receive(data)


class FramedAckSession(CodecSession):
    """Framed acknowledgements, matched by msg_id."""

    unasked_kind = ACK

    def __init__(self) -> None:
        super().__init__(FramedAckDecoder())
        self.receive_data = self._receive  # type: ignore[method-assign]

    def _receive(self, data: bytes) -> Sequence[FramedAck]:
        return [FramedAck(msg_id) for msg_id in self.codec.receive_data(data)]

    def identify(self, request_id: Any) -> int | None:
        if len(request_id) != MSG_ID_CHARS:
            return None
        try:
            return int(request_id, 16)
        except ValueError:
            return None

    def example(self, reply: FramedAck) -> bytes:
        return reply.request_id.encode()


_SESSIONS: Final[dict[str, Callable[[], Session]]] = {
    "raw": RawAckSession,
    "any": AnyAckSession,
    "framed": FramedAckSession,
}


class F00DClient(Client):
    """`toggle`: one command, acknowledged, in as many attempts as it takes and is allowed."""

    request_type = "f00d"
    timeout_option = "f00d_timeout"

    def __init__(self, user: Any, endpoint: Endpoint) -> None:
        parsed = user.environment.parsed_options
        self._ack: str = options.value(parsed, "ack")
        self._framed = self._ack == "framed"
        self._reuses = _reuses_connections(parsed)
        if self._ack == "any" and self._reuses:
            raise OptionMistake("--ack any takes whatever comes for the acknowledgement: leave out --f00d-connections")
        self.connect_timeout_s: float = options.value(parsed, "f00d_connect_timeout")
        self.retry_delay_s: float = options.value(parsed, "f00d_retry_delay")
        self.retry_jitter_s: float = options.value(parsed, "f00d_retry_jitter")
        self.attempts: int = options.value(parsed, "attempts")
        self.connects_ahead = self._reuses
        self._retrying = Retrying(
            stop=stop_after_attempt(self.attempts),
            wait=wait_exponential(multiplier=self.retry_delay_s) + wait_random(0, self.retry_jitter_s),
            retry=retry_if_exception_type(RETRIED),
            before_sleep=self._before_retry,
            sleep=gevent.sleep,
            reraise=True,
        )
        self._endpoint = endpoint
        self.device_id = user.device_id
        self.heads = packet_heads(self.device_id)
        self.metrics = DeviceMetrics(self.device_id)
        super().__init__(user, endpoint)

    def for_lane(self, user: Any) -> Self:
        lane = super().for_lane(user)
        if not self._reuses:
            lane.connection = lane._connection_to(self._endpoint)
        return lane

    @property
    def reuses_connections(self) -> bool:
        reuses: bool = self._reuses
        return reuses

    def toggle(self, state: bool) -> bool:
        """Switch the device. True when it acknowledged."""
        intended_ns = self.pace.intended()
        if self.recording.refuses():
            self.pace.refused()
            return False
        self._first_call_ns = self._call.return_ns = self._call.unread_ns = self._attempts_made = 0
        self._first_failure: RequestFailure | None = None
        self._started_ns = monotonic_ns()
        failure: RequestFailure | None = None
        try:
            try:
                self._attempt(state)
            except RETRIED as first:
                self._first_failure = first
                self._retrying(self._attempt_again, state)
        except RequestFailure as caught:
            failure = caught
        except BaseException:
            self.recording.cancelled(TOGGLE, intended_ns)
            raise
        return_ns = self._call.return_ns if failure is None else monotonic_ns()
        self.pace.returned(return_ns, self._call.unread_ns if failure is None else 0)
        call_ns = self._first_call_ns or intended_ns
        if failure is not None:
            self.recording.failed(TOGGLE, intended_ns, call_ns, return_ns, failure)
            return False
        if self._attempts_made == 1:
            samples.add((return_ns - self._started_ns) / _NS_PER_MS)
        self.recording.succeeded(TOGGLE, intended_ns, call_ns, return_ns, length=len(RAW_ACK))
        return True

    def _attempt_again(self, state: bool) -> None:
        # Tenacity's first attempt is one that was made before it was asked: most need no second, and its objects
        # are dear.
        if self._first_failure is not None:
            first, self._first_failure = self._first_failure, None
            raise first
        self._attempt(state)

    def _attempt(self, state: bool) -> None:
        metrics, call = self.metrics, self._call
        self._attempts_made += 1
        if not self._reuses:
            # The last attempt's connection may still be listening for a second acknowledgement.
            self.connection = self._connection_to(self._endpoint)
        connection = self.connection
        try:
            if not connection.is_open:
                connection.open(deadline_s=0, attempt_timeout_s=self.connect_timeout_s)
            msg_id = f"{connection.next_id():016x}"
            data = self.heads[state] + msg_id.encode() + PACKET_TAILS[state]
        except ConnectFailed:
            metrics.not_sent.inc()
            raise
        call.call_ns = 0
        try:
            connection.exchange(msg_id, data, call)
        except ReplyTimeout:
            metrics.sent.inc()
            metrics.not_received.inc()
            raise
        except ConnectionLost:
            metrics.not_sent.inc()
            raise
        except CheckFailed:
            metrics.sent.inc()
            metrics.decode_error(_decode_reason(connection))
            raise
        finally:
            self._first_call_ns = self._first_call_ns or call.call_ns
            if not self._reuses:
                connection.close_later()
        metrics.acknowledged(call.return_ns - call.call_ns)

    def _before_retry(self, state: Any) -> None:
        timed_out = isinstance(state.outcome.exception(), ReplyTimeout)
        self.metrics.retransmit(TIMEOUT if timed_out else CONNECTION_FAILED)

    def _session(self) -> Session:
        return _SESSIONS[self._ack]()


class F00DUser(ProtocolUser):
    """Abstract user with an `F00DClient` as `client`; each user is one device."""

    abstract = True
    client_class: ClassVar[type[Client]] = F00DClient
    instead_of_engine = "it needs connections that stay; add --f00d-connections reuse, or leave out --engine"
    host = "tcp://127.0.0.1:9000"
    client: F00DClient

    def __init__(self, environment: Any) -> None:
        self.device_id = f"device-{random.getrandbits(32):08x}"
        super().__init__(environment)
        self.is_on = False

    def exchange_class(self) -> type[Exchange] | None:
        # What costs with a connection for each packet is the connection: the engine would save nothing.
        return F00DExchange if self.client.reuses_connections else None

    @classmethod
    def has_engine(cls, parsed_options: Any) -> bool:
        return _reuses_connections(parsed_options)

    def toggle(self) -> bool:
        """Switch the device over. True when it acknowledged."""
        self.is_on = not self.is_on
        return self.client.toggle(self.is_on)


def _reuses_connections(parsed_options: Any) -> bool:
    return bool(options.value(parsed_options, "f00d_connections") == "reuse")


def _decode_reason(connection: Connection) -> str:
    error = connection.session.error
    return error.reason if error is not None else "unreadable"
