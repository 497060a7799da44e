"""From a run directory to what a person sees: the verdict, the table, the report's files, and the exit code."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from records.operations import HistoryError, Operation, read_jsonl, read_operations, write_gap, write_jsonl
from records.run_directory import RUN_JSON, RunDirectory, RunDirectoryError
from swarmproof.console import Printer
from swarmproof.ending import EXIT_HARNESS
from swarmproof.judge import Verdict, check_history, judge
from swarmproof.judge.case import clock_errors_ns, unsalvaged_workers
from swarmproof.report import print_report, write_html, write_junit

EXPORT_NAME = "history.jsonl"


def judge_and_report(run: RunDirectory, printer: Printer) -> int:
    """Judge `run`, write its files, print the result; the exit code of the verdict, 3 when it cannot be judged."""
    try:
        verdict = judge(run)
    except (HistoryError, RunDirectoryError) as error:
        printer.error(f"cannot judge this run: {error}")
        return EXIT_HARNESS
    write_reports(run)
    printer.say("")
    print_report(run, printer.out)
    return verdict.exit_code


def write_reports(run: RunDirectory) -> None:
    """report.html and junit.xml, from what the run directory holds."""
    write_html(run)
    write_junit(run)


def check_path(path: Path, printer: Printer, *, as_json: bool = False) -> int:
    """Judge a run directory, or a history of JSON lines, again; the exit code. `as_json`: print verdict.json's text.

    Errors: HistoryError, RunDirectoryError.
    """
    if path.is_dir():
        verdict = judge(RunDirectory.open(path))
    elif path.exists():
        verdict = check_history(read_jsonl(path))
    else:
        raise RunDirectoryError(f"there is no {path}; give a run directory or a history of JSON lines")
    if as_json:
        print(json.dumps(verdict.to_json(), indent=1))
    else:
        show_verdict(verdict, printer)
    return verdict.exit_code


def show_verdict(verdict: Verdict, printer: Printer) -> None:
    """Each check with its reason, the counterexample's sentence, and the verdict."""
    width = max((len(check.name) for check in verdict.checks), default=0)
    for check in verdict.checks:
        printer.say(f"{check.name:<{width}}  {check.verdict:<14}  {check.reason}")
    example = verdict.counterexample
    sentence = example.get("sentence") if example is not None else None
    if sentence:
        printer.result(f"counterexample: {sentence}")
    printer.result(f"verdict {verdict.verdict.upper()}   {verdict.summary}")
    for problem in verdict.harness_problems:
        printer.error(problem)


def export(path: Path, output: Path | None) -> tuple[int, Path | None]:
    """Write the history of a run as JSON lines; how many operations and where (`-` is stdout, None).

    It is as the judge sees it, so that whoever judges it again comes to the same: intervals are widened by the errors
    of the clocks, and a gap is told. Errors: HistoryError, RunDirectoryError.
    """
    run = RunDirectory.open(path)
    if output is not None and str(output) == "-":
        return _write(run, sys.stdout), None
    target = output or run.file(EXPORT_NAME)
    try:
        with target.open("w", encoding="utf-8") as file:
            return _write(run, file), target
    except OSError as error:
        raise RunDirectoryError(f"cannot write {target}: {error.strerror}; choose another with --output") from error


def _write(run: RunDirectory, file: IO[str]) -> int:
    unsalvaged = unsalvaged_workers(run.read_json(RUN_JSON))
    if unsalvaged:
        write_gap(unsalvaged, file)
    return write_jsonl(_as_judged(run), file)


def _as_judged(run: RunDirectory) -> Iterator[Operation]:
    """The operations of a run, each with the interval in which it surely took place.

    The format has no times before 0. What would begin or end before is put there: no two change their order by it.
    """
    errors_ns = clock_errors_ns(run)
    for operation in read_operations(run):
        wrong_ns = errors_ns.get(operation.process, 0)
        operation.call_ns = max(0, operation.call_ns - wrong_ns)
        if operation.return_ns is not None:
            operation.return_ns = max(0, operation.return_ns + wrong_ns)
        yield operation
