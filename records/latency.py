"""Response and service times: recorded in histograms by the second, merged without loss.

Response time = return - intended; service time = return - call. Every operation that ended counts in both,
failed and unknown ones too (a timeout that a user waited for is a latency); cancelled ones are only counted.

``LatencyRecorder`` is the hot path of a load generator. Its ``take`` gives a *delta*, plain data that can be sent
or written; ``LatencyStore`` adds deltas up and answers questions. Seconds are of the machine's monotonic clock.
"""

import csv
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from records.clock import Reading, read_clock, shift_ns
from records.histogram import GrowingHistogram, Histogram, Ints, merge
from records.run_directory import RUN_JSON, RunDirectory, RunDirectoryError
from records.span import Span

OK = 0
FAILED = 1
UNKNOWN = 2
CANCELLED = 3
OUTCOMES = (OK, FAILED, UNKNOWN, CANCELLED)

RESPONSE = "response"
SERVICE = "service"

#: Histograms of one second (or of the whole run) that wait until they are merged: many at once cost less than each.
_MERGE_AT = 16

#: Of more seconds than this, those that are over are kept small: nobody takes them.
_TAKEN_WITHIN = 10

_NS_PER_S = 1_000_000_000
_NS_PER_US = 1_000

#: "clock": a reading; "operations": operation -> second -> [[ok, failed, unknown, cancelled], packed response, packed
#: service]; "span": [when the first was due, when the last ended] in ns, None when nothing ended.
Delta = dict[str, Any]


class LatencyRecorder:
    """Records times of operations in this process. Not thread-safe; greenlets are fine."""

    def __init__(self) -> None:
        self._seconds: dict[str, dict[int, _Second]] = {}
        self._span: tuple[int, int] | None = None

    def record(self, operation: str, intended_ns: int, call_ns: int, return_ns: int, outcome: int = OK) -> None:
        """One ended operation; times are ``time.monotonic_ns()``."""
        seconds = self._seconds.get(operation)
        if seconds is None:
            seconds = self._seconds[operation] = {}
        number = return_ns // _NS_PER_S
        second = seconds.get(number)
        if second is None:
            if len(seconds) >= _TAKEN_WITHIN:
                seconds[next(reversed(seconds))].compact()
            second = seconds[number] = _Second()
        second.outcomes[outcome] += 1
        if outcome == CANCELLED:
            intended_ns = return_ns
        else:
            second.add_one((return_ns - intended_ns) // _NS_PER_US, (return_ns - call_ns) // _NS_PER_US)
        self._cover(intended_ns, return_ns)

    def record_runs(
        self, operation: str, intended_ns: Ints, call_ns: Ints, return_ns: Ints, counts: Ints | None
    ) -> None:
        """Many operations that ended well: `counts[i]` of them (None: one) share the three times at `i`.

        Folded at once: the caller has gathered them for a while.
        """
        for _ in self.record_runs_in_parts(operation, intended_ns, call_ns, return_ns, counts):
            pass

    def record_runs_in_parts(
        self, operation: str, intended_ns: Ints, call_ns: Ints, return_ns: Ints, counts: Ints | None
    ) -> Iterator[None]:
        """The same in parts, between which the caller may do something else; recorded at the end, all at once."""
        found = yield from _seconds_of(intended_ns, call_ns, return_ns, counts)
        if not found:
            return
        seconds = self._seconds.setdefault(operation, {})
        for number, count, response, service in found:
            second = seconds.setdefault(number, _Second())
            second.outcomes[OK] += count
            second.response.append(response)
            second.service.append(service)
        self._cover(int(intended_ns.min()), int(return_ns.max()))

    def take(self) -> Delta:
        """Everything since the last ``take`` as plain data (msgpack-able); empty ``operations`` when nothing."""
        operations = {
            operation: {second: bucket.pack() for second, bucket in seconds.items()}
            for operation, seconds in self._seconds.items()
        }
        span, self._span = self._span, None
        self._seconds = {}
        return {"clock": read_clock(), "operations": operations, "span": span}

    def reset(self) -> None:
        self._seconds = {}
        self._span = None

    def _cover(self, first_ns: int, last_ns: int) -> None:
        """A sample was due at `first_ns` (the earliest of several), one ended at `last_ns` (the latest)."""
        if self._span is None or first_ns < self._span[0] or last_ns > self._span[1]:
            self._span = _joined(self._span, (first_ns, last_ns))


def warm_up() -> None:
    """Let numpy load what it loads when it is first used: some ten milliseconds, in which no reply would be read."""
    scratch = LatencyRecorder()
    now_ns = np.array([time.monotonic_ns()])
    scratch.record_runs("", now_ns, now_ns, now_ns, None)
    scratch.take()


#: A second, how many ended well in it, their response and service times.
_Found = list[tuple[int, int, Histogram, Histogram]]


def _seconds_of(
    intended_ns: Ints, call_ns: Ints, return_ns: Ints, counts: Ints | None
) -> Generator[None, None, _Found]:
    """Samples (each `counts` times, or once) by the seconds in which they ended; pauses between two histograms."""
    response_us = (return_ns - intended_ns) // _NS_PER_US
    service_us = (return_ns - call_ns) // _NS_PER_US
    at_second = return_ns // _NS_PER_S
    found: _Found = []
    for second in np.unique(at_second).tolist():
        yield
        chosen = at_second == second
        weights = None if counts is None else counts[chosen]
        number = int(chosen.sum()) if weights is None else int(weights.sum())
        response = Histogram.of(response_us[chosen], weights)
        yield
        found.append((second, number, response, Histogram.of(service_us[chosen], weights)))
    return found


class _Second:
    """One operation in one second: how many ended how, and their histograms, merged when asked for."""

    __slots__ = ("_one_by_one", "outcomes", "response", "service")

    def __init__(self) -> None:
        self.outcomes = [0, 0, 0, 0]
        self.response: list[Histogram] = []
        self.service: list[Histogram] = []
        self._one_by_one: tuple[GrowingHistogram, GrowingHistogram] | None = None

    def add_one(self, response_us: int, service_us: int) -> None:
        if self._one_by_one is None:
            self._one_by_one = GrowingHistogram(), GrowingHistogram()
        response, service = self._one_by_one
        response.add(response_us)
        service.add(service_us)

    def compact(self) -> None:
        if self._one_by_one is not None:
            response, service = self._one_by_one
            self.response.append(response.histogram())
            self.service.append(service.histogram())
            self._one_by_one = None
        self.response = [merge(self.response)]
        self.service = [merge(self.service)]

    def histogram(self, kind: str) -> Histogram:
        if len(self.response) != 1 or self._one_by_one is not None:
            self.compact()
        found: list[Histogram] = getattr(self, kind)
        return found[0]

    def pack(self) -> list[Any]:
        if self._one_by_one is not None and not self.response:
            response, service = self._one_by_one
            return [self.outcomes, response.pack(), service.pack()]
        self.compact()
        return [self.outcomes, self.response[0].pack(), self.service[0].pack()]

    def add(self, outcomes: list[int], response: Histogram, service: Histogram) -> None:
        for outcome in OUTCOMES:
            self.outcomes[outcome] += outcomes[outcome]
        self.response.append(response)
        self.service.append(service)
        if len(self.response) >= _MERGE_AT:
            self.compact()


@dataclass(frozen=True, slots=True)
class Summary:
    """What happened to one operation in a stretch of time; latencies in microseconds, rate per second."""

    operation: str
    count: int
    failed: int
    unknown: int
    cancelled: int
    rate: float
    min_us: float
    mean_us: float
    p50_us: float
    p90_us: float
    p95_us: float
    p99_us: float
    p999_us: float
    p9999_us: float
    max_us: float


class LatencyStore:
    """Histograms of a whole run, per operation and second, merged from any number of processes.

    `start_ns` and `end_ns`: when the load began and was told to end, as far as that is known (yet).
    """

    def __init__(self, clock: Reading | None = None, start_ns: int | None = None, end_ns: int | None = None) -> None:
        """All times will be of the monotonic clock that `clock` is a reading of; by default this machine's."""
        self._clock = clock or read_clock()
        self.start_ns, self.end_ns = start_ns, end_ns
        self._samples_ns: tuple[int, int] | None = None  # when the first was due, when the last ended
        self._newest_s: int | None = None
        self._blur_ns = 0  # how far seconds of other clocks lie beside ours
        self._seconds: dict[str, dict[int, _Second]] = defaultdict(dict)
        # The sum over all seconds, kept up to date: a live view asks for it every second.
        self._totals: dict[str, _Second] = defaultdict(_Second)

    @classmethod
    def load(
        cls,
        run: RunDirectory,
        on_damage: Callable[[Path], None] | None = None,
        pause: Callable[[], None] | None = None,
    ) -> "LatencyStore":
        """Add up all processes' files of a run; a file cut off in its last record is read up to there.

        The seconds are of the clock that the run itself was timed by, wherever and whenever it is read. A file that
        holds something else is told to `on_damage` and read no further. Errors: RunDirectoryError without it.
        `pause` is called after each delta.
        """
        load = _load_of_run(run)
        store = cls(_clock_of(load), _moment(load, "start_ns"), _moment(load, "end_ns"))
        for path in sorted(run.latency_dir.glob("*.msgpack")):
            try:
                for delta in read_deltas(path):
                    store.add(delta)
                    if pause is not None:
                        pause()
            except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
                if on_damage is None:
                    raise RunDirectoryError(f"{path} is damaged: it holds something that is no latencies") from error
                on_damage(path)
        return store

    def add(self, delta: Delta) -> None:
        """Add a recorder's delta. Errors: ValueError when it is not one."""
        exact_ns = shift_ns(delta["clock"], self._clock)
        shift_s = round(exact_ns / _NS_PER_S)
        self._blur_ns = max(self._blur_ns, abs(exact_ns - shift_s * _NS_PER_S))
        if span := delta.get("span"):
            first_ns, last_ns = span
            self._samples_ns = _joined(self._samples_ns, (first_ns + exact_ns, last_ns + exact_ns))
        for operation, seconds in delta["operations"].items():
            own = self._seconds[operation]
            for second, packed in seconds.items():
                at_s = int(second) + shift_s
                self._newest_s = max(self._newest_s or at_s, at_s)
                outcomes, response, service = packed
                found = outcomes, Histogram.unpack(response), Histogram.unpack(service)
                own.setdefault(at_s, _Second()).add(*found)
                self._totals[operation].add(*found)
                if not span:  # written before there were spans
                    self._samples_ns = _joined(self._samples_ns, (at_s * _NS_PER_S, (at_s + 1) * _NS_PER_S))

    def operations(self) -> list[str]:
        return sorted(self._seconds)

    def seconds(self, operation: str | None = None) -> list[int]:
        """The monotonic seconds in which something ended, of one operation or of all."""
        names = [operation] if operation is not None else self.operations()
        return sorted({second for name in names for second in self._seconds.get(name, {})})

    def newest_second(self) -> int | None:
        """The last one in which something ended."""
        return self._newest_s

    def span(self) -> Span:
        """From when to when the load ran; where nobody has told (yet), from its first sample, to its last one."""
        return Span.of((self.start_ns, self.end_ns), self._samples_ns, self._blur_ns)

    def histogram(
        self,
        operation: str | None = None,
        kind: str = RESPONSE,
        start_s: int | None = None,
        end_s: int | None = None,
    ) -> Histogram:
        """All values of one operation (or of all) in seconds ``start_s <= second < end_s``."""
        return merge([second.histogram(kind) for second in self._select(operation, start_s, end_s)])

    def outcomes(
        self, operation: str | None = None, start_s: int | None = None, end_s: int | None = None
    ) -> tuple[int, int, int, int]:
        """How many ended (ok, failed, unknown, cancelled)."""
        totals = [0, 0, 0, 0]
        for second in self._select(operation, start_s, end_s):
            for outcome in OUTCOMES:
                totals[outcome] += second.outcomes[outcome]
        return totals[0], totals[1], totals[2], totals[3]

    def summary(
        self,
        operation: str | None = None,
        kind: str = RESPONSE,
        start_s: int | None = None,
        end_s: int | None = None,
    ) -> Summary:
        """Counts, rate and percentiles of one operation (None: of all together) in a stretch of time.

        The rate is over the given stretch, or over all the time that the load ran when none is given.
        """
        histogram = self.histogram(operation, kind, start_s, end_s)
        ok, failed, unknown, cancelled = self.outcomes(operation, start_s, end_s)
        span = self.span()
        begin = span.begin_s if start_s is None else start_s
        end = span.end_s if end_s is None else end_s
        count = ok + failed + unknown
        p50, p90, p95, p99, p999, p9999 = histogram.percentiles_us((50, 90, 95, 99, 99.9, 99.99))
        return Summary(
            operation=operation or "all",
            count=count,
            failed=failed,
            unknown=unknown,
            cancelled=cancelled,
            rate=count / (end - begin) if end > begin else 0.0,
            min_us=float(histogram.min_us) if count else 0.0,
            mean_us=histogram.sum_us / count if count else 0.0,
            p50_us=p50,
            p90_us=p90,
            p95_us=p95,
            p99_us=p99,
            p999_us=p999,
            p9999_us=p9999,
            max_us=float(histogram.max_us),
        )

    def by_second(
        self, operation: str | None = None, kind: str = RESPONSE, start_s: int | None = None
    ) -> Iterator[tuple[int, Histogram, tuple[int, int, int, int]]]:
        """Each second in which something ended (from `start_s` on), in order: its histogram, and how many ended (ok,
        failed, unknown, cancelled). One pass over the run, where asking for each by itself would be one pass each."""
        names = [operation] if operation is not None else self.operations()
        for second in self.seconds(operation):
            if start_s is not None and second < start_s:
                continue
            buckets = [found for name in names if (found := self._seconds.get(name, {}).get(second)) is not None]
            outcomes = [sum(bucket.outcomes[outcome] for bucket in buckets) for outcome in OUTCOMES]
            histogram = merge([bucket.histogram(kind) for bucket in buckets])
            yield second, histogram, (outcomes[0], outcomes[1], outcomes[2], outcomes[3])

    def write_csv(self, path: Path) -> None:
        """One row per operation and kind of time, latencies in microseconds."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            for row, values in enumerate(self._rows()):
                if row == 0:
                    writer.writerow(values)
                writer.writerow(values.values())

    def write_json(self, path: Path) -> None:
        """The rows of `write_csv` as a list of objects."""
        path.write_text(json.dumps(list(self._rows()), indent=1) + "\n", encoding="utf-8")

    def _rows(self) -> Iterator[dict[str, Any]]:
        for operation in self.operations():
            for kind in (RESPONSE, SERVICE):
                values = asdict(self.summary(operation, kind))
                yield {"operation": values.pop("operation"), "time": kind, **values}

    def _select(self, operation: str | None, start_s: int | None, end_s: int | None) -> Iterator[_Second]:
        names: Iterable[str] = [operation] if operation is not None else list(self._seconds)
        for name in names:
            if start_s is None and end_s is None:
                if name in self._totals:
                    yield self._totals[name]
                continue
            seconds = self._seconds.get(name, {})
            if start_s is not None and end_s is not None and end_s - start_s < len(seconds):
                # A window of a long run: looked up, for there may be as many windows as seconds.
                yield from (seconds[second] for second in range(start_s, end_s) if second in seconds)
                continue
            for second, bucket in seconds.items():
                if (start_s is None or second >= start_s) and (end_s is None or second < end_s):
                    yield bucket


class LatencyLog:
    """Appends deltas to a process's file as they are taken: what was recorded survives the process."""

    def __init__(self, path: Path, process: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._process = process

    def append(self, delta: Delta) -> None:
        if delta["operations"]:
            view = memoryview(msgpack.packb(delta))
            while view:
                view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        os.close(self._fd)


def read_deltas(path: Path) -> Iterator[Delta]:
    """The deltas of one file; ends quietly at a record that was cut off."""
    with path.open("rb") as file:
        unpacker = msgpack.Unpacker(file, strict_map_key=False, max_buffer_size=1 << 26)
        try:
            yield from unpacker
        except (msgpack.UnpackException, ValueError):
            return


def clock_of_run(run: RunDirectory) -> Reading | None:
    """The clock that the run was timed by, as it was read at its start; None when the run does not say."""
    return _clock_of(_load_of_run(run))


def _load_of_run(run: RunDirectory) -> dict[str, Any]:
    """What run.json says about the load, {} when nothing."""
    try:
        facts = run.read_json(RUN_JSON)
    except RunDirectoryError:
        return {}
    load = facts.get("load") if isinstance(facts, dict) else None
    return load if isinstance(load, dict) else {}


def _clock_of(load: dict[str, Any]) -> Reading | None:
    clock = load.get("clock")
    if isinstance(clock, list) and len(clock) == 2 and all(type(part) is int for part in clock):
        return clock
    return None


def _moment(load: dict[str, Any], name: str) -> int | None:
    moment = load.get(name)
    return moment if type(moment) is int else None


def _joined(one: tuple[int, int] | None, other: tuple[int, int]) -> tuple[int, int]:
    """From the earlier begin to the later end."""
    return other if one is None else (min(one[0], other[0]), max(one[1], other[1]))
