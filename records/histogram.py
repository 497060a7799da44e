"""HdrHistogram's bucketing, vectorised: values in whole microseconds to counts and back, without loss.

The layout is that of the HdrHistogram library (1 us to 1 hour, 3 significant digits), so that counts can be
handed to it for its file formats and our percentiles equal those of its tools. A histogram here is sparse: the
sorted bucket indices that occur and their counts.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LOWEST_US = 1
#: One hour: longer than any timeout a user would set; larger values are counted in the last bucket.
HIGHEST_US = 3_600_000_000
SIGNIFICANT_DIGITS = 3

# Derived as in HdrHistogram: 2 * 10^3 rounded up to a power of two sub-buckets.
_SUB_BUCKET_HALF_MAGNITUDE = 10
_SUB_BUCKET_HALF = 1 << _SUB_BUCKET_HALF_MAGNITUDE
_SUB_BUCKETS = _SUB_BUCKET_HALF << 1
_MORE_THAN_ANY_US = 1 << 62
# From so many values on, counting them in a table of all buckets (some 24,000) is faster than sorting them.
_MANY = 1_000

Ints = NDArray[np.int64]


def bucket_indices(values_us: Ints) -> Ints:
    """The HdrHistogram counts index of each value; shape kept."""
    values = np.clip(values_us, 0, HIGHEST_US)
    # frexp gives the bit length exactly below 2^53.
    bit_length = np.frexp((values | (_SUB_BUCKETS - 1)).astype(np.float64))[1].astype(np.int64)
    bucket = bit_length - (_SUB_BUCKET_HALF_MAGNITUDE + 1)
    sub_bucket = values >> bucket
    indices: Ints = ((bucket + 1) << _SUB_BUCKET_HALF_MAGNITUDE) + (sub_bucket - _SUB_BUCKET_HALF)
    return indices


def highest_equivalent_us(indices: Ints) -> Ints:
    """The largest value that falls into each bucket: what HdrHistogram reports for a percentile."""
    return lowest_equivalent_us(indices) + (np.int64(1) << _shift(indices)) - 1


def lowest_equivalent_us(indices: Ints) -> Ints:
    bucket = (indices >> _SUB_BUCKET_HALF_MAGNITUDE) - 1
    sub_bucket = (indices & (_SUB_BUCKET_HALF - 1)) + _SUB_BUCKET_HALF
    sub_bucket = np.where(bucket < 0, sub_bucket - _SUB_BUCKET_HALF, sub_bucket)
    values: Ints = sub_bucket << _shift(indices)
    return values


def _shift(indices: Ints) -> Ints:
    shift: Ints = np.maximum((indices >> _SUB_BUCKET_HALF_MAGNITUDE) - 1, 0)
    return shift


def _empty() -> Ints:
    return np.zeros(0, dtype=np.int64)


@dataclass(slots=True)
class Histogram:
    """Sparse counts, plus the exact extremes and sum (bucketing alone would lose them)."""

    indices: Ints = field(default_factory=_empty)
    counts: Ints = field(default_factory=_empty)
    min_us: int = HIGHEST_US
    max_us: int = 0
    sum_us: int = 0

    @classmethod
    def of(cls, values_us: Ints, weights: Ints | None = None) -> "Histogram":
        """The histogram of these values (negative ones count as 0), each counted `weights` times if given."""
        if not len(values_us):
            return cls()
        values = np.maximum(values_us, 0)
        buckets = bucket_indices(values)
        if len(values) >= _MANY:
            table = np.bincount(buckets, weights=weights)
            indices = np.flatnonzero(table)
            counts = table[indices]
        else:
            indices, inverse = np.unique(buckets, return_inverse=True)
            counts = np.bincount(inverse, weights=weights)
        total_us = int(values.sum() if weights is None else values @ weights)
        return cls(indices, counts.astype(np.int64), int(values.min()), int(values.max()), total_us)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def percentile_us(self, percent: float) -> float:
        """The least value at or below which ``percent`` of the recorded ones are; 0.0 when empty.

        As the reference implementation (Java) since 2.1.11: the rank is rounded up, after one ulp was taken off
        against overruns. The Python library still rounds to the nearest, which names the last but one of 7,488
        values as p99.99.
        """
        return self.percentiles_us((percent,))[0]

    def percentiles_us(self, percents: Sequence[float]) -> list[float]:
        """Several at once, for hardly more than one."""
        total = self.total
        if not total:
            return [0.0] * len(percents)
        wanted = [max(1, math.ceil(math.nextafter(percent, -math.inf) * total / 100)) for percent in percents]
        positions = np.minimum(np.searchsorted(np.cumsum(self.counts), wanted), len(self.indices) - 1)
        values = highest_equivalent_us(self.indices[positions])
        return [float(min(max(value, self.min_us), self.max_us)) for value in values.tolist()]

    def pack(self) -> list[object]:
        return [
            self.indices.astype("<u2").tobytes(),
            self.counts.astype("<u4").tobytes(),
            self.min_us,
            self.max_us,
            self.sum_us,
        ]

    @classmethod
    def unpack(cls, packed: list[object]) -> "Histogram":
        """The reverse of ``pack``. Errors: ValueError."""
        if len(packed) != 5:
            raise ValueError("a packed histogram has five fields")
        indices, counts, minimum, maximum, total = packed
        if not (isinstance(indices, bytes) and isinstance(counts, bytes) and len(indices) * 2 == len(counts)):
            raise ValueError("indices and counts of a histogram do not match")
        if not (isinstance(minimum, int) and isinstance(maximum, int) and isinstance(total, int)):
            raise ValueError("the extremes of a histogram are whole numbers")
        return cls(
            np.frombuffer(indices, "<u2").astype(np.int64),
            np.frombuffer(counts, "<u4").astype(np.int64),
            minimum,
            maximum,
            total,
        )


class GrowingHistogram:
    """One value after another; empty at first. Quicker than arrays as long as they are not many at a time."""

    __slots__ = ("_counts", "_max_us", "_min_us", "_sum_us")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._min_us, self._max_us, self._sum_us = _MORE_THAN_ANY_US, 0, 0

    def add(self, value_us: int) -> None:
        """Count one value (a negative one as 0)."""
        if value_us < _SUB_BUCKETS:
            value_us = index = max(value_us, 0)
        else:
            inside_us = min(value_us, HIGHEST_US)
            bucket = inside_us.bit_length() - (_SUB_BUCKET_HALF_MAGNITUDE + 1)
            index = ((bucket + 1) << _SUB_BUCKET_HALF_MAGNITUDE) + (inside_us >> bucket) - _SUB_BUCKET_HALF
        self._counts[index] = self._counts.get(index, 0) + 1
        self._sum_us += value_us
        self._min_us = min(self._min_us, value_us)
        self._max_us = max(self._max_us, value_us)

    def pack(self) -> list[object]:
        """As `Histogram.pack`."""
        indices = sorted(self._counts)
        counts = [self._counts[index] for index in indices]
        packed = struct.pack(f"<{len(indices)}H", *indices), struct.pack(f"<{len(counts)}I", *counts)
        return [*packed, self._min_us if counts else HIGHEST_US, self._max_us, self._sum_us]

    def histogram(self) -> Histogram:
        return Histogram.unpack(self.pack())


def merge(histograms: list[Histogram]) -> Histogram:
    """The histogram of all their values: exact, in any order."""
    filled = [histogram for histogram in histograms if len(histogram.indices)]
    if not filled:
        return Histogram()
    if len(filled) == 1:
        return filled[0]
    together = np.concatenate([item.indices for item in filled])
    added = np.concatenate([item.counts for item in filled])
    if len(together) >= _MANY:
        table = np.zeros(int(together.max()) + 1, dtype=np.int64)
        np.add.at(table, together, added)
        indices = np.flatnonzero(table)
        counts = table[indices]
    else:
        indices, inverse = np.unique(together, return_inverse=True)
        counts = np.zeros(len(indices), dtype=np.int64)
        np.add.at(counts, inverse, added)
    return Histogram(
        indices,
        counts,
        min(item.min_us for item in filled),
        max(item.max_us for item in filled),
        sum(item.sum_us for item in filled),
    )
