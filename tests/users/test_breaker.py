"""The circuit breaker's transitions, with a clock that the test winds."""

import gevent
import pytest
from gevent.event import Event

from users.breaker import CLOSED, FAILURES_TO_OPEN, HALF_OPEN, HALF_OPEN_CALLS, OPEN, RESET_S, Breaker


class Watched:
    """A breaker, its clock in seconds, and what it told."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.told: list[tuple[str, str, str, int]] = []
        self.breaker = Breaker(
            lambda *transition: self.told.append(transition), clock_ns=lambda: int(self.now_s * 1_000_000_000)
        )

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            assert not self.breaker.refuses()
            self.breaker.failed("connection refused")

    def succeed(self, times: int = 1) -> None:
        for _ in range(times):
            assert not self.breaker.refuses()
            self.breaker.succeeded()

    def opened(self) -> "Watched":
        self.fail(FAILURES_TO_OPEN)
        assert self.breaker.state == OPEN
        return self

    def half_opened(self) -> "Watched":
        self.opened()
        self.now_s += RESET_S
        return self


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    watched = Watched()
    watched.fail(4)
    watched.succeed()
    watched.fail(4)
    assert watched.breaker.state == CLOSED
    watched.fail()
    assert watched.breaker.state == OPEN
    assert watched.told == [(CLOSED, OPEN, "connection refused", 0)]


def test_open_it_refuses_for_sixty_seconds_and_counts() -> None:
    watched = Watched().opened()
    watched.now_s += 59.9
    assert all(watched.breaker.refuses() for _ in range(7))
    assert (watched.breaker.refused, watched.breaker.state) == (7, OPEN)
    watched.now_s += 0.1
    assert not watched.breaker.refuses()
    assert watched.breaker.state == HALF_OPEN
    assert watched.told[-1] == (OPEN, HALF_OPEN, "60 s are over", 7)


def test_half_open_it_lets_three_calls_try_at_a_time() -> None:
    watched = Watched().half_opened()
    assert [watched.breaker.refuses(caller) for caller in "abcde"] == [False] * HALF_OPEN_CALLS + [True] * 2
    watched.breaker.cancelled("b")
    assert not watched.breaker.refuses("f"), "a stopped caller gives its place back"
    assert watched.breaker.refuses("g")


def test_two_successes_close_it() -> None:
    watched = Watched().half_opened()
    watched.succeed()
    assert watched.breaker.state == HALF_OPEN
    watched.succeed()
    assert watched.breaker.state == CLOSED
    assert watched.told[-1] == (HALF_OPEN, CLOSED, "2 calls succeeded", 0)
    watched.fail(4)
    assert watched.breaker.state == CLOSED, "it counts from the beginning again"


@pytest.mark.parametrize("successes", [0, 1])
def test_one_failure_while_half_open_opens_it_for_another_sixty_seconds(successes: int) -> None:
    watched = Watched().half_opened()
    watched.succeed(successes)
    watched.fail()
    assert watched.breaker.state == OPEN
    watched.now_s += 59
    assert watched.breaker.refuses()
    watched.now_s += 1
    watched.succeed(2)
    assert watched.breaker.state == CLOSED


def test_outcome_of_a_call_made_before_it_opened_says_nothing() -> None:
    watched = Watched()
    for _ in range(10):
        assert not watched.breaker.refuses()
    for _ in range(10):
        watched.breaker.failed("connection lost")
    assert watched.told == [(CLOSED, OPEN, "connection lost", 0)]
    watched.breaker.succeeded()
    assert watched.breaker.state == OPEN


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_a_call_made_before_it_opened_is_no_trial_when_it_ends_while_half_open(end: str) -> None:
    watched = Watched()
    breaker = watched.breaker
    assert not any(breaker.refuses(caller) for caller in ("old", "older"))
    watched.half_opened()
    assert [breaker.refuses(caller) for caller in "abcd"] == [False, False, False, True]
    for caller in ("old", "older"):
        getattr(breaker, end)(*(("connection lost",) if end == "failed" else ()), caller)
    assert breaker.state == HALF_OPEN
    assert breaker.refuses("e"), "its end gives no place back"
    breaker.succeeded("a")
    breaker.succeeded("c")
    assert breaker.state == CLOSED


def test_a_trial_of_an_earlier_time_is_none_of_the_next() -> None:
    watched = Watched().half_opened()
    breaker = watched.breaker
    assert [breaker.refuses(caller) for caller in "ab"] == [False, False]
    breaker.failed("connection lost", "a")
    assert breaker.state == OPEN
    watched.now_s += RESET_S
    assert not breaker.refuses("c")
    breaker.failed("connection lost", "b")
    assert breaker.state == HALF_OPEN


def test_greenlets_are_callers_of_their_own() -> None:
    watched = Watched()
    breaker = watched.breaker

    def call_and_wait(answered: Event) -> bool:
        refused = breaker.refuses()
        answered.wait()
        breaker.succeeded()
        return refused

    late, soon = Event(), Event()
    old = gevent.spawn(call_and_wait, late)
    gevent.sleep(0)
    watched.half_opened()
    trials = [gevent.spawn(call_and_wait, soon) for _ in range(HALF_OPEN_CALLS)]
    gevent.sleep(0)
    assert breaker.refuses()
    late.set()
    old.join()
    assert breaker.state == HALF_OPEN
    soon.set()
    gevent.joinall(trials)
    assert breaker.state == CLOSED
    assert not any(trial.value for trial in trials)
