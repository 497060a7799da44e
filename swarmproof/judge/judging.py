"""From a run directory, or a bare history, to a verdict."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from records.operations import JsonLines, Operation
from records.run_directory import COUNTEREXAMPLE_JSON, VERDICT_JSON, RunDirectory
from swarmproof.judge import durability, faulting, protocol, remaining, thresholds
from swarmproof.judge.case import Case
from swarmproof.judge.gaps import softened
from swarmproof.judge.history import read_history
from swarmproof.judge.linearizability import Limits
from swarmproof.judge.verdict import NOT_APPLICABLE, Verdict


def judge(run: RunDirectory | Path | str, *, limits: Limits | None = None, write: bool = True) -> Verdict:
    """Judge a run from what it left behind; with ``write``, into its verdict.json and counterexample.json.

    Errors: RunDirectoryError when there is no such directory, HistoryError when its history is damaged.
    """
    started = time.monotonic()
    run = run if isinstance(run, RunDirectory) else RunDirectory.open(run)
    verdict = verdict_of(Case.of_run(run, limits))
    verdict.judged_in_s = time.monotonic() - started
    if write:
        run.write_json(VERDICT_JSON, verdict.to_json())
        example = verdict.counterexample
        if example is not None:
            run.write_json(COUNTEREXAMPLE_JSON, example)
        else:
            run.file(COUNTEREXAMPLE_JSON).unlink(missing_ok=True)
    return verdict


def check_history(operations: Iterable[Operation], *, limits: Limits | None = None) -> Verdict:
    """Judge a history alone: linearizability, duplicates, and durability when it has final reads."""
    started = time.monotonic()
    once = isinstance(operations, Iterator | JsonLines)  # a file may be a pipe
    again = None if once else lambda: operations
    history = read_history(operations)
    unsalvaged = list(operations.unsalvaged_workers) if isinstance(operations, JsonLines) else None
    case = Case(history, read_again=again, limits=limits, unsalvaged=unsalvaged)
    verdict = verdict_of(case)
    if not case.history.final.any():
        verdict.checks = [check for check in verdict.checks if check.name != durability.NAME]
    verdict.judged_in_s = time.monotonic() - started
    return verdict


def verdict_of(case: Case) -> Verdict:
    """Run every check. The order is that of the report."""
    durable, lost_keys = durability.check(case)
    checks = [
        protocol.check(case),
        durable,
        remaining.linearizability(case),
        remaining.duplicates(case),
        faulting.check(case),
        remaining.liveness(case),
        remaining.generator(case),
        thresholds.check(case),
    ]
    present = [softened(check, case) for check in checks if check is not None]
    bare = case.protocol is None
    if bare:
        present = [check for check in present if check.verdict != NOT_APPLICABLE or check.name == "linearizability"]
    verdict = Verdict(present, operations=len(case.history), harness_problems=case.harness_problems())
    if len(case.history):
        keys = case.history.keys
        result = case.linearizability
        broken = set(result.findings) | set(lost_keys)
        verdict.invalid_keys = sorted(keys[key] for key in broken)
        verdict.unknown_keys = sorted(keys[key] for key in result.unknown)
    return verdict
