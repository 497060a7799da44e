"""Deletes: which of several "absent" did a reader see?

A delete makes a version without a value (a tombstone). Where replies name the version of the key they saw (ours
do: a read of an absent key names the log index of the delete), each tombstone is as unique as a value. Where they
do not, the key needs the general search. In between, the likely choice is tried first:

* a reader that names no version saw the key before it was ever written,
* a cas that demanded "absent" and won replaced the last delete whose version is below its own.

An answer "linearizable" found that way stands. Any other is tried again with the uncertain part left out (such a
read dropped, such a cas taken for a plain put): what cannot be ordered even then is surely wrong, and only what
can goes to the search.
"""

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from swarmproof.judge.history import (
    APPEND,
    CAS,
    DELETE,
    NO_VERSION,
    NONE,
    STATUS_OK,
    History,
    Ints,
)

if TYPE_CHECKING:
    from swarmproof.judge.lineage import Lineage

NO_NAME = "reads of an absent key do not name the delete that they saw"


def resolve(history: History, lineage: "Lineage", key: int, rows: Ints) -> None:
    """Give each delete of ``key`` a node, and each reader of "absent" the node that it saw."""
    initial = int(history.initial[key])
    deletes = rows[(history.kind[rows] == DELETE) & lineage.writes[rows]]
    deletes = deletes[np.argsort(history.call[deletes], kind="stable")]
    nodes = lineage.add_nodes(key, len(deletes))
    label: dict[int, int] = {}  # version -> node
    unlabelled: list[tuple[int, int]] = []  # (row, node), by call
    for row, node in zip(deletes.tolist(), nodes, strict=True):
        version = named_version(history, row) if history.status[row] == STATUS_OK else NO_VERSION
        if version in label:
            # Two deletes of one version: the second deleted nothing, which is a read. The first to begin wrote it.
            lineage.writes[row] = False
            lineage.reads[row] = True
            lineage.before[row] = label[version]
            continue
        lineage.wrote[row] = node
        if version == NO_VERSION:
            unlabelled.append((row, node))
        else:
            label[version] = node

    absent = rows[lineage.reads[rows] & (lineage.before[rows] == initial) & (history.kind[rows] != DELETE)]
    if key in lineage.relaxed:
        _leave_out_the_uncertain(history, lineage, key, rows=rows, absent=absent, label=label)
        return
    if not _name_readers(history, lineage, key, absent=absent, label=label, unlabelled=unlabelled):
        lineage.undecided.setdefault(key, NO_NAME)
        return
    _place_followers(history, lineage, key, rows, label)


def _leave_out_the_uncertain(
    history: History, lineage: "Lineage", key: int, *, rows: Ints, absent: Ints, label: dict[int, int]
) -> None:
    """Keep the readers that name a known delete, drop the others; a write that followed from "absent" stands alone.

    Both only take constraints away: an order of the whole history is one of the rest, too.
    """
    for row in absent.tolist():
        node = label.get(named_version(history, row))
        if node is None:
            lineage.reads[row] = False
        else:
            lineage.before[row] = node
    written = rows[lineage.writes[rows] & (lineage.wrote[rows] != NONE)]
    nodes = lineage.wrote[written]
    lineage.parent[nodes[lineage.parent[nodes] == history.initial[key]]] = NONE


def named_version(history: History, row: int) -> int:
    """The version that a reply names; 0 stands for "none" with servers that have no other word for it."""
    version = int(history.version[row])
    return version if version > 0 else NO_VERSION


def _name_readers(
    history: History,
    lineage: "Lineage",
    key: int,
    *,
    absent: Ints,
    label: dict[int, int],
    unlabelled: list[tuple[int, int]],
) -> bool:
    """Point readers of "absent" at tombstones. False when some reader cannot be placed."""
    unknown: dict[int, list[int]] = {}
    for row in absent.tolist():
        version = named_version(history, row)
        if version == NO_VERSION:
            if not label:
                return False
            lineage.guessed.add(key)
            continue
        node = label.get(version)
        if node is None:
            unknown.setdefault(version, []).append(row)
        else:
            lineage.before[row] = node
    if len(unknown) > len(unlabelled):
        return False
    if len(unlabelled) > 1 and unknown:
        lineage.guessed.add(key)
    # Versions that no acknowledged delete has belong to unanswered ones: the first seen to the first begun.
    by_first_return = sorted(unknown, key=lambda version: min(int(history.ret[row]) for row in unknown[version]))
    for version, (_, node) in zip(by_first_return, unlabelled, strict=False):
        label[version] = node
        for row in unknown[version]:
            lineage.before[row] = node
    return True


def _place_followers(history: History, lineage: "Lineage", key: int, rows: Ints, label: dict[int, int]) -> None:
    """Writes that followed from "absent": successful cas that demanded it, appends that began a list on it."""
    initial = int(history.initial[key])
    kind, wrote = history.kind[rows], lineage.wrote[rows]
    written = lineage.writes[rows] & (wrote != NONE)
    candidates = rows[written & ((kind == CAS) | (kind == APPEND))]
    followers = candidates[lineage.parent[lineage.wrote[candidates]] == initial]
    if not len(followers):
        return
    seen: set[int] = set()
    for node in lineage.before[rows[lineage.before[rows] != NONE]].tolist():
        above = node
        while above != NONE and above not in seen:
            seen.add(above)
            above = int(lineage.parent[above])
    versions = sorted(label)
    for row in followers.tolist():
        node = int(lineage.wrote[row])
        version = _version_of(history, lineage, rows, row)
        if history.status[row] != STATUS_OK and node not in seen and history.kind[row] == CAS:
            continue  # it may never have happened, and nobody saw it
        if version == NO_VERSION:
            lineage.undecided.setdefault(key, NO_NAME)
            return
        lineage.guessed.add(key)
        place = bisect_left(versions, version) - 1
        lineage.parent[node] = label[versions[place]] if place >= 0 else initial
        if history.kind[row] == CAS:
            lineage.before[row] = lineage.parent[node]


def _version_of(history: History, lineage: "Lineage", rows: Ints, row: int) -> int:
    """The version that a write made: as its own reply names it, or that of a reader who saw exactly it."""
    version = named_version(history, row)
    if version != NO_VERSION:
        return version
    saw_it = rows[lineage.reads[rows] & (lineage.before[rows] == lineage.wrote[row])]
    named = history.version[saw_it][history.version[saw_it] > 0]
    return int(named[0]) if len(named) else NO_VERSION
