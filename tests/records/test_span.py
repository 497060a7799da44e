"""A rate is over the time that the load ran for, wherever within a second it began and ended."""

import csv
from pathlib import Path

import msgpack
import numpy as np
import pytest

from records.latency import CANCELLED, LatencyLog, LatencyRecorder, LatencyStore
from records.run_directory import RUN_JSON, RunDirectory
from records.span import Span

MS = 1_000_000
S = 1_000_000_000

#: Where within its second a load of ten seconds begins.
BEGINS_MS = (0, 100, 500, 900)


def thousand_a_second(begin_ns: int, seconds: float = 10.0) -> LatencyRecorder:
    """One every millisecond, from `begin_ns` on; each takes a tenth of it."""
    due_ns = begin_ns + np.arange(round(seconds * 1000), dtype=np.int64) * MS
    recorder = LatencyRecorder()
    recorder.record_runs("envelope echo", due_ns, due_ns, due_ns + MS // 10, None)
    return recorder


def run_of(folder: Path, recorder: LatencyRecorder, **load: int) -> RunDirectory:
    run = RunDirectory.create(folder, "x")
    run.write_json(RUN_JSON, {"load": load})
    log = LatencyLog(run.latency_dir / "a.msgpack", "a")
    log.append(recorder.take())
    log.close()
    return run


@pytest.mark.parametrize("begin_ms", BEGINS_MS)
def test_the_rate_of_a_run_is_over_its_load(tmp_path: Path, begin_ms: int) -> None:
    begin_ns = 100 * S + begin_ms * MS
    run = run_of(tmp_path, thousand_a_second(begin_ns), start_ns=begin_ns, end_ns=begin_ns + 10 * S)
    store = LatencyStore.load(run)
    assert store.summary().rate == pytest.approx(1000)
    assert store.summary("envelope echo").rate == pytest.approx(1000)
    store.write_csv(tmp_path / "requests.csv")
    rows = list(csv.DictReader((tmp_path / "requests.csv").open()))
    assert [float(row["rate"]) for row in rows] == pytest.approx([1000, 1000])


@pytest.mark.parametrize("begin_ms", BEGINS_MS)
def test_where_nobody_says_when_the_load_ran_its_samples_do(tmp_path: Path, begin_ms: int) -> None:
    run = run_of(tmp_path, thousand_a_second(100 * S + begin_ms * MS))
    assert LatencyStore.load(run).summary().rate == pytest.approx(1000, rel=0.001)


@pytest.mark.parametrize("begin_ms", BEGINS_MS)
def test_while_a_run_goes_on_its_rate_is_up_to_the_newest_sample(begin_ms: int) -> None:
    begin_ns = 100 * S + begin_ms * MS
    store = LatencyStore(start_ns=begin_ns)
    assert store.summary().rate == 0
    recorder = thousand_a_second(begin_ns, 2.7)
    store.add(msgpack.unpackb(msgpack.packb(recorder.take()), strict_map_key=False))
    assert store.summary().rate == pytest.approx(1000, rel=0.001)


def test_a_load_that_hung_at_its_end_has_a_lower_rate(tmp_path: Path) -> None:
    run = run_of(tmp_path, thousand_a_second(100 * S), start_ns=100 * S, end_ns=120 * S)
    assert LatencyStore.load(run).summary().rate == pytest.approx(500)


def test_the_rate_of_a_given_stretch_is_over_that() -> None:
    store = LatencyStore()
    store.add(thousand_a_second(100 * S + 900 * MS).take())
    assert store.summary(start_s=101, end_s=103).rate == pytest.approx(1000)
    assert store.summary(start_s=200, end_s=210).rate == 0
    assert store.summary(start_s=103, end_s=103).rate == 0


def test_a_burst_of_less_than_a_second_is_taken_for_a_second() -> None:
    recorder = LatencyRecorder()
    for _ in range(5):
        recorder.record("echo", S, S, S + MS)
    store = LatencyStore()
    store.add(recorder.take())
    assert store.summary().rate == pytest.approx(5)


def test_what_was_cancelled_shows_how_long_the_load_ran() -> None:
    recorder = LatencyRecorder()
    recorder.record("echo", 10 * S, 10 * S, 11 * S)
    recorder.record("echo", 11 * S, 11 * S, 14 * S, CANCELLED)
    delta = recorder.take()
    store = LatencyStore(delta["clock"])
    store.add(delta)
    assert store.span() == Span(10, 14)


def test_records_without_times_of_samples_are_read_by_their_seconds() -> None:
    delta = thousand_a_second(100 * S).take()
    del delta["span"]
    store = LatencyStore(delta["clock"])
    store.add(delta)
    assert store.span() == Span(100, 110)
    assert store.summary().rate == pytest.approx(1000)


def test_whole_seconds_are_those_that_the_load_filled() -> None:
    assert Span(100.1, 109.9).whole_seconds() == (101, 109)
    assert Span(100.0, 110.0).whole_seconds() == (100, 110)
    assert Span(100.0, 110.0, blur_s=0.3).whole_seconds() == (101, 109)


def test_seconds_of_another_machine_may_lie_beside_whole_ones() -> None:
    delta = thousand_a_second(500 * S).take()
    delta["clock"][0] -= 1000 * S - 300 * MS  # its clock is 999.7 s behind
    store = LatencyStore()
    store.add(delta)
    span = store.span()
    assert (span.begin_s, span.end_s) == pytest.approx((1499.7, 1509.7), abs=0.01)
    assert span.blur_s == pytest.approx(0.3, abs=0.01)


def test_a_load_counts_in_a_stretch_for_as_long_as_it_ran() -> None:
    span = Span(100.25, 109.5)
    assert span.overlap_s(100, 101) == pytest.approx(0.75)
    assert span.overlap_s(109, 115) == pytest.approx(0.5)
    assert span.overlap_s(90, 120) == pytest.approx(9.25)
    assert span.overlap_s(110, 120) == 0
