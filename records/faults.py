"""What was done to the system under test, and what was seen to come of it: ``faults.jsonl``."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from records.run_directory import FAULTS_JSONL, RunDirectory


@dataclass(slots=True)
class FaultRecord:
    """One fault. ``*_ns`` are monotonic; ``elapsed_s`` counts from the start of the load.

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


def append_fault(run: RunDirectory, record: FaultRecord) -> None:
    """Add the present state of a fault; the last line of an id holds."""
    with run.file(FAULTS_JSONL).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(record)) + "\n")


def read_faults(run: RunDirectory) -> list[FaultRecord]:
    """The faults of a run by id, each in its last recorded state; a half-written last line is skipped."""
    latest: dict[int, FaultRecord] = {}
    names = {item.name for item in fields(FaultRecord)}
    try:
        text = run.file(FAULTS_JSONL).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            values = json.loads(line)
            record = FaultRecord(**{name: values[name] for name in names if name in values})
        except (ValueError, TypeError):
            continue
        latest[record.id] = record
    return [latest[identity] for identity in sorted(latest)]
