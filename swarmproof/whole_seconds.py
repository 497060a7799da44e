"""What a fault cost, from what ended in each second: for operations that no history holds one by one.

A second is the finest that the latencies know. What is timed is therefore rounded to the side that promises less: an
error or a silence was there at the latest at the end of its second, all was well again at the latest when a calm second
began, and clients heard nothing for at least the whole seconds in which nothing succeeded.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from records.histogram import Histogram, highest_equivalent_us, merge
from records.latency import RESPONSE, LatencyStore

NS_PER_S: Final = 1_000_000_000
# The phases before and after are as long as this: long enough for a 99th percentile, short enough to be near.
AROUND_S: Final = 5
MIN_BASELINE: Final = 20  # fewer operations have no rate and no p99 worth comparing with
BACK_FACTOR: Final = 2  # back to the baseline: the p99 is within so many times what it was
# What comes later than this is not this fault's any more.
LOOK_FOR_S: Final = 60
DELAYED_US: Final = 100_000
# A percentile that no sample can lie beyond is only the maximum: of fewer samples than this, no p99 is given.
MIN_FOR_P99: Final = 100

_CONNECT: Final = " connect"


class _Second:
    """One second: how the calls ended, how long they took, and what failed, attempts to connect included."""

    __slots__ = ("failed", "ok", "times", "trouble", "unknown")

    def __init__(self) -> None:
        self.ok = self.failed = self.unknown = self.trouble = 0
        self.times: list[Histogram] = []


class WholeSeconds:
    """The seconds of a run, of the operations `names` together.

    An attempt to connect is part of some call: one that fails is a sign of trouble, but no operation by itself.
    """

    def __init__(self, latency: LatencyStore, names: Sequence[str], load_end_ns: int | None = None) -> None:
        calls = [name for name in names if not name.endswith(_CONNECT)] or list(names)
        self._seconds: dict[int, _Second] = defaultdict(_Second)
        for name in names:
            for at_s, histogram, (ok, failed, unknown, _) in latency.by_second(name, RESPONSE):
                second = self._seconds[at_s]
                second.trouble += failed + unknown
                if name in calls:
                    second.ok += ok
                    second.failed += failed
                    second.unknown += unknown
                    second.times.append(histogram)
        everything = latency.seconds()
        # The last second of the load is not a whole one; when its end is not known, something ended in the last.
        self._end_s = load_end_ns // NS_PER_S if load_end_ns is not None else everything[-1] + 1 if everything else 0
        self._first_s = min(self._seconds, default=self._end_s)

    def figures(self, strike_ns: int, end_ns: int) -> dict[str, Any]:
        """The columns of outages.csv that there are between the strike and the end of the outage; {} without data."""
        struck_s, last_s = strike_ns // NS_PER_S, max(end_ns, strike_ns) // NS_PER_S
        if not any(at_s in self._seconds for at_s in range(struck_s - AROUND_S, last_s + AROUND_S + 1)):
            return {}
        back_s = self._back(struck_s, last_s)
        # What was under way ends after the outage: it counts until all is well, or as long as the phase after.
        over_s = back_s if back_s is not None else last_s + 1 + AROUND_S
        during = [self._seconds[at_s] for at_s in range(struck_s, over_s) if at_s in self._seconds]
        return {
            "detection_s": _after(self._detected(struck_s, last_s), strike_ns),
            "back_to_baseline_s": _after(back_s, strike_ns),
            "worst_client_gap_s": self._longest_silence(struck_s, over_s),
            "failed": sum(second.failed for second in during),
            "unknown": sum(second.unknown for second in during),
            "delayed": _delayed([*((second, DELAYED_US) for second in during), *self._reaching_back(over_s, end_ns)]),
            "lost_operations": self._lost(struck_s, back_s if back_s is not None else last_s + 1),
        }

    def _reaching_back(self, over_s: int, end_ns: int) -> Iterator[tuple[_Second, int]]:
        """Seconds in which all was well, each with what an operation took that was under way before the end."""
        for at_s in range(over_s, over_s + AROUND_S):
            if at_s in self._seconds:
                yield self._seconds[at_s], max(DELAYED_US, _at_least_us(at_s, end_ns))

    def percentiles(self, strike_ns: int, over_ns: int) -> dict[str, int | None]:
        """`p50_before_us`, `p99_before_us`, and the same for during and after; None where too few ended.

        What was under way before all was over is of the fault, however late it ended.
        """
        struck_s, end_s = strike_ns // NS_PER_S, over_ns // NS_PER_S + 1
        late, after = [], []
        for at_s in range(end_s, end_s + AROUND_S):
            begun_before, begun_after = _split(self._times(range(at_s, at_s + 1)), _at_least_us(at_s, over_ns))
            late.append(begun_before)
            after.append(begun_after)
        phases = {
            "before": self._times(range(struck_s - AROUND_S, struck_s)),
            "during": merge([self._times(range(struck_s, end_s)), *late]),
            "after": merge(after),
        }
        found: dict[str, int | None] = {}
        for phase, times in phases.items():
            found[f"p50_{phase}_us"] = round(times.percentile_us(50)) if times.total else None
            found[f"p99_{phase}_us"] = round(times.percentile_us(99)) if times.total >= MIN_FOR_P99 else None
        return found

    def _times(self, seconds: range) -> Histogram:
        return merge([times for at_s in seconds if at_s in self._seconds for times in self._seconds[at_s].times])

    def _baseline(self, struck_s: int) -> range:
        """The whole seconds before the strike: not the first of all, in which the load began."""
        return range(max(struck_s - AROUND_S, self._first_s + 1), struck_s)

    def _ok(self, seconds: range) -> int:
        return sum(self._seconds[at_s].ok for at_s in seconds if at_s in self._seconds)

    def _succeeded_in(self, at_s: int) -> bool:
        return at_s in self._seconds and self._seconds[at_s].ok > 0

    def _is_steady(self, baseline: range) -> bool:
        """Whether a second without any success says something."""
        return self._ok(baseline) >= MIN_BASELINE and all(self._succeeded_in(at_s) for at_s in baseline)

    def _detected(self, struck_s: int, last_s: int) -> int | None:
        """The end of the first second with an error, or without a success."""
        baseline = self._baseline(struck_s)
        is_steady = self._is_steady(baseline)
        # An error in the second of the strike may have come before it; not when there were none until then.
        clean = bool(baseline) and not any(self._trouble_in(at_s) for at_s in baseline)
        for at_s in range(struck_s, min(last_s + 2, self._end_s)):
            if self._trouble_in(at_s) and (clean or at_s > struck_s):
                return at_s + 1
            if is_steady and at_s <= last_s and not self._succeeded_in(at_s):
                return at_s + 1
        return None

    def _trouble_in(self, at_s: int) -> int:
        return self._seconds[at_s].trouble if at_s in self._seconds else 0

    def _back(self, struck_s: int, last_s: int) -> int | None:
        """The first second after the outage in which nothing failed and the p99 was near what it was before."""
        baseline = self._baseline(struck_s)
        if self._ok(baseline) < MIN_BASELINE:
            return None
        limit_us = BACK_FACTOR * self._times(baseline).percentile_us(99)
        for at_s in range(last_s + 1, min(last_s + 1 + LOOK_FOR_S, self._end_s)):
            calm = self._succeeded_in(at_s) and not self._trouble_in(at_s)
            if calm and self._times(range(at_s, at_s + 1)).percentile_us(99) <= limit_us:
                return at_s
        return None

    def _lost(self, struck_s: int, over_s: int) -> int | None:
        """How many more would have succeeded at the rate before; whole seconds on both sides."""
        baseline = self._baseline(struck_s)
        done_before, over_s = self._ok(baseline), min(over_s, self._end_s)
        if done_before < MIN_BASELINE or over_s <= struck_s:
            return None
        expected = done_before / len(baseline) * (over_s - struck_s)
        return max(round(expected) - self._ok(range(struck_s, over_s)), 0)

    def _longest_silence(self, struck_s: int, over_s: int) -> float | None:
        """Seconds in a row in which nobody had a success; None: there was no whole one, or they were rare before."""
        if not self._is_steady(self._baseline(struck_s)):
            return None
        longest = in_a_row = 0
        for at_s in range(struck_s, min(over_s, self._end_s)):
            in_a_row = 0 if self._succeeded_in(at_s) else in_a_row + 1
            longest = max(longest, in_a_row)
        return float(longest) or None


def _delayed(seconds: Iterable[tuple[_Second, int]]) -> int | None:
    """Successes that took longer than this; None when the times of failures in the same second hide how many."""
    least = most = 0
    for second, limit_us in seconds:
        slow = sum(int(times.counts[highest_equivalent_us(times.indices) > limit_us].sum()) for times in second.times)
        least += max(slow - second.failed - second.unknown, 0)
        most += min(slow, second.ok)
    return least if least == most else None


def _at_least_us(at_s: int, moment_ns: int) -> int:
    """What took longer than this and ended in second `at_s` had begun before the moment."""
    return ((at_s + 1) * NS_PER_S - moment_ns) // 1000


def _split(times: Histogram, limit_us: int) -> tuple[Histogram, Histogram]:
    """What took longer than the limit, and the rest."""
    longer = highest_equivalent_us(times.indices) > limit_us
    return (
        Histogram(times.indices[longer], times.counts[longer], limit_us, times.max_us),
        Histogram(times.indices[~longer], times.counts[~longer], times.min_us, min(limit_us, times.max_us)),
    )


def _after(at_s: int | None, strike_ns: int) -> float | None:
    return None if at_s is None else round((at_s * NS_PER_S - strike_ns) / NS_PER_S, 4)
