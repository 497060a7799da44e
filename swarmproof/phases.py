"""Moments around a fault, from the history: when it was noticed, when all was as before, what the throughput lost.

For operations that no history holds one by one, see `swarmproof.whole_seconds`.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from records.operations import OK, Operation

NS_PER_S = 1_000_000_000
# What it was like before: long enough for a 99th percentile, short enough to be near.
BASELINE_NS = 5 * NS_PER_S
# Back to the baseline: this often in a row, for so long, nothing failed and the p99 was within twice the baseline's.
STEP_NS = NS_PER_S // 4
STEPS_IN_A_ROW = 2
BACK_FACTOR = 2
# What comes later than this is not this fault's any more.
LOOK_FOR_S = 60
# All clients together heard nothing for so long: silence, the sign of trouble that comes without an error.
SILENCE_NS = NS_PER_S // 10
MIN_BASELINE = 20  # fewer operations have no p99 worth comparing with

Ints = npt.NDArray[np.int64]


class Moments:
    """The ends of all operations of a run, by time. Operations that never ended count for nothing here."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        ended = sorted((o.return_ns, o.return_ns - o.call_ns, o.status == OK) for o in operations if o.return_ns)
        self._ends: Ints = np.array([entry[0] for entry in ended], dtype=np.int64)
        self._took: Ints = np.array([entry[1] for entry in ended], dtype=np.int64)
        self._good = np.array([entry[2] for entry in ended], dtype=bool)

    def back_after_s(self, strike_ns: int, from_ns: int) -> float | None:
        """Seconds from the strike until all was as before, not looking earlier than `from_ns`; None: never seen."""
        baseline = self._slice(strike_ns - BASELINE_NS, strike_ns)
        took = self._took[baseline][self._good[baseline]]
        if len(took) < MIN_BASELINE:
            return None
        limit_ns = BACK_FACTOR * float(np.percentile(took, 99))
        in_a_row = 0
        for step in range(LOOK_FOR_S * NS_PER_S // STEP_NS):
            begin_ns = from_ns + step * STEP_NS
            rows = self._slice(begin_ns, begin_ns + STEP_NS)
            good = rows.stop > rows.start and bool(self._good[rows].all())
            calm = good and float(np.percentile(self._took[rows], 99)) <= limit_ns
            in_a_row = in_a_row + 1 if calm else 0
            if in_a_row == STEPS_IN_A_ROW:
                return _seconds(begin_ns - (STEPS_IN_A_ROW - 1) * STEP_NS - strike_ns)
            if rows.start == len(self._ends):
                return None  # the load was over first
        return None

    def lost_operations(self, strike_ns: int, end_ns: int) -> int | None:
        """How many more operations the rate before the strike would have done until `end_ns`."""
        before = self._slice(strike_ns - BASELINE_NS, strike_ns)
        good_before = int(self._good[before].sum())
        if good_before < MIN_BASELINE:
            return None
        first_ns = max(int(self._ends[before.start]), strike_ns - BASELINE_NS)
        rate_per_ns = good_before / max(strike_ns - first_ns, 1)
        done = int(self._good[self._slice(strike_ns, end_ns)].sum())
        return max(round(rate_per_ns * (end_ns - strike_ns)) - done, 0)

    def detected_after_s(self, strike_ns: int, end_ns: int) -> float | None:
        """Seconds from the strike to the first error or the first silence that begins before `end_ns`."""
        rows = self._slice(strike_ns, end_ns + SILENCE_NS)
        errors = self._ends[rows][~self._good[rows]]
        found = [int(errors[0])] if len(errors) else []
        good = self._ends[max(rows.start - 1, 0) : rows.stop + 1]
        gaps = np.flatnonzero(np.diff(good) > SILENCE_NS)
        begins = [int(good[place]) for place in gaps if strike_ns - SILENCE_NS < good[place] <= end_ns]
        found += [max(begin + SILENCE_NS, strike_ns) for begin in begins[:1]]
        return _seconds(min(found) - strike_ns) if found else None

    def _slice(self, begin_ns: int, end_ns: int) -> slice:
        begin, end = np.searchsorted(self._ends, (begin_ns, end_ns))
        return slice(int(begin), int(end))


def _seconds(duration_ns: int) -> float:
    return round(duration_ns / NS_PER_S, 4)
