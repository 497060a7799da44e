"""Locust's own table and ours are of the same requests: equal counts and means, percentiles up to its rounding."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from records.latency import LatencyStore
from tests.locustfiles.runs import run_locust
from tests.processes import ServerProcess

# Locust rounds to a millisecond below 100 ms, and to two digits above.
MILLISECOND_US = 1000.0
TWO_DIGITS = 0.06


@pytest.fixture(scope="module")
def envelope() -> Iterator[str]:
    with ServerProcess("envelope") as server:
        yield f"tcp://127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    "options",
    [(), ("--engine", "--rate", "200"), ("--processes", "2")],
    ids=["scripted", "engine", "workers"],
)
def test_both_tables_tell_the_same(tmp_path: Path, envelope: str, options: tuple[str, ...]) -> None:
    result = run_locust("envelope", tmp_path, "--host", envelope, *options, seconds=4)
    (row,) = [row for row in result.table if row["name"] == "echo"]
    ours = LatencyStore.load(result.run).summary("envelope echo")
    assert row["num_requests"] == ours.count > 0
    assert row["num_failures"] == ours.failed == 0
    mean_us = row["total_response_time"] / row["num_requests"] * 1000
    assert mean_us == pytest.approx(ours.mean_us, rel=0.01, abs=2)  # ours are whole microseconds, cut off
    assert row["max_response_time"] * 1000 == pytest.approx(ours.max_us, rel=0.01, abs=2)
    assert row["min_response_time"] * 1000 == pytest.approx(ours.min_us, rel=0.01, abs=2)
    for percent, value_us in ((50, ours.p50_us), (95, ours.p95_us), (99, ours.p99_us)):
        theirs_us = percentile_ms(row["response_times"], percent, ours.count) * 1000
        assert theirs_us == pytest.approx(value_us, rel=TWO_DIGITS, abs=MILLISECOND_US)


def percentile_ms(response_times: dict[str, int], percent: float, count: int) -> float:
    """Of Locust's rounded times and how often each occurred."""
    seen = 0
    for time_ms in sorted(response_times, key=float):
        seen += response_times[time_ms]
        if seen >= percent / 100 * count:
            return float(time_ms)
    raise AssertionError("no response times")
