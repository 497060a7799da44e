"""The plan's limits: ``"p99{kv append}" = "< 50ms"``, ``"fail_ratio over 10s" = "< 0.1%"``, ``"recovery" = "< 2s"``.

A limit that is missed does not make a run invalid: the server told no lie, it was only too slow. A limit about
something that was not measured counts as missed, so that a typing mistake cannot pass for success. How limits are
written stands in `swarmproof.judge.limits`.
"""

import math
from collections.abc import Sequence
from typing import Any

from records.faults import FaultRecord
from swarmproof.judge.case import NS_PER_S, Case
from swarmproof.judge.limits import AFTER, BEFORE, RECOVERY, Limit, Stretch, ThresholdError, measure, read_limit
from swarmproof.judge.verdict import MISSED, NOT_APPLICABLE, VALID, Check

NAME = "thresholds"


def check(case: Case) -> Check:
    limits = limits_of(case.facts)
    if not limits:
        return Check(NAME, NOT_APPLICABLE, "the plan has no thresholds")
    missed: list[str] = []
    results: list[dict[str, Any]] = []
    for left, right in limits.items():
        try:
            measured, holds, text = evaluate(case, left, right)
        except ThresholdError as error:
            measured, holds, text = None, False, str(error)
        results.append({"limit": f"{left} {right}", "measured": measured, "holds": holds, "text": text})
        if not holds:
            missed.append(text)
    evidence = {"limits": len(limits), "missed": len(missed), "results": results}
    aborted = case.load.get("aborted")
    if isinstance(aborted, str) and aborted:
        evidence["aborted"] = aborted
        missed.append(f"the run was ended because {aborted}")
    if missed:
        number = sum(not result["holds"] for result in results) or 1
        return Check(NAME, MISSED, f"{number} of {len(limits)} thresholds missed: {'; '.join(missed)}", evidence)
    return Check(NAME, VALID, f"{len(limits)} of {len(limits)} thresholds kept", evidence)


def limits_of(facts: dict[str, Any]) -> dict[str, str]:
    """The thresholds in run.json: its own table, or the plan's."""
    plan = facts.get("plan")
    for source in (facts.get("thresholds"), plan.get("thresholds") if isinstance(plan, dict) else None):
        if isinstance(source, dict):
            return {str(left): str(right) for left, right in source.items()}
    return {}


def evaluate(case: Case, left: str, right: str) -> tuple[float | None, bool, str]:
    """The measured value, whether it keeps the limit, and one line of text. Errors: ThresholdError."""
    limit = read_limit(left, right)
    measured = _recovery_s(case) if limit.metric == RECOVERY else _measure(case, limit)
    if measured is None:
        return None, False, f"{limit.left} was not measured"
    return measured, limit.holds(measured), limit.show(measured)


def _recovery_s(case: Case) -> float | None:
    times = [
        figure
        for fault in case.faults
        for name in ("recovery_s", "first_ack_s")
        if isinstance(figure := fault.figures.get(name), int | float)
    ]
    return max(times) if times else None


def _measure(case: Case, limit: Limit) -> float | None:
    if case.latency is None:
        return None
    seconds = case.latency.seconds()
    if not seconds:
        return None
    load = case.latency.span()
    whole = (min(seconds[0], math.floor(load.begin_s)), max(seconds[-1] + 1, math.ceil(load.end_s)))
    return measure(case.latency, limit, stretches_of(case.faults, limit.phase, whole), load)


def stretches_of(faults: Sequence[FaultRecord], phase: str | None, whole: Stretch) -> list[Stretch]:
    """The whole seconds of a phase. A second in which a fault struck or was healed is a second of the fault."""
    if phase is None:
        return [whole]
    first, last = whole
    disturbed: set[int] = set()
    for fault in faults:
        if fault.effect_ns is not None:
            end_s = fault.healed_ns // NS_PER_S if fault.healed_ns is not None else last
            disturbed.update(range(max(first, fault.effect_ns // NS_PER_S), min(last, end_s + 1)))
    if not disturbed:
        return []
    if phase == BEFORE:
        chosen = set(range(first, min(disturbed)))
    elif phase == AFTER:
        chosen = set(range(max(disturbed) + 1, last))
    else:
        chosen = disturbed
    return _joined(sorted(chosen))


def _joined(seconds: list[int]) -> list[Stretch]:
    stretches: list[Stretch] = []
    for second in seconds:
        if stretches and stretches[-1][1] == second:
            stretches[-1] = (stretches[-1][0], second + 1)
        else:
            stretches.append((second, second + 1))
    return stretches
