"""The device client's own metrics, under the names that the seed gave them.

One registry per process, apart from prometheus_client's default one: nothing else of the process appears in it,
and tests and several runs of one process do not collide: each run begins with empty metrics (`start_anew`).
Beside them stand the round trips for the performance report. `users.f00d_report` shows both.

What was acknowledged is counted by each device in plain numbers and handed on when somebody reads the registry: the
locks of four metrics would cost as much as the packet.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric

from records.performance_report import Samples

CONNECTION_FAILED: Final = "connection_failed"
TIMEOUT: Final = "timeout"

# Seed 003's buckets, in seconds.
LATENCY_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)

LATENCY_BOUNDS_NS: Final = [round(bound_s * 1_000_000_000) for bound_s in LATENCY_BUCKETS_S]


#: Devices that have something to hand on.
_counting: "Final[set[DeviceMetrics]]" = set()


class _Registry(CollectorRegistry):
    """Has the devices hand on what they have counted before it is read."""

    def collect(self) -> Iterable[Metric]:
        for device in list(_counting):
            device.hand_on()
        return super().collect()


registry = _Registry()

packets_sent = Counter(
    "tcp_comm_packet_sent", "Packets sent, by outcome (success, error).", ["device_id", "outcome"], registry=registry
)
packets_received = Counter(
    "tcp_comm_packet_recv",
    "Acknowledgements waited for, by outcome (success, timeout).",
    ["device_id", "outcome"],
    registry=registry,
)
packet_latency_seconds = Histogram(
    "tcp_comm_packet_latency_seconds",
    "From the first byte of a packet to its acknowledgement.",
    ["device_id"],
    buckets=LATENCY_BUCKETS_S,
    registry=registry,
)
retransmits = Counter(
    "tcp_comm_packet_retransmit",
    "Attempts after the first, by what ended the one before (connection_failed, timeout).",
    ["device_id", "reason"],
    registry=registry,
)
decode_errors = Counter(
    "tcp_comm_decode_errors", "Replies that could not be read, by reason.", ["device_id", "reason"], registry=registry
)

_NS_PER_S: Final = 1e9

# Summed up together: one by one a sample would cost as much as the request that it is of.
MAX_WAITING_SAMPLES: Final = 65_536


class _HappyPath:
    """Round trips in ms of commands that were acknowledged at the first attempt; collected when a report is wanted."""

    def __init__(self) -> None:
        self.collect = False
        self._waiting: list[float] = []
        self._summed = Samples()

    def add(self, sample_ms: float, count: int = 1) -> None:
        """`count` commands that took so long."""
        if not self.collect:
            return
        self._waiting.extend([sample_ms] * count)
        if len(self._waiting) >= MAX_WAITING_SAMPLES:
            self._sum_up()

    def take(self) -> Samples:
        """What has come since the last take."""
        self._sum_up()
        taken, self._summed = self._summed, Samples()
        return taken

    def _sum_up(self) -> None:
        self._summed.extend(self._waiting)
        self._waiting = []


samples = _HappyPath()


def start_anew() -> None:
    """Another run begins: forget the last one's numbers."""
    _counting.clear()
    for metric in (packets_sent, packets_received, packet_latency_seconds, retransmits, decode_errors):
        metric.clear()
    samples.take()


class DeviceMetrics:
    """The metrics of one device, looked up once."""

    def __init__(self, device_id: str) -> None:
        self.sent = packets_sent.labels(device_id, "success")
        self.not_sent = packets_sent.labels(device_id, "error")
        self.received = packets_received.labels(device_id, "success")
        self.not_received = packets_received.labels(device_id, "timeout")
        self.latency = packet_latency_seconds.labels(device_id)
        self._device_id = device_id
        # Acknowledged, but not handed on: how many took so long (the last: longer than all bounds), and their sum.
        self._in_bucket = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self._service_ns = 0

    def acknowledged(self, service_ns: int) -> None:
        """A packet was sent and acknowledged so much later."""
        _counting.add(self)
        self._in_bucket[bisect_left(LATENCY_BOUNDS_NS, service_ns)] += 1
        self._service_ns += service_ns

    def hand_on(self) -> None:
        """Into the metrics with what was counted."""
        _counting.discard(self)
        in_bucket, service_ns = self._in_bucket, self._service_ns
        self._in_bucket, self._service_ns = [0] * len(in_bucket), 0
        self.acknowledged_many(in_bucket, service_ns)

    def acknowledged_many(self, in_bucket: list[int], service_ns: int) -> None:
        """So many as are in the buckets; `service_ns` is their sum."""
        count = sum(in_bucket)
        if not count:
            return
        self.sent.inc(count)
        self.received.inc(count)
        for bucket, number in zip(self.latency._buckets, in_bucket, strict=True):
            if number:
                bucket.inc(number)
        self.latency._sum.inc(service_ns / _NS_PER_S)

    def retransmit(self, reason: str) -> None:
        """Another attempt begins."""
        retransmits.labels(self._device_id, reason).inc()

    def decode_error(self, reason: str) -> None:
        """A reply could not be read."""
        decode_errors.labels(self._device_id, reason).inc()
