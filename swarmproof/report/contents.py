"""A run directory as the reports see it: read once, with a note for everything that is missing or broken."""

import csv
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from records.breakers import Breakers, read_breakers
from records.faults import FaultRecord, read_faults
from records.latency import LatencyStore
from records.leadership import Leader, read_leaders
from records.progress import ProgressReader
from records.run_directory import (
    CONTROL_SOCKET,
    COUNTEREXAMPLE_JSON,
    OUTAGES_CSV,
    PROGRESS_JSONL,
    RUN_JSON,
    VERDICT_JSON,
    RunDirectory,
    RunDirectoryError,
)
from records.violations import Violation, read_violations

NS_PER_S = 1_000_000_000

#: What a file that was never written by us may raise when it is taken apart.
BROKEN: Final = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError),
    RunDirectoryError,
)

#: A load generator writes a line of progress every second; one that is silent for longer than this is gone.
_GONE_AFTER_S: Final = 10.0

T = TypeVar("T")


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
    progress: list[dict[str, Any]] = field(default_factory=list)
    leaders: list[Leader] = field(default_factory=list)
    outages: list[dict[str, str]] = field(default_factory=list)
    breakers: Breakers = field(default_factory=Breakers)
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

    def damaged_latencies(path: Path) -> None:
        contents.notes.append(f"{path} is damaged: what it holds behind the damage is missing here")

    contents.faults = _read(contents, "faults", lambda: read_faults(run), [])
    contents.latency = _read(contents, "latencies", lambda: LatencyStore.load(run, damaged_latencies), LatencyStore())
    if not contents.latency.operations():
        contents.notes.append("no response times were recorded, so there are no percentiles")
    nothing: tuple[Counter[tuple[str, str]], list[Violation]] = (Counter(), [])
    counts, contents.examples = _read(contents, "violations", lambda: read_violations(run), nothing)
    contents.violations = dict(counts)
    contents.progress = _read(contents, "progress", lambda: ProgressReader(run).read_new(), [])
    contents.leaders = _read(contents, "leaders", lambda: read_leaders(run), [])
    contents.outages = _read(contents, "outages", lambda: _read_outages(run), [])
    contents.breakers = _read(contents, "circuit breakers", lambda: read_breakers(run), Breakers())
    problems = contents.facts.get("harness_problems")
    contents.notes += [
        f"the harness had a problem: {text}" for text in (problems if isinstance(problems, list) else [])
    ]
    ending = _how_it_stands(contents)
    if ending:
        contents.notes.insert(0, ending)
    return contents


def _read(contents: Contents, what: str, read: Callable[[], T], nothing: T) -> T:
    """What `read` gives, or `nothing` and a note."""
    try:
        return read()
    except BROKEN as error:
        reason = error.strerror if isinstance(error, OSError) else error
        contents.notes.append(f"the {what} of this run cannot be read: {reason or type(error).__name__}")
        return nothing


def _read_outages(run: RunDirectory) -> list[dict[str, str]]:
    try:
        with run.file(OUTAGES_CSV).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    return [{str(key): value or "" for key, value in row.items() if isinstance(value, str | None)} for row in rows]


def _how_it_stands(contents: Contents) -> str:
    """One sentence about a run that has not ended as runs do, "" for all others."""
    facts, run = contents.facts, contents.run
    supervised = "start_ns" in facts
    if (facts if supervised else contents.load).get("end_ns") is not None or contents.verdict:
        return ""
    silent_s = _age_s(run, PROGRESS_JSONL)
    if silent_s is not None and silent_s < _GONE_AFTER_S:
        last = contents.progress[-1].get("elapsed_s") if contents.progress else None
        so_far = f"its first {last:.0f} s" if isinstance(last, int | float) else "what there is so far"
        return f"the run is still going; this shows {so_far}"
    if silent_s is None and run.file(CONTROL_SOCKET).exists():
        return "the run has only begun: there is no load yet"
    if silent_s is None and not contents.latency.operations():
        return "nothing was loaded in this run: it ended before any load, or is no run at all"
    return (
        "the run did not come to its end: it crashed or was killed, and nothing of it says how; "
        "this shows what it left behind"
    )


def _age_s(run: RunDirectory, name: str) -> float | None:
    try:
        return max(0.0, time.time() - run.file(name).stat().st_mtime)
    except OSError:
        return None


def _read_object(contents: Contents, name: str, missing: str) -> dict[str, Any]:
    try:
        value = contents.run.read_json(name)
    except OSError as error:
        contents.notes.append(f"{name} cannot be read: {error.strerror or error}")
        return {}
    except (RunDirectoryError, UnicodeDecodeError) as error:
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
