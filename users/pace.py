"""When a request was *meant* to be sent: the time that response times are counted from.

In closed load a user means to send its next request as soon as the previous reply is there and its think time
is over. Whatever passes after that is the generator's fault and is counted: a user that waits for its turn in a
busy generator waits, as a real one would (shared with wrk2: no coordinated omission inside the generator).

    intended = previous return + think time

Think time is what Locust sleeps between tasks (`wait_time`, `self.wait()`). It begins with the reply, so it is slept
until then, not for so long from whenever Locust came to it. A pause that a task makes itself (`gevent.sleep` between
two calls, or after the last) is think time too. It is seen as such by its length, and by the event loop's having
turned: a generator that was busy or stood still all that while has not thought.
"""

from time import monotonic_ns
from typing import Any, Final

import gevent
from gevent import get_hub
from locust.user.task import TaskSet

from records.recorder import recorder
from users import due_sleep

# A gap between two calls that no turn of a healthy event loop explains: the task itself paused, if the loop has turned.
OWN_PAUSE_NS: Final = 50_000_000
# What a caller waits whose call the circuit breaker refused: a scenario without think time would spin otherwise.
REFUSED_PAUSE_S: Final = 0.05

_NS_PER_S: Final = 1_000_000_000


class Pace:
    """One caller's clock. `ready_ns`: when it meant to go on. `resumed_ns`: when it really did."""

    __slots__ = ("_loop", "_round", "has_yielded", "ready_ns", "resumed_ns")

    def __init__(self) -> None:
        self._loop = get_hub().loop
        self._round = -1  # of the event loop, when this caller really went on
        self.ready_ns = 0
        self.resumed_ns = 0
        self.has_yielded = False  # it has waited for a reply since it thought last

    def intended(self) -> int:
        """When the request that is about to be sent was meant to be."""
        now_ns = monotonic_ns()
        if self._paused_itself(now_ns):
            self._begin_anew(now_ns)
        return self.ready_ns

    def _paused_itself(self, now_ns: int) -> bool:
        if now_ns - self.resumed_ns <= OWN_PAUSE_NS:
            return False
        return self._round != self._loop.iteration or self._round < 0  # -1: libuv does not count

    def _begin_anew(self, now_ns: int) -> None:
        """What has passed was thinking; this caller is ready now."""
        if self.ready_ns:
            recorder.think_ns += now_ns - self.ready_ns
        self.ready_ns = now_ns

    def returned(self, return_ns: int, unread_ns: int = 0) -> None:
        """A request has ended; its reply was read so much later. Waiting for it gave all other greenlets their turn."""
        self.ready_ns = return_ns
        self.resumed_ns = return_ns + unread_ns
        self._round = self._loop.iteration
        self.has_yielded = True

    def refused(self) -> None:
        """The request was not sent, and its turn is used up: the next one is not late because of it."""
        gevent.sleep(REFUSED_PAUSE_S)
        self.returned(monotonic_ns())

    def wait_for_turn(self) -> bool:
        """Between two tasks, in open load: wait for the next arrival. False: think time is what is asked for."""
        return False

    def think(self, seconds: float) -> None:
        """Sleep as long as Locust wants this caller to think, and give the others their turn in any case."""
        now_ns = monotonic_ns()
        if not self.has_yielded or self._paused_itself(now_ns):
            self._begin_anew(now_ns)  # there is no reply that it could begin with
        think_ns = int(seconds * _NS_PER_S)
        if think_ns > 0:
            due_sleep.sleep_until(self.ready_ns + think_ns)
        else:
            gevent.sleep(0)
        recorder.think_ns += think_ns
        self.ready_ns += think_ns
        self.resumed_ns, self._round = monotonic_ns(), self._loop.iteration
        self.has_yielded = False


def never_thinks(user_class: Any) -> bool:
    """Whether it has no `wait_time` or Locust's `constant(0)`: the number is in the closure of what `constant` made."""
    wait_time = getattr(user_class, "wait_time", None)
    if wait_time is None:
        return True
    if not getattr(wait_time, "__qualname__", "").startswith("constant.<locals>"):
        return False
    return [cell.cell_contents for cell in wait_time.__closure__ or ()] == [0]


def _measure_think_time() -> None:
    # Every wait of Locust, whatever decides its length (User.wait_time, a TaskSet's own, self.wait() in a task),
    # ends in this one method; there is no event for it.
    locust_sleep: Any = TaskSet._sleep
    if getattr(locust_sleep, "measures_think_time", False):
        return

    def _sleep(self: Any, seconds: float) -> None:
        pace: Pace | None = getattr(self.user, "pace", None)
        if pace is None:
            locust_sleep(self, seconds)
        elif pace.wait_for_turn():
            pass
        elif seconds > 0 or not pace.has_yielded:
            pace.think(seconds)
        else:
            # "No think time" is a turn for the others, which the last request has given them; a second one
            # would cost a tenth of a round trip and take this caller's request out of the common send.
            pace.has_yielded = False

    _sleep.measures_think_time = True  # type: ignore[attr-defined]
    TaskSet._sleep = _sleep  # type: ignore[method-assign]


_measure_think_time()
