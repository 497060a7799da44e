"""Do two runs differ by more than either varies within itself?

Each run is cut into equal stretches; a percentile is taken of every stretch, and the two sets are ranked against each
other (Mann and Whitney, 1947). Requests that follow each other are not independent, so an interval computed from their
number alone would find a difference between any two runs; stretches carry the slow drift within a run. What the test
cannot see is how much whole runs differ from day to day: for that there must be more than two.
"""

import math
from collections.abc import Sequence
from typing import Final

from records.histogram import Histogram, merge
from records.latency import RESPONSE, LatencyStore

#: Stretches that a run is cut into: the more of them, the finer the test; below the least it could never be sure.
MOST_STRETCHES: Final = 12
LEAST_STRETCHES: Final = 5
#: A stretch is no shorter than this: histograms are kept by the second.
LEAST_STRETCH_S: Final = 2
#: Samples beyond the percentile that a stretch must hold, or its percentile is one sample's luck.
LEAST_BEYOND: Final = 2
#: Two-sided one percent of the normal distribution.
_Z: Final = 2.576

HIGHER: Final = "higher"
LOWER: Final = "lower"
WITHIN: Final = "not clearly different"
TOO_FEW: Final = "too few samples to tell"


def difference(a: LatencyStore, b: LatencyStore, operation: str | None, percent: float) -> str:
    """HIGHER or LOWER (b than a), WITHIN or TOO_FEW."""
    ours, theirs = stretches(a, operation, percent), stretches(b, operation, percent)
    if len(ours) < LEAST_STRETCHES or len(theirs) < LEAST_STRETCHES:
        return TOO_FEW
    z = rank_z(ours, theirs)
    return WITHIN if abs(z) < _Z else HIGHER if z > 0 else LOWER


def stretches(store: LatencyStore, operation: str | None, percent: float) -> list[float]:
    """The percentile in microseconds of as many equal stretches of the run as hold enough samples; [] if too few do."""
    seconds = list(store.by_second(operation, RESPONSE))
    if not seconds:
        return []
    first, last = seconds[0][0], seconds[-1][0] + 1
    needed = LEAST_BEYOND / (1 - percent / 100)
    for number in range(min(MOST_STRETCHES, (last - first) // LEAST_STRETCH_S), LEAST_STRETCHES - 1, -1):
        parts: list[list[Histogram]] = [[] for _ in range(number)]
        for second, histogram, _ in seconds:
            parts[(second - first) * number // (last - first)].append(histogram)
        merged = [merge(part) for part in parts]
        if all(histogram.total >= needed for histogram in merged):
            return [histogram.percentile_us(percent) for histogram in merged]
    return []


def rank_z(a: Sequence[float], b: Sequence[float]) -> float:
    """How far b's ranks lie above a's, in standard deviations; ties count half to each."""
    wins = sum((theirs > ours) + 0.5 * (theirs == ours) for ours in a for theirs in b)
    expected, spread = len(a) * len(b) / 2, math.sqrt(len(a) * len(b) * (len(a) + len(b) + 1) / 12)
    return (wins - expected) / spread
