"""What was done to the system under test, and what was seen to come of it: ``faults.jsonl``."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from records.run_directory import FAULTS_JSONL, RunDirectory


@dataclass(slots=True)
class FaultRecord:
    """One fault. ``*_ns`` are monotonic; ``elapsed_s`` counts from the start of the load.

    ``how`` is what the kind was told beside its target: toxics and options, as ``latency=60ms``.
    ``figures`` holds seconds by name: ``detection_s``, ``new_leader_s``, ``first_ack_s``, ``recovery_s`` ...
    """

    id: int
    kind: str
    target: str
    chosen: str = ""
    why: str = ""
    requested_ns: int = 0
    elapsed_s: float = 0.0
    observed: str = ""
    took_effect: bool = False
    effect_ns: int | None = None
    healed_ns: int | None = None
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float | None] = field(default_factory=dict)
    error: str = ""
    how: str = ""


def append_fault(run: RunDirectory, record: FaultRecord) -> None:
    """Add the present state of a fault; the last line of an id holds."""
    with run.file(FAULTS_JSONL).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(record)) + "\n")


def read_faults(run: RunDirectory) -> list[FaultRecord]:
    """The faults of a run by id, each in its last recorded state; a half-written last line is skipped."""
    latest: dict[int, FaultRecord] = {}
    try:
        text = run.file(FAULTS_JSONL).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        record = _record_in(line)
        if record is not None:
            latest[record.id] = record
    return [latest[identity] for identity in sorted(latest)]


def _record_in(line: str) -> FaultRecord | None:
    """The fault of a line, None for one that holds something else: readers rely on the types."""
    try:
        values = json.loads(line)
        record = FaultRecord(**{item.name: values[item.name] for item in fields(FaultRecord) if item.name in values})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    texts = (record.kind, record.target, record.chosen, record.why, record.observed, record.error, record.how)
    times = (record.id, record.requested_ns, record.effect_ns, record.healed_ns)
    tables = (record.before, record.after, record.figures)
    numbers = (record.elapsed_s, *(record.figures.values() if isinstance(record.figures, dict) else ()))
    fit = (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(time, int) for time in times if time is not None)
        and all(isinstance(table, dict) for table in tables)
        and all(isinstance(number, int | float) for number in numbers if number is not None)
    )
    return record if fit and record.id is not None and record.requested_ns is not None else None
