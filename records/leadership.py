"""Who led a cluster, and when: ``leadership.jsonl``, one line for each change that was seen.

{"at_ns": 1, "cluster": "raft", "leader": "n2", "term": 3}        leader null = nobody
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from records.run_directory import LEADERSHIP_JSONL, RunDirectory


@dataclass(frozen=True, slots=True)
class Leader:
    """From `at_ns` (monotonic) on `leader` led `cluster` in `term`; None: nobody did."""

    at_ns: int
    cluster: str
    leader: str | None
    term: int


def append_leader(run: RunDirectory, change: Leader) -> None:
    """Add one change."""
    with run.file(LEADERSHIP_JSONL).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(change)) + "\n")


def read_leaders(run: RunDirectory) -> list[Leader]:
    """The changes in order of time; lines that cannot be read are left out."""
    try:
        text = run.file(LEADERSHIP_JSONL).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    found = [leader for line in text.splitlines() if (leader := _leader_in(line)) is not None]
    return sorted(found, key=lambda leader: leader.at_ns)


def _leader_in(line: str) -> Leader | None:
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    at_ns, name, leader, term = (values.get(key) for key in ("at_ns", "cluster", "leader", "term"))
    known = isinstance(at_ns, int) and isinstance(name, str) and isinstance(term, int)
    return Leader(at_ns, name, leader, term) if known and (leader is None or isinstance(leader, str)) else None  # type: ignore[arg-type]
