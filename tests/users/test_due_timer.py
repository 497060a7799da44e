"""The timer wakes at the time that it was set to, on both kinds of clockwork."""

from collections.abc import Callable, Iterator
from time import monotonic_ns

import gevent
import pytest
from gevent.event import Event

from users import due_timer
from users.due_timer import DueTimer

MS = 1_000_000
DEADLINE_S = 20


class Alarm:
    """Notes when it went off."""

    def __init__(self) -> None:
        self.at_ns: list[int] = []
        self.rang = Event()
        self.timer = DueTimer(self._ring)

    def _ring(self) -> None:
        self.at_ns.append(monotonic_ns())
        self.rang.set()

    def wait(self) -> int:
        assert self.rang.wait(DEADLINE_S), "the timer never went off"
        self.rang.clear()
        return self.at_ns[-1]


@pytest.fixture(params=["timerfd", "gevent"])
def alarm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Alarm]:
    if request.param == "gevent":
        monkeypatch.setattr(due_timer, "_libc", None)
    elif due_timer._libc is None:
        pytest.skip("this system has no timerfd")
    alarm = Alarm()
    yield alarm
    alarm.timer.close()


def test_it_goes_off_once_and_not_before_its_time(alarm: Alarm) -> None:
    due_ns = monotonic_ns() + 30 * MS
    alarm.timer.set(due_ns)
    assert alarm.wait() >= due_ns - MS  # a tick of gevent's own clock
    gevent.sleep(0.05)
    assert len(alarm.at_ns) == 1


def test_what_is_past_goes_off_at_once(alarm: Alarm) -> None:
    alarm.timer.set(monotonic_ns() - 5 * MS)
    alarm.wait()
    alarm.timer.set(0)
    alarm.wait()


def test_setting_it_anew_replaces_the_old_time(alarm: Alarm) -> None:
    alarm.timer.set(monotonic_ns() + 3_600_000 * MS)
    alarm.timer.set(monotonic_ns() + 10 * MS)
    alarm.wait()
    assert len(alarm.at_ns) == 1


def test_a_closed_timer_is_silent_and_may_be_closed_again(alarm: Alarm) -> None:
    alarm.timer.set(monotonic_ns() + 5 * MS)
    alarm.timer.close()
    alarm.timer.close()
    gevent.sleep(0.05)
    assert alarm.at_ns == []


needs_timerfd = pytest.mark.skipif(due_timer._libc is None, reason="this system has no timerfd")


def turns_while(act: Callable[[], object]) -> int:
    """How often the event loop turned."""
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1

    every_turn = gevent.get_hub().loop.check()
    every_turn.start(count)
    try:
        act()
    finally:
        every_turn.close()
    return turns


@needs_timerfd
def test_it_stays_awake_shortly_before_its_time_for_its_share_of_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_timer, "AWAKE_NS", 40 * MS)
    monkeypatch.setattr(due_timer, "AT_ONCE", 0)
    alarm = Alarm()

    def wait_for(ms: int) -> Callable[[], object]:
        alarm.timer.set(monotonic_ns() + ms * MS)
        return alarm.wait

    try:
        # The best of several: a busy machine may keep the process from turning at all.
        for _ in range(3):
            paid = turns_while(wait_for(80))
            after = turns_while(lambda: gevent.sleep(0.05))
            too_soon = turns_while(wait_for(80))
            gevent.sleep(due_timer.SHARE * 0.04)
            again = turns_while(wait_for(20))  # at once: it is near
            assert after < 50
            assert too_soon < 50
            if min(paid, again) > 200:
                break
        assert paid > 200, "forty milliseconds of turns"
        assert again > 200
    finally:
        alarm.timer.close()


@needs_timerfd
def test_some_times_may_come_close_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_timer, "AWAKE_NS", 20 * MS)
    monkeypatch.setattr(due_timer, "SHARE", 100_000)  # what is paid for stays paid for
    monkeypatch.setattr(due_timer, "AT_ONCE", 2)
    alarm = Alarm()
    try:
        awake = []
        for _ in range(8):
            alarm.timer.set(monotonic_ns() + 20 * MS)
            awake.append(due_timer.somebody_is_awaited())
            alarm.wait()
        assert awake == [True] * 3 + [False] * 5
    finally:
        alarm.timer.close()


@needs_timerfd
@pytest.mark.parametrize("then", ["goes off", "set anew", "closed"])
def test_it_is_awaited_from_when_it_stays_awake_to_its_end(then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_timer, "AWAKE_NS", 20 * MS)
    alarm = Alarm()
    try:
        assert not due_timer.somebody_is_awaited()
        alarm.timer.set(monotonic_ns() + 15 * MS)
        assert due_timer.somebody_is_awaited()
        if then == "goes off":
            alarm.wait()
        elif then == "set anew":
            alarm.timer.set(monotonic_ns() + 3_600_000 * MS)
        else:
            alarm.timer.close()
        assert not due_timer.somebody_is_awaited()
    finally:
        alarm.timer.close()


@needs_timerfd
def test_what_it_brings_about_is_done_at_once_where_nothing_else_happens() -> None:
    """It is called shortly before the event loop would sleep."""
    begun: list[int] = []
    timer = due_timer.DueTimer(lambda: gevent.spawn(lambda: begun.append(monotonic_ns())))
    try:
        lates_ns = []
        for _ in range(20):
            due_ns = monotonic_ns() + 5 * MS
            timer.set(due_ns)
            gevent.sleep(0.05)
            lates_ns.append(begun.pop() - due_ns)
        assert 0 <= sorted(lates_ns)[10] < 20 * MS, "not when the next sleeper woke"
    finally:
        timer.close()


@needs_timerfd
def test_what_comes_in_while_it_stays_awake_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_timer, "AWAKE_NS", 200 * MS)
    alarm = Alarm()
    ours, theirs = gevent.socket.socketpair()
    served: list[int] = []

    def echo() -> None:
        while theirs.recv(1):
            served.append(monotonic_ns())
            theirs.send(b"y")

    server = gevent.spawn(echo)
    try:
        due_ns = monotonic_ns() + 250 * MS
        alarm.timer.set(due_ns)
        while monotonic_ns() < due_ns - 20 * MS:
            ours.send(b"x")
            assert ours.recv(1) == b"y"
        at_ns = alarm.wait()
        assert at_ns >= due_ns
        awake = [when_ns for when_ns in served if due_ns - 180 * MS < when_ns < due_ns - 20 * MS]
        assert len(awake) > 50, "the event loop went on"
    finally:
        ours.close()
        server.join(DEADLINE_S)
        theirs.close()
        alarm.timer.close()


@needs_timerfd
@pytest.mark.parametrize("then", ["set anew", "closed"])
def test_it_may_be_set_anew_or_closed_while_it_stays_awake(then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_timer, "AWAKE_NS", 10_000 * MS)
    monkeypatch.setattr(due_timer, "AT_ONCE", 0)
    alarm = Alarm()
    alarm.timer.set(monotonic_ns() + 10_000 * MS)  # awake from now on
    gevent.sleep(0.01)
    if then == "closed":
        alarm.timer.close()
        gevent.sleep(0.05)
        assert alarm.at_ns == []
        return
    due_ns = monotonic_ns() + 20 * MS
    alarm.timer.set(due_ns)
    turns = turns_while(alarm.wait)
    assert alarm.at_ns[-1] >= due_ns
    assert len(alarm.at_ns) == 1
    assert turns < 20, "it slept: it has been awake for long enough"
    alarm.timer.close()
