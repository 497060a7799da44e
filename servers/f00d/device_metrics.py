"""The seed's metrics, as the device sees them: names, labels and buckets kept.

| metric | here |
|---|---|
| tcp_comm_packet_recv_total{device_id,outcome} | success: a packet read; timeout: one begun and not finished in time |
| tcp_comm_packet_sent_total{device_id,outcome} | success: an acknowledgement sent; error: its client had gone |
| tcp_comm_packet_latency_seconds{device_id} | from packet read to acknowledgement sent |
| tcp_comm_packet_retransmit_total{device_id,reason} | the device's last packet had gone unanswered: this is its retry |
| tcp_comm_decode_errors_total{device_id,reason} | device_id is "unknown": what cannot be read names nobody |

Device ids come from the wire, so the number of labelled devices is bounded; later ones count as "other".
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

# Seed 003.
LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
CONNECTION_FAILED = "connection_failed"
TIMEOUT = "timeout"
UNKNOWN_DEVICE = "unknown"
OTHER_DEVICES = "other"
MAX_DEVICES = 10_000  # a few hundred bytes each


class DeviceCounts:
    """The counts of one device_id."""

    __slots__ = (
        "buckets",
        "latency_sum_s",
        "received",
        "received_timeout",
        "retransmits",
        "sent",
        "sent_error",
        "unanswered",
    )

    def __init__(self) -> None:
        self.received = 0
        self.received_timeout = 0
        self.sent = 0
        self.sent_error = 0
        self.retransmits: Counter[str] = Counter()
        self.buckets = [0] * (len(LATENCY_BUCKETS_S) + 1)  # not cumulative; the last one is +Inf
        self.latency_sum_s = 0.0
        self.unanswered = ""  # why the last packet got no acknowledgement, "" when it got one

    def packet(self) -> None:
        self.received += 1
        if self.unanswered:
            self.retransmits[self.unanswered] += 1
            self.unanswered = ""

    def acknowledged(self, latency_s: float) -> None:
        self.sent += 1
        self.buckets[bisect_left(LATENCY_BUCKETS_S, latency_s)] += 1
        self.latency_sum_s += latency_s


class DeviceMetrics(Collector):
    """All devices of one server."""

    def __init__(self, max_devices: int = MAX_DEVICES) -> None:
        self.max_devices = max_devices
        self.devices: dict[str, DeviceCounts] = {}
        self.decode_errors: Counter[str] = Counter()

    def of(self, device_id: str) -> DeviceCounts:
        """The counts of that device; of all others together when there are too many."""
        counts = self.devices.get(device_id)
        if counts is None:
            if len(self.devices) >= self.max_devices:
                device_id = OTHER_DEVICES
            counts = self.devices.setdefault(device_id, DeviceCounts())
        return counts

    def collect(self) -> Iterator[Metric]:
        sent = CounterMetricFamily("tcp_comm_packet_sent", "Acknowledgements sent.", labels=["device_id", "outcome"])
        received = CounterMetricFamily("tcp_comm_packet_recv", "Packets received.", labels=["device_id", "outcome"])
        latency = HistogramMetricFamily(
            "tcp_comm_packet_latency_seconds", "From packet to acknowledgement.", labels=["device_id"]
        )
        retransmits = CounterMetricFamily(
            "tcp_comm_packet_retransmit", "Packets after an unanswered one.", labels=["device_id", "reason"]
        )
        errors = CounterMetricFamily(
            "tcp_comm_decode_errors", "Packets refused, by reason.", labels=["device_id", "reason"]
        )
        for device_id, counts in self.devices.items():
            received.add_metric([device_id, "success"], counts.received)
            if counts.received_timeout:
                received.add_metric([device_id, "timeout"], counts.received_timeout)
            sent.add_metric([device_id, "success"], counts.sent)
            if counts.sent_error:
                sent.add_metric([device_id, "error"], counts.sent_error)
            latency.add_metric([device_id], _cumulative(counts.buckets), counts.latency_sum_s)
            for reason, number in sorted(counts.retransmits.items()):
                retransmits.add_metric([device_id, reason], number)
        for reason, number in sorted(self.decode_errors.items()):
            errors.add_metric([UNKNOWN_DEVICE, reason], number)
        yield from (sent, received, latency, retransmits, errors)


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    total = 0
    result: list[tuple[str, float]] = []
    for limit, number in zip((*map(str, LATENCY_BUCKETS_S), "+Inf"), buckets, strict=True):
        total += number
        result.append((limit, total))
    return result
