"""The faults check: each fault took effect, and there was something for it to break.

A fault that silently did not happen, or that hit an idle system, proves nothing: then the answer is ``unknown``. So it
is when there was an effect without a fault: a process that died by itself is a finding, whatever the history says.
"""

import re
from typing import Any

import numpy as np

from records.faults import FaultRecord
from swarmproof.judge.case import NS_PER_S, Case
from swarmproof.judge.explain import moment_of
from swarmproof.judge.verdict import NOT_APPLICABLE, UNKNOWN, VALID, Check

NAME = "faults"

#: Writes acknowledged this shortly before a kill are the ones that a careless server loses.
AT_RISK_MS = 100
#: As many of them must there be: one is what it takes for a loss to be seen.
MIN_WRITES_AT_RISK = 1
#: Something must have succeeded this shortly before any fault.
LOAD_BEFORE_S = 2
#: What is missing is told for so many faults; the evidence has all.
GAPS_SHOWN = 3

#: Faults that take a node of a cluster away, and with it what it had not replicated; by their names in faults.jsonl.
DEADLY = frozenset({"kill", "term", "kill-compacting", "rolling-kill", "kill-election"})
_CLUSTER_NODE = re.compile(r"n\d+(,\s*n\d+)*")


def check(case: Case) -> Check:
    planned = case.facts.get("planned_faults")
    planned = planned if isinstance(planned, int) else len(case.faults)
    deaths = case.facts.get("unexpected_deaths")
    deaths = [str(death) for death in deaths] if isinstance(deaths, list) else []
    if not case.faults and not planned and not deaths:
        return Check(NAME, NOT_APPLICABLE, "no faults were planned")
    gaps: list[str] = [f"without any fault, {death}" for death in deaths]
    details: list[dict[str, Any]] = []
    effective = 0
    for fault in case.faults:
        gap, detail = _judge(case, fault)
        effective += fault.took_effect
        details.append(detail)
        if gap:
            gaps.append(f"{_title(case, fault)} {gap}")
    if planned > len(case.faults):
        gaps.append(f"only {len(case.faults)} of {planned} planned faults were carried out")
    evidence: dict[str, Any] = {
        "planned": max(planned, len(case.faults)),
        "recorded": len(case.faults),
        "took_effect": effective,
        "unexpected_deaths": deaths,
        "faults": details,
    }
    if gaps:
        more = [f"and {len(gaps) - GAPS_SHOWN} more"] if len(gaps) > GAPS_SHOWN else []
        return Check(NAME, UNKNOWN, "; ".join(gaps[:GAPS_SHOWN] + more), evidence | {"gaps": gaps})
    return Check(NAME, VALID, f"{effective} of {len(case.faults)} faults took effect", evidence)


def is_on_cluster(fault: FaultRecord) -> bool:
    """Whether a fault hit a node of the key-value cluster (only those have leaders, and are called n1, n2 ...)."""
    return bool(fault.before.get("term")) or _CLUSTER_NODE.fullmatch(fault.chosen) is not None


def _title(case: Case, fault: FaultRecord) -> str:
    at_s = case.seconds(moment_of(fault))
    return f"the fault at {at_s:.1f} s ({fault.kind} {fault.chosen or fault.target})"


def _judge(case: Case, fault: FaultRecord) -> tuple[str, dict[str, Any]]:
    """What is missing for this fault to prove anything ("" when nothing), and the figures."""
    detail: dict[str, Any] = {
        "id": fault.id,
        "kind": fault.kind,
        "chosen": fault.chosen,
        "took_effect": fault.took_effect,
        "observed": fault.observed,
    }
    if not fault.took_effect:
        return f"did not take effect{': ' + fault.error if fault.error else ''}", detail
    succeeded = _successes_before(case, fault.requested_ns)
    detail["succeeded_before"] = succeeded
    if not succeeded:
        return f"met no load: nothing succeeded in the {LOAD_BEFORE_S} s before it", detail
    if is_on_cluster(fault) and fault.kind in DEADLY:
        at_risk, read_back = _writes_at_risk(case, fault)
        detail["writes_at_risk"], detail["writes_at_risk_read_back"] = at_risk, read_back
        needed = case.required("writes_before_kill", MIN_WRITES_AT_RISK)
        if at_risk < needed:
            seen = f"{at_risk} writes were" if at_risk else "no write was"
            why = f"met too little load: {seen} acknowledged in the {AT_RISK_MS} ms before it ({needed:g} needed)"
            return why, detail
        if read_back < at_risk:
            return (
                f"put {at_risk} writes at risk, but the keys of {at_risk - read_back} were not read afterwards",
                detail,
            )
    if fault.error:  # it took effect, so this is of the healing: the cluster that was judged was not whole
        detail["error"] = fault.error
        return f"was not healed as planned: {fault.error}", detail
    return "", detail


def _successes_before(case: Case, at_ns: int) -> int:
    history = case.history
    since = at_ns - LOAD_BEFORE_S * NS_PER_S
    kv = int(np.count_nonzero((history.status == 0) & (history.ret >= since) & (history.ret <= at_ns)))
    if case.latency is None:
        return kv
    return max(kv, case.latency.outcomes(None, since // NS_PER_S, at_ns // NS_PER_S + 1)[0])


def _writes_at_risk(case: Case, fault: FaultRecord) -> tuple[int, int]:
    """Writes acknowledged just before a kill, and how many of their keys were read afterwards."""
    history = case.history
    moment = moment_of(fault)
    since = fault.requested_ns - AT_RISK_MS * 1_000_000
    rows = np.flatnonzero(history.is_acknowledged_write & (history.ret >= since) & (history.ret <= moment))
    reads = np.flatnonzero(history.is_read & (history.call > moment))
    read_back = np.isin(history.key[rows], history.key[reads])
    return len(rows), int(np.count_nonzero(read_back))
