"""Whatever comes by the thousand at once (timeouts, ends, lost requests) is spread over turns of the loop."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from tests.users.engine.test_receiving import Talk
from users.engine import loop
from users.engine.exchange_life import MAX_FAILURES
from users.engine.loop import TURN_NS, Engine
from users.failures import ConnectionLost

DEADLINE_S = 60.0
COST_NS = 1_000_000


class CountingEngine(Engine):
    """Knows which of its turns it is."""

    turns = 0

    def _turn(self, now_ns: int) -> None:
        self.turns += 1
        super()._turn(now_ns)


class Costly:
    """Stands for an exchange; each sweep and each end cost a millisecond of the loop's time."""

    is_open = True
    at_full_throttle = False

    def __init__(self, engine: CountingEngine, fd: int) -> None:
        self.engine = engine
        self.fd = fd
        self.swept_in: list[int] = []
        self.ended_in: list[int] = []

    def is_overdue(self, now_ns: int) -> bool:
        return False

    def sweep(self, now_ns: int) -> None:
        self.swept_in.append(self.engine.turns)
        _work()

    def receive(self, data: bytes) -> bytes:
        raise AssertionError("nothing was sent to it")

    def on_eof(self) -> None:
        self.ended_in.append(self.engine.turns)
        self.engine.remove(self.fd)
        _work()


def _work() -> None:
    until_ns = time.monotonic_ns() + COST_NS
    while time.monotonic_ns() < until_ns:
        pass


@pytest.fixture
def descriptors() -> Iterator[list[int]]:
    """Descriptors that can be waited for; nothing is to be read until somebody writes eight bytes."""
    fds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(200)]
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, descriptors: list[int]) -> Iterator[CountingEngine]:
    monkeypatch.setattr(loop, "TICK_S", 1_000.0)  # it ticks when a test says so
    engine = CountingEngine()
    yield engine
    for fd in descriptors:
        engine.remove(fd)


def _serve(engine: CountingEngine, fds: list[int]) -> list[Costly]:
    exchanges = [Costly(engine, fd) for fd in fds]
    for exchange in exchanges:
        anything: Any = exchange
        engine.add(anything, exchange.fd, lambda _: b"")
    return exchanges


def _wait_for(condition: Any) -> None:
    with gevent.Timeout(DEADLINE_S):
        while not condition():
            gevent.sleep(0.005)


def test_sweeps_that_take_long_are_spread_over_turns_and_all_made(
    engine: CountingEngine, descriptors: list[int]
) -> None:
    exchanges = _serve(engine, descriptors)
    _wait_for(lambda: engine._is_waiting)
    engine._tick_ns = 0
    engine.at(0, lambda: None)  # wakes it, once
    _wait_for(lambda: all(exchange.swept_in for exchange in exchanges))
    turns = Counter(turn for exchange in exchanges for turn in exchange.swept_in)
    assert turns.total() == len(exchanges), "one tick is one sweep of each"
    assert max(turns.values()) <= TURN_NS / COST_NS


def test_replies_are_read_between_sweeps_that_take_long(engine: CountingEngine, descriptors: list[int]) -> None:
    *fds, other = descriptors
    exchanges = _serve(engine, fds)
    (late,) = _serve(engine, [other])
    _wait_for(lambda: engine._is_waiting)
    engine._tick_ns = 0
    os.eventfd_write(other, 1)  # wakes it too
    _wait_for(lambda: all(exchange.swept_in for exchange in exchanges))
    assert late.ended_in[0] <= min(turn for exchange in exchanges for turn in exchange.swept_in) + 1


def test_ends_of_many_connections_are_spread_over_turns(engine: CountingEngine, descriptors: list[int]) -> None:
    exchanges = _serve(engine, descriptors)
    for fd in descriptors:
        os.eventfd_write(fd, 1)
    _wait_for(lambda: all(exchange.ended_in for exchange in exchanges))
    turns = Counter(turn for exchange in exchanges for turn in exchange.ended_in)
    assert max(turns.values()) <= TURN_NS / COST_NS + 1


def test_the_hub_has_its_turn_after_each_one_of_the_engine(engine: CountingEngine, descriptors: list[int]) -> None:
    """Whatever calls the engine in one round of the event loop: its descriptors, the timer by which it comes back, its
    ticker, an alarm."""
    event_loop = gevent.get_hub().loop
    rounds: list[int] = []

    class Noting(Costly):
        def on_eof(self) -> None:
            rounds.append(event_loop.iteration)
            super().on_eof()

    ticking = event_loop.timer(0.001, 0.001)
    ticking.start(engine._wake)
    try:
        for fd in descriptors:
            anything: Any = Noting(engine, fd)
            engine.add(anything, fd, lambda _: b"")
            os.eventfd_write(fd, 1)
        for _ in range(20):
            engine.at(0, lambda: None)
        _wait_for(lambda: len(rounds) == len(descriptors))
    finally:
        ticking.close()
    assert max(Counter(rounds).values()) <= TURN_NS / COST_NS + 1


def test_a_loop_that_does_not_count_its_rounds_is_served_all_the_same(
    engine: CountingEngine, descriptors: list[int]
) -> None:
    """libuv's says -1 in each."""

    class Uncounted:
        iteration = -1

        def __getattr__(self, name: str) -> Any:
            return getattr(gevent.get_hub().loop, name)

    engine._loop = Uncounted()
    exchanges = _serve(engine, descriptors)
    for fd in descriptors:
        os.eventfd_write(fd, 1)
    _wait_for(lambda: all(exchange.ended_in for exchange in exchanges))


class Faulty(Costly):
    """Its end is a defect of ours."""

    def on_eof(self) -> None:
        super().on_eof()
        raise RuntimeError("a defect")


def test_a_defect_in_one_connections_turn_leaves_no_other_unserved(
    engine: CountingEngine, descriptors: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    faulty = [Faulty(engine, fd) for fd in descriptors]
    for exchange in faulty:
        anything: Any = exchange
        engine.add(anything, exchange.fd, lambda _: b"")
        os.eventfd_write(exchange.fd, 1)
    _wait_for(lambda: all(exchange.ended_in for exchange in faulty))
    assert capsys.readouterr().err.count("RuntimeError: a defect") == len(faulty)


@pytest.fixture
def deep() -> Iterator[Talk]:
    talk = Talk(3 * MAX_FAILURES + 1)
    yield talk
    talk.close()


def test_a_deep_pipeline_that_is_lost_is_failed_in_parts(deep: Talk) -> None:
    deep.engine.holds = True
    deep.exchange.lose(ConnectionLost("gone"))
    counts = [len(deep.failures)]
    while deep.engine.held:
        deep.engine.held.pop(0)()
        counts.append(len(deep.failures))
    assert counts == [MAX_FAILURES, 2 * MAX_FAILURES, 3 * MAX_FAILURES, 3 * MAX_FAILURES + 1]
    assert set(deep.failures) == {"gone"}
    assert len(deep.exchange._ready) == 3 * MAX_FAILURES + 1, "every place may try again"


def test_a_deep_pipeline_that_times_out_is_failed_in_parts(deep: Talk) -> None:
    deep.engine.holds = True
    deep.exchange.finish()
    deep.exchange._timeout_ns = 0
    deep.exchange.sweep(time.monotonic_ns())
    counts = [len(deep.failures)]
    while deep.engine.held:
        assert not deep.exchange.finished.is_set()
        deep.engine.held.pop(0)()
        counts.append(len(deep.failures))
    assert counts == [MAX_FAILURES, 2 * MAX_FAILURES, 3 * MAX_FAILURES, 3 * MAX_FAILURES + 1]
    assert deep.exchange.finished.is_set()


def test_what_was_lost_has_failed_and_not_been_cancelled_when_its_user_is_stopped(deep: Talk) -> None:
    deep.engine.holds = True
    deep.exchange.lose(ConnectionLost("gone"))
    deep.exchange.cancel_all()
    assert len(deep.failures) == 3 * MAX_FAILURES + 1
