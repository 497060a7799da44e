"""From a run directory to what a person sees: the verdict, the table, the report's files, and the exit code."""

from records.operations import HistoryError
from records.run_directory import REPORT_HTML, RunDirectory, RunDirectoryError
from swarmproof.console import Printer
from swarmproof.ending import EXIT_HARNESS


def judge_and_report(run: RunDirectory, printer: Printer) -> int:
    """Judge `run`, write its files, print the result; the exit code of the verdict."""
    from swarmproof.judge import judge

    try:
        verdict = judge(run)
    except (HistoryError, RunDirectoryError) as error:
        printer.error(f"cannot judge this run: {error}")
        return EXIT_HARNESS
    printer.result(f"verdict {verdict.verdict.upper()}   {verdict.summary}")
    printer.result(f"report  {run.file(REPORT_HTML)}")
    return verdict.exit_code
