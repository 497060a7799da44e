"""`--busy-poll`: while there is load, this process's event loop never sleeps.

Who sleeps is woken late: on a virtual machine some 50 us at the median and milliseconds at worst, and that is part of
every response time that is measured then. A loop that asks again and again instead finds what has come within some
microseconds. It takes a core of its own; on a core that is shared it lets the others go first at every turn.

The CPU that is spent on asking is counted apart: it says nothing of how close the generator is to its limit.
"""

import os
from collections.abc import Callable
from time import monotonic_ns, thread_time_ns
from typing import Any, Final

from gevent import get_hub
from locust import runners

_yield_processor: Callable[[], None] = getattr(os, "sched_yield", lambda: None)

_NEVER: Final = 1_000_000  # percent

#: A round of the loop that found nothing takes less CPU than this, some 3 us. One that takes more has done something
#: before it looked: a request that was due, a record.
_IDLE_ROUND_NS: Final = 20_000


def add_options(parser: Any) -> None:
    # Straight to the parser: Locust's web form does not show the options of an argument group.
    parser.add_argument(
        "--busy-poll",
        action="store_true",
        default=False,
        help="never sleep while there is load: waking up late is no part of the response times then; "
        "takes a core of its own for each worker",
        env_var="SWARMPROOF_BUSY_POLL",
    )


class BusyPoll:
    """Of one process. ``start`` and ``stop`` around a test; both may be called again."""

    def __init__(self, environment: Any) -> None:
        self._watcher: Any = None
        self._loop: Any = None
        self._round = 0
        self._last_ns = 0
        self._idle_ns = 0
        self._warns_from = runners.CPU_WARNING_THRESHOLD
        self._told = 0, monotonic_ns()  # when Locust last looked at its CPU: idle CPU until then, the time
        environment.events.usage_monitor.add_listener(self._on_usage)

    def idle_ns(self) -> int:
        """CPU that was spent on nothing but asking, since the process began."""
        return self._idle_ns

    @property
    def is_on(self) -> bool:
        return self._watcher is not None

    def start(self) -> None:
        if self.is_on:
            return
        self._loop = get_hub().loop
        self._round, self._last_ns = self._loop.iteration, thread_time_ns()
        self._watcher = self._loop.idle()
        self._watcher.start(self._turn)
        runners.CPU_WARNING_THRESHOLD = _NEVER  # it takes all of a core now, which is no reason to warn

    def stop(self) -> None:
        if self.is_on:
            self._watcher.close()
            self._watcher = None

    def _on_usage(self, environment: Any, cpu_usage: float, **_: Any) -> None:
        """What Locust tells the master, and its users, is without the asking."""
        before_ns, since_ns = self._told
        self._told = self._idle_ns, monotonic_ns()
        idle = (self._idle_ns - before_ns) / max(1, self._told[1] - since_ns)
        environment.runner.current_cpu_usage = max(0.0, cpu_usage - 100 * idle)
        if not self.is_on:  # what it looked at just now may have been of the time before the stop
            runners.CPU_WARNING_THRESHOLD = self._warns_from

    def _turn(self) -> None:
        """Called by the loop in every round in which it found nothing."""
        _yield_processor()
        now_ns = thread_time_ns()
        number = self._loop.iteration
        spent_ns = now_ns - self._last_ns
        if spent_ns < _IDLE_ROUND_NS and (number == self._round + 1 or number < 0):  # libuv does not count them
            self._idle_ns += spent_ns
        self._round, self._last_ns = number, now_ns
