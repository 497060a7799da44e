"""Open load: when each request of a run is due, however slow the server is. The core: no clock, no gevent, no Locust.

    stages (records.rates) -> Schedule: arrivals on an absolute timeline, the same in every process
                              Arrivals: those that are this process's share, in order, each handed out once

The timeline is cut into *slots* of equally many expected arrivals; a slot is made from its number and the seed alone,
so any process can start anywhere (a worker that joins after an hour does not replay the hour). Of the arrivals in a
slot a process takes those whose number, modulo the count of processes, is its own index: together the shares are the
schedule, none twice, whatever the count. A new sharing begins at a moment of the timeline that all have been told of
in advance, and changes nothing in the schedule itself.

An arrival keeps its due time as the *intended* time of its request (as wrk2). One that could not be handed out within
`max_lateness` is dropped and counted (as k6).

**For whoever issues requests** (`users.open_load` has the clock and gives these to lanes and to the engine):

    load = open_load.of(environment)       None: the load is closed
    load.take(limit) -> [due_ns, ...]      arrivals that are due now, oldest first; [] when none is, or others wait
    turn = load.when_due(go)               go(due_ns) is called from the event loop, once, when one is due
    load.withdraw(turn)                    the one who waited was stopped; the arrival goes to the next in line

Ask with `take`, and if it gave fewer than there are free places, queue one `when_due` for each place that is left.
Whoever was given an arrival sends at once, with intended_ns = due_ns.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from records.rates import Stage

#: Expected arrivals in a slot: some microseconds of numpy for each, and the work to start in the middle of one.
SLOT: Final = 1024

CONSTANT: Final = "constant"
POISSON: Final = "poisson"
KINDS: Final = (CONSTANT, POISSON)

_NS_PER_S: Final = 1_000_000_000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Timeline:
    """How many arrivals are expected up to a time, and at which time so many are. Seconds from the start."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        rows, start_s, total = [], 0.0, 0.0
        for stage in stages:
            duration_s = np.inf if stage.duration_s is None else stage.duration_s
            rows.append((start_s, total, stage.first_per_s, stage.last_per_s, duration_s))
            start_s += duration_s
            if stage.duration_s is not None:
                total += (stage.first_per_s + stage.last_per_s) / 2 * stage.duration_s
        last_per_s = stages[-1].last_per_s
        if stages[-1].duration_s is not None:
            rows.append((start_s, total, last_per_s, last_per_s, np.inf))  # what the last stage came to goes on
        columns = np.array(rows, dtype=np.float64).T
        self._start_s, self._before, self._first, last, duration = columns
        self._slope = (last - self._first) / duration
        self._ends = np.append(self._before[1:], np.inf)
        #: Expected arrivals of the whole schedule; infinite unless it ends at 0.
        self.total: float = float("inf") if last_per_s else total

    def times_s(self, positions: Floats) -> Floats:
        """When the expected number reaches each of these; infinite for those beyond the end."""
        row = np.searchsorted(self._ends, positions, side="right")
        row = np.minimum(row, len(self._ends) - 1)
        beyond = positions - self._before[row]
        first = self._first[row]
        # The root of slope/2 t^2 + first t = beyond, in the form that does not cancel; flat stages are its limit.
        root = np.sqrt(np.maximum(first * first + 2 * self._slope[row] * beyond, 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            within = np.where(beyond > 0, 2 * beyond / (first + root), 0.0)
        times: Floats = self._start_s[row] + within
        return np.where(positions < self.total, times, np.inf)

    def position(self, time_s: float) -> float:
        """The expected number of arrivals before this time."""
        if time_s <= 0:
            return 0.0
        row = int(np.searchsorted(self._start_s, time_s, side="right")) - 1
        since = time_s - float(self._start_s[row])
        return float(self._before[row] + self._first[row] * since + self._slope[row] * since * since / 2)


class Schedule:
    """All arrivals of a run, by slot: offsets from the start in ns, ascending. The same for equal arguments."""

    def __init__(self, stages: Sequence[Stage], kind: str = CONSTANT, seed: int = 0) -> None:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not a kind of arrivals; there are {', '.join(KINDS)}")
        self._timeline = Timeline(stages)
        self._kind = kind
        self._seed = seed

    @property
    def is_endless(self) -> bool:
        return self._timeline.total == float("inf")

    def due_before(self, offset_ns: int) -> int:
        """How many arrivals the schedule has before this time."""
        number = int(self._timeline.position(offset_ns / _NS_PER_S)) // SLOT
        is_constant = self._kind == CONSTANT
        count = sum(SLOT if is_constant else self._drawn(slot)[1] for slot in range(number))
        current = self.slot(number)
        return count if current is None else count + int(np.searchsorted(current, offset_ns))

    def _drawn(self, number: int) -> tuple[np.random.Generator, int]:
        """Of a slot of Poisson arrivals: its source of chance, and how many there are."""
        random = np.random.default_rng((self._seed, number))
        return random, int(random.poisson(SLOT))

    def slot(self, number: int) -> Ints | None:
        """The arrivals of one slot, or None when the schedule is over before it."""
        first = number * SLOT
        if first >= self._timeline.total:
            return None
        if self._kind == CONSTANT:
            positions = np.arange(first, first + SLOT, dtype=np.float64)
        else:
            # A Poisson process over an interval: so many points as a Poisson number says, each anywhere in it.
            random, count = self._drawn(number)
            positions = first + np.sort(random.random(count)) * SLOT
        times_s = self._timeline.times_s(positions)
        return np.rint(times_s[np.isfinite(times_s)] * _NS_PER_S).astype(np.int64)

    def slot_at(self, offset_ns: int) -> int:
        """A slot that begins at or before this time, and as near as rounding lets one say."""
        return max(0, int(self._timeline.position(offset_ns / _NS_PER_S)) // SLOT - 1)


@dataclass(frozen=True, slots=True)
class Share:
    """From `from_ns` (offset) on, this process is number `index` of `count`; `index` -1: it has no part."""

    from_ns: int
    index: int
    count: int


class Arrivals:
    """One process's share of a schedule. All times are absolute, `origin_ns` is the schedule's zero."""

    def __init__(self, schedule: Schedule, max_lateness_ns: int) -> None:
        self.issued = 0
        self.dropped = 0
        self.unissued = 0  # due, but the run was stopped before they were late enough to be dropped
        self._schedule = schedule
        self._max_lateness_ns = max_lateness_ns
        self._origin_ns = 0
        self._shares: list[Share] = []
        self._slot = 0
        self._slot_end_ns = 0
        self._done = -1
        self._numbers: list[int] = []  # within the slot, of this process's arrivals
        self._dues: list[int] = []
        self._place = 0
        self._is_over = False

    def start(self, origin_ns: int) -> None:
        """Set the schedule's zero. Nothing is due before there is a share."""
        self._origin_ns = origin_ns

    def share(self, share: Share) -> None:
        """A new sharing. It should begin in the future: arrivals handed out already stay handed out."""
        has_skipped = not self._shares or self._has_no_more()
        self._shares = [earlier for earlier in self._shares if earlier.from_ns < share.from_ns] + [share]
        if self._is_over:
            return
        slot = self._slot
        if has_skipped:  # it has had no part for a while, and need not look through what was others' meanwhile
            slot = max(slot, self._schedule.slot_at(share.from_ns))
        done = self._numbers[self._place - 1] if self._place else self._done
        self._enter(slot, done if slot == self._slot else -1)

    def _has_no_more(self) -> bool:
        """Whether this process has no part in anything after the current slot."""
        last = self._shares[-1]
        return self._place >= len(self._dues) and last.index < 0 and last.from_ns <= self._slot_end_ns

    def next_due_ns(self) -> int | None:
        """When the next arrival of this process is due; None when there is none (yet)."""
        while self._place >= len(self._dues):
            if self._is_over or not self._shares or self._has_no_more():
                return None
            self._enter(self._slot + 1)
        return self._dues[self._place]

    def take(self, now_ns: int, limit: int) -> list[int]:
        """The due times of at most `limit` arrivals that are due; those that are too late are dropped on the way."""
        taken: list[int] = []
        self.expire(now_ns)
        while len(taken) < limit:
            due_ns = self.next_due_ns()
            if due_ns is None or due_ns > now_ns:
                break
            end = bisect_left(self._dues, now_ns + 1, self._place, min(len(self._dues), self._place + limit))
            end = min(end, self._place + limit - len(taken))
            taken += self._dues[self._place : end]
            self._place = end
        self.issued += len(taken)
        return taken

    def expire(self, now_ns: int) -> None:
        """Drop what is too late by now."""
        self.dropped += self._pass(now_ns - self._max_lateness_ns)

    def close(self, now_ns: int) -> None:
        """The run is being stopped: nothing more is handed out; what was due by now is counted."""
        self.expire(now_ns)
        self.unissued += self._pass(now_ns)
        self._is_over = True
        self._numbers, self._dues, self._place = [], [], 0

    def give_back(self, count: int = 1) -> None:
        """Arrivals that were handed out, but whose receiver was stopped before it could send."""
        self.issued -= count
        self.unissued += count

    def _pass(self, before_ns: int) -> int:
        """Go past everything that was due before this time; how many."""
        passed = 0
        while (due_ns := self.next_due_ns()) is not None and due_ns < before_ns:
            end = bisect_left(self._dues, before_ns, self._place)
            passed += end - self._place
            self._place = end
        return passed

    def _enter(self, slot: int, done: int = -1) -> None:
        """Make `slot` the current one, of whose arrivals those up to number `done` have been dealt with."""
        self._slot = slot
        self._done = done
        self._place = 0
        offsets = self._schedule.slot(slot)
        if offsets is None:
            self._is_over = True
            self._numbers, self._dues = [], []
            return
        if len(offsets):
            self._slot_end_ns = int(offsets[-1])
        # Slots hold different numbers of arrivals: counting goes on from the slot's number, so that the process
        # that is first in one is not first in all.
        labels = np.arange(len(offsets)) + slot * SLOT
        mine = np.zeros(len(offsets), dtype=bool)
        bounds = [share.from_ns for share in self._shares[1:]] + [None]
        for share, end_ns in zip(self._shares, bounds, strict=True):
            begin = np.searchsorted(offsets, share.from_ns)
            end = len(offsets) if end_ns is None else np.searchsorted(offsets, end_ns)
            mine[begin:end] = labels[begin:end] % share.count == share.index if share.index >= 0 else False
        mine[: done + 1] = False
        numbers = np.flatnonzero(mine)
        self._numbers = numbers.tolist()
        self._dues = (offsets[numbers] + self._origin_ns).tolist()
