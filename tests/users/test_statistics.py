"""Batches of requests that ended well: handed on when the recorder asks, when they are many, or after a while."""

from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Any
from weakref import WeakSet

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st
from locust.env import Environment

from records.latency import LatencyStore
from records.recorder import recorder
from records.run_directory import RunDirectory
from users import statistics
from users.statistics import FEW, FEW_IN_A_LOOK, Statistics, Tally

DEADLINE_S = 20


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    monkeypatch.setattr(recorder, "gatherers", WeakSet())  # not those of other tests' environments
    recorder.latency.reset()
    yield Environment()
    recorder.stop()
    recorder.latency.reset()


def a_tally(environment: Environment) -> tuple[Statistics, Tally]:
    gathered = Statistics(environment)
    return gathered, gathered.tally("echo", "tcp", "echo", 64)


def add(tally: Tally, count: int) -> None:
    now_ns = monotonic_ns()
    for _ in range(count):
        tally.add(now_ns - 2_000_000, now_ns - 1_000_000, now_ns)


def in_locusts_table(environment: Environment) -> int:
    return int(environment.stats.total.num_requests)


def await_in_locusts_table(environment: Environment, number: int) -> None:
    with gevent.Timeout(DEADLINE_S):
        while in_locusts_table(environment) != number:
            gevent.sleep(0.001)


def test_the_recorder_has_all_that_was_gathered_when_it_writes(environment: Environment, tmp_path: Path) -> None:
    recorder.start(tmp_path, "worker")
    _, tally = a_tally(environment)
    add(tally, 3)
    recorder.gather()
    add(tally, 1)  # comes with the next ones, in both
    delta: Any = recorder.flush()
    assert set(delta["operations"]) == {"echo"}
    assert in_locusts_table(environment) == 3
    assert LatencyStore.load(RunDirectory(tmp_path)).summary("echo").count == 3


def test_a_batch_that_cannot_be_counted_keeps_no_other_from_it(environment: Environment, tmp_path: Path) -> None:
    class Broken:
        def parts(self) -> Iterator[None]:
            yield
            raise ValueError("somebody else's rounding")

    broken = Broken()
    recorder.gatherers.add(broken)
    recorder.start(tmp_path, "worker")
    _, tally = a_tally(environment)
    add(tally, 3)
    recorder.gather()
    assert in_locusts_table(environment) == 3


def test_at_low_rates_each_is_recorded_before_the_loop_sleeps(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "LOOK_EVERY_S", 3600)
    gathered, tally = a_tally(environment)
    gathered._look()
    other = gathered.tally("other", "tcp", "other", 8)
    add(tally, FEW - 1)
    add(other, 2)  # more than are taken at a time
    tables = []
    in_each_round = gevent.get_hub().loop.check()
    in_each_round.start(lambda: tables.append(in_locusts_table(environment)))
    await_in_locusts_table(environment, FEW + 1)
    in_each_round.close()
    assert next(filter(None, tables)) == FEW


def test_a_burst_at_a_low_rate_is_recorded_alone_a_few_at_a_time(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "LOOK_EVERY_S", 3600)
    gathered, tally = a_tally(environment)
    gathered._look()
    add(tally, 4 * FEW + 1)
    await_in_locusts_table(environment, 4 * FEW + 1)


def test_at_high_rates_they_are_kept_together(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "LOOK_EVERY_S", 3600)
    gathered, tally = a_tally(environment)
    gathered._look()
    for number in range(0, FEW_IN_A_LOOK, FEW):
        add(tally, FEW)
        await_in_locusts_table(environment, number + FEW)
    add(tally, 1)
    gevent.sleep(0.01)
    assert tally.returned, "not even this one: they come too quickly"
    gathered._look()
    gathered._look()
    gevent.sleep(0.01)
    assert not tally.returned, "they do not any more"
    add(tally, FEW_IN_A_LOOK + 1)
    gathered._look()
    assert len(tally.returned) == FEW_IN_A_LOOK + 1


def test_requests_that_share_their_times_are_not_few_when_they_are_many(environment: Environment) -> None:
    _, tally = a_tally(environment)
    tally.add(1_000, 2_000, 3_000, FEW + 1)
    tally.add(1_000, 2_000, 3_000, 1)
    assert tally.record_few(FEW) == 0
    assert tally.record_few(FEW + 1) == FEW + 1
    assert tally.waiting() == in_locusts_table(environment) - FEW == 1


def test_some_are_kept_together_until_somebody_asks_or_a_while_has_passed(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "LOOK_EVERY_S", 3600)
    gathered, tally = a_tally(environment)
    add(tally, FEW_IN_A_LOOK + 1)
    for _ in range(statistics.LOOKS_AT_MOST - 1):
        gathered._look()
        assert in_locusts_table(environment) == 0
    gathered._look()
    await_in_locusts_table(environment, FEW_IN_A_LOOK + 1)
    add(tally, FEW_IN_A_LOOK + 1)
    gathered._look()
    gevent.sleep(statistics.PAUSE_S * 3)
    assert in_locusts_table(environment) == FEW_IN_A_LOOK + 1, "the while begins anew"


@given(
    st.lists(
        st.tuples(st.integers(0, 20_000_000_000), st.integers(0, 10**9), st.integers(1, 3)),
        min_size=FEW + 1,
        max_size=3 * FEW,
    ),
    st.integers(0, 1_000),
)
def test_one_by_one_they_are_counted_as_together(requests: list[tuple[int, int, int]], lengths_sum: int) -> None:
    """`requests`: response time, how much of it before the call, how many share these times."""
    now_ns = monotonic_ns()
    recorded, tables = [], []
    for most in (0, 3, FEW):
        environment = Environment()
        tally = Tally(environment, "echo", "tcp", "echo", 64)
        for response_ns, waited_ns, count in requests:
            tally.add(now_ns - response_ns, now_ns - response_ns + min(waited_ns, response_ns), now_ns, count)
        tally.lengths_sum = lengths_sum
        recorder.latency.reset()
        while tally.record_few(most):
            pass
        for _ in tally.parts():
            pass
        recorded.append(recorder.latency.take())
        tables.append([_of_table(entry) for entry in (environment.stats.total, *environment.stats.entries.values())])
    assert all(one["operations"] == recorded[0]["operations"] for one in recorded)
    assert all(one["span"] == recorded[0]["span"] for one in recorded)
    assert all(one == tables[0] for one in tables)


def test_a_rounding_of_somebody_else_that_fails_keeps_nothing_out_of_the_records(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("somebody else's rounding")

    _, tally = a_tally(environment)
    add(tally, 3)
    monkeypatch.setattr(environment.stats, "log_request", broken)
    recorder.gather()
    delta: Any = recorder.latency.take()
    assert sum(outcomes[0] for outcomes, *_ in delta["operations"]["echo"].values()) == 3


def _of_table(entry: Any) -> list[Any]:
    facts = [entry.num_requests, entry.total_content_length, pytest.approx(entry.total_response_time)]
    facts += [entry.min_response_time, entry.max_response_time, dict(entry.response_times)]
    return [*facts, sum(entry.num_reqs_per_sec.values())]


def test_many_are_handed_on_at_the_next_look(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "LOOK_EVERY_S", 3600)
    gathered, tally = a_tally(environment)
    add(tally, statistics.LARGE - 1)
    gathered._look()
    assert in_locusts_table(environment) == 0
    add(tally, 1)
    gathered._look()
    await_in_locusts_table(environment, statistics.LARGE)


def test_the_loop_has_its_turn_between_the_parts_of_a_batch(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "PART_NS", 0)
    gathered, tally = a_tally(environment)
    add(tally, statistics.LARGE)
    rounds = [0]
    in_each_round = gevent.get_hub().loop.check()
    in_each_round.start(lambda: rounds.append(in_locusts_table(environment)))
    gathered._look()
    await_in_locusts_table(environment, statistics.LARGE)
    in_each_round.close()
    assert rounds.count(0) > 3, "nobody else had a turn meanwhile"


def test_a_batch_that_somebody_leaves_off_with_is_counted_once(environment: Environment, tmp_path: Path) -> None:
    """The ticker of a run is killed at its end, wherever it is."""
    recorder.start(tmp_path, "worker")
    gathered, tally = a_tally(environment)
    for parts_before in range(5):
        add(tally, FEW + 1)
        left_off = gathered.parts()
        for _ in range(parts_before):
            next(left_off)
        del left_off
        add(tally, 1)  # meanwhile
    recorder.stop()
    assert in_locusts_table(environment) == 5 * (FEW + 2)
    assert LatencyStore.load(RunDirectory(tmp_path)).summary("echo").count == 5 * (FEW + 2)


def test_two_who_hand_on_at_a_time_count_all_once(environment: Environment) -> None:
    gathered, tally = a_tally(environment)
    add(tally, FEW + 3)
    one = gathered.parts()
    next(one)
    add(tally, FEW + 4)
    other = gathered.parts()
    next(other)
    next(one)
    for _ in one:
        pass
    for _ in other:
        pass
    assert in_locusts_table(environment) == 2 * FEW + 7


def test_a_batch_that_cannot_be_counted_keeps_no_other_of_its_environment(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered, tally = a_tally(environment)
    other = gathered.tally("other", "tcp", "other", 8)
    add(tally, FEW + 3)
    add(other, FEW + 5)
    feed = statistics.feed

    def broken_once(*arguments: Any) -> None:
        monkeypatch.setattr(statistics, "feed", feed)
        raise ValueError("somebody else's rounding")

    monkeypatch.setattr(statistics, "feed", broken_once)
    recorder.gather()
    recorder.gather()
    assert in_locusts_table(environment) == FEW + 5


def test_it_looks_by_itself(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "LOOK_EVERY_S", 0.005)
    _, tally = a_tally(environment)
    add(tally, 3)
    await_in_locusts_table(environment, 3)


def test_nothing_is_recorded_while_a_timer_is_about_to_go_off(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would make a request late that is due in some microseconds."""
    gathered, tally = a_tally(environment)
    add(tally, 3)
    awaited = [True]
    monkeypatch.setattr(statistics, "somebody_is_awaited", lambda: awaited[0])
    gathered._record_few()
    assert in_locusts_table(environment) == 0
    awaited.clear()
    awaited.append(False)
    gathered._record_few()
    assert in_locusts_table(environment) == 3


def test_what_was_before_a_reset_does_not_come_after_it(environment: Environment) -> None:
    """The button of the web page: the event first, then the table is emptied."""
    gathered, tally = a_tally(environment)
    add(tally, 3)
    environment.events.reset_stats.fire()
    environment.stats.reset_all()
    add(tally, 2)
    gathered.flush()
    assert in_locusts_table(environment) == 2


@pytest.mark.parametrize("is_asked_for", [True, False])
def test_reset_stats_forgets_the_time_of_spawning(environment: Environment, is_asked_for: bool) -> None:
    environment.reset_stats = is_asked_for
    gathered, tally = a_tally(environment)
    add(tally, 3)
    environment.events.spawning_complete.fire(user_count=1)
    add(tally, 2)
    gathered.flush()
    assert in_locusts_table(environment) == (2 if is_asked_for else 5)
