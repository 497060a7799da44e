"""The zone algorithm: is there an order of the operations that explains every reply? In O(n log n), over all keys.

Gibbons & Korach, *Testing Shared Memories* (SIAM J. Comput. 1997); Golab, Li & Shah (PODC 2011). Because every
written value is unique, each read names its write, and operations fall into *groups*: one write that stands by
itself (or the initial value, written at minus infinity) with every operation that follows from it. A group is
laid out in *slots*: ``[w0][reads of v0][cas1][reads of v1]...``. Intervals are closed: a precedes b iff
``a.return < b.call``.

1. Within a group, each slot's smallest return must be >= the largest call over all earlier slots.
2. Per group f = smallest return, s = largest call. f < s makes a forward zone (f, s): the group cannot be
   squeezed into a point, and its value must hold during the whole zone. Otherwise [s, f] is a backward zone:
   the group fits at any one point in it.
3. The key is not linearizable iff two forward zones overlap or a backward zone lies strictly inside a forward one.

Input and output are plain arrays; no history, no I/O.
"""

from dataclasses import dataclass

import numpy as np

from swarmproof.judge.history import Bools, Ints

ORDER = "order"
ZONES = "zones"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why a key is not linearizable: at most four rows, each of them on a precedence cycle.

    ``ORDER``: (late, early): row ``late`` must come after row ``early`` in its group but returned before it began.
    ``ZONES``: (return_a, call_a, return_b, call_b): the rows that set f and s of two groups.
    """

    key: int
    rule: str
    rows: tuple[int, ...]


def find_conflicts(*, key: Ints, group: Ints, slot: Ints, call: Ints, ret: Ints, initial: Bools) -> list[Conflict]:
    """At most one conflict per key. All arrays have one entry per operation; rows are indices into them.

    ``initial`` marks operations of a group that follows from the initial value. A key without a conflict is
    linearizable: this decides, it does not approximate.
    """
    if not len(key):
        return []
    # Dense ranks of all times: equal times stay equal, and group * span + rank fits 64 bits.
    times = np.concatenate((call, ret))
    distinct, ranks = np.unique(times, return_inverse=True)
    call_rank = ranks[: len(call)].astype(np.int64)
    ret_rank = ranks[len(call) :].astype(np.int64)
    span = len(distinct) + 2

    _, dense_group = np.unique(group, return_inverse=True)
    order = np.lexsort((slot, dense_group))
    grouped = dense_group[order].astype(np.int64)
    new_group = np.concatenate(([True], grouped[1:] != grouped[:-1]))
    new_slot = new_group | np.concatenate(([True], slot[order][1:] != slot[order][:-1]))
    slot_starts = np.flatnonzero(new_slot)
    group_starts = np.flatnonzero(new_group)

    conflicts = _slot_conflicts(
        key=key,
        order=order,
        starts=slot_starts,
        grouped=grouped,
        call_rank=call_rank,
        ret_rank=ret_rank,
        span=span,
    )
    broken = np.zeros(int(key.max()) + 1, np.bool_)
    broken[[conflict.key for conflict in conflicts]] = True

    zone_key = key[order][group_starts]
    smallest_ret = np.minimum.reduceat(ret_rank[order], group_starts)
    # The initial value was written before everything.
    smallest_ret = np.where(initial[order][group_starts], -1, smallest_ret)
    largest_call = np.maximum.reduceat(call_rank[order], group_starts)
    ends = np.append(group_starts[1:], len(order))
    for first, second in _zone_pairs(zone_key, smallest_ret, largest_call, span):
        number = int(zone_key[first])
        if broken[number]:
            continue
        broken[number] = True
        rows: list[int] = []
        for zone in (first, second):
            members = order[group_starts[zone] : ends[zone]]
            if smallest_ret[zone] >= 0:
                rows.append(int(members[np.argmin(ret_rank[members])]))
            else:
                rows.append(-1)
            rows.append(int(members[np.argmax(call_rank[members])]))
        conflicts.append(Conflict(number, ZONES, tuple(rows)))
    return conflicts


def _slot_conflicts(
    *, key: Ints, order: Ints, starts: Ints, grouped: Ints, call_rank: Ints, ret_rank: Ints, span: int
) -> list[Conflict]:
    """Rule 1: the first broken slot of each key."""
    slot_group = grouped[starts]
    slot_ret = np.minimum.reduceat(ret_rank[order], starts)
    slot_call = np.maximum.reduceat(call_rank[order], starts)
    # One running maximum serves all groups: each group's values lie above all of the group before.
    running = np.maximum.accumulate(slot_group * span + slot_call) - slot_group * span
    same_group = slot_group[1:] == slot_group[:-1]
    bad = np.flatnonzero(same_group & (slot_ret[1:] < running[:-1])) + 1
    conflicts: dict[int, Conflict] = {}
    ends = np.append(starts[1:], len(order))
    for position in bad.tolist():
        number = int(key[order[starts[position]]])
        if number in conflicts:
            continue
        members = order[starts[position] : ends[position]]
        late = int(members[np.argmin(ret_rank[members])])
        group_start = int(np.searchsorted(grouped, slot_group[position]))
        earlier = order[group_start : starts[position]]
        early = int(earlier[np.argmax(call_rank[earlier])])
        conflicts[number] = Conflict(number, ORDER, (late, early))
    return list(conflicts.values())


def _zone_pairs(key: Ints, low: Ints, high: Ints, span: int) -> list[tuple[int, int]]:
    """Rule 3: pairs (forward zone, conflicting zone), in order of key and time. ``low`` = f, ``high`` = s."""
    forward = np.flatnonzero(low < high)
    forward = forward[np.lexsort((low[forward], key[forward]))]
    if not len(forward):
        return []
    overlap = (key[forward][1:] == key[forward][:-1]) & (high[forward][:-1] > low[forward][1:])
    pairs = [(int(forward[at]), int(forward[at + 1])) for at in np.flatnonzero(overlap)]

    # The only forward zone that can hold a backward zone [s, f] is the last one that starts before s:
    # forward zones that do not overlap end before the next begins.
    backward = np.flatnonzero(low >= high)
    starts = key[forward] * span + low[forward] + 1
    place = np.searchsorted(starts, key[backward] * span + high[backward] + 1, side="left") - 1
    candidate = forward[np.maximum(place, 0)]
    inside = (place >= 0) & (key[candidate] == key[backward]) & (low[backward] < high[candidate])
    pairs += [(int(candidate[at]), int(backward[at])) for at in np.flatnonzero(inside)]
    return pairs
