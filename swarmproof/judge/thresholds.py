"""The plan's limits: ``"p99{kv append}" = "< 50ms"``, ``"fail_ratio" = "< 0.1%"``, ``"recovery" = "< 2s"``.

A limit that is missed does not make a run invalid: the server told no lie, it was only too slow. A limit about
something that was not measured counts as missed, so that a typing mistake cannot pass for success.
"""

import re
from typing import Any

from records.latency import RESPONSE, Summary
from swarmproof.judge.case import Case
from swarmproof.judge.verdict import MISSED, NOT_APPLICABLE, VALID, Check

NAME = "thresholds"

_LEFT = re.compile(r"\s*(?P<metric>[a-z_]+[0-9.]*)\s*(?:\{(?P<operation>[^}]*)\})?\s*")
_RIGHT = re.compile(r"\s*(?P<sign><=|>=|<|>)\s*(?P<number>[0-9.]+)\s*(?P<unit>us|ms|s|min|%|/s)?\s*")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "%": 0.01, "/s": 1.0, None: 1.0}
_PERCENTILES = {
    "p50": "p50_us",
    "p90": "p90_us",
    "p95": "p95_us",
    "p99": "p99_us",
    "p99.9": "p999_us",
    "p999": "p999_us",
    "p99.99": "p9999_us",
    "p9999": "p9999_us",
    "mean": "mean_us",
    "max": "max_us",
    "min": "min_us",
}


class ThresholdError(ValueError):
    """A limit that cannot be read; one sentence."""


def check(case: Case) -> Check:
    limits = _limits_of(case.facts)
    if not limits:
        return Check(NAME, NOT_APPLICABLE, "the plan has no thresholds")
    missed: list[str] = []
    results: list[dict[str, Any]] = []
    for left, right in limits.items():
        try:
            measured, holds, text = evaluate(case, left, right)
        except ThresholdError as error:
            measured, holds, text = None, False, str(error)
        results.append({"limit": f"{left} {right}", "measured": measured, "holds": holds})
        if not holds:
            missed.append(text)
    evidence = {"limits": len(limits), "missed": len(missed), "results": results}
    if missed:
        return Check(NAME, MISSED, f"{len(missed)} of {len(limits)} thresholds missed: {'; '.join(missed)}", evidence)
    return Check(NAME, VALID, f"{len(limits)} of {len(limits)} thresholds kept", evidence)


def _limits_of(facts: dict[str, Any]) -> dict[str, str]:
    """The thresholds in run.json: its own table, or the plan's."""
    plan = facts.get("plan")
    for source in (facts.get("thresholds"), plan.get("thresholds") if isinstance(plan, dict) else None):
        if isinstance(source, dict):
            return {str(left): str(right) for left, right in source.items()}
    return {}


def evaluate(case: Case, left: str, right: str) -> tuple[float | None, bool, str]:
    """The measured value, whether it keeps the limit, and one line of text. Errors: ThresholdError."""
    subject, bound = _LEFT.fullmatch(left), _RIGHT.fullmatch(right)
    if subject is None:
        raise ThresholdError(f'cannot read "{left}": write a metric and an operation, such as "p99{{kv append}}"')
    if bound is None:
        raise ThresholdError(f'cannot read the limit "{right}" of {left}: write a sign and a number, such as "< 50ms"')
    try:
        limit = float(bound["number"]) * _UNITS[bound["unit"]]
    except ValueError as error:
        raise ThresholdError(f'"{bound["number"]}" in the limit of {left} is not a number') from error
    measured = _measure(case, subject["metric"], subject["operation"])
    if measured is None:
        return None, False, f"{left.strip()} was not measured"
    holds = {
        "<": measured < limit,
        "<=": measured <= limit,
        ">": measured > limit,
        ">=": measured >= limit,
    }[bound["sign"]]
    shown = _show(measured, bound["unit"])
    return measured, holds, f"{left.strip()} is {shown}, the limit is {right.strip()}"


def _show(value: float, unit: str | None) -> str:
    number = value / _UNITS[unit]
    return f"{number:.4g}{unit or ''}"


def _measure(case: Case, metric: str, operation: str | None) -> float | None:
    if metric == "recovery":
        times = [
            figure
            for fault in case.faults
            for name in ("recovery_s", "first_ack_s")
            if isinstance(figure := fault.figures.get(name), int | float)
        ]
        return max(times) if times else None
    if case.latency is None:
        return None
    name = None
    if operation is not None:
        name = _find_operation(case.latency.operations(), operation)
        if name is None:
            return None
    summary: Summary = case.latency.summary(name, RESPONSE)
    if not summary.count:
        return None
    if metric == "rate":
        return summary.rate
    if metric == "fail_ratio":
        return summary.failed / summary.count
    if metric == "unknown_ratio":
        return summary.unknown / summary.count
    if metric in _PERCENTILES:
        return float(getattr(summary, _PERCENTILES[metric])) / 1e6
    known = ", ".join([*_PERCENTILES, "rate", "fail_ratio", "unknown_ratio", "recovery"])
    raise ThresholdError(f"there is no metric {metric}; there are {known}")


def _find_operation(operations: list[str], wanted: str) -> str | None:
    """By its name, or by the last word of it when that names one operation only."""
    wanted = wanted.strip()
    if wanted in operations:
        return wanted
    ending = [name for name in operations if name.split()[-1:] == [wanted]]
    return ending[0] if len(ending) == 1 else None
