"""`swarmproof report RUN...` and `swarmproof compare RUN_A RUN_B`: from run directories to lines, pages and JSON."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from records.run_directory import RunDirectory, RunDirectoryError, write_atomically
from swarmproof.console import Printer
from swarmproof.judging import write_reports
from swarmproof.report import print_report
from swarmproof.report.comparing import compare
from swarmproof.report.contents import read_contents
from swarmproof.report.several_html import comparison_page, trend_page
from swarmproof.report.several_text import comparison_lines, trend_lines
from swarmproof.report.trend_of_runs import trend_of

#: The page of several runs, in the folder that holds them all.
TREND_HTML = "trend.html"


def report_runs(paths: Sequence[Path], printer: Printer, *, html: Path | None, as_json: bool) -> None:
    """One run: its report again. Several: a table and a page of their trend. Errors: RunDirectoryError."""
    runs = _open(paths)
    if as_json:
        printer.write(json.dumps(trend_of([read_contents(run) for run in runs]).to_json(), indent=2) + "\n")
        return
    if len(runs) == 1 and html is None:
        _write_reports(runs[0])
        print_report(runs[0], printer.out)
        return
    trend = trend_of([read_contents(run) for run in runs])
    for line in trend_lines(trend):
        printer.result(line)
    page = html or Path(os.path.commonpath([run.path.parent for run in runs])) / TREND_HTML
    _write(page, trend_page(trend))
    printer.result(f"page    {page}")


def compare_runs(first: Path, second: Path, printer: Printer, *, html: Path | None, as_json: bool) -> None:
    """Two runs side by side. Errors: RunDirectoryError."""
    a, b = (read_contents(RunDirectory.open(path)) for path in (first, second))
    found = compare(a, b)
    if as_json:
        printer.write(json.dumps(found.to_json(), indent=2) + "\n")
    else:
        for line in comparison_lines(found):
            printer.result(line)
    if html is not None:
        _write(html, comparison_page(found, a, b))
        if not as_json:
            printer.result(f"page    {html}")


def _open(paths: Sequence[Path]) -> list[RunDirectory]:
    """Each run once, also when `latest` and its target are both named."""
    runs = {run.path: run for run in (RunDirectory.open(path) for path in paths)}
    return list(runs.values())


def _write_reports(run: RunDirectory) -> None:
    try:
        write_reports(run)
    except OSError as error:
        raise RunDirectoryError(
            f"cannot write the report into {run.path}: {error.strerror}; copy the run to where you may write"
        ) from error


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise RunDirectoryError(f"cannot write {path}: {error.strerror}; choose another with --html") from error
