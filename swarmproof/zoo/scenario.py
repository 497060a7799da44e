"""A scenario: one short plan that is written with a bug planted, and without one for its healthy twin.

    scenario = Scenario("raft", "raft_kv", run_time_s=5, faults=("kill leader @2s restart 1s",), jitter_s=1)
    scenario.plan(seed=3, bug="applied-twice")      # TOML for `swarmproof run`
    scenario.plan(seed=3)                           # the healthy twin

The seed moves the faults in time and chooses their victims, so that a catch is not one lucky moment.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from swarmproof.faults.schedule import parse_fault

Option = str | int | float | bool


@dataclass(frozen=True)
class Scenario:
    """What is started, how it is loaded and hit. `faults` as on the command line; each is up to `jitter_s` later."""

    target: str
    locustfile: str
    run_time_s: float
    users: int = 10
    rate: str = ""
    arguments: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    jitter_s: float = 0.0
    thresholds: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, float] = field(default_factory=dict)

    def plan(self, seed: int, bug: str = "") -> str:
        """The plan as TOML; `bug` is what `--bug` plants in every process of the target."""
        arguments = [*self.arguments, *(["--bug", bug] if bug else [])]
        lines = [f'title = "zoo: {bug or "healthy twin"}"', f"seed = {seed}", "", "[[target]]"]
        lines += _pairs({"kind": self.target, "arguments": arguments})
        load: dict[str, object] = {"locustfile": self.locustfile, "users": self.users}
        load["run_time"] = f"{self.run_time_s:g}s"
        if self.rate:
            load["rate"] = self.rate
        lines += ["", "[load]", *_pairs(load)]
        for name, table in (
            ("load.options", self.options),
            ("thresholds", self.thresholds),
            ("evidence", self.evidence),
        ):
            if table:
                lines += ["", f"[{name}]", *_pairs(table)]
        rng = random.Random(f"{seed}/zoo")
        for text in self.faults:
            lines += ["", "[[fault]]", *_pairs(self._fault(text, rng.uniform(0, self.jitter_s)))]
        return "\n".join(lines) + "\n"

    @staticmethod
    def _fault(text: str, later_s: float) -> dict[str, object]:
        spec = parse_fault(text)
        table: dict[str, object] = {"kind": spec.kind, "target": spec.target}
        table["at"] = f"{(spec.at_s or 0) + later_s:.3f}s"
        if spec.heal_after_s is not None:
            table["for" if spec.kind == "pause" else "restart_after"] = f"{spec.heal_after_s:g}s"
        return table


def _pairs(table: Mapping[str, object]) -> list[str]:
    # A JSON string, number, boolean or list of strings is the same text in TOML.
    return [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table.items()]
