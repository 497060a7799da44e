"""Thresholds that end a run: looked at every second while it goes on, by whoever commands it.

Only seconds that all processes have reported are looked at, and none before there is a window's worth of them: a run
is not ended by its first request.
"""

from typing import Any, Final

from records.latency import LatencyStore
from swarmproof.judge.limits import Limit, ThresholdError, measure, read_limit
from swarmproof.judge.thresholds import limits_of

#: A limit on the whole run is not looked at before there is so much of it.
LEAST_S: Final = 5

#: Locust's workers report every three seconds.
WORKERS_LAG_S: Final = 4


class Watch:
    """The limits of a run that abort it."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.limits = [limit for limit in _readable(limits_of(facts)) if limit.aborts]

    def missed(self, store: LatencyStore, now_ns: int, start_ns: int, *, has_workers: bool) -> str:
        """Which limit is missed, as a clause; "" when none is."""
        if not self.limits:
            return ""
        first_s = start_ns // 1_000_000_000 + 1
        end_s = now_ns // 1_000_000_000 - (WORKERS_LAG_S if has_workers else 0)
        for limit in self.limits:
            window_s = limit.window_s or LEAST_S
            if end_s - first_s < window_s:
                continue
            start_s = first_s if limit.window_s is None else end_s - window_s
            measured = measure(store, limit, [(start_s, end_s)])
            if measured is not None and not limit.holds(measured):
                return limit.show(measured)
        return ""


def _readable(limits: dict[str, str]) -> list[Limit]:
    found = []
    for left, right in limits.items():
        try:
            found.append(read_limit(left, right))
        except ThresholdError:
            continue  # the verdict will say so
    return found
