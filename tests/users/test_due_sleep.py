"""Users that think are woken in the order of their times, never early, and those who are stopped are forgotten."""

from time import monotonic_ns

import gevent
import pytest
from gevent.hub import Hub

from users import due_sleep, due_timer

DEADLINE_S = 20
TICK_NS = 1_000_000  # of gevent's own clock


@pytest.fixture(params=["timerfd", "gevent"], autouse=True)
def bedrooms(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> "dict[Hub, due_sleep._Bedroom]":
    if request.param == "gevent":
        monkeypatch.setattr(due_timer, "_libc", None)
    elif due_timer._libc is None:
        pytest.skip("this system has no timerfd")
    empty: dict[Hub, due_sleep._Bedroom] = {}
    monkeypatch.setattr(due_sleep, "_bedrooms", empty)
    return empty


def sleep(seconds: float) -> None:
    due_sleep.sleep_until(monotonic_ns() + int(seconds * 1e9))


def sleepers() -> int:
    return len(due_sleep._bedrooms[gevent.get_hub()]._sleepers)


def test_sleepers_wake_in_the_order_of_their_times_and_none_early() -> None:
    woken: list[float] = []

    def user(seconds: float) -> None:
        due_ns = monotonic_ns() + int(seconds * 1e9)
        sleep(seconds)
        assert monotonic_ns() >= due_ns - TICK_NS
        woken.append(seconds)

    times = [0.06, 0.02, 0.04, 0.02, 0.08, 0.001]
    users = [gevent.spawn(user, seconds) for seconds in times]
    gevent.joinall(users, timeout=DEADLINE_S, raise_error=True)
    assert woken == sorted(times)
    assert sleepers() == 0


def test_a_sleeper_may_sleep_again_when_it_is_woken_and_wake_others() -> None:
    turns: list[str] = []

    def user(name: str) -> None:
        for _ in range(20):
            sleep(0.001)
            turns.append(name)

    gevent.joinall([gevent.spawn(user, name) for name in "abc"], timeout=DEADLINE_S, raise_error=True)
    assert sorted(turns) == ["a"] * 20 + ["b"] * 20 + ["c"] * 20


def test_one_who_is_stopped_does_not_wake_and_the_others_do() -> None:
    woken: list[str] = []

    def user(name: str, seconds: float) -> None:
        sleep(seconds)
        woken.append(name)

    first = gevent.spawn(user, "stopped", 0.02)
    second = gevent.spawn(user, "other", 0.04)
    gevent.sleep(0)
    first.kill()
    second.join(DEADLINE_S)
    assert woken == ["other"]
    assert first.value is not None, "GreenletExit"


def test_one_who_is_stopped_by_another_that_woke_at_the_same_time() -> None:
    """Both are due in one turn: the second is woken, and ends before it does anything else."""
    done: list[str] = []
    users: list[gevent.Greenlet] = []

    def first() -> None:
        sleep(0.01)
        users[1].kill(block=False)
        done.append("first")

    def second() -> None:
        sleep(0.01)
        gevent.sleep(0)
        done.append("second")

    users += [gevent.spawn(first), gevent.spawn(second)]
    gevent.joinall(users, timeout=DEADLINE_S)
    assert done == ["first"]
    assert all(user.dead for user in users)


def test_places_of_those_who_are_gone_are_cleared() -> None:
    users = [gevent.spawn(sleep, 3600) for _ in range(3 * due_sleep.MAX_LEFT_BEHIND)]
    stays = gevent.spawn(sleep, 0.3)
    gevent.sleep(0)
    assert sleepers() == len(users) + 1
    gevent.killall(users)
    assert sleepers() <= due_sleep.MAX_LEFT_BEHIND + len(users) // 2
    stays.join(DEADLINE_S)
    assert stays.successful()
