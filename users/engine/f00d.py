"""F00D packets in the engine, on connections that are kept open (`--f00d-connections reuse`).

A raw acknowledgement is three bytes, and a framed one names its packet: both can be foretold. The device's metrics
are those of the scripted client, added up between two sweeps of the engine.
"""

import random
from bisect import bisect_left
from time import monotonic_ns
from typing import Any, Final

from protocols.f00d import (
    ACK_HEAD,
    ACK_TAIL,
    MSG_ID_DIGITS,
    PACKET_TAILS,
    RAW_ACK,
    TOGGLE,
    Packet,
    encode_packet,
)
from users.engine.columns import Columns
from users.engine.exchange import Request
from users.engine.express import Express, Times
from users.engine.stream import StreamExchange
from users.f00d_metrics import CONNECTION_FAILED, LATENCY_BOUNDS_NS, TIMEOUT, samples
from users.failures import CheckFailed, ConnectFailed, ConnectionLost, ReplyTimeout, RequestFailure
from users.session import Session
from users.statistics import Tally

_BUCKETS: Final = len(LATENCY_BOUNDS_NS) + 1
_BETWEEN: Final = ACK_TAIL + ACK_HEAD
_NS_PER_MS: Final = 1e6
# Counters are read once in some seconds; handing on costs each device ten microseconds.
METRICS_EVERY_NS: Final = 1_000_000_000


class F00DExpress(Express):
    """Toggles the devices of all connections. `framed`: the acknowledgements name their packets."""

    __slots__ = (
        "_add",
        "_count_call",
        "_count_intended",
        "_count_places",
        "_count_returned",
        "_framed",
        "_heads",
        "_in_bucket",
        "_is_on",
        "_service_ns",
    )

    def __init__(self, columns: Columns, framed: bool, tally: Tally) -> None:
        super().__init__(columns)
        self._framed = framed
        # Of each device: what stands before the msg_id when it is switched off, and on; its state.
        self._heads = columns.objects(b""), columns.objects(b"")
        self._is_on = columns.numbers("b")
        # What its metrics have not been told: service times, and how many of them were in each bucket.
        self._service_ns = columns.numbers()
        self._in_bucket = [columns.numbers() for _ in range(_BUCKETS)]
        self._add = tally.adding
        self._count_intended, self._count_call, self._count_returned, self._count_places = tally.appends

    def opened(self, fd: int, exchange: Any) -> None:
        for heads, head in zip(self._heads, exchange.heads, strict=True):
            heads[fd] = head
        self._is_on[fd] = exchange.is_on

    def is_on(self, fd: int) -> bool:
        """The state that its last packet asked for."""
        return bool(self._is_on[fd])

    def toggle(self, fd: int) -> bool:
        """A packet is made elsewhere: the state that it is to ask for."""
        self._is_on[fd] ^= 1
        return self.is_on(fd)

    def make(self, fd: int, count: int) -> tuple[bytes, bytes]:
        request_id, step, mask, state = self._ids[fd], self._id_step, self._id_mask, self._is_on[fd]
        heads = self._heads[0][fd], self._heads[1][fd]
        packets: list[bytes] = []
        digits_of = []
        for _ in range(count):
            request_id = (request_id + step) & mask
            state ^= 1
            digits = b"%016x" % request_id
            digits_of.append(digits)
            packets += (heads[state], digits, PACKET_TAILS[state])
        self._ids[fd], self._is_on[fd] = request_id, state
        due = ACK_HEAD + _BETWEEN.join(digits_of) + ACK_TAIL if self._framed else RAW_ACK * count
        return b"".join(packets), due

    def notes(self, fd: int, count: int) -> list[tuple[int, bool]]:
        """Of each packet its number and the state that it asks for."""
        request_id, state = self._ids[fd], self._is_on[fd]
        back = range(count - 1, -1, -1)
        return [((request_id - self._id_step * steps) & self._id_mask, bool((state + steps) & 1)) for steps in back]

    def record(self, fd: int, notes: Any, count: int, times: Times) -> None:
        self._add(*times, count)
        service_ns = times[2] - times[1]
        self.observe(fd, count, service_ns)
        if samples.collect:  # what went as a stream went for the first time
            samples.add(service_ns / _NS_PER_MS, count)

    def renew(self, fd: int, return_ns: int) -> bytes:
        if self._places[fd] != 1 or samples.collect:
            return self._renew(fd, None, return_ns)  # it records without notes
        call_ns = self._call_ns[fd]
        self._count_intended(self._intended_ns[fd])
        self._count_call(call_ns)
        self._count_returned(return_ns)
        self._count_places(1)
        self._intended_ns[fd] = return_ns
        self._in_bucket[bisect_left(LATENCY_BOUNDS_NS, return_ns - call_ns)][fd] += 1
        self._service_ns[fd] += return_ns - call_ns
        self._ids[fd] = request_id = (self._ids[fd] + self._id_step) & self._id_mask
        self._is_on[fd] = state = self._is_on[fd] ^ 1
        digits = b"%016x" % request_id
        self._due[fd] = ACK_HEAD + digits + ACK_TAIL if self._framed else RAW_ACK
        head: bytes = self._heads[state][fd]
        return head + digits + PACKET_TAILS[state]

    def observe(self, fd: int, count: int, service_ns: int) -> None:
        """For the device's metrics: so many acknowledgements took so long."""
        self._in_bucket[bisect_left(LATENCY_BOUNDS_NS, service_ns)][fd] += count
        self._service_ns[fd] += count * service_ns

    def take_observed(self, fd: int) -> tuple[list[int], int]:
        """How many were in each bucket, and their sum in ns, since the last call."""
        in_bucket = [column[fd] for column in self._in_bucket]
        service_ns: int = self._service_ns[fd]
        for column in (*self._in_bucket, self._service_ns):
            column[fd] = 0
        return in_bucket, service_ns


class F00DExchange(StreamExchange):
    """Toggles one device on and off."""

    __slots__ = ("_attempts", "_metrics_due_ns", "heads", "is_on", "metrics")

    _express: F00DExpress

    first_name = TOGGLE

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        framed: bool = self.client._framed
        self._express = self._columns.express_of(F00DExpress, framed, self.tally(TOGGLE, len(RAW_ACK)))
        self.unit_bytes = len(ACK_HEAD) + MSG_ID_DIGITS + len(ACK_TAIL) if framed else len(RAW_ACK)
        self.heads = self.client.heads
        self.is_on = False  # while it is not open; then the express knows
        self._attempts: int = self.client.attempts
        self.metrics = self.client.metrics
        # Devices that began together must not all hand on in the same turn.
        self._metrics_due_ns = monotonic_ns() + int(random.random() * METRICS_EVERY_NS)

    # -- the stream ----------------------------------------------------------------------------------------------

    def unmake(self, due: bytes, notes: Any) -> list[Request]:
        requests = []
        for number, state in notes:
            request = Request(TOGGLE, state, len(RAW_ACK), 0)
            request.request_id = f"{number:016x}"
            requests.append(request)
        return requests

    # -- the general case ----------------------------------------------------------------------------------------

    def next_request(self, intended_ns: int) -> Request:
        self.is_on = self._express.toggle(self._fd) if self.is_open else not self.is_on
        return Request(TOGGLE, self.is_on, len(RAW_ACK), intended_ns)

    def encode(self, request: Request) -> tuple[Any, bytes, Any]:
        msg_id = f"{self.next_id():016x}"
        return msg_id, encode_packet(Packet(TOGGLE, self.client.device_id, msg_id, request.what)), None

    def check(self, request: Request, reply: Any) -> RequestFailure | None:
        return None  # it was matched: by its msg_id, or as the oldest one's

    def succeeded(self, request: Request, return_ns: int) -> None:
        super().succeeded(request, return_ns)
        if self.is_open:  # whoever hears of a failure may have closed it in the middle of a recv's replies
            self._express.observe(self._fd, 1, return_ns - request.call_ns)
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

    def sweep(self, now_ns: int) -> None:
        if now_ns >= self._metrics_due_ns:
            self._metrics_due_ns = now_ns + METRICS_EVERY_NS
            self._hand_on_metrics()
        super().sweep(now_ns)

    def cancel_all(self) -> None:
        super().cancel_all()
        if self.is_open:
            self._hand_on_metrics()

    def _dispose(self) -> None:
        self.is_on = self._express.is_on(self._fd)
        self._hand_on_metrics()
        super()._dispose()

    def _hand_on_metrics(self) -> None:
        in_bucket, service_ns = self._express.take_observed(self._fd)
        self.metrics.acknowledged_many(in_bucket, service_ns)

    def at_boundary(self) -> bool:
        session: Session = self.session
        return bool(session.codec.pending_bytes == 0)  # type: ignore[attr-defined]
