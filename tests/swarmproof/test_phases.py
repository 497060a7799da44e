"""Before, during and after, on histories made up of regular operations."""

from records.operations import FAIL, OK, Operation
from swarmproof.phases import NS_PER_S, Moments

MS = 1_000_000
STRIKE = 100 * NS_PER_S


def steady(begin_ms: int, end_ms: int, took_ms: int = 2, every_ms: int = 10, status: str = OK) -> list[Operation]:
    """One operation every `every_ms`, ending at these times after the strike."""
    return [
        Operation(at, 1, "put", "k", call_ns=STRIKE + (at - took_ms) * MS, return_ns=STRIKE + at * MS, status=status)
        for at in range(begin_ms, end_ms, every_ms)
    ]


def test_an_outage_ends_when_the_latency_is_what_it_was() -> None:
    slow = steady(500, 1000, took_ms=200)
    moments = Moments(steady(-5000, 0) + slow + steady(1000, 4000))
    assert moments.back_after_s(STRIKE, STRIKE + 500 * MS) == 1.0
    assert moments.detected_after_s(STRIKE, STRIKE + 500 * MS) == 0.09  # 100 ms of silence, from 10 ms before
    lost = moments.lost_operations(STRIKE, STRIKE + NS_PER_S)
    assert lost is not None
    assert 48 <= lost <= 52  # half a second of a hundred a second


def test_an_error_is_detected_before_a_silence_is_long_enough() -> None:
    moments = Moments(steady(-5000, 0) + steady(30, 31, status=FAIL) + steady(900, 2000))
    assert moments.detected_after_s(STRIKE, STRIKE + 900 * MS) == 0.03


def test_a_fault_that_nobody_felt_costs_nothing() -> None:
    moments = Moments(steady(-5000, 5000))
    assert moments.back_after_s(STRIKE, STRIKE) == 0.0
    assert moments.detected_after_s(STRIKE, STRIKE + NS_PER_S) is None
    assert (moments.lost_operations(STRIKE, STRIKE + NS_PER_S) or 0) <= 1


def test_what_never_came_back_has_no_figure() -> None:
    moments = Moments(steady(-5000, 0) + steady(500, 3000, took_ms=400))
    assert moments.back_after_s(STRIKE, STRIKE + 500 * MS) is None


def test_without_a_baseline_nothing_is_compared() -> None:
    moments = Moments(steady(0, 2000))
    assert moments.back_after_s(STRIKE, STRIKE) is None
    assert moments.lost_operations(STRIKE, STRIKE + NS_PER_S) is None
    assert Moments([]).detected_after_s(STRIKE, STRIKE) is None
