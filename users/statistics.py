"""What is counted in batches: requests that ended well, for Locust's statistics and for the latency recorder.

Such a request costs a few appends to arrays: when it was meant to go, when it went, when it was answered, and in the
engine how many others share these three times (those that one recv answered and one send carried). Once a second,
or several times if they are many, numpy turns them into what would be there if each had been recorded alone: the same
numbers in Locust's tables and the same histograms.

At low rates each is recorded alone, before its event loop looks for the next reply, unless a request is about to be
due. That takes longer, but nobody waits for it, whereas numpy takes a millisecond for what a second brought, however
little, in which no reply is read.

Whatever did not end well is rare and takes the ordinary way (`users.recording`). Locust's `request` event is not fired
for what is counted here. Scripted users come here only while nobody but Locust's own statistics listens to it; in the
engine other listeners hear of failures only.
"""

import time
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import accumulate, repeat
from time import monotonic_ns
from typing import Any, Final

import numpy as np
from gevent import get_hub
from locust import stats as locust_stats
from numpy.typing import NDArray

from records.recorder import recorder
from users.due_timer import somebody_is_awaited
from users.loop_watchers import before_poll

LOOK_EVERY_S: Final = 0.25
# While no more than this have come from one look to the next, each is recorded alone; so many before each poll.
FEW_IN_A_LOOK: Final = 500
FEW: Final = 8
# Locust's tables and our records are read once a second, and the recorder asks for what there is before that. Only
# large batches are handed on in between, so that none takes longer than some milliseconds at the highest rates.
LARGE: Final = 2_500
# Where nobody asks (no recorder runs), so many looks after the last time.
LOOKS_AT_MOST: Final = 5
# From so many values on, counting them all in one table is faster than sorting them.
MANY: Final = 1_000
# What is handed on in between goes in parts of at least this, and replies are read for a while after each.
PART_NS: Final = 100_000
PAUSE_S: Final = 0.001

_NS_PER_MS: Final = 1e6
_NS_PER_S: Final = 1e9

Ints = NDArray[np.int64]


class Tally:
    """Requests of one operation that ended well. `length` is the size that Locust shows for each response.

    Hot paths keep the `append` of its arrays. Where each request is alone `counts` stays empty.
    """

    __slots__ = (
        "_environment",
        "_operation",
        "adding",
        "appends",
        "call",
        "counts",
        "intended",
        "length",
        "lengths_sum",
        "name",
        "request_type",
        "returned",
    )

    def __init__(self, environment: Any, operation: str, request_type: str, name: str, length: int) -> None:
        self._environment = environment
        self._operation = operation
        self.request_type = request_type
        self.name = name
        self.length = length
        self.lengths_sum = 0  # of responses whose sizes differ, beside `length` for each
        self.intended, self.call, self.returned, self.counts = array("q"), array("q"), array("q"), array("q")
        # Made once for all connections: a method of its own for each would be cold memory when its turn comes.
        self.appends = (self.intended.append, self.call.append, self.returned.append, self.counts.append)
        self.adding = self.add

    def add(self, intended_ns: int, call_ns: int, return_ns: int, count: int = 1) -> None:
        """`count` requests with these times."""
        self.intended.append(intended_ns)
        self.call.append(call_ns)
        self.returned.append(return_ns)
        self.counts.append(count)

    def waiting(self) -> int:
        """How many requests were added and are not handed on."""
        return sum(self.counts) if self.counts else len(self.returned)

    def record_few(self, most: int) -> int:
        """Record those that were added first one by one, at most so many; how many they were."""
        columns = (self.intended, self.call, self.returned, self.counts)
        counts = list(accumulate(self.counts[:most])) if self.counts else range(1, min(most, len(self.returned)) + 1)
        rows = bisect_right(counts, most)
        if not rows:
            return 0
        times = [
            (intended_ns, call_ns, return_ns)
            for intended_ns, call_ns, return_ns, count in zip(
                *(column[:rows] for column in columns[:3]), self.counts[:rows] or repeat(1), strict=False
            )
            for _ in range(count)
        ]
        for column in columns:
            del column[:rows]
        lengths_sum, self.lengths_sum = self.lengths_sum, 0
        for three in times:
            recorder.latency.record(self._operation, *three)
        statistics = self._environment.stats
        for intended_ns, _, return_ns in times:
            response_ms = (return_ns - intended_ns) / _NS_PER_MS
            statistics.log_request(self.request_type, self.name, response_ms, self.length)
        for entry in (statistics.total, statistics.entries[(self.name, self.request_type)]):
            entry.total_content_length += lengths_sum
        return len(times)

    def parts(self) -> Iterator[None]:
        """Hand on all that was added. The arrays stay the same objects, and take what is added between the parts."""
        if self.waiting() <= FEW:
            self.record_few(FEW)
            return
        columns = (self.intended, self.call, self.returned, self.counts)
        intended, call, returned, many = (np.array(column, dtype=np.int64) for column in columns)
        counts = many if len(many) else None
        lengths_sum = self.lengths_sum + self.length * (len(returned) if counts is None else int(counts.sum()))
        self.lengths_sum = 0
        for column in columns:
            del column[:]
        yield
        yield from recorder.latency.record_runs_in_parts(self._operation, intended, call, returned, counts)
        yield
        statistics = self._environment.stats
        entries = (statistics.total, statistics.entries[(self.name, self.request_type)])
        feed(entries, intended, returned, counts, lengths_sum)


def feed(entries: Any, intended_ns: Ints, return_ns: Ints, counts: Ints | None, lengths_sum: int) -> None:
    """Add requests to entries of Locust's statistics as `StatsEntry.log` would have, one by one."""
    response_ms = (return_ns - intended_ns) / _NS_PER_MS
    total = len(return_ns) if counts is None else int(counts.sum())
    # Not `@`: that is BLAS, whose second thread then spins on the core that the server needs.
    total_ms = float((response_ms if counts is None else response_ms * counts).sum())
    shortest_ms, longest_ms = float(response_ms.min()), float(response_ms.max())
    buckets = weigh(_bucket(response_ms), counts)
    # One epoch offset for the batch: Locust counts by the second.
    seconds = weigh((return_ns / _NS_PER_S + (time.time() - monotonic_ns() / _NS_PER_S)).astype(np.int64), counts)
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
        entry.total_content_length += lengths_sum
        entry.last_request_timestamp = last_s
        for second, number in seconds:
            entry.num_reqs_per_sec[second] += number
        for bucket, number in buckets:
            entry.response_times[bucket] += number


def weigh(values: Ints, counts: Ints | None) -> list[tuple[int, int]]:
    """Each distinct value, and how often it occurs; `counts` says how often each stands for itself."""
    lowest = int(values.min())
    if len(values) >= MANY and int(values.max()) - lowest < len(values):
        # Whole numbers below 2**53 in doubles: exact.
        table = np.bincount(values - lowest, weights=counts).astype(np.int64)
        found = np.flatnonzero(table)
        return list(zip((found + lowest).tolist(), table[found].tolist(), strict=True))
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
    """All tallies of one environment, handed on by a timer of the hub."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._tallies: dict[tuple[str, str, int, bool], Tally] = {}
        self._looks = 0
        self._batches: deque[Iterator[None]] = deque()  # those that somebody has begun to hand on
        loop = get_hub().loop
        # They do not keep the hub from ending.
        self._timer = loop.timer(LOOK_EVERY_S, LOOK_EVERY_S, ref=False)
        self._timer.start(self._look)
        self._again: Any = None  # a timer
        # After the callbacks that gevent runs before each poll. Without it all goes in batches.
        self._before_poll = before_poll(loop, ref=False, priority=-2)
        self._alone = 0  # requests that were recorded alone since the last look
        self._come = 0  # all that had come until then
        recorder.gatherers.add(self)
        environment.events.reset_stats.add_listener(self._on_reset)
        environment.events.spawning_complete.add_listener(self._on_spawned)

    def tally(self, operation: str, request_type: str, name: str, length: int, *, singly: bool = False) -> Tally:
        """The one of this operation; the same for all connections. `singly`: its `counts` stay empty."""
        key = (request_type, name, length, singly)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally(self._environment, operation, request_type, name, length)
        return tally

    def flush(self) -> None:
        """Hand on all that was added."""
        for _ in self.parts():
            pass

    def parts(self) -> Iterator[None]:
        """The same in parts. Several may do it at a time, and leave off anywhere: what was begun is not lost."""
        self._looks = 0
        self._batches.extend(tally.parts() for tally in self._tallies.values() if tally.returned)
        while self._batches:
            try:
                next(self._batches[0])
            except StopIteration:
                self._batches.popleft()
            except Exception:
                self._batches.popleft()
                raise
            else:
                yield

    def _on_reset(self, **_: Any) -> None:
        self.flush()  # what was before is reset with all else: Locust does it after this event

    def _on_spawned(self, **_: Any) -> None:
        if self._environment.reset_stats:  # Locust has done it just now (`--reset-stats`)
            self.flush()
            self._environment.stats.reset_all()

    def _look(self) -> None:
        come = self._environment.stats.total.num_requests + sum(tally.waiting() for tally in self._tallies.values())
        if self._before_poll is not None:
            if come - self._come > FEW_IN_A_LOOK:
                self._before_poll.stop()
            elif not self._before_poll.active:
                self._before_poll.start(self._record_few)
        self._come, self._alone = come, 0
        self._looks += 1
        if self._looks >= LOOKS_AT_MOST or any(len(tally.returned) >= LARGE for tally in self._tallies.values()):
            self._go_on(self.parts())

    def _record_few(self) -> None:
        if somebody_is_awaited():
            return
        left = FEW
        for tally in self._tallies.values():
            if tally.returned:
                left -= tally.record_few(left)
        self._alone += FEW - left
        if self._alone > FEW_IN_A_LOOK:
            self._before_poll.stop()

    def _go_on(self, parts: Iterator[None]) -> None:
        end_ns = monotonic_ns() + PART_NS
        for _ in parts:
            if monotonic_ns() >= end_ns:
                if self._again is not None:
                    self._again.close()
                self._again = get_hub().loop.timer(PAUSE_S, ref=False)  # anew: one that is started again comes early
                self._again.start(self._go_on, parts)
                return


def statistics_of(environment: Any) -> Statistics:
    """The one of this environment."""
    statistics: Statistics | None = getattr(environment, "batched_statistics", None)
    if statistics is None:
        statistics = environment.batched_statistics = Statistics(environment)
    return statistics
