"""Which write did each read see, and which version did each write follow from?

The answer is a forest of versions (*nodes*): roots are puts, deletes and the initial value; a successful cas
hangs below the version that it demanded, an append below the version whose list it extended. From it follow the
groups and slots of the zone algorithm, and the faults that need no clock at all:

* a read of a value that nobody wrote (phantom), or that only a refused write carried (aborted read),
* two successful writes that both followed from the same version (split brain),
* a version that follows from itself (cas cycle), an append token that occurs twice.

Live writes are the acknowledged ones and those whose version somebody saw, closed backwards through the versions
they followed from. Other unanswered writes may never have happened, and nothing depends on them: they are dropped.
"""

from dataclasses import dataclass, field

import numpy as np

from swarmproof.judge import appends, tombstones
from swarmproof.judge.history import (
    APPEND,
    CAS,
    DELETE,
    NONE,
    STATUS_FAIL,
    STATUS_OK,
    Bools,
    History,
    Ints,
    Value,
)

PHANTOM = "phantom read"
ABORTED = "aborted read"
SPLIT_BRAIN = "split brain"
CYCLE = "cas cycle"
APPLIED_TWICE = "applied twice"
DISAGREEING = "disagreeing reads"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that could not have happened. ``rows`` (at most four) are rows of the history; -1 stands for
    the initial value."""

    key: int
    kind: str
    rows: tuple[int, ...]
    detail: str = ""


@dataclass(slots=True)
class Lineage:
    """The forest. ``wrote``/``before``/``reads``/``writes`` are per row, ``parent``/``writer``/``live`` per node.

    ``undecided``: keys that need the general search, with the reason. ``guessed``: keys where a choice was made
    that the replies do not force: an answer "linearizable" stands, any other needs another look. ``relaxed``: keys
    of which everything uncertain was left out: an answer "not linearizable" stands.
    """

    wrote: Ints
    before: Ints
    reads: Bools
    writes: Bools
    parent: Ints
    node_key: Ints
    values: list[Value]
    writer: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    live: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))
    root: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    depth: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    findings: dict[int, Finding] = field(default_factory=dict)
    undecided: dict[int, str] = field(default_factory=dict)
    guessed: set[int] = field(default_factory=set)
    relaxed: frozenset[int] = frozenset()

    def report(self, key: int, kind: str, rows: tuple[int, ...], detail: str = "") -> None:
        """Keep the first finding of a key."""
        self.findings.setdefault(key, Finding(key, kind, rows, detail))

    def add_nodes(self, key: int, count: int) -> list[int]:
        """New nodes without a value (tombstones) of ``key``."""
        first = len(self.node_key)
        self.node_key = np.concatenate((self.node_key, np.full(count, key, np.int64)))
        self.parent = np.concatenate((self.parent, np.full(count, NONE, np.int64)))
        self.values.extend([None] * count)
        return list(range(first, first + count))


def trace(history: History, relaxed: frozenset[int] = frozenset()) -> Lineage:
    """Build the forest of a history's versions; of the keys in ``relaxed`` without what is uncertain."""
    answered = history.status == STATUS_OK
    lineage = Lineage(
        wrote=history.wrote.copy(),
        before=history.before.copy(),
        reads=history.is_read,
        writes=history.is_write & (history.status != STATUS_FAIL),
        parent=np.full(len(history.node_key), NONE, np.int64),
        node_key=history.node_key.copy(),
        values=list(history.values),
        relaxed=relaxed,
    )
    cas = np.flatnonzero(lineage.writes & (history.kind == CAS))
    lineage.parent[lineage.wrote[cas]] = lineage.before[cas]
    _refuse_null_writes(history, lineage)

    has_append = _keys_with(history, history.kind == APPEND)
    has_delete = _keys_with(history, (history.kind == DELETE) & (history.status != STATUS_FAIL))
    if has_append.any() or has_delete.any():
        rows_of_key = history.rows_of_keys()
        for key in np.flatnonzero(has_append).tolist():
            appends.resolve(history, lineage, key, rows_of_key[key])
        for key in np.flatnonzero(has_delete).tolist():
            tombstones.resolve(history, lineage, key, rows_of_key[key])
    _find_writers(history, lineage)
    _find_live(history, lineage, answered)
    _find_unwritten(history, lineage)
    _find_split_brains(history, lineage)
    _climb(lineage)
    return lineage


def _keys_with(history: History, rows: Bools) -> Bools:
    found = np.zeros(len(history.keys), np.bool_)
    found[history.key[rows]] = True
    return found


def _refuse_null_writes(history: History, lineage: Lineage) -> None:
    """A write of null cannot be told from a delete by its readers."""
    rows = np.flatnonzero(lineage.writes & (lineage.wrote != NONE))
    nulls = rows[lineage.wrote[rows] == history.initial[history.key[rows]]] if len(rows) else rows
    for key in np.unique(history.key[nulls]).tolist():
        lineage.undecided[key] = "a write of null"
    lineage.parent[history.initial] = NONE


def _find_writers(history: History, lineage: Lineage) -> None:
    """The one row that wrote each node; keys with reused values are left to the search."""
    rows = np.flatnonzero(lineage.writes & (lineage.wrote != NONE))
    nodes = lineage.wrote[rows]
    lineage.writer = np.full(len(lineage.node_key), NONE, np.int64)
    lineage.writer[nodes] = rows
    times = np.bincount(nodes, minlength=len(lineage.node_key))
    reused = times > 1
    for key in np.unique(lineage.node_key[reused]).tolist():
        if key not in lineage.relaxed:
            lineage.undecided.setdefault(key, "the same value was written more than once")
            continue
        # Leave them out: reads of them, the writes that nobody reads any more, and what followed from them.
        of_key = reused & (lineage.node_key == key)
        dropped = np.flatnonzero(of_key)
        lineage.reads &= ~np.isin(lineage.before, dropped)
        lineage.writes &= ~np.isin(lineage.wrote, dropped)
        lineage.writer[dropped] = NONE
        lineage.parent[np.isin(lineage.parent, dropped)] = NONE


def _find_live(history: History, lineage: Lineage, answered: Bools) -> None:
    live = np.zeros(len(lineage.node_key), np.bool_)
    done = np.flatnonzero(lineage.writes & answered & (lineage.wrote != NONE))
    live[lineage.wrote[done]] = True
    live[lineage.before[lineage.reads]] = True
    frontier = np.flatnonzero(live)
    while len(frontier):
        above = lineage.parent[frontier]
        above = np.unique(above[above != NONE])
        frontier = above[~live[above]]
        live[frontier] = True
    lineage.live = live


def _find_unwritten(history: History, lineage: Lineage) -> None:
    """Live versions that no write can have made."""
    is_initial = np.zeros(len(lineage.node_key), np.bool_)
    is_initial[history.initial] = True
    orphans = np.flatnonzero(lineage.live & (lineage.writer == NONE) & ~is_initial)
    if not len(orphans):
        return
    refused = np.flatnonzero(history.is_write & (history.status == STATUS_FAIL) & (history.wrote != NONE))
    refused_writer = dict(zip(history.wrote[refused].tolist(), refused.tolist(), strict=True))
    follows = lineage.writes & (lineage.wrote != NONE) & lineage.live[lineage.wrote]
    witnesses = np.flatnonzero(np.isin(lineage.before, orphans) & (lineage.reads | follows))
    witnesses = witnesses[np.argsort(history.ret[witnesses], kind="stable")]
    for row in witnesses.tolist():
        node = int(lineage.before[row])
        key = int(history.key[row])
        if node in refused_writer:
            lineage.report(key, ABORTED, (row, refused_writer[node]))
        else:
            lineage.report(key, PHANTOM, (row,))


def _find_split_brains(history: History, lineage: Lineage) -> None:
    children = np.flatnonzero(lineage.live & (lineage.parent != NONE) & (lineage.writer != NONE))
    above = lineage.parent[children]
    twice = np.bincount(above, minlength=len(lineage.node_key)) > 1 if len(above) else np.zeros(0, np.bool_)
    if not twice.any():
        return
    siblings = children[twice[above]]
    rows = lineage.writer[siblings]
    order = np.lexsort((history.call[rows], lineage.parent[siblings]))
    siblings, rows = siblings[order], rows[order]
    for at in np.flatnonzero(lineage.parent[siblings][1:] == lineage.parent[siblings][:-1]).tolist():
        origin = int(lineage.writer[lineage.parent[siblings[at]]])
        pair = (int(rows[at]), int(rows[at + 1]))
        lineage.report(int(lineage.node_key[siblings[at]]), SPLIT_BRAIN, pair + ((origin,) if origin != NONE else ()))


def _climb(lineage: Lineage) -> None:
    """Root and depth of every node, by pointer doubling; nodes that never reach a root are on a cycle."""
    count = len(lineage.node_key)
    ancestor = np.where(lineage.parent == NONE, np.arange(count), lineage.parent)
    depth = (lineage.parent != NONE).astype(np.int64)
    climbing = np.flatnonzero(depth)
    for _ in range(count.bit_length() + 1):
        if not len(climbing):
            break
        depth[climbing] += depth[ancestor[climbing]]
        ancestor[climbing] = ancestor[ancestor[climbing]]
        climbing = climbing[lineage.parent[ancestor[climbing]] != NONE]
    for node in climbing.tolist():
        row = int(lineage.writer[node])
        other = int(lineage.writer[lineage.parent[node]])
        if lineage.live[node] and row != NONE:
            rows = (row, other) if other not in (NONE, row) else (row,)
            lineage.report(int(lineage.node_key[node]), CYCLE, rows)
    lineage.root, lineage.depth = ancestor, depth
