"""Open load in a running process: arrivals (`users.arrivals`) on the clock, handed to lanes and to the engine.

`--rate` makes a load open. Every lane then waits for its next arrival instead of its think time, and a request is
meant to be sent when its arrival is due: if all users are busy then, the time until one is free counts, as it would
for whoever had come at that moment. `wait_time` has no say.

Those who wait stand in a line, first come first served. One timer is armed for the next arrival; when it goes off,
everything that is due is handed out in one turn of the event loop.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

import gevent
from gevent import get_hub, getcurrent
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_WAITING

from records.rates import parse_stages
from records.recorder import recorder
from users import options
from users.arrivals import Arrivals, Schedule, Share
from users.due_timer import DueTimer
from users.pace import Pace

logger = logging.getLogger(__name__)

# Handed out in one turn of the event loop: some milliseconds of sending, after which replies are read again.
MAX_PER_TURN: Final = 256

# How often arrivals that nobody asks for are looked through for those that are too late.
EXPIRE_EVERY_S: Final = 0.25

# Users connect meanwhile: the first arrivals should not pay for that.
START_LEAD_NS: Final = 500_000_000

_NS_PER_S: Final = 1_000_000_000

options.offer("rate", "arrivals", "max_lateness", "arrivals_seed")

#: What one who waits is called with: the time that its request is due.
Go = Callable[[int], None]


class Turn:
    """A place in the line."""

    __slots__ = ("go",)

    def __init__(self, go: Go) -> None:
        self.go = go


class OpenLoad:
    """One process's open load. `needed` is called when somebody waits for the first time."""

    def __init__(self, arrivals: Arrivals, needed: Callable[[], None] | None = None) -> None:
        self._arrivals = arrivals
        self._line: OrderedDict[Turn, None] = OrderedDict()
        self._needed = needed
        self._timer = DueTimer(self._on_due)
        self._armed_ns = 0
        self._is_closed = False
        self._expirer = gevent.spawn(self._expire_forever)

    # -- the schedule ------------------------------------------------------------------------------------------

    def start(self, origin_ns: int) -> None:
        """Set the schedule's zero (monotonic)."""
        self._arrivals.start(origin_ns)

    def share(self, share: Share) -> None:
        """Take another share from a moment on."""
        self._arrivals.share(share)
        self._arm()

    # -- those who issue requests --------------------------------------------------------------------------------

    def take(self, limit: int = 1) -> list[int]:
        """The due times of arrivals that are due by now, oldest first, at most `limit`; [] while others wait."""
        if self._line or self._is_closed:
            return []
        return self._arrivals.take(monotonic_ns(), limit)

    def when_due(self, go: Go) -> Turn:
        """Stand in line: `go(due_ns)` is called once, from the event loop."""
        turn = Turn(go)
        self._line[turn] = None
        if self._needed is not None:
            needed, self._needed = self._needed, None
            needed()
        if len(self._line) == 1:
            self._arm()
        return turn

    def withdraw(self, turn: Turn) -> None:
        """Leave the line. Nothing if its turn has come already."""
        self._line.pop(turn, None)

    def give_back(self, count: int = 1) -> None:
        """Arrivals that were handed out, and whose receiver was stopped before it could send."""
        self._arrivals.give_back(count)
        self._report()

    def wait(self) -> int:
        """Sleep until the next arrival is due; its due time. For greenlets."""
        hub = get_hub()
        turn = self.when_due(getcurrent().switch)
        try:
            due_ns: int = hub.switch()
        except BaseException:
            self.withdraw(turn)
            raise
        return due_ns

    # -- the clock ---------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        if not self._line or self._is_closed:
            return
        due_ns = self._arrivals.next_due_ns()
        if due_ns is not None and due_ns != self._armed_ns:
            self._armed_ns = due_ns
            self._timer.set(due_ns)

    def _on_due(self) -> None:
        self._armed_ns = 0
        if self._line and not self._is_closed:
            line = self._line
            for due_ns in self._arrivals.take(monotonic_ns(), min(len(line), MAX_PER_TURN)):
                if not line:  # one that was just served made another stop waiting
                    self._arrivals.give_back()
                    continue
                turn, _ = line.popitem(last=False)
                try:
                    turn.go(due_ns)
                except Exception:
                    logger.exception("an arrival could not be issued")
        self._arm()

    def _expire_forever(self) -> None:
        while True:
            gevent.sleep(EXPIRE_EVERY_S)
            self._arrivals.expire(monotonic_ns())
            self._report()

    def _report(self) -> None:
        arrivals = self._arrivals
        recorder.offered.set(arrivals.issued, arrivals.dropped, arrivals.unissued)

    def close(self) -> None:
        """The run is being stopped: nobody is handed anything any more, and what was due is counted."""
        if self._is_closed:
            return
        self._is_closed = True
        self._expirer.kill(block=False)
        self._timer.close()
        self._arrivals.close(monotonic_ns())
        self._report()


class OpenPace(Pace):
    """A lane's clock in open load: every request is meant to be sent when its arrival is due."""

    __slots__ = ("_held_ns", "_load", "_user")

    def __init__(self, load: OpenLoad, user: Any) -> None:
        super().__init__()
        self._load = load
        self._user = user
        self._held_ns = 0

    def intended(self) -> int:
        due_ns = self._held_ns or self._next()
        self._held_ns = 0
        return due_ns

    def refused(self) -> None:
        pass  # its arrival is used up; the next one is waited for anyway

    def wait_for_turn(self) -> bool:
        """Between two tasks: take the next arrival. False: the last one has not been used yet."""
        if self._held_ns:
            return False
        self._held_ns = self._next()
        return True

    def _next(self) -> int:
        if not self.has_yielded:
            gevent.sleep(0)  # a lane that is never made to wait must not keep the others from theirs
        self.has_yielded = False
        taken = self._load.take()
        if taken:
            return taken[0]
        # It may be stopped while it waits, as in think time: it has nothing under way.
        user = self._user
        was_running = user._state == LOCUST_STATE_RUNNING
        if was_running:
            user._state = LOCUST_STATE_WAITING
        due_ns = self._load.wait()
        if was_running:
            user._state = LOCUST_STATE_RUNNING
        return due_ns


def new_pace(user: Any) -> Pace:
    """The clock for a lane of this user: of the open load, or of closed load if there is none."""
    load = of(user.environment)
    return Pace() if load is None else OpenPace(load, user)


def of(environment: Any) -> OpenLoad | None:
    """The open load of this process, between the start and the end of a run with `--rate`; else None."""
    load: OpenLoad | None = getattr(environment, "open_load", None)
    return load


def check_options(parsed_options: Any) -> None:
    """Raises OptionMistake for a schedule that cannot be: a number typed into the web form is not checked there."""
    for name in ("rate", "arrivals", "max_lateness", "arrivals_seed"):
        options.value(parsed_options, name)


def schedule_of(parsed_options: Any) -> Schedule | None:
    """The arrivals that the options ask for; None when they ask for none. Raises OptionMistake."""
    rate: str = options.value(parsed_options, "rate")
    if not rate:
        return None
    kind = options.value(parsed_options, "arrivals")
    return Schedule(parse_stages(rate), kind, options.value(parsed_options, "arrivals_seed"))


def from_options(parsed_options: Any, needed: Callable[[], None] | None = None) -> OpenLoad | None:
    """The open load that the options ask for; None when they ask for none. Raises OptionMistake."""
    schedule = schedule_of(parsed_options)
    if schedule is None:
        return None
    max_lateness_ns = int(options.value(parsed_options, "max_lateness") * _NS_PER_S)
    return OpenLoad(Arrivals(schedule, max_lateness_ns), needed)
