"""What devices count in plain numbers is in the registry whenever it is read, as prometheus_client would have it."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

from users import f00d_metrics
from users.f00d_metrics import LATENCY_BOUNDS_NS, LATENCY_BUCKETS_S, DeviceMetrics


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    f00d_metrics.start_anew()
    yield
    f00d_metrics.start_anew()


def value(name: str, **labels: str) -> float | None:
    return f00d_metrics.registry.get_sample_value(name, {"device_id": "A", **labels})


times_ns = st.lists(st.one_of(st.integers(1, 10**10), st.sampled_from(LATENCY_BOUNDS_NS)), min_size=1, max_size=50)


@given(times_ns)
def test_latencies_are_in_the_buckets_that_the_library_would_have_chosen(latencies_ns: list[int]) -> None:
    f00d_metrics.start_anew()
    theirs = CollectorRegistry()
    histogram = Histogram("latency_seconds", "-", buckets=LATENCY_BUCKETS_S, registry=theirs)
    device = DeviceMetrics("A")
    for latency_ns in latencies_ns:
        device.acknowledged(latency_ns)
        histogram.observe(latency_ns / 1e9)
    name = "tcp_comm_packet_latency_seconds"
    for bound in [*map(str, LATENCY_BUCKETS_S), "+Inf"]:
        expected = theirs.get_sample_value("latency_seconds_bucket", {"le": bound})
        assert value(f"{name}_bucket", le=bound) == expected, bound
    assert value(f"{name}_sum") == pytest.approx(theirs.get_sample_value("latency_seconds_sum"))
    assert value(f"{name}_count") == len(latencies_ns)
    assert value("tcp_comm_packet_sent_total", outcome="success") == len(latencies_ns)
    assert value("tcp_comm_packet_recv_total", outcome="success") == len(latencies_ns)


def test_reading_twice_counts_once_and_what_comes_later_is_added() -> None:
    device = DeviceMetrics("A")
    device.acknowledged(1_000_000)
    for _ in range(2):
        assert b'tcp_comm_packet_sent_total{device_id="A",outcome="success"} 1.0' in generate_latest(
            f00d_metrics.registry
        )
    device.acknowledged(1_000_000)
    device.acknowledged_many([1] + [0] * len(LATENCY_BUCKETS_S), 2_000_000)  # the engine's way
    assert value("tcp_comm_packet_sent_total", outcome="success") == 3
    assert value("tcp_comm_packet_latency_seconds_sum") == pytest.approx(0.004)


def test_a_run_does_not_begin_with_what_the_last_one_had_not_handed_on() -> None:
    device = DeviceMetrics("A")
    device.acknowledged(1_000_000)
    f00d_metrics.start_anew()
    assert not f00d_metrics._counting, "nor is it kept"
    assert value("tcp_comm_packet_sent_total", outcome="success") is None
    DeviceMetrics("A").acknowledged(1_000_000)
    assert value("tcp_comm_packet_sent_total", outcome="success") == 1
