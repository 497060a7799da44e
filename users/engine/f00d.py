"""F00D packets in the engine, on connections that are kept open (`--f00d-connections reuse`).

A raw acknowledgement is three bytes, and a framed one names its packet: both can be foretold. The device's metrics
are those of the scripted client, added up between two sweeps of the engine.
"""

import random
from bisect import bisect_left
from time import monotonic_ns
from typing import Any, Final

from protocols.f00d import ACK_HEAD, ACK_TAIL, MSG_ID_DIGITS, RAW_ACK, TOGGLE, Packet, PacketWriter, encode_packet
from users.engine.exchange import Request
from users.engine.stream import StreamExchange
from users.f00d_metrics import CONNECTION_FAILED, LATENCY_BUCKETS_S, TIMEOUT, samples
from users.failures import CheckFailed, ConnectFailed, ConnectionLost, ReplyTimeout, RequestFailure
from users.session import Session

_BOUNDS_NS: Final = [int(bound_s * 1_000_000_000) for bound_s in LATENCY_BUCKETS_S]
_NS_PER_S: Final = 1e9
_NS_PER_MS: Final = 1e6
# Counters are read once in some seconds; handing on costs each device ten microseconds.
METRICS_EVERY_NS: Final = 1_000_000_000


class F00DExchange(StreamExchange):
    """Toggles one device on and off."""

    __slots__ = (
        "_acknowledged",
        "_attempts",
        "_count_call",
        "_count_intended",
        "_count_places",
        "_count_returned",
        "_framed",
        "_in_bucket",
        "_is_on",
        "_metrics_due_ns",
        "_service_ns",
        "_write",
        "metrics",
    )

    first_name = TOGGLE

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._framed: bool = self.client._framed
        self.unit_bytes = len(ACK_HEAD) + MSG_ID_DIGITS + len(ACK_TAIL) if self._framed else len(RAW_ACK)
        self._write = PacketWriter(self.client.device_id).encode
        self._is_on = False
        self._attempts: int = self.client.attempts
        self.metrics = self.client.metrics
        # Devices that began together must not all hand on in the same turn.
        self._metrics_due_ns = monotonic_ns() + int(random.random() * METRICS_EVERY_NS)
        self._acknowledged = 0
        self._service_ns = 0
        self._in_bucket = [0] * (len(_BOUNDS_NS) + 1)
        tally = self.tally(TOGGLE, len(RAW_ACK))
        self._count_intended, self._count_call, self._count_returned, self._count_places = tally.appends

    # -- the stream ----------------------------------------------------------------------------------------------

    def make(self, count: int) -> tuple[bytes, bytes, Any]:
        step, mask = self._id_step, self._id_mask
        if count == 1:
            self._id = request_id = (self._id + step) & mask
            self._is_on = not self._is_on
            digits = b"%016x" % request_id
            out = self._write(digits, self._is_on)
            return out, ACK_HEAD + digits + ACK_TAIL if self._framed else RAW_ACK, ((request_id, self._is_on),)
        request_id, state, write = self._id, self._is_on, self._write
        notes, packets, digits_of = [], [], []
        for _ in range(count):
            request_id = (request_id + step) & mask
            state = not state
            notes.append((request_id, state))
            digits = b"%016x" % request_id
            digits_of.append(digits)
            packets.append(write(digits, state))
        self._id, self._is_on = request_id, state
        between = ACK_TAIL + ACK_HEAD
        due = ACK_HEAD + between.join(digits_of) + ACK_TAIL if self._framed else RAW_ACK * count
        return b"".join(packets), due, notes

    def add_up(self, notes: Any, count: int, intended_ns: int, call_ns: int, return_ns: int) -> None:
        self._count_intended(intended_ns)
        self._count_call(call_ns)
        self._count_returned(return_ns)
        self._count_places(count)
        self._observe(count, return_ns - call_ns)
        if samples.collect:  # what went as a stream went for the first time
            samples.add((return_ns - call_ns) / _NS_PER_MS, count)

    def unmake(self, due: bytes, notes: Any) -> list[Request]:
        requests = []
        for number, state in notes:
            request = Request(TOGGLE, state, len(RAW_ACK), 0)
            request.request_id = f"{number:016x}"
            requests.append(request)
        return requests

    # -- the general case ----------------------------------------------------------------------------------------

    def next_request(self, intended_ns: int) -> Request:
        self._is_on = not self._is_on
        return Request(TOGGLE, self._is_on, len(RAW_ACK), intended_ns)

    def encode(self, request: Request) -> tuple[Any, bytes, Any]:
        msg_id = f"{self.next_id():016x}"
        return msg_id, encode_packet(Packet(TOGGLE, self.client.device_id, msg_id, request.what)), None

    def check(self, request: Request, reply: Any) -> RequestFailure | None:
        return None  # it was matched: by its msg_id, or as the oldest one's

    def succeeded(self, request: Request, return_ns: int) -> None:
        super().succeeded(request, return_ns)
        self._observe(1, return_ns - request.call_ns)
        if not request.tries:
            samples.add((return_ns - request.call_ns) / _NS_PER_MS)

    def connect(self) -> None:
        # As the scripted client: connecting is part of an attempt, tried once for each.
        try:
            self.open(deadline_s=0, attempt_timeout_s=self.client.connect_timeout_s)
        except ConnectFailed as failure:
            self.refused(failure)

    def retry_after_s(self, request: Request, failure: RequestFailure) -> float | None:
        metrics = self.metrics
        if isinstance(failure, ReplyTimeout):
            metrics.sent.inc()
            metrics.not_received.inc()
        elif isinstance(failure, CheckFailed):
            metrics.sent.inc()
            error = self.session.error
            metrics.decode_error(error.reason if error is not None else "unreadable")
        else:
            metrics.not_sent.inc()
        retriable = isinstance(failure, (ConnectFailed, ConnectionLost, ReplyTimeout))
        if not retriable or request.tries + 1 >= self._attempts:
            return None
        metrics.retransmit(TIMEOUT if isinstance(failure, ReplyTimeout) else CONNECTION_FAILED)
        return float(self.client.retry_delay_s * 2.0**request.tries + random.uniform(0, self.client.retry_jitter_s))

    # -- metrics -------------------------------------------------------------------------------------------------

    def _observe(self, count: int, service_ns: int) -> None:
        self._acknowledged += count
        self._service_ns += count * service_ns
        self._in_bucket[bisect_left(_BOUNDS_NS, service_ns)] += count

    def sweep(self, now_ns: int) -> None:
        if now_ns >= self._metrics_due_ns:
            self._metrics_due_ns = now_ns + METRICS_EVERY_NS
            self._hand_on_metrics()
        super().sweep(now_ns)

    def cancel_all(self) -> None:
        super().cancel_all()
        self._hand_on_metrics()

    def _hand_on_metrics(self) -> None:
        count = self._acknowledged
        if not count:
            return
        self.metrics.sent.inc(count)
        self.metrics.received.inc(count)
        self.metrics.observe_many(self._in_bucket, self._service_ns / _NS_PER_S)
        self._acknowledged = self._service_ns = 0
        self._in_bucket = [0] * len(self._in_bucket)

    def at_boundary(self) -> bool:
        session: Session = self.session
        return bool(session.codec.pending_bytes == 0)  # type: ignore[attr-defined]
