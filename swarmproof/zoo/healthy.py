"""The other half of trust: stores without any planted bug, whose leaders are killed, and that nobody may call liars.

`invalid` is a false alarm. `unknown` is none, but it is counted and its reason is shown: a judge that never dares
to say `valid` would have no false alarms either.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from records.faults import read_faults
from records.run_directory import RunDirectory
from swarmproof.judge.verdict import INVALID, UNKNOWN, VALID
from swarmproof.zoo.run import Outcome, run_plan, tidy
from swarmproof.zoo.scenario import Scenario


@dataclass
class Tally:
    """What was said of one store's healthy runs."""

    store: str
    runs: int = 0
    kills: int = 0
    operations: int = 0
    valid: int = 0
    unknown: int = 0
    false_alarms: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Runs that came to no verdict at all."""
        return self.runs - self.valid - self.unknown - self.false_alarms

    def to_json(self) -> dict[str, Any]:
        return {
            "store": self.store,
            "runs": self.runs,
            "leader_kills": self.kills,
            "operations": self.operations,
            "valid": self.valid,
            "unknown": self.unknown,
            "false_alarms": self.false_alarms,
            "no_verdict": self.failed,
            "notes": self.notes,
        }


def run_healthy(
    scenario: Scenario, seeds: Iterable[int], root: Path, say: Callable[[str], None], *, keep: bool = False
) -> Tally:
    """Run the scenario with every seed. Run directories of valid runs are removed, unless `keep`."""
    tally = Tally(scenario.target)
    for seed in seeds:
        outcome = run_plan(scenario.plan(seed), root / f"healthy-{scenario.target}" / str(seed))
        note = count(tally, outcome, seed)
        say(f"{scenario.target} seed {seed}: {outcome.verdict}" + (f", {note}" if note else ""))
        tidy(outcome, keep or bool(note))
    return tally


def count(tally: Tally, outcome: Outcome, seed: int) -> str:
    """Add one run; what there is to say of it, "" when it was valid."""
    tally.runs += 1
    tally.kills += _kills_in(outcome.directory)
    tally.operations += outcome.operations
    if outcome.verdict == VALID:
        tally.valid += 1
        return ""
    tally.unknown += outcome.verdict == UNKNOWN
    tally.false_alarms += outcome.verdict == INVALID
    tally.notes.append(f"seed {seed}: {outcome.verdict}, {outcome.sentence} ({outcome.directory})")
    return outcome.sentence


def _kills_in(directory: Path) -> int:
    if not directory.is_dir():
        return 0
    return sum(fault.kind == "kill" and fault.took_effect for fault in read_faults(RunDirectory(directory)))
