"""Durability: after everything was healed, is every acknowledged write still there, at every node?

The final read of a key shows one version. An acknowledged write that had returned before that read began is there
if it is that version or one that it followed from. Otherwise it must have been overwritten: by the put or delete
at the root of what was read, which is impossible when that was already in place before the write began.
"""

import numpy as np

from swarmproof.judge.case import Case
from swarmproof.judge.explain import counterexample, node_name, shown
from swarmproof.judge.history import APPEND, GET, NONE, STATUS_OK, Ints
from swarmproof.judge.lineage import Finding
from swarmproof.judge.verdict import INVALID, NOT_APPLICABLE, UNKNOWN, VALID, Check, grouped

NAME = "durability"
LOST = "lost write"

#: Keys named in a sentence; the evidence has the number of all.
_KEYS_NAMED = 3


def check(case: Case) -> tuple[Check, list[int]]:
    """The answer, and the keys that lost a write."""
    lost: dict[int, tuple[Ints, int]] = {}
    answer = _check(case, lost)
    return answer, list(lost)


def _check(case: Case, lost: dict[int, tuple[Ints, int]]) -> Check:
    history = case.history
    acknowledged = np.flatnonzero(history.is_acknowledged_write)
    if not len(acknowledged):
        if case.expects_history():
            return Check(NAME, UNKNOWN, "no write was acknowledged, so nothing could be lost")
        return Check(NAME, NOT_APPLICABLE, "no key-value writes in this run")
    final = np.flatnonzero(history.final & (history.kind == GET) & ~history.stale)
    answered = final[history.status[final] == STATUS_OK]
    nodes = np.unique(history.server[final])
    written = np.unique(history.key[acknowledged])
    missing = _keys_not_read_back(case, written, answered, nodes)
    lost.update(_lost_writes(case, acknowledged, answered))
    uncovered = _unread_writes(case, acknowledged, answered)
    short = _nodes_read_in_part(case)
    evidence = {
        "acknowledged_writes": len(acknowledged),
        "keys": len(written),
        "final_reads": len(answered),
        "nodes_read": [f"n{node}" for node in nodes.tolist() if node != NONE],
        "nodes_read_in_part": {node: got for node, (got, _) in short.items()},
        "keys_without_final_read": len(missing),
        "writes_after_final_read": uncovered,
        "lost_writes": sum(len(rows) for rows, _ in lost.values()),
    }
    if lost:
        key, (rows, read) = next(iter(lost.items()))
        worst = int(rows[np.argmax(history.call[rows])])
        finding = Finding(key, LOST, (worst, read), _sentence(case, worst, read))
        gone = sum(len(missed) for missed, _ in lost.values())
        reason = (
            f"{grouped(gone)} of {grouped(len(acknowledged))} acknowledged writes are missing from the final reads, "
            f"on {len(lost)} of {len(written)} keys"
        )
        return Check(NAME, INVALID, reason, evidence, counterexample(case, finding))
    if not len(final):
        return Check(NAME, UNKNOWN, "there was no final read: nobody looked whether the writes are there", evidence)
    if missing:
        named = ", ".join(history.keys[key] for key in missing[:_KEYS_NAMED])
        more = f" and {len(missing) - _KEYS_NAMED} more" if len(missing) > _KEYS_NAMED else ""
        reason = f"the final read of {named}{more} did not complete at every node"
        return Check(NAME, UNKNOWN, reason, evidence)
    if short:
        node, (got, of) = next(iter(short.items()))
        more = f", and not all at {len(short) - 1} more" if len(short) > 1 else ""
        reason = f"the final read reached {got} of {of} keys at {node}{more}"
        return Check(NAME, UNKNOWN, reason, evidence)
    if uncovered:
        reason = f"{uncovered} writes were acknowledged after the final read of their key began"
        return Check(NAME, UNKNOWN, reason, evidence)
    unjudged = sorted(set(case.linearizability.unknown) & set(written.tolist()))
    if unjudged:
        reason = f"the final reads of {len(unjudged)} keys cannot be told apart ({history.keys[unjudged[0]]}, ...)"
        return Check(NAME, UNKNOWN, reason, evidence)
    return Check(NAME, VALID, f"{grouped(len(acknowledged))} acknowledged writes all found", evidence)


def _keys_not_read_back(case: Case, written: Ints, answered: Ints, nodes: Ints) -> list[int]:
    """Written keys without an answered final read at each node that final reads were sent to."""
    history = case.history
    pairs = set(zip(history.key[answered].tolist(), history.server[answered].tolist(), strict=True))
    return [key for key in written.tolist() if any((key, node) not in pairs for node in nodes.tolist())]


def _nodes_read_in_part(case: Case) -> dict[str, tuple[int, int]]:
    """Nodes that answered fewer final reads than there were keys, as run.json has it: how many, of how many.

    The history alone does not show a node that refused every connection: nothing was sent to it.
    """
    short: dict[str, tuple[int, int]] = {}
    clusters = case.facts.get("final_reads")
    for reads in clusters.values() if isinstance(clusters, dict) else ():
        keys = reads.get("keys") if isinstance(reads, dict) else None
        nodes = reads.get("nodes") if isinstance(reads, dict) else None
        if not isinstance(keys, int) or not isinstance(nodes, dict):
            continue
        for node, answered in nodes.items():
            got = answered if isinstance(answered, int) else 0
            if got < keys:
                short[str(node)] = (got, keys)
    return short


def _unread_writes(case: Case, acknowledged: Ints, answered: Ints) -> int:
    """Acknowledged writes that no final read of their key came after."""
    history = case.history
    if not len(answered):
        return 0
    last_read = np.full(len(history.keys), np.iinfo(np.int64).min)
    np.maximum.at(last_read, history.key[answered], history.call[answered])
    late = history.ret[acknowledged] >= last_read[history.key[acknowledged]]
    read_at_all = last_read[history.key[acknowledged]] != np.iinfo(np.int64).min
    return int((late & read_at_all).sum())


def _lost_writes(case: Case, acknowledged: Ints, answered: Ints) -> dict[int, tuple[Ints, int]]:
    """Per key the acknowledged writes that a final read lacks without excuse, and that read."""
    history = case.history
    result = case.linearizability
    lineage = result.lineage
    # Where versions cannot be told apart, the linearizability check (which has the final reads too) decides alone.
    excluded = set(lineage.undecided) | set(lineage.findings)
    writes_of = _rows_by_key(history.key, acknowledged)
    earliest = _first_return_of_groups(case)
    lost: dict[int, tuple[Ints, int]] = {}
    judged: set[tuple[int, int]] = set()
    for read in answered[np.argsort(-history.call[answered], kind="stable")].tolist():
        key, version = int(history.key[read]), int(lineage.before[read])
        if (
            not lineage.reads[read]
            or key in lost
            or key in excluded
            or key not in writes_of
            or (key, version) in judged
        ):
            continue
        judged.add((key, version))
        rows = writes_of[key]
        rows = rows[history.ret[rows] < history.call[read]]
        nodes = lineage.wrote[rows]
        rows, nodes = rows[nodes != NONE], nodes[nodes != NONE]
        root = int(lineage.root[version])
        same = lineage.root[nodes] == root
        beyond = same & (lineage.depth[nodes] > lineage.depth[version])
        too_late = ~same & (history.call[rows] > earliest[root])
        gone = rows[beyond | too_late]
        if len(gone):
            lost[key] = (gone, read)
    return lost


def _rows_by_key(keys: Ints, rows: Ints) -> dict[int, Ints]:
    if not len(rows):
        return {}
    order = rows[np.argsort(keys[rows], kind="stable")]
    distinct, starts = np.unique(keys[order], return_index=True)
    return dict(zip(distinct.tolist(), np.split(order, starts[1:]), strict=True))


def _first_return_of_groups(case: Case) -> Ints:
    """Per node: when the group of which it is the root was first known to be in place."""
    history, lineage = case.history, case.linearizability.lineage
    earliest = np.full(len(lineage.node_key), np.iinfo(np.int64).max)
    reads = np.flatnonzero(lineage.reads)
    np.minimum.at(earliest, lineage.root[lineage.before[reads]], history.ret[reads])
    writes = np.flatnonzero(lineage.writes & (lineage.wrote != NONE))
    writes = writes[lineage.live[lineage.wrote[writes]]]
    np.minimum.at(earliest, lineage.root[lineage.wrote[writes]], history.ret[writes])
    earliest[history.initial] = np.iinfo(np.int64).min
    return earliest


def _sentence(case: Case, write: int, read: int) -> str:
    history = case.history
    key = history.keys[int(history.key[write])]
    who = node_name(case, write) or "the server"
    wrote = int(history.wrote[write])
    what = "delete" if wrote == NONE else f"{_OP[int(history.kind[write])]} {shown(history.values[wrote])}"
    where = node_name(case, read)
    saw = history.values[int(history.before[read])]
    lacks = "does not contain it" if history.kind[write] == APPEND and saw is not None else f"shows {shown(saw)}"
    return (
        f"{who} acknowledged {what} to key {key} at {case.seconds(int(history.ret[write])):.3f} s; the final read"
        f"{' at ' + where if where else ''} at {case.seconds(int(history.call[read])):.3f} s {lacks}: "
        "an acknowledged write was lost"
    )


_OP = ("get", "put", "cas", "append", "delete", "cas")
