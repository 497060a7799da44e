"""Is the history linearizable? Each key by the fastest algorithm that can decide it.

Keys are independent (P-compositionality: a history is linearizable iff each key's part is). All keys go through
the lineage and the zone algorithm at once; those that they cannot decide go to the bounded general search.
"""

import time
from dataclasses import dataclass, field

import numpy as np

from swarmproof.judge import zones
from swarmproof.judge.by_version import explained_by_versions
from swarmproof.judge.history import (
    APPEND,
    CAS,
    DELETE,
    NEVER,
    NONE,
    STATUS_FAIL,
    STATUS_INFO,
    STATUS_OK,
    Bools,
    History,
    Ints,
    Value,
    as_bytes,
)
from swarmproof.judge.lineage import Finding, Lineage, trace
from swarmproof.judge.search import (
    DEFAULT_MEMORY_BYTES,
    DEFAULT_TIME_S,
    LINEARIZABLE,
    NOT_LINEARIZABLE,
    Step,
    search,
)
from swarmproof.judge.tombstones import named_version

NO_ORDER = "no order"
REFUSED_MATCH = "refused match"

#: Seconds for all general searches of one history together.
TOTAL_SEARCH_S = 20.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the general search may use. Seconds and bytes; per key, and seconds for all keys together."""

    key_time_s: float = DEFAULT_TIME_S
    key_memory_bytes: int = DEFAULT_MEMORY_BYTES
    total_time_s: float = TOTAL_SEARCH_S


@dataclass(slots=True)
class Linearizability:
    """The answer per key: ``findings`` (not linearizable, with the rows that show it), ``unknown`` (with the
    reason); every other key is linearizable. ``by_version`` keys are so in the order that replies told, ``searched``
    keys needed the general search."""

    lineage: Lineage
    findings: dict[int, Finding] = field(default_factory=dict)
    unknown: dict[int, str] = field(default_factory=dict)
    by_version: list[int] = field(default_factory=list)
    searched: list[int] = field(default_factory=list)
    operations: int = 0


def check(history: History, limits: Limits | None = None) -> Linearizability:
    """Decide every key of a history."""
    limits = limits or Limits()
    lineage = trace(history)
    result = Linearizability(lineage)
    result.operations = int((lineage.reads | (lineage.writes & (history.status != STATUS_FAIL))).sum())
    suspects = _suspects(history, lineage)
    doubtful = set(lineage.undecided) | lineage.guessed
    to_search = set(lineage.undecided) | (lineage.guessed & set(suspects))
    if doubtful:
        # What cannot be ordered even without the uncertain part is decided, and with a short counterexample.
        result.lineage = lineage = trace(history, frozenset(doubtful))
        relaxed = _suspects(history, lineage)
        for key in doubtful & set(relaxed):
            suspects[key] = relaxed[key]
            to_search.discard(key)
    for key, finding in _refused_matches(history).items():
        if key in to_search or key not in suspects:
            suspects[key] = finding
            to_search.discard(key)
    result.findings = {key: finding for key, finding in suspects.items() if key not in to_search}
    _search_keys(history, sorted(to_search), limits, result)
    return result


def _suspects(history: History, lineage: Lineage) -> dict[int, Finding]:
    """Per key what the lineage or the zones hold against it."""
    excluded = np.zeros(len(history.keys), np.bool_)
    excluded[list(lineage.findings)] = True
    excluded[list(lineage.undecided)] = True
    suspects = {key: finding for key, finding in lineage.findings.items() if key not in lineage.undecided}
    for finding in _zone_findings(history, lineage, excluded):
        suspects[finding.key] = finding
    return suspects


def _refused_matches(history: History) -> dict[int, Finding]:
    """Per key the first cas that failed and told of seeing what it demanded: no order explains that reply."""
    rows = history.refused_matches
    rows = rows[np.argsort(history.ret[rows], kind="stable")]
    findings: dict[int, Finding] = {}
    for key, row in zip(history.key[rows].tolist(), rows.tolist(), strict=True):
        findings.setdefault(key, Finding(key, REFUSED_MATCH, (row,)))
    return findings


def _zone_findings(history: History, lineage: Lineage, excluded: Bools) -> list[Finding]:
    """Lay the live operations out in groups and slots, and look for conflicts."""
    wrote = np.flatnonzero(lineage.writes & (lineage.wrote != NONE))
    nodes = lineage.wrote[wrote]
    fit = lineage.live[nodes] & ~excluded[history.key[wrote]]
    wrote, written = wrote[fit], nodes[fit]
    read = np.flatnonzero(lineage.reads)
    read = read[~excluded[history.key[read]]]
    seen = lineage.before[read]

    rows = np.concatenate((wrote, read))
    node = np.concatenate((written, seen))
    if not len(rows):
        return []
    is_read = np.zeros(len(rows), np.int64)
    is_read[len(wrote) :] = 1
    group = lineage.root[node]
    slot = 2 * lineage.depth[node] + is_read
    initial = np.zeros(len(lineage.node_key), np.bool_)
    initial[history.initial] = True
    conflicts = zones.find_conflicts(
        key=history.key[rows],
        group=group,
        slot=slot,
        call=history.call[rows],
        ret=history.ret[rows],
        initial=initial[group],
    )
    return [
        Finding(
            conflict.key,
            conflict.rule,
            tuple(int(rows[place]) if place >= 0 else NONE for place in conflict.rows),
        )
        for conflict in conflicts
    ]


def _search_keys(history: History, keys: list[int], limits: Limits, result: Linearizability) -> None:
    if not keys:
        return
    rows_of_key = history.rows_of_keys()
    deadline = time.monotonic() + limits.total_time_s
    for key in sorted(keys, key=lambda key: len(rows_of_key[key])):
        rows = rows_of_key[key]
        steps = _steps(history, rows)
        named = zip(rows.tolist(), history.version[rows].tolist(), strict=True)
        if explained_by_versions(steps, {row: version for row, version in named if version > 0}):
            result.by_version.append(key)
            continue
        result.searched.append(key)
        time_s = min(limits.key_time_s, deadline - time.monotonic())
        found = search(steps, time_s=time_s, memory_bytes=limits.key_memory_bytes)
        if found.answer == NOT_LINEARIZABLE:
            result.findings[key] = Finding(key, NO_ORDER, found.stuck)
        elif found.answer != LINEARIZABLE:
            result.unknown[key] = f"{found.reason} ({len(steps)} operations that replies alone do not tell apart)"


def _steps(history: History, rows: Ints) -> list[Step]:
    """One key's operations for the search: without refused ones, unanswered reads and stale reads, and without
    unanswered writes whose value nobody saw (leaving one out never makes an order impossible)."""
    steps: list[Step] = []
    is_read = history.is_read
    is_write = history.is_write
    seen = {history.values[node] for node in np.unique(history.before[rows[history.before[rows] != NONE]]).tolist()}
    lists = bool((history.kind[rows] == APPEND).any())
    for row in rows.tolist():
        status = int(history.status[row])
        if status == STATUS_FAIL or not (is_read[row] or is_write[row]):
            continue
        if status == STATUS_INFO and history.wrote[row] != NONE:
            written = history.values[int(history.wrote[row])]
            if not (any(_holds(value, written) for value in seen) if lists else written in seen):
                continue
        kind, wrote, before = int(history.kind[row]), int(history.wrote[row]), int(history.before[row])
        named = named_version(history, row)
        value = history.values[wrote] if wrote != NONE else None
        absent = before != NONE and history.values[before] is None
        answered = status == STATUS_OK
        steps.append(
            Step(
                row,
                kind,
                int(history.call[row]),
                int(history.ret[row]) if answered else NEVER,
                value,
                history.values[before] if before != NONE else None,
                named
                if named > 0 and answered and (kind == DELETE or (absent and is_read[row] and kind != CAS))
                else None,
                answered,
            )
        )
    return steps


def _holds(value: Value, part: Value) -> bool:
    """Whether ``part`` may be in the list ``value``."""
    if value is None or part is None:
        return value is part
    if isinstance(value, str) and isinstance(part, str):
        return part in value
    return as_bytes(part) in as_bytes(value)
