"""Schedules of open load: what is due when, and that every arrival is somebody's, once, however they are shared."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.rates import parse_stages
from users.arrivals import CONSTANT, KINDS, POISSON, SLOT, Arrivals, Schedule, Share

S = 1_000_000_000
NEVER_LATE = 10**18


def dues_until(schedule: Schedule, end_ns: int) -> list[int]:
    """All arrivals before a time, straight from the schedule."""
    found: list[int] = []
    for number in itertools.count():
        slot = schedule.slot(number)
        if slot is None or (len(slot) and slot[0] >= end_ns):
            return [due for due in found if due < end_ns]
        found += slot.tolist()
    raise AssertionError


def of_rate(text: str, kind: str = CONSTANT, seed: int = 0) -> Schedule:
    return Schedule(parse_stages(text), kind, seed)


def alone(schedule: Schedule, max_lateness_ns: int = NEVER_LATE) -> Arrivals:
    arrivals = Arrivals(schedule, max_lateness_ns)
    arrivals.start(0)
    arrivals.share(Share(0, 0, 1))
    return arrivals


def test_a_constant_rate_is_due_at_equal_distances_from_the_start() -> None:
    assert dues_until(of_rate("8"), S) == [number * S // 8 for number in range(8)]


def test_a_ramp_offers_the_area_under_it_and_goes_on_at_its_end() -> None:
    schedule = of_rate("0..1000 in 10s")
    dues = np.array(dues_until(schedule, 12 * S))
    assert np.count_nonzero(dues < 5 * S) == 1250  # a quarter of the area in half of the time
    assert np.count_nonzero(dues < 10 * S) == 5000
    assert np.count_nonzero(dues >= 10 * S) == 2000
    assert np.count_nonzero((dues >= 9 * S) & (dues < 10 * S)) == pytest.approx(950, abs=1)


def test_steps_change_at_once() -> None:
    dues = np.array(dues_until(of_rate("100 for 1s then 500 for 1s then 0 for 1s then 50"), 4 * S))
    assert [np.count_nonzero((dues >= second * S) & (dues < (second + 1) * S)) for second in range(4)] == [
        100,
        500,
        0,
        50,
    ]


def test_a_ramp_down_to_nothing_is_the_end() -> None:
    schedule = of_rate("100 for 1s then 100..0 in 1s")
    assert len(dues_until(schedule, 100 * S)) == 150
    arrivals = alone(schedule)
    assert len(arrivals.take(100 * S, 1000)) == 150
    assert arrivals.next_due_ns() is None


def test_poisson_arrivals_have_the_mean_and_the_spread_of_independent_clients() -> None:
    gaps = np.diff(dues_until(of_rate("1000", POISSON, seed=7), 60 * S))
    assert gaps.mean() == pytest.approx(S / 1000, rel=0.02)
    assert gaps.std() == pytest.approx(S / 1000, rel=0.03)  # an exponential's is its mean
    in_a_second = np.bincount(np.array(dues_until(of_rate("1000", POISSON, seed=7), 60 * S)) // S)
    assert in_a_second.var() == pytest.approx(1000, rel=0.5)  # a Poisson number's is its mean


def test_a_seed_is_a_schedule_and_another_seed_another() -> None:
    assert dues_until(of_rate("100", POISSON, 1), S) == dues_until(of_rate("100", POISSON, 1), S)
    assert dues_until(of_rate("100", POISSON, 1), S) != dues_until(of_rate("100", POISSON, 2), S)


@given(
    text=st.sampled_from(["3000", "0..4000 in 2s", "50 for 1s then 5000 for 500ms then 700", "900..0 in 3s"]),
    arrivals=st.tuples(st.sampled_from(KINDS), st.integers(0, 5)),
    changes=st.lists(st.tuples(st.integers(1, 400_000_000), st.sets(st.integers(0, 4))), max_size=6),
    steps=st.lists(st.integers(10_000_000, 300_000_000), min_size=1, max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_every_arrival_is_issued_exactly_once_over_any_sharing_and_resharing(
    text: str, arrivals: tuple[str, int], changes: list[tuple[int, set[int]]], steps: list[int]
) -> None:
    """Five processes; at each change some of them have shares, told 200 ms ahead, some have none."""
    schedule = of_rate(text, *arrivals)
    workers = [Arrivals(schedule, NEVER_LATE) for _ in range(5)]
    for worker in workers:
        worker.start(0)
    members = {0, 1, 2}
    news = [(0, 0, members)]
    at_ns = 0
    for pause_ns, members in changes:
        at_ns += pause_ns
        news.append((max(0, at_ns - 200_000_000), at_ns, members))
    end_ns = at_ns + S
    news.append((at_ns, end_ns, {2}))  # at the end one has all, so that nothing is left for nobody
    taken: list[list[int]] = [[] for _ in workers]
    now_ns, pauses = 0, itertools.cycle(steps)
    while now_ns < end_ns + 100_000_000:
        while news and news[0][0] <= now_ns:
            _, from_ns, members = news.pop(0)
            order = sorted(members)
            for number, worker in enumerate(workers):
                worker.share(Share(from_ns, order.index(number) if number in members else -1, max(1, len(order))))
        step_ns = min(next(pauses), news[0][0] - now_ns) if news else next(pauses)
        for number, worker in enumerate(workers):
            while got := worker.take(now_ns, 7):
                taken[number] += got
        now_ns += max(1, step_ns)
    for number, worker in enumerate(workers):
        while got := worker.take(end_ns, 7):
            taken[number] += got
        assert taken[number] == sorted(taken[number])
    owned = owned_by_somebody(schedule, [(0, {0, 1, 2}), *absolute(changes), (end_ns, {2})], end_ns)
    assert sorted(due for one in taken for due in one if due < end_ns) == owned


def absolute(changes: list[tuple[int, set[int]]]) -> list[tuple[int, set[int]]]:
    at_ns = 0
    result = []
    for pause_ns, members in changes:
        at_ns += pause_ns
        result.append((at_ns, members))
    return result


def owned_by_somebody(schedule: Schedule, sharings: list[tuple[int, set[int]]], end_ns: int) -> list[int]:
    """All arrivals but those of times in which nobody had a share."""
    return [
        due for due in dues_until(schedule, end_ns) if [members for from_ns, members in sharings if from_ns <= due][-1]
    ]


@given(
    rate=st.sampled_from(["8", "1500", "0..3000 in 4s", "2000 for 1s, 0 for 1s, 500", "3000..0 in 3s", "700 for 2.5s"]),
    kind=st.sampled_from(KINDS),
    end_ns=st.integers(0, 6 * S),
)
@settings(deadline=None)
def test_how_many_are_due_before_a_time_is_how_many_there_are(rate: str, kind: str, end_ns: int) -> None:
    schedule = of_rate(rate, kind, seed=5)
    assert schedule.due_before(end_ns) == len(dues_until(schedule, end_ns))


def test_shares_are_of_equal_size() -> None:
    schedule = of_rate("1000")
    counts = []
    for index in range(3):
        arrivals = Arrivals(schedule, NEVER_LATE)
        arrivals.start(0)
        arrivals.share(Share(0, index, 3))
        counts.append(len(arrivals.take(9 * S, 100_000)))
    assert max(counts) - min(counts) <= 2 + 9000 // SLOT
    assert sum(counts) == 9001


def test_one_that_joins_late_starts_there_and_not_at_the_beginning() -> None:
    schedule = of_rate("1000000")
    asked: list[int] = []
    original = schedule.slot

    def noted(number: int) -> object:
        asked.append(number)
        return original(number)

    schedule.slot = noted  # type: ignore[method-assign, assignment]
    arrivals = Arrivals(schedule, NEVER_LATE)
    arrivals.start(0)
    arrivals.share(Share(3600 * S, 0, 1))
    assert arrivals.next_due_ns() == 3600 * S
    assert len(asked) < 5


def test_late_arrivals_keep_the_time_that_they_were_due() -> None:
    arrivals = alone(of_rate("10"))
    assert arrivals.take(S - 1, 100) == [number * S // 10 for number in range(10)]
    assert arrivals.next_due_ns() == S


def test_what_is_too_late_is_dropped_and_counted_also_when_nobody_asks() -> None:
    arrivals = alone(of_rate("10"), max_lateness_ns=S)
    assert arrivals.take(2 * S, 100) == [number * S // 10 for number in range(10, 21)]
    assert (arrivals.issued, arrivals.dropped) == (11, 10)
    arrivals.expire(5 * S)
    assert (arrivals.issued, arrivals.dropped) == (11, 29)


def test_at_the_end_everything_that_was_due_is_accounted_for() -> None:
    arrivals = alone(of_rate("10"), max_lateness_ns=S)
    arrivals.take(S, 5)
    arrivals.give_back()
    arrivals.close(3 * S + 1)
    assert (arrivals.issued, arrivals.dropped, arrivals.unissued) == (4, 16, 11)
    assert arrivals.take(100 * S, 10) == []
    arrivals.share(Share(0, 0, 1))
    assert arrivals.next_due_ns() is None
