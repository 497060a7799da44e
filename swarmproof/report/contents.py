"""A run directory as the reports see it: read once, with a note for everything that is missing or broken."""

from dataclasses import dataclass, field
from typing import Any

from records.faults import FaultRecord, read_faults
from records.latency import LatencyStore
from records.run_directory import COUNTEREXAMPLE_JSON, RUN_JSON, VERDICT_JSON, RunDirectory, RunDirectoryError
from records.violations import Violation, read_violations

NS_PER_S = 1_000_000_000


@dataclass(slots=True)
class Contents:
    """What there is of a run. ``notes`` are sentences about what there is not."""

    run: RunDirectory
    facts: dict[str, Any] = field(default_factory=dict)
    verdict: dict[str, Any] = field(default_factory=dict)
    counterexample: dict[str, Any] | None = None
    faults: list[FaultRecord] = field(default_factory=list)
    latency: LatencyStore = field(default_factory=LatencyStore)
    violations: dict[tuple[str, str], int] = field(default_factory=dict)
    examples: list[Violation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def load(self) -> dict[str, Any]:
        load = self.facts.get("load")
        return load if isinstance(load, dict) else {}

    @property
    def title(self) -> str:
        plan = self.facts.get("plan")
        if isinstance(plan, dict) and isinstance(plan.get("title"), str):
            return str(plan["title"])
        name = self.facts.get("title") or self.facts.get("name") or self.run.path.name
        return str(name)

    @property
    def start_ns(self) -> int | None:
        """The monotonic moment that all times of the report count from; None when nothing happened at all."""
        for facts in (self.load, self.facts):
            start = facts.get("start_ns")
            if isinstance(start, int) and not isinstance(start, bool):
                return start
        seconds = self.latency.seconds()
        if seconds:
            return seconds[0] * NS_PER_S
        return self.faults[0].requested_ns if self.faults else None

    def elapsed_s(self, at_ns: int) -> float:
        return (at_ns - (self.start_ns or 0)) / NS_PER_S

    def fault_at_s(self, fault: FaultRecord) -> float:
        return self.elapsed_s(fault.effect_ns if fault.effect_ns is not None else fault.requested_ns)

    @property
    def checks(self) -> list[dict[str, Any]]:
        checks = self.verdict.get("checks")
        return [check for check in checks if isinstance(check, dict)] if isinstance(checks, list) else []


def read_contents(run: RunDirectory) -> Contents:
    """Read what there is; never fails on what there is not."""
    contents = Contents(run)
    contents.facts = _read_object(contents, RUN_JSON, "it is not known what this run was (no run.json)")
    contents.verdict = _read_object(
        contents, VERDICT_JSON, f"the run has not been judged yet; `swarmproof check {run.path}` does it"
    )
    contents.counterexample = _read_object(contents, COUNTEREXAMPLE_JSON, "") or None
    try:
        contents.faults = read_faults(run)
    except (OSError, ValueError) as error:
        contents.notes.append(f"the faults cannot be read: {error}")
    try:
        contents.latency = LatencyStore.load(run)
    except (OSError, ValueError, TypeError, KeyError) as error:
        contents.notes.append(f"the latencies cannot be read: {error}")
    if not contents.latency.operations():
        contents.notes.append("no response times were recorded, so there are no percentiles")
    try:
        counts, contents.examples = read_violations(run)
        contents.violations = dict(counts)
    except (OSError, ValueError, TypeError) as error:
        contents.notes.append(f"the violations cannot be read: {error}")
    return contents


def _read_object(contents: Contents, name: str, missing: str) -> dict[str, Any]:
    try:
        value = contents.run.read_json(name)
    except (RunDirectoryError, OSError, UnicodeDecodeError) as error:
        contents.notes.append(str(error))
        return {}
    if value is None:
        if missing:
            contents.notes.append(missing)
        return {}
    if not isinstance(value, dict):
        contents.notes.append(f"{name} does not hold a JSON object")
        return {}
    return value
