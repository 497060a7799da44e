"""The timer wakes at the time that it was set to, on both kinds of clockwork."""

from collections.abc import Iterator
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
