"""What a fault cost by what ended in each second, on latencies that are made up to the millisecond."""

from collections.abc import Iterable

from records.latency import FAILED, OK, UNKNOWN, Delta, LatencyRecorder, LatencyStore
from swarmproof.whole_seconds import NS_PER_S, WholeSeconds

MS = 1_000_000
STRIKE = 100 * NS_PER_S + 300 * MS  # at 300 ms of second 100
HEAL = STRIKE + 1_200 * MS  # at 500 ms of second 101
LOAD_END = 120 * NS_PER_S
ECHO = "envelope echo"
CONNECT = "envelope connect"

#: (milliseconds from the strike at which it ended, milliseconds that it took, outcome, operation)
Ended = tuple[int, int, int, str]


def steady(begin_ms: int, end_ms: int, took_ms: int = 2, every_ms: int = 10) -> list[Ended]:
    """One good answer every `every_ms`."""
    return [(at, took_ms, OK, ECHO) for at in range(begin_ms, end_ms, every_ms)]


def delta_of(ended: Iterable[Ended]) -> Delta:
    recorder = LatencyRecorder()
    for at_ms, took_ms, outcome, name in ended:
        return_ns = STRIKE + at_ms * MS
        recorder.record(name, return_ns - took_ms * MS, return_ns - took_ms * MS, return_ns, outcome)
    return recorder.take()


def seconds_of(ended: Iterable[Ended]) -> WholeSeconds:
    store = LatencyStore()
    store.add(delta_of(ended))
    return WholeSeconds(store, [CONNECT, ECHO], LOAD_END)


#: Killed at once, twenty requests lost, refused connections, back 1.2 s later; two that waited are answered late.
KILL = [
    *steady(-6000, 0),
    *((2, 2, FAILED if place < 15 else UNKNOWN, ECHO) for place in range(20)),
    *((at, 1, FAILED, CONNECT) for at in range(5, 1200, 100)),
    *((1210, 1200, OK, ECHO) for _ in range(2)),
    *steady(1220, 8000),
]


def test_a_kill_costs_what_failed_until_all_was_well_again() -> None:
    figures = seconds_of(KILL).figures(STRIKE, HEAL)
    assert (figures["failed"], figures["unknown"], figures["delayed"]) == (15, 5, 2)
    assert figures["detection_s"] == 0.7  # by the end of second 100
    assert figures["back_to_baseline_s"] == 1.7  # second 102 is calm
    assert 115 <= figures["lost_operations"] <= 125  # 1.2 s of a hundred a second
    assert figures["worst_client_gap_s"] is None  # no whole second was without a success


def test_clients_that_hear_nothing_are_a_silence_though_nothing_fails() -> None:
    pause = [*steady(-6000, 0), *((4000, 4000, OK, ECHO) for _ in range(20)), *steady(4010, 9000)]
    figures = seconds_of(pause).figures(STRIKE, STRIKE + 4000 * MS)
    assert (figures["failed"], figures["unknown"], figures["delayed"]) == (0, 0, 20)
    assert figures["detection_s"] == 1.7  # second 101 was silent, to its end
    assert figures["worst_client_gap_s"] == 3.0  # 101, 102 and 103
    assert figures["back_to_baseline_s"] == 4.7


def test_a_few_late_answers_among_many_in_a_calm_second_are_delayed_by_the_fault() -> None:
    late = [*steady(-6000, 0), (1800, 1790, OK, ECHO), (1900, 300, OK, ECHO), *steady(1300, 9000, every_ms=2)]
    figures = seconds_of(late).figures(STRIKE, HEAL)
    assert figures["back_to_baseline_s"] == 1.7
    assert figures["delayed"] == 1  # the one that was under way; the other began when all was well


def test_a_server_that_never_comes_back_is_silent_to_the_end_of_the_load() -> None:
    figures = seconds_of(steady(-6000, 0)).figures(STRIKE, LOAD_END)
    assert figures["detection_s"] == 1.7
    assert figures["worst_client_gap_s"] == 19.0  # seconds 101 to 119
    assert figures["back_to_baseline_s"] is None
    assert 1940 <= figures["lost_operations"] <= 1990


def test_a_fault_that_nobody_felt_costs_nothing() -> None:
    figures = seconds_of(steady(-6000, 9000)).figures(STRIKE, HEAL)
    assert (figures["failed"], figures["unknown"], figures["delayed"], figures["lost_operations"]) == (0, 0, 0, 0)
    assert (figures["detection_s"], figures["worst_client_gap_s"]) == (None, None)
    assert figures["back_to_baseline_s"] == 1.7


def test_nothing_is_known_of_a_fault_around_which_nothing_ended() -> None:
    assert seconds_of(steady(20_000, 21_000)).figures(STRIKE, HEAL) == {}
    assert WholeSeconds(LatencyStore(), []).figures(STRIKE, HEAL) == {}


def test_rare_operations_have_no_baseline_to_compare_with() -> None:
    rare = [*steady(-6000, 0, every_ms=1000), (3000, 2, FAILED, ECHO), *steady(4000, 9000, every_ms=1000)]
    figures = seconds_of(rare).figures(STRIKE, STRIKE + 3500 * MS)
    assert figures["failed"] == 1
    assert figures["detection_s"] == 3.7  # the error; the seconds without an answer before it say nothing
    assert [figures[name] for name in ("back_to_baseline_s", "lost_operations", "worst_client_gap_s")] == [None] * 3


def test_an_error_in_the_second_of_the_strike_may_be_from_before_it() -> None:
    failing = [*steady(-6000, 9000), *((at, 2, FAILED, ECHO) for at in range(-6000, 0, 500))]
    assert seconds_of(failing).figures(STRIKE, HEAL)["detection_s"] is None


def test_how_many_were_late_is_not_guessed_among_failures_that_took_as_long() -> None:
    mixed = [*steady(-6000, 9000), (100, 500, FAILED, ECHO), (200, 500, OK, ECHO)]
    assert seconds_of(mixed).figures(STRIKE, HEAL)["delayed"] is None


def test_percentiles_are_of_the_calls_and_only_where_there_are_enough() -> None:
    refused = [*KILL, *((at, 300, FAILED, CONNECT) for at in range(-5000, 0, 2))]
    found = seconds_of(refused).percentiles(STRIKE, STRIKE + 200 * MS)
    assert 2_000 <= (found["p99_before_us"] or 0) < 2_100, "attempts to connect are no calls"
    assert found["p99_during_us"] is None, "a p99 of fewer than a hundred is their maximum"
    assert found["p50_during_us"] is not None
    assert found["p99_after_us"] is not None


def test_what_was_under_way_when_all_was_over_is_of_the_fault() -> None:
    late = [*steady(-6000, 0), *((1800, 1750, OK, ECHO) for _ in range(4)), *steady(1300, 9000, every_ms=2)]
    found = seconds_of(late).percentiles(STRIKE, STRIKE + 1_700 * MS - 1)
    assert (found["p99_during_us"] or 0) >= 1_750_000
    assert 2_000 <= (found["p99_after_us"] or 0) < 2_100
