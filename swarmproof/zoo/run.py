"""Runs exhibits and their healthy twins over seeds, each as a `swarmproof run` of its own, and counts what was caught.

A twin without the bug is the same for all bugs of one scenario, so it is run once for each seed and serves them all.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from records.run_directory import LATEST, VERDICT_JSON
from swarmproof.judge.verdict import EXIT_HARNESS_FAILED, INVALID, MISSED, UNKNOWN, VALID
from swarmproof.targets.errors import TargetError
from swarmproof.zoo.catalogue import CATALOGUE, Exhibit
from swarmproof.zoo.scenario import Scenario

# The servers plant a bug only when the environment says so, too (servers/bugs/planting.py).
SWITCH = {"SWARMPROOF_ZOO": "1"}
# A run takes half a minute at most; a starved machine may need several times that.
RUN_WITHIN_S = 300.0
#: So many of the runs of a bug must catch it.
CAUGHT_RATIO = 0.95
RESULTS_JSON = "zoo.json"


class NoSuchExhibit(TargetError):
    """A name that is not in the catalogue, in one sentence."""


@dataclass(frozen=True)
class Outcome:
    """What one run said. `checks`: verdict by check; `sentence`: the counterexample, or why it is so.

    `sentences` has the counterexample of each check that gave one.
    """

    verdict: str
    exit_code: int
    checks: dict[str, str]
    sentence: str
    directory: Path
    sentences: Mapping[str, str] = field(default_factory=dict)
    operations: int = 0

    def log_holds(self, text: str) -> bool:
        logs = self.directory.glob("nodes/*/log")
        return any(text in log.read_text("utf-8", "replace") for log in logs)


@dataclass
class Row:
    """One line of the table: a bug over its seeds."""

    exhibit: Exhibit
    caught: int = 0
    runs: int = 0
    by: dict[str, int] = field(default_factory=dict)
    sentence: str = ""
    twins: int = 0
    twins_flagged: int = 0
    twins_valid: int = 0
    missed: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return self.caught >= CAUGHT_RATIO * self.runs and not self.twins_flagged

    def to_json(self) -> dict[str, Any]:
        return {
            "bug": self.exhibit.name,
            "title": self.exhibit.title,
            "expected": self.exhibit.verdict,
            "caught": self.caught,
            "runs": self.runs,
            "by": self.by,
            "counterexample": self.sentence,
            "twins": self.twins,
            "twins_valid": self.twins_valid,
            "twins_flagged": self.twins_flagged,
            "missed": self.missed,
        }


def chosen(names: Sequence[str]) -> list[Exhibit]:
    """The exhibits of these names, all when none is named. Errors: NoSuchExhibit."""
    for name in names:
        if name not in CATALOGUE:
            raise NoSuchExhibit(f"there is no {name!r} in the zoo; there are: {', '.join(CATALOGUE)}")
    return [CATALOGUE[name] for name in names] if names else list(CATALOGUE.values())


def run_zoo(
    exhibits: Iterable[Exhibit],
    seeds: Iterable[int],
    root: Path,
    say: Callable[[str], None],
    *,
    keep: bool = False,
    twins: bool = True,
) -> list[Row]:
    """Run every exhibit and its twin with every seed. Run directories of what went as it should are removed."""
    rows = []
    known_twins: dict[str, Outcome] = {}
    numbers = list(seeds)
    for exhibit in exhibits:
        row = Row(exhibit)
        rows.append(row)
        for seed in numbers:
            outcome = run_plan(exhibit.scenario.plan(seed, exhibit.bug), root / exhibit.name / str(seed))
            count_bug(row, outcome, seed)
            tidy(outcome, keep or bool(row.missed and row.missed[-1].startswith(f"seed {seed}:")))
            if not twins:
                continue
            plan = exhibit.twin_plan_of.plan(seed)
            if plan not in known_twins:
                known_twins[plan] = run_plan(plan, root / f"{exhibit.name}-twin" / str(seed))
                tidy(known_twins[plan], keep or known_twins[plan].verdict != VALID)
            count_twin(row, known_twins[plan], seed)
        say(line_of(row))
        (root / RESULTS_JSON).write_text(json.dumps([each.to_json() for each in rows], indent=1) + "\n", "utf-8")
    return rows


def run_plan(plan: str, directory: Path) -> Outcome:
    """Run a plan in a process of its own; never raises for what the run says, or for a run that says nothing."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    path = directory / "plan.toml"
    path.write_text(plan, "utf-8")
    command = [sys.executable, "-m", "swarmproof.cli", "run", str(path), "--out", str(directory), "--quiet"]
    with (directory / "output").open("wb") as output:
        try:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | SWITCH,
                timeout=RUN_WITHIN_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return Outcome("hangs", EXIT_HARNESS_FAILED, {}, f"no verdict within {RUN_WITHIN_S:g} s", directory)
    run = directory / LATEST
    try:
        verdict = json.loads((run / VERDICT_JSON).read_text("utf-8"))
    except (OSError, ValueError):
        lines = (directory / "output").read_text("utf-8", "replace").splitlines() or ["nothing"]
        return Outcome("no verdict", code, {}, lines[-1], run)
    checks = {check["name"]: check["verdict"] for check in verdict["checks"]}
    sentences = {
        check["name"]: str(check["counterexample"]["sentence"])
        for check in verdict["checks"]
        if check.get("counterexample")
    }
    sentence = next(iter(sentences.values()), str(verdict["summary"]))
    return Outcome(verdict["verdict"], code, checks, sentence, run, sentences, int(verdict["operations"]))


def count_bug(row: Row, outcome: Outcome, seed: int) -> None:
    """Was it caught, and by which check?"""
    exhibit = row.exhibit
    row.runs += 1
    wanted = {exhibit.verdict, UNKNOWN} if exhibit.or_unknown else {exhibit.verdict}
    by = [name for name in exhibit.checks if outcome.checks.get(name) == exhibit.verdict]
    # A missed threshold leaves the verdict valid: correct, but too slow.
    caught = bool(by) and outcome.verdict in {VALID if verdict == MISSED else verdict for verdict in wanted}
    if caught and exhibit.shown_by:
        caught = outcome.log_holds(exhibit.shown_by)
    if not caught:
        row.missed.append(f"seed {seed}: {outcome.verdict}, {outcome.sentence} ({outcome.directory.resolve()})")
        return
    row.caught += 1
    row.by[by[0]] = row.by.get(by[0], 0) + 1
    row.sentence = row.sentence or outcome.sentences.get(by[0], outcome.sentence)


def count_twin(row: Row, outcome: Outcome, seed: int) -> None:
    """Flagged: called invalid, or found guilty of the very thing that the bug is about."""
    exhibit = row.exhibit
    row.twins += 1
    row.twins_valid += outcome.verdict == VALID
    accused = exhibit.verdict != VALID and any(outcome.checks.get(name) == exhibit.verdict for name in exhibit.checks)
    if outcome.verdict == INVALID or accused:
        row.twins_flagged += 1
        row.missed.append(f"healthy twin, seed {seed}: {outcome.verdict}, {outcome.sentence} ({outcome.directory})")
    elif outcome.verdict != VALID:
        row.missed.append(f"healthy twin, seed {seed}, not flagged: {outcome.verdict}, {outcome.sentence}")


def tidy(outcome: Outcome, keep: bool) -> None:
    """Remove the run directory of a run that nobody will ask about."""
    if not keep and outcome.directory.name == LATEST:
        shutil.rmtree(outcome.directory.parent, ignore_errors=True)


def line_of(row: Row) -> str:
    """One line of progress."""
    by = ", ".join(f"{name} {count}" for name, count in sorted(row.by.items(), key=lambda item: -item[1]))
    twin = f"twin flagged {row.twins_flagged}/{row.twins}" if row.twins else "no twin"
    text = f"{row.exhibit.name:<24} caught {row.caught}/{row.runs} ({by or '-'}), {twin}: {row.sentence}"
    return "\n".join([text, *(f"    {line}" for line in row.missed)])


def twin_scenarios(exhibits: Iterable[Exhibit]) -> list[Scenario]:
    """The different healthy scenarios of these exhibits."""
    found: dict[str, Scenario] = {}
    for exhibit in exhibits:
        found.setdefault(exhibit.twin_plan_of.plan(0), exhibit.twin_plan_of)
    return list(found.values())
