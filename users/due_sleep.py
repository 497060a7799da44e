"""Sleeping to the moment, for think time.

gevent's timers count milliseconds: a user that thinks for 19 ms wakes up to one late, and response times are counted
from when it meant to go on. All sleepers of an event loop share one `DueTimer`; each is woken in the order of its time.
"""

from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic_ns
from typing import Any, Final
from weakref import WeakKeyDictionary

from gevent import get_hub
from gevent.hub import Waiter

from users.due_timer import DueTimer

# Users that were stopped while they slept leave their places in the heap; more than this and half of it are cleared.
MAX_LEFT_BEHIND: Final = 1_000


class _Bedroom:
    """The sleepers of one event loop."""

    def __init__(self) -> None:
        self._timer = DueTimer(self._wake)
        self._numbers = count()
        # [due_ns, number, waiter, or None: has gone]
        self._sleepers: list[list[Any]] = []
        self._left_behind = 0

    def sleep_until(self, due_ns: int) -> None:
        place = [due_ns, next(self._numbers), Waiter()]
        heappush(self._sleepers, place)
        if self._sleepers[0] is place:
            self._timer.set(due_ns)
        try:
            place[2].get()
        finally:
            if place[2] is not None:  # stopped before its time
                place[2] = None
                self._left_behind += 1
                if self._left_behind > max(MAX_LEFT_BEHIND, len(self._sleepers) // 2):
                    self._sleepers = [other for other in self._sleepers if other[2] is not None]
                    heapify(self._sleepers)
                    self._left_behind = 0

    def _wake(self) -> None:
        now_ns = monotonic_ns()
        due = []
        while self._sleepers and self._sleepers[0][0] <= now_ns:
            due.append(heappop(self._sleepers))
        try:
            for place in due:
                waiter, place[2] = place[2], None
                if waiter is None:
                    self._left_behind -= 1
                else:
                    waiter.switch(None)
        finally:  # not before: they are due, and it takes a while
            if self._sleepers:
                self._timer.set(self._sleepers[0][0])


_bedrooms: "WeakKeyDictionary[Any, _Bedroom]" = WeakKeyDictionary()


def sleep_until(due_ns: int) -> None:
    """Sleep until `due_ns` (of the monotonic clock). If that has passed, the others have their turn."""
    hub = get_hub()
    bedroom = _bedrooms.get(hub)
    if bedroom is None:
        bedroom = _bedrooms[hub] = _Bedroom()
    bedroom.sleep_until(due_ns)
