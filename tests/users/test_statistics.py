"""Batches of requests that ended well: handed on when the recorder asks, when they are many, or after a while."""

from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Any
from weakref import WeakSet

import gevent
import pytest
from locust.env import Environment

from records.latency import LatencyStore
from records.recorder import recorder
from records.run_directory import RunDirectory
from users import statistics
from users.statistics import Statistics, Tally

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
        def flush(self) -> None:
            raise ValueError("somebody else's rounding")

    broken = Broken()
    recorder.gatherers.add(broken)
    recorder.start(tmp_path, "worker")
    _, tally = a_tally(environment)
    add(tally, 3)
    recorder.gather()
    assert in_locusts_table(environment) == 3


def test_few_are_kept_together_until_somebody_asks_or_a_while_has_passed(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "LOOK_EVERY_S", 3600)
    gathered, tally = a_tally(environment)
    add(tally, 3)
    for _ in range(statistics.LOOKS_AT_MOST - 1):
        gathered._look()
        assert in_locusts_table(environment) == 0
    gathered._look()
    assert in_locusts_table(environment) == 3
    add(tally, 3)
    gathered._look()
    assert in_locusts_table(environment) == 3, "the while begins anew"


def test_many_are_handed_on_at_the_next_look(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "LOOK_EVERY_S", 3600)
    gathered, tally = a_tally(environment)
    add(tally, statistics.LARGE - 1)
    gathered._look()
    assert in_locusts_table(environment) == 0
    add(tally, 1)
    gathered._look()
    assert in_locusts_table(environment) == statistics.LARGE


def test_it_looks_by_itself(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "LOOK_EVERY_S", 0.005)
    _, tally = a_tally(environment)
    add(tally, 3)
    with gevent.Timeout(DEADLINE_S):
        while in_locusts_table(environment) == 0:
            gevent.sleep(0.005)


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
