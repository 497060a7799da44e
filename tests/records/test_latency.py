"""Histograms lose nothing when folded, packed, shipped and merged, and agree with the HdrHistogram library."""

import math
import tracemalloc
from fractions import Fraction
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hdrh.log import HistogramLogReader
from hypothesis import given
from hypothesis import strategies as st

from records.histogram import (
    HIGHEST_US,
    GrowingHistogram,
    Histogram,
    bucket_indices,
    highest_equivalent_us,
    lowest_equivalent_us,
    merge,
)
from records.hlog import new_hdr_histogram, read_hlog, to_hdr, write_hlog
from records.latency import (
    CANCELLED,
    FAILED,
    OK,
    SERVICE,
    UNKNOWN,
    LatencyLog,
    LatencyRecorder,
    LatencyStore,
    read_deltas,
)
from records.run_directory import RUN_JSON, RunDirectory

MS = 1_000_000
S = 1_000_000_000

values = st.lists(st.integers(min_value=1, max_value=HIGHEST_US), min_size=1, max_size=200)


@given(values)
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(recorded: list[int]) -> None:
    ours = Histogram.of(np.array(recorded))
    ordered = sorted(recorded)
    for percent in ("0.1", "50", "90", "99", "99.9", "99.99", "100"):
        value = ordered[max(1, math.ceil(Fraction(percent) * len(ordered) / 100)) - 1]
        bucket_end = int(highest_equivalent_us(bucket_indices(np.array([value])))[0])
        assert ours.percentile_us(float(percent)) == min(bucket_end, max(recorded))


@given(st.lists(st.integers(min_value=-5, max_value=2 * HIGHEST_US) | st.integers(0, 5_000), max_size=200))
def test_one_value_after_another_makes_the_same_histogram_as_all_at_once(recorded: list[int]) -> None:
    growing = GrowingHistogram()
    for value in recorded:
        growing.add(value)
    assert growing.histogram().pack() == Histogram.of(np.array(recorded, dtype=np.int64)).pack()


@given(values)
def test_where_ranks_need_no_rounding_percentiles_equal_those_of_the_library(recorded: list[int]) -> None:
    recorded = recorded * 100  # every whole percent is a whole rank
    library = new_hdr_histogram()
    for value in recorded:
        library.record_value(value)
    ours = Histogram.of(np.array(recorded))
    for percent in (1, 50, 90, 99):
        # Ours is clipped to the exact extremes, which the library's buckets have lost.
        assert ours.percentile_us(percent) == min(library.get_value_at_percentile(percent), max(recorded))


@given(values)
def test_every_value_lies_within_its_bucket_and_the_bucket_is_narrow(recorded: list[int]) -> None:
    array = np.array(recorded)
    low, high = lowest_equivalent_us(bucket_indices(array)), highest_equivalent_us(bucket_indices(array))
    assert (low <= array).all()
    assert (array <= high).all()
    assert ((high - low) * 1000 <= np.maximum(low, 1000)).all()


@given(st.lists(values, min_size=1, max_size=5))
def test_merging_parts_equals_recording_all_at_once(parts: list[list[int]]) -> None:
    merged = merge([Histogram.unpack(Histogram.of(np.array(part)).pack()) for part in parts])
    whole = Histogram.of(np.array([value for part in parts for value in part]))
    assert merged.indices.tolist() == whole.indices.tolist()
    assert merged.counts.tolist() == whole.counts.tolist()
    assert (merged.min_us, merged.max_us, merged.sum_us) == (whole.min_us, whole.max_us, whole.sum_us)


def test_a_value_beyond_an_hour_is_counted_and_not_lost() -> None:
    histogram = Histogram.of(np.array([HIGHEST_US * 10, 5]))
    assert histogram.total == 2
    assert histogram.max_us == HIGHEST_US * 10


@pytest.mark.parametrize(
    "packed", [[], [b"", b"", 1, 1], [b"ab", b"ab", 0, 0, 0], ["", b"", 0, 0, 0], [b"", b"", "1", 0, 0]]
)
def test_a_damaged_packed_histogram_is_a_value_error(packed: list[object]) -> None:
    with pytest.raises(ValueError, match="histogram"):
        Histogram.unpack(packed)


def test_response_time_counts_from_intended_and_service_time_from_call() -> None:
    recorder = LatencyRecorder()
    recorder.record("echo", 10 * S, 10 * S + 30 * MS, 10 * S + 31 * MS)
    store = _store(recorder)
    assert store.summary("echo").max_us == 31_000
    assert store.summary("echo", SERVICE).max_us == 1_000


def test_outcomes_are_counted_apart_and_only_cancelled_ones_have_no_latency() -> None:
    recorder = LatencyRecorder()
    for outcome in (OK, OK, FAILED, UNKNOWN, CANCELLED):
        recorder.record("echo", S, S, S + MS, outcome)
    summary = _store(recorder).summary("echo")
    assert (summary.count, summary.failed, summary.unknown, summary.cancelled) == (4, 1, 1, 1)
    assert _store(recorder).operations() == []  # taken once, gone
    assert summary.p50_us == 1000


def test_a_stretch_of_seconds_can_be_asked_for() -> None:
    recorder = LatencyRecorder()
    for second in range(10):
        recorder.record("echo", second * S, second * S, second * S + (second + 1) * MS)
    store = _store(recorder)
    assert store.summary("echo", start_s=3, end_s=5).count == 2
    assert store.summary("echo", start_s=3, end_s=5).max_us == 5_000
    assert store.summary("echo").count == 10
    assert store.seconds() == list(range(10))


def test_memory_of_a_second_does_not_grow_with_its_requests() -> None:
    recorder = LatencyRecorder()
    tracemalloc.start()
    recorder.record("echo", S, S, S)
    before, _ = tracemalloc.get_traced_memory()
    for number in range(100_000):
        recorder.record("echo", S, S, S + number)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 100_000, "a byte for each"
    assert _store(recorder).summary("echo").count == 100_001


def test_seconds_that_nobody_takes_are_kept_small() -> None:
    recorder = LatencyRecorder()
    tracemalloc.start()
    for second in range(100):
        for number in range(1_000):
            recorder.record("echo", S * second, S * second, S * second + number * MS // 2)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100 * 1_000 * 50, "sixteen bytes for a value and its count, twice"
    assert _store(recorder).summary("echo").count == 100_000


def test_two_processes_files_add_up_and_a_cut_off_record_is_left_out(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "x")
    for process in ("worker-1", "worker-2"):
        log = LatencyLog(run.latency_dir / f"{process}.msgpack", process)
        recorder = LatencyRecorder()
        for _ in range(2):
            for number in range(100):
                recorder.record("echo", S, S, S + number * MS)
            log.append(recorder.take())
        log.close()
    assert LatencyStore.load(run).summary("echo").count == 400
    path = run.latency_dir / "worker-2.msgpack"
    path.write_bytes(path.read_bytes()[:-3])
    assert LatencyStore.load(run).summary("echo").count == 300
    assert len(list(read_deltas(path))) == 1


def test_a_delta_survives_msgpack_as_locust_sends_it() -> None:
    recorder = LatencyRecorder()
    recorder.record("echo", S, S, S + 7 * MS)
    store = LatencyStore()
    store.add(msgpack.unpackb(msgpack.packb(recorder.take()), strict_map_key=False))
    assert store.summary("echo").max_us == 7_000


def test_seconds_of_another_hosts_clock_are_moved_to_ours() -> None:
    recorder = LatencyRecorder()
    recorder.record("echo", 500 * S, 500 * S, 501 * S)
    delta = recorder.take()
    delta["clock"][0] -= 1000 * S  # that host booted 1000 s later than this one
    store = LatencyStore()
    store.add(delta)
    assert store.seconds() == [1501]


def test_the_histogram_log_opens_in_the_library_and_keeps_every_count(tmp_path: Path) -> None:
    recorder = LatencyRecorder()
    for number in range(3000):
        recorder.record("kv append", number * MS, number * MS, number * MS + number * 1000 + 1000)
    store = _store(recorder)
    path = tmp_path / "latency.hlog"
    write_hlog(store, path, 1_700_000_000.0)
    assert read_hlog(path)["kv_append"].counts.tolist() == store.histogram("kv append").counts.tolist()
    assert set(read_hlog(path)) == {"kv_append", "service/kv_append"}
    reader = HistogramLogReader(str(path), new_hdr_histogram())
    total = 0
    while (interval := reader.get_next_interval_histogram()) is not None:
        total += interval.get_total_count()
    reader.close()
    assert total == 6000
    assert reader.get_start_time_sec() == 1_700_000_000.0


def test_the_librarys_histogram_of_ours_has_the_same_counts() -> None:
    histogram = Histogram.of(np.array([1, 1, 5000, 70_000_000]))
    assert to_hdr(histogram).get_total_count() == 4


def test_the_csv_has_a_row_for_each_operation_and_kind_of_time(tmp_path: Path) -> None:
    recorder = LatencyRecorder()
    recorder.record("echo", S, S, S + MS)
    path = tmp_path / "requests.csv"
    _store(recorder).write_csv(path)
    lines = path.read_text().splitlines()
    assert lines[0].startswith("operation,time,count")
    assert [line.split(",")[:3] for line in lines[1:]] == [["echo", "response", "1"], ["echo", "service", "1"]]


def _store(recorder: LatencyRecorder) -> LatencyStore:
    store = LatencyStore()
    store.add(recorder.take())
    return store


def test_runs_of_equal_times_count_as_so_many_single_operations() -> None:
    runs = [(1_000, 2_000, 5_000_000, 3), (7_000, 9_000, 2_000_000_000, 1), (7_000, 9_000, 6_000_000, 16)]
    one_by_one, in_runs = LatencyRecorder(), LatencyRecorder()
    for intended_ns, call_ns, return_ns, count in runs:
        for _ in range(count):
            one_by_one.record("echo", intended_ns, call_ns, return_ns)
    in_runs.record_runs("echo", *(np.array(column, dtype=np.int64) for column in zip(*runs, strict=True)))
    assert in_runs.take()["operations"] == one_by_one.take()["operations"]


def test_a_run_is_read_by_its_own_clock_wherever_and_whenever_it_is_read(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.prepare()
    recorder = LatencyRecorder()
    recorder.record("echo", 5 * S, 5 * S, 7 * S)
    log = LatencyLog(run.latency_dir / "far.msgpack", "far")
    delta = recorder.take()
    delta["clock"] = [100 * S, 90_000 * S]  # a machine that had been up for 100 s then
    log.append(delta)
    log.close()
    # The run began on a machine that had been up for 1100 s at that moment; this one's clock is another still.
    run.write_json(RUN_JSON, {"load": {"clock": [1040 * S, 89_940 * S]}})
    assert LatencyStore.load(run).seconds() == [1007]


@pytest.mark.parametrize("facts", [{}, {"load": {"clock": "noon"}}, {"load": {"clock": [1]}}, []])
def test_a_run_that_names_no_clock_is_read_by_this_machines(tmp_path: Path, facts: object) -> None:
    run = RunDirectory(tmp_path)
    run.prepare()
    run.write_json(RUN_JSON, facts)
    recorder = LatencyRecorder()
    recorder.record("echo", 5 * S, 5 * S, 7 * S)
    log = LatencyLog(run.latency_dir / "near.msgpack", "near")
    log.append(recorder.take())
    log.close()
    assert LatencyStore.load(run).seconds() == [7]
