"""latency.hlog opens in the tools of others: the library's own log reader, and HdrHistogram's log processor in Java."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from hypothesis import given
from hypothesis import strategies as st

from records.histogram import HIGHEST_US, Histogram, lowest_equivalent_us
from records.hlog import new_hdr_histogram, tag_of, to_hdr, write_hlog
from records.latency import RESPONSE, SERVICE, LatencyRecorder, LatencyStore

S = 1_000_000_000
US = 1_000
#: Where Debian (libhdrhistogram-java) and Maven put it.
JARS = (
    Path("/usr/share/java/HdrHistogram.jar"),
    *sorted((Path.home() / ".m2/repository/org/hdrhistogram/HdrHistogram").glob("*/*.jar")),
)
PROCESSOR_DEADLINE_S = 60


@pytest.fixture
def store() -> LatencyStore:
    """Three seconds of two operations: 1 to 3000 us, and one of 80 s."""
    recorder = LatencyRecorder()
    for number in range(1, 3001):
        end_ns = (100 + number // 1000) * S
        recorder.record("kv append", end_ns - number * US, end_ns - number * US, end_ns)
    recorder.record("odd, name", 20 * S, 20 * S, 100 * S)
    store = LatencyStore()
    store.add(recorder.take())
    return store


@pytest.fixture
def log(store: LatencyStore, tmp_path: Path) -> Path:
    path = tmp_path / "latency.hlog"
    write_hlog(store, path, 1_700_000_000.0)
    return path


def test_the_librarys_log_reader_gives_every_interval_and_every_value(store: LatencyStore, log: Path) -> None:
    total: HdrHistogram = new_hdr_histogram()
    reader = HistogramLogReader(str(log), new_hdr_histogram())
    starts_ms = []
    while (interval := reader.get_next_interval_histogram()) is not None:
        starts_ms.append(interval.get_start_time_stamp())
        total.add(interval)
    reader.close()
    assert total.get_total_count() == 2 * 3001  # response and service times
    assert min(starts_ms) == 1_700_000_000_000
    assert total.get_value_at_percentile(50) == pytest.approx(store.summary().p50_us, rel=0.001)


def recorded_one_by_one(histogram: Histogram) -> HdrHistogram:
    """The library's histogram, made by the library's own way of counting."""
    result: HdrHistogram = new_hdr_histogram()
    for value, count in zip(lowest_equivalent_us(histogram.indices), histogram.counts, strict=True):
        assert result.record_value(int(value), int(count))
    return result


@given(st.lists(st.integers(min_value=0, max_value=HIGHEST_US * 2), max_size=200))
def test_counts_that_are_copied_are_those_that_the_library_would_have(values: list[int]) -> None:
    histogram = Histogram.of(np.array(values, dtype=np.int64))
    ours, theirs = to_hdr(histogram), recorded_one_by_one(histogram)
    assert (ours.min_value, ours.max_value, ours.total_count) == (theirs.min_value, theirs.max_value, len(values))
    assert ours.encode() == theirs.encode()


def test_the_log_has_one_line_for_each_second_operation_and_kind(store: LatencyStore, log: Path) -> None:
    lines = [
        f"Tag={tag_of(operation, kind)},{second - 100:.3f},1.000,{histogram.max_us:.3f},"
        f"{recorded_one_by_one(histogram).encode().decode('ascii')}"
        for second in store.seconds()
        for operation in ("kv append", "odd, name")
        for kind in (RESPONSE, SERVICE)
        if (histogram := store.histogram(operation, kind, second, second + 1)).total
    ]
    written = log.read_text().splitlines()
    assert written[:2] == ["#[Histogram log format version 1.3]", "#[StartTime: 1700000000.000 (seconds since epoch)]"]
    assert written[3:] == lines
    assert [path.name for path in log.parent.iterdir()] == [log.name], "nothing unfinished is left"


def test_the_java_log_processor_says_the_same_percentiles(store: LatencyStore, log: Path) -> None:
    jar = next((path for path in JARS if path.exists()), None)
    if jar is None or shutil.which("java") is None:
        pytest.skip("needs java and HdrHistogram.jar; apt-get install default-jre-headless libhdrhistogram-java")
    command = ["java", "-cp", str(jar), "org.HdrHistogram.HistogramLogProcessor", "-i", str(log)]
    done = subprocess.run(
        [*command, "-tag", "kv_append", "-outputValueUnitRatio", "1"],
        capture_output=True,
        text=True,
        timeout=PROCESSOR_DEADLINE_S,
        check=True,
    )
    percentiles = {
        float(match[2]): float(match[1])
        for match in re.finditer(r"^\s*([\d.]+)\s+([\d.]+)\s+\d+\s+[\d.]+\s*$", done.stdout, re.MULTILINE)
    }
    assert "Total count    =         3000" in done.stdout
    summary = store.summary("kv append")
    assert percentiles[0.5] == pytest.approx(summary.p50_us, rel=0.001)
    assert max(percentiles.values()) == pytest.approx(summary.max_us, rel=0.001)
