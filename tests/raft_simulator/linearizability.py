"""An exhaustive linearizability checker for small histories of one key (Wing and Gong 1993, with Lowe's memo).

It shares no code and no idea with the judge of the product: it tries every order that real time allows, and
remembers which (set of operations done, value) it has been in. An operation that never returned may have taken
effect at any time after its call, or not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

PUT, GET, APPEND, CAS = "put", "get", "append", "cas"


@dataclass(slots=True)
class Op:
    client: int
    kind: str
    key: str
    value: str | None
    expect: str | None
    call_us: int
    return_us: int | None = None  # None: unknown outcome
    ok: bool | None = None  # cas: whether it swapped
    seen: str | None = None  # get: the value read; a failed cas: the value that was there

    def __str__(self) -> str:
        asked = {PUT: f"put {self.value}", GET: "get", APPEND: f"append {self.value}"}.get(
            self.kind, f"cas {self.expect} -> {self.value}"
        )
        if self.return_us is None:
            return f"{self.call_us / 1e6:9.6f} ..           c{self.client} {self.key}: {asked}: unknown"
        answer = {GET: repr(self.seen), CAS: f"{self.ok} (saw {self.seen!r})"}.get(self.kind, "ok")
        return f"{self.call_us / 1e6:9.6f} .. {self.return_us / 1e6:9.6f} c{self.client} {self.key}: {asked}: {answer}"


def after(op: Op, state: str | None) -> tuple[bool, str | None]:
    """Whether ``op`` could have returned what it did in ``state``, and the state after it."""
    if op.kind == PUT:
        return True, op.value
    if op.kind == APPEND:
        assert op.value is not None
        return True, (state or "") + op.value
    known = op.return_us is not None
    if op.kind == GET:
        return not known or op.seen == state, state
    swaps = state == op.expect
    if known and (swaps != op.ok or (not swaps and op.seen != state)):
        return False, state
    return True, op.value if swaps else state


def linearizable(history: Sequence[Op], initial: str | None = None) -> bool:
    """Whether the operations of one key can be put into one order that explains all of their answers."""
    ops = sorted((op for op in history if op.return_us is not None or _visible(op, history)), key=lambda op: op.call_us)
    required = sum(1 << i for i, op in enumerate(ops) if op.return_us is not None)
    never = 1 << 62
    returns = [never if op.return_us is None else op.return_us for op in ops]
    seen: set[tuple[int, str | None]] = set()
    stack: list[tuple[int, str | None]] = [(0, initial)]
    while stack:
        done, state = stack.pop()
        if done & required == required:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        # Next may be any operation that was called before every other open one had returned.
        earliest_return = never
        candidates: list[tuple[tuple[int, int], int, str | None]] = []
        for i, op in enumerate(ops):
            bit = 1 << i
            if done & bit:
                continue
            if op.call_us > earliest_return:
                break
            possible, next_state = after(op, state)
            if possible:
                candidates.append(((returns[i], i), done | bit, next_state))
            earliest_return = min(earliest_return, returns[i])
        # The one that returned first is tried first, those that never returned last: mostly that is the order.
        candidates.sort(key=lambda candidate: candidate[0], reverse=True)
        stack.extend(candidate[1:] for candidate in candidates)
    return False


def _visible(op: Op, history: Sequence[Op]) -> bool:
    """Whether an operation without an answer matters: its value is unique, and somebody saw or expected it.

    If nobody did, any order that contains it is still one without it.
    """
    value = op.value
    return value is not None and any(value in (other.seen or "") or value in (other.expect or "") for other in history)
