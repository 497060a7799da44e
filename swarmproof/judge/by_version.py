"""The order that the server itself tells: where replies name versions, try exactly that order before any search.

A store that numbers its writes tells with each reply where in its order the operation stood. That is no proof: a
server that lies may number its lies. But an order is easily checked. If putting every operation at its version
explains every reply, each within its interval, the history is linearizable, whoever proposed the order. If not,
nothing is known, and the general search has the word.

With it a key with any number of deletes of unknown outcome is decided in O(n log n). What replies do not place:

* An unanswered put or cas stands where its value was first read, else just before the cas that demanded its value.
* An unanswered delete stands where it is needed: before a reader or a cas that found the key absent. Such deletes
  differ only in when they were called, and a place further on never closes earlier: the first to be called takes
  the first place. If that fails, every other assignment does.

Keys with appends are not handled here; their values alone tell the order.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from swarmproof.judge.history import APPEND, CAS, DELETE, FAILED_CAS, GET, NEVER, Value
from swarmproof.judge.search import Step, named_labels


class _Gap(NamedTuple):
    """Where a delete that nobody answered must have taken effect. `label`: the version that its readers name."""

    label: int | None


_Place = tuple[int, int]
_Placed = tuple[_Place, int, Step | _Gap]


def explained_by_versions(steps: Sequence[Step], versions: Mapping[int, int]) -> bool:
    """Whether the order of `versions` (row -> the version that its reply named) explains all `steps` of one key.

    False says nothing: the replies name too few versions, or some order other than theirs may do.
    """
    if any(step.kind == APPEND for step in steps):
        return False
    order = _in_order(steps, versions)
    if order is None:
        return False
    filled = _fill_gaps(order, [step for step in steps if step.kind == DELETE and not step.required])
    return filled is not None and _holds(filled, steps)


def _in_order(steps: Sequence[Step], versions: Mapping[int, int]) -> list[Step | _Gap] | None:
    """The required steps by version, with the unanswered writes that they need, and gaps for deletes.

    None when some reply cannot be placed.
    """
    version_of: dict[Value, int] = {}
    writers: dict[Value, Step] = {}
    for step in steps:
        version = versions.get(step.row)
        value = step.before if step.kind in (GET, FAILED_CAS) else step.value
        if version is not None and value is not None and step.required:
            version_of[value] = version
        if step.kind not in (GET, FAILED_CAS, DELETE):
            if step.value in writers:
                return None  # a value written twice has no one version
            writers[step.value] = step
    placed: list[_Placed] = []
    for step in steps:
        is_read = step.kind in (GET, FAILED_CAS)
        version = versions.get(step.row) if step.required else version_of.get(step.value) if step.value else None
        if version is None and is_read:
            version = 0 if step.before is None else version_of.get(step.before)
        if version is not None:
            placed.append(((version, 1 if is_read else 0), step.call, step))
        elif step.required:
            return None
    _place_what_others_demand(placed, writers, version_of)
    deleted = {versions.get(step.row) for step in steps if step.kind == DELETE and step.required}
    absent = (versions.get(step.row) for step in steps if step.kind in (GET, FAILED_CAS) and step.before is None)
    strangers = {version for version in absent if version is not None and version not in deleted}
    placed += [((version, 0), 0, _Gap(version)) for version in strangers]
    placed.sort(key=lambda entry: entry[:2])
    return [entry[2] for entry in placed]


def _place_what_others_demand(
    placed: list[_Placed], writers: Mapping[Value, Step], version_of: Mapping[Value, int]
) -> None:
    """Unanswered writes that nobody read, but a cas followed from: each directly before its follower."""
    done = set(version_of)
    number = 0
    while number < len(placed):
        (version, rank), _, step = placed[number]
        number += 1
        if isinstance(step, _Gap) or step.kind != CAS or step.before is None or step.before in done:
            continue
        writer = writers.get(step.before)
        if writer is None or writer.required:
            continue
        done.add(step.before)
        placed.append(((version, rank - 1), writer.call, writer))


def _fill_gaps(order: list[Step | _Gap], spare: list[Step]) -> list[tuple[Step, int | None]] | None:
    """The order with a spare delete in each gap, and before each cas that demands an absent key which is not.

    Gives (step, label of the tombstone that it makes). None when there are too few, or they were called too late.
    """
    filled: list[tuple[Step | None, int | None]] = []
    value: Value = None
    for entry in order:
        if isinstance(entry, _Gap):
            filled.append((None, entry.label))
            value = None
            continue
        if entry.kind == CAS and entry.before is None and value is not None:
            filled.append((None, None))
        if entry.kind not in (GET, FAILED_CAS):
            value = entry.value  # None after a delete
        filled.append((entry, entry.label))
    spare = sorted(spare, key=lambda step: -step.call)
    open_until = NEVER
    deadlines: list[int] = []
    for step, _ in reversed(filled):
        if step is None:
            deadlines.append(open_until)
        else:
            open_until = min(open_until, step.ret)
    if len(deadlines) > len(spare):
        return None
    result: list[tuple[Step, int | None]] = []
    for step, label in filled:
        if step is not None:
            result.append((step, label))
            continue
        delete = spare.pop()
        if delete.call > deadlines.pop():
            return None
        result.append((delete, label))
    return result


def _holds(order: Sequence[tuple[Step, int | None]], steps: Sequence[Step]) -> bool:
    """Whether this order is one of all required steps, within their intervals, in which every reply is right."""
    known, _ = named_labels(steps)
    required = {step.row for step in steps if step.required}
    if not required <= {step.row for step, _ in order}:
        return False
    value: Value = None
    tomb: int | None = None
    used: set[int] = set()
    latest_call = order[0][0].call if order else 0
    for step, label in order:
        latest_call = max(latest_call, step.call)
        if step.ret < latest_call:
            return False
        if step.kind in (GET, FAILED_CAS):
            if step.before != value or (value is None and step.label in known and step.label != tomb):
                return False
        elif step.kind == DELETE:
            if label is not None and label in used:  # the same tombstone again: it must still stand
                if value is not None or tomb != label:
                    return False
                continue
            value, tomb = None, label if label is not None else -1
            used.add(tomb)
        else:
            if step.kind == CAS and step.before != value:
                return False
            value, tomb = step.value, None
    return True
