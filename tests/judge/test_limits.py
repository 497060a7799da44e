"""Thresholds: what they say, over which part of a run, and that what cannot be read is said in a sentence."""

import numpy as np
import pytest

from records.faults import FaultRecord
from records.latency import FAILED, OK, LatencyRecorder, LatencyStore
from swarmproof.fleet.abort import Watch
from swarmproof.judge.case import Case
from swarmproof.judge.history import read_history
from swarmproof.judge.limits import Limit, ThresholdError, measure, read_limit, split_limits
from swarmproof.judge.thresholds import evaluate

MS = 1_000_000
S = 1_000_000_000


def store_of(*seconds: tuple[float, int, int]) -> LatencyStore:
    """From second 100 on: latency in ms, how many, how many of them failed."""
    recorder = LatencyRecorder()
    for number, (latency_ms, count, failed) in enumerate(seconds):
        at_ns = (100 + number) * S + S // 2
        for request in range(count):
            outcome = FAILED if request < failed else OK
            recorder.record("envelope echo", at_ns - int(latency_ms * MS), at_ns, at_ns, outcome)
    store = LatencyStore()
    store.add(recorder.take())
    return store


def measured(left: str, right: str, store: LatencyStore, start: int, end: int) -> float | None:
    return measure(store, read_limit(left, right), [(start, end)])


def test_a_limit_is_read_with_everything_in_it() -> None:
    assert read_limit("p99.9{envelope echo} over 10s", "<= 5ms abort") == Limit(
        "p99.9{envelope echo} over 10s", "<= 5ms abort", "p99.9", "envelope echo", None, 10, "<=", 0.005, "ms", True
    )
    limit = read_limit(" fail_ratio during faults ", "<0.1%")
    assert (limit.phase, limit.value, limit.aborts) == ("during", 0.001, False)


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        ("p42", "< 1s", "there is no metric p42; there are p50"),
        ("p99{", "< 1s", "cannot read"),
        ("p99 sometimes", "< 1s", "cannot read"),
        ("p99", "50ms", "write a sign and a number"),
        ("p99", "< 1.2.3s", "is not a number"),
        ("rate over 0s", "> 1", "must be of 1s to 3600s"),
        ("recovery over 10s", "< 1s", "recovery is of the whole run"),
        ("recovery", "< 1s abort", "recovery is of the whole run"),
        ("p99 after faults", "< 1s abort", "so it cannot abort it"),
    ],
)
def test_what_cannot_be_read_or_done_is_a_sentence(left: str, right: str, words: str) -> None:
    with pytest.raises(ThresholdError) as caught:
        read_limit(left, right)
    assert words in str(caught.value)


def test_several_limits_are_between_semicolons_or_in_lines() -> None:
    text = "p99{envelope echo}<5ms; rate over 9s > 10/s abort\n\n recovery<3s;max{odd; name} < 1s;"
    assert split_limits(text) == {
        "p99{envelope echo}": "< 5ms",
        "rate over 9s": "> 10/s abort",
        "recovery": "< 3s",
        "max{odd; name}": "< 1s",
    }
    assert split_limits(" ; ") == {}
    with pytest.raises(ThresholdError, match="there is no metric p98"):
        split_limits("p99<5ms; p98<5ms")


def test_the_whole_run_is_one_stretch() -> None:
    store = store_of((1, 99, 0), (500, 1, 1))
    assert measured("fail_ratio", "< 1%", store, 100, 102) == pytest.approx(0.01)
    assert measured("max{echo}", "< 1s", store, 100, 102) == pytest.approx(0.5)
    assert measured("p50", "< 1s", store, 100, 102) == pytest.approx(0.001, rel=0.001)
    assert measured("rate", "> 1", store, 100, 102) == 50
    assert measured("mean", "< 1s", store, 100, 102) == pytest.approx(0.00599, rel=0.001)
    assert measured("p99{other}", "< 1s", store, 100, 102) is None


def test_of_sliding_windows_the_worst_counts() -> None:
    store = store_of((1, 100, 0), (1, 100, 20), (1, 100, 20), (1, 100, 0), (1, 20, 0))
    assert measured("fail_ratio over 2s", "< 1%", store, 100, 105) == pytest.approx(0.2)
    assert measured("fail_ratio over 4s", "< 1%", store, 100, 105) == pytest.approx(40 / 320)
    assert measured("rate over 2s", "> 1", store, 100, 105) == 60  # of a lower bound the lowest
    assert measured("rate over 2s", "< 1000", store, 100, 105) == 100
    assert measured("rate over 60s", "> 1", store, 100, 105) == pytest.approx(84)  # longer than the run: the run


def test_a_window_without_requests_has_no_latency_but_a_rate() -> None:
    store = store_of((1, 10, 0), (1, 0, 0), (1, 0, 0), (7, 10, 0))
    assert measured("rate over 2s", "> 1", store, 100, 104) == 0
    assert measured("max over 1s", "< 1s", store, 100, 104) == pytest.approx(0.007)


#: Where within its second a load of ten seconds begins.
BEGINS_MS = (0, 100, 500, 900)


def thousand_a_second(begin_ms: int, seconds: float = 10, *, known: bool = True) -> LatencyStore:
    """One every millisecond, from `begin_ms` after second 100 on; with or without the load's own word for it."""
    begin_ns = 100 * S + begin_ms * MS
    due_ns = begin_ns + np.arange(round(seconds * 1000), dtype=np.int64) * MS
    recorder = LatencyRecorder()
    recorder.record_runs("envelope echo", due_ns, due_ns, due_ns + MS // 10, None)
    store = LatencyStore(None, *((begin_ns, begin_ns + round(seconds * S)) if known else ()))
    store.add(recorder.take())
    return store


def judged(store: LatencyStore, left: str, right: str, *faults: FaultRecord) -> float | None:
    value, _, _ = evaluate(Case(read_history(()), latency=store, faults=list(faults)), left, right)
    return value


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("begin_ms", BEGINS_MS)
def test_a_rate_is_measured_over_the_load_and_in_whole_seconds(begin_ms: int, known: bool) -> None:
    store = thousand_a_second(begin_ms, known=known)
    assert judged(store, "rate", "> 900") == pytest.approx(1000, rel=0.001)
    for window_s in (1, 3, 9, 10, 60):
        assert judged(store, f"rate over {window_s}s", "> 900") == pytest.approx(1000, rel=0.001)
        assert judged(store, f"rate over {window_s}s", "< 1100") == pytest.approx(1000, rel=0.001)


@pytest.mark.parametrize("begin_ms", BEGINS_MS)
def test_a_run_without_a_whole_second_is_measured_as_it_is(begin_ms: int) -> None:
    store = thousand_a_second(begin_ms, 0.7)
    assert judged(store, "rate over 1s", "> 900") == pytest.approx(1000)
    assert judged(store, "max over 1s", "< 1s") == pytest.approx(0.0001)


@pytest.mark.parametrize("begin_ms", BEGINS_MS)
def test_phases_have_their_part_of_the_load(begin_ms: int) -> None:
    store = thousand_a_second(begin_ms)
    fault = FaultRecord(1, "kill", "n1", took_effect=True, effect_ns=104 * S + 1, healed_ns=105 * S + 1)
    for phase in ("before", "during", "after"):
        assert judged(store, f"rate {phase} faults", "> 900", fault) == pytest.approx(1000)
        assert judged(store, f"rate {phase} faults over 1s", "> 900", fault) == pytest.approx(1000)
        assert judged(store, f"rate {phase} faults over 8s", "> 900", fault) == pytest.approx(1000)


def test_a_load_whose_requests_stop_ending_has_windows_without_any() -> None:
    store = thousand_a_second(100)
    store.end_ns = 115 * S
    assert judged(store, "rate over 2s", "> 900") == 0
    assert judged(store, "rate", "> 900") == pytest.approx(10_000 / 14.9)


@pytest.mark.parametrize("begin_ms", BEGINS_MS)
def test_what_ends_a_run_and_what_is_measured_at_its_end_agree(begin_ms: int) -> None:
    store = thousand_a_second(begin_ms)
    for left in ("rate over 1s", "rate over 5s", "rate"):
        kept, missed = (Watch({"thresholds": {left: f"> {bound} abort"}}) for bound in (990, 1010))
        for after_ms in range(6_000, 10_001, 500):
            now_ns = 100 * S + (begin_ms + after_ms) * MS
            assert kept.missed(store, now_ns, 100 * S + begin_ms * MS, has_workers=False) == ""
        assert missed.missed(store, now_ns, 100 * S + begin_ms * MS, has_workers=False)
        assert 990 < (judged(store, left, "> 990 abort") or 0) < 1010
