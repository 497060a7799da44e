"""The general search: Wing & Gong's algorithm with Lowe's memory of states already tried, one key at a time.

It decides any history, at a price that grows exponentially with the operations that overlap. It serves the keys
that the zone algorithm cannot take (values written twice, deletes without a name), within a limit of time and
memory; beyond either its answer is UNKNOWN.

Splitting a history by key first (P-compositionality) is the caller's work. Two things keep the search narrow:
a read that fits the present state is taken at once (it changes nothing, so taking it first can never hurt), and
unanswered operations are tried last.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from swarmproof.judge.history import APPEND, CAS, DELETE, FAILED_CAS, GET, NEVER, PUT, Value, joined

LINEARIZABLE = "linearizable"
NOT_LINEARIZABLE = "not linearizable"
UNKNOWN = "unknown"

#: Seconds for one key: long enough for any key of a sensible workload, short enough to wait for.
DEFAULT_TIME_S = 5.0
#: Memory for the states remembered for one key.
DEFAULT_MEMORY_BYTES = 256 << 20
#: One remembered state: a tuple, a number with one bit per operation, and its place in the set.
_STATE_BYTES = 400

#: Steps between two looks at the clock.
_STEPS_PER_LOOK = 64


class Step(NamedTuple):
    """One operation of one key. ``before``: the value read or demanded; ``label``: names the tombstone, or None.

    ``required``: it was answered, so it must be in the order; others may be left out.
    """

    row: int
    kind: int
    call: int
    ret: int
    value: Value
    before: Value
    label: int | None
    required: bool


class State(NamedTuple):
    """A key's value, the label of the tombstone when absent (None: never written), and the labels given out."""

    value: Value
    tomb: int | None
    used: frozenset[int]


@dataclass(slots=True)
class SearchResult:
    """``stuck``: for NOT_LINEARIZABLE, rows around the deepest point that any order reached."""

    answer: str
    reason: str = ""
    stuck: tuple[int, ...] = ()
    states: int = 0


@dataclass(slots=True)
class _Frame:
    """One point of the depth-first search: what has been placed, the state there, what is still to try."""

    done: int
    state: State
    choices: Iterator[tuple[int, State]]
    first_open: int


def search(
    steps: list[Step],
    *,
    time_s: float = DEFAULT_TIME_S,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    clock: Callable[[], float] = time.monotonic,
) -> SearchResult:
    """Is there an order of all required steps (and some of the others) that explains every reply?"""
    max_states = max(1, memory_bytes // (_STATE_BYTES + len(steps) // 8))
    return _Searcher(steps).run(clock() + time_s, max_states, clock)


def named_labels(steps: Sequence[Step]) -> tuple[frozenset[int], tuple[int, ...]]:
    """The labels of tombstones that a reader of "absent" can be held to, and those of them that no answered delete
    has: a nameless delete may turn out to carry one. More of these than such deletes: they mean nothing."""
    written = {step.label for step in steps if step.kind == DELETE and step.label is not None}
    named = {step.label for step in steps if step.kind != DELETE and step.label is not None}
    nameless = sum(step.kind == DELETE and step.label is None for step in steps)
    strangers = named - written
    free = tuple(sorted(strangers)) if len(strangers) <= nameless else ()
    return frozenset(written) | frozenset(free), free


class _Searcher:
    def __init__(self, steps: list[Step]) -> None:
        # Required ones first among equals: an unanswered operation is tried when nothing else leads on.
        self.steps = sorted(steps, key=lambda step: (step.call, not step.required))
        self.returns = sorted(
            (number for number, step in enumerate(self.steps) if step.required),
            key=lambda number: self.steps[number].ret,
        )
        self.required = sum(1 << number for number in self.returns)
        self.known, self.free = named_labels(self.steps)
        self.deepest = 0
        self.deepest_done = 0

    def run(self, deadline: float, max_states: int, clock: Callable[[], float]) -> SearchResult:
        start = State(None, None, frozenset())
        seen: set[tuple[int, State]] = set()
        first = self.enter(0, start, 0)
        if first is None:
            return SearchResult(LINEARIZABLE)
        stack = [first]
        seen.add((first.done, first.state))
        steps_taken = 0
        while stack:
            steps_taken += 1
            if steps_taken % _STEPS_PER_LOOK == 0 and clock() > deadline:
                return SearchResult(UNKNOWN, "the search ran out of time", states=len(seen))
            frame = stack[-1]
            choice = next(frame.choices, None)
            if choice is None:
                stack.pop()
                continue
            number, state = choice
            below = self.enter(frame.done | (1 << number), state, frame.first_open)
            if below is None:
                return SearchResult(LINEARIZABLE, states=len(seen))
            mark = (below.done, below.state)
            if mark in seen:
                continue
            if len(seen) >= max_states:
                return SearchResult(UNKNOWN, "the search ran out of memory", states=len(seen))
            seen.add(mark)
            stack.append(below)
        return SearchResult(NOT_LINEARIZABLE, stuck=self.stuck(), states=len(seen))

    def enter(self, done: int, state: State, first_open: int) -> _Frame | None:
        """Take every read that fits, then list the choices. None when all that is required has been placed."""
        while True:
            while first_open < len(self.returns) and done >> self.returns[first_open] & 1:
                first_open += 1
            if first_open == len(self.returns):
                return None
            horizon = self.steps[self.returns[first_open]].ret
            progress = False
            choices: list[tuple[int, State]] = []
            for number in self.candidates(done, horizon):
                step = self.steps[number]
                if step.kind in (GET, FAILED_CAS):
                    if self.fits(step, state):
                        done |= 1 << number
                        progress = True
                else:
                    choices.extend((number, after) for after in self.after(step, state))
            if not progress:
                break
        reached = (done & self.required).bit_count()
        if reached >= self.deepest:
            self.deepest, self.deepest_done = reached, done
        choices.sort(key=lambda choice: not self.steps[choice[0]].required)
        return _Frame(done, state, iter(choices), first_open)

    def candidates(self, done: int, horizon: int) -> Iterator[int]:
        """Steps not placed yet that began before every open required step returned."""
        open_bits = ~done & ((1 << len(self.steps)) - 1)
        while open_bits:
            lowest = open_bits & -open_bits
            number = lowest.bit_length() - 1
            if self.steps[number].call > horizon:
                return
            yield number
            open_bits ^= lowest

    def fits(self, step: Step, state: State) -> bool:
        if step.before != state.value:
            return False
        return state.value is not None or step.label not in self.known or step.label == state.tomb

    def after(self, step: Step, state: State) -> list[State]:
        """The states that a write can lead to; none when it cannot take effect here."""
        if step.kind == PUT:
            return [State(step.value, None, state.used)]
        if step.kind == CAS:
            return [State(step.value, None, state.used)] if step.before == state.value else []
        if step.kind == APPEND:
            if state.value is None:
                return [State(step.value, None, state.used)]
            if step.value is None:
                return []
            return [State(joined(state.value, step.value), None, state.used)]
        if step.label is not None:
            if step.label in state.used:  # the same tombstone again: it must still stand
                return [state] if state.value is None and state.tomb == step.label else []
            return [State(None, step.label, state.used | {step.label})]
        return [State(None, label, state.used | {label}) for label in self.free if label not in state.used] + [
            State(None, -1, state.used)
        ]

    def stuck(self) -> tuple[int, ...]:
        """The open required steps that return first where the longest order ended, and the last write before."""
        open_steps = [number for number in self.returns if not self.deepest_done >> number & 1]
        rows = [self.steps[number].row for number in open_steps[:3]]
        placed = [
            step
            for number, step in enumerate(self.steps)
            if self.deepest_done >> number & 1 and step.kind not in (GET, FAILED_CAS) and step.ret != NEVER
        ]
        if placed:
            rows.append(max(placed, key=lambda step: step.ret).row)
        return tuple(rows)
