"""What the engine counts, handed on in batches: to Locust's statistics and to the latency recorder.

A request that ends well costs four appends to arrays: when it was meant to go, when it went, when it was answered,
and how many others share these three times (the requests that one recv answered and one send carried do). Several
times a second numpy turns them into what would be there if each had been recorded alone: the same numbers in
Locust's tables and the same histograms. Whatever did not end well is rare and takes the ordinary way
(`users.recording`).

Locust's `request` event is not fired for what is counted here; its listeners hear of failures only.
"""

import time
from array import array
from time import monotonic_ns
from typing import Any, Final

import numpy as np
from locust import stats as locust_stats
from numpy.typing import NDArray

from records.recorder import recorder
from users.recording import Recording

# Locust's tables and our records are read once a second. Four times as often keeps each batch small: some
# milliseconds of numpy at the highest rates.
FLUSH_NS: Final = 250_000_000

_NS_PER_MS: Final = 1e6
_NS_PER_S: Final = 1e9

Ints = NDArray[np.int64]


class Tally:
    """Requests of one operation that ended well. `length` is the size that Locust shows for each response."""

    __slots__ = (
        "_environment",
        "_operation",
        "call",
        "counts",
        "intended",
        "length",
        "name",
        "request_type",
        "returned",
    )

    def __init__(self, environment: Any, recording: Recording, name: str, length: int) -> None:
        self._environment = environment
        self._operation = recording.operation(name)
        self.request_type = recording.request_type
        self.name = name
        self.length = length
        self.intended, self.call, self.returned, self.counts = array("q"), array("q"), array("q"), array("q")

    def add(self, intended_ns: int, call_ns: int, return_ns: int, count: int = 1) -> None:
        """`count` requests with these times."""
        self.intended.append(intended_ns)
        self.call.append(call_ns)
        self.returned.append(return_ns)
        self.counts.append(count)

    def flush(self) -> None:
        """Hand on all that was added. The arrays stay the same objects: hot paths keep their `append`."""
        if not self.counts:
            return
        intended, call, returned, counts = (
            np.array(column, dtype=np.int64) for column in (self.intended, self.call, self.returned, self.counts)
        )
        for column in (self.intended, self.call, self.returned, self.counts):
            del column[:]
        recorder.latency.record_runs(self._operation, intended, call, returned, counts)
        statistics = self._environment.stats
        feed(
            (statistics.total, statistics.entries[(self.name, self.request_type)]),
            intended,
            returned,
            counts,
            self.length,
        )


def feed(entries: Any, intended_ns: Ints, return_ns: Ints, counts: Ints, length: int) -> None:
    """Add requests to entries of Locust's statistics as `StatsEntry.log` would have, one by one."""
    response_ms = (return_ns - intended_ns) / _NS_PER_MS
    total = int(counts.sum())
    total_ms = float(response_ms @ counts)
    shortest_ms, longest_ms = float(response_ms.min()), float(response_ms.max())
    buckets = _weigh(_bucket(response_ms), counts)
    # One epoch offset for the batch: Locust counts by the second.
    seconds = _weigh((return_ns / _NS_PER_S + (time.time() - monotonic_ns() / _NS_PER_S)).astype(np.int64), counts)
    last_s = time.time()
    for entry in entries:
        before_s = entry.last_request_timestamp
        if entry.use_response_times_cache and before_s and int(last_s) > int(before_s):
            entry._cache_response_times(int(last_s) - 1)
        entry.num_requests += total
        entry.total_response_time += total_ms
        entry.min_response_time = (
            shortest_ms if entry.min_response_time is None else min(entry.min_response_time, shortest_ms)
        )
        entry.max_response_time = max(entry.max_response_time, longest_ms)
        entry.total_content_length += total * length
        entry.last_request_timestamp = last_s
        for second, number in seconds:
            entry.num_reqs_per_sec[second] += number
        for bucket, number in buckets:
            entry.response_times[bucket] += number


def _weigh(values: Any, counts: Ints) -> list[tuple[int, int]]:
    distinct, inverse = np.unique(values, return_inverse=True)
    return list(zip(distinct.tolist(), np.bincount(inverse, weights=counts).astype(np.int64).tolist(), strict=True))


_LOCUSTS_OWN: Final = locust_stats.bucket_response_time


def _bucket(response_ms: Any) -> Any:
    """Locust's rounding (`bucket_response_time`), for all at once; one that was put in its place is asked for each."""
    if locust_stats.bucket_response_time is not _LOCUSTS_OWN:
        return np.array([locust_stats.bucket_response_time(one) for one in response_ms.tolist()], dtype=np.int64)
    # Steps of 1 below 100 ms, 10 below a second, 100 below ten, 1000 above; halves to the even one, as round().
    step = np.select([response_ms < 100, response_ms < 1_000, response_ms < 10_000], [1.0, 10.0, 100.0], 1_000.0)
    return (np.rint(response_ms / step) * step).astype(np.int64)


class Statistics:
    """All tallies of an engine."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[int, str, str, int], Tally] = {}
        self._due_ns = 0

    def tally(self, environment: Any, recording: Recording, name: str, length: int) -> Tally:
        """The one of this operation; the same for all connections."""
        key = (id(environment), recording.request_type, name, length)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally(environment, recording, name, length)
        return tally

    def flush(self) -> None:
        for tally in self._tallies.values():
            tally.flush()

    def flush_if_due(self, now_ns: int) -> None:
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + FLUSH_NS
            self.flush()
