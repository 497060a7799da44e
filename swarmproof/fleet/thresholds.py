"""Thresholds of a plain Locust run: `--threshold 'p99{envelope echo}<5ms'`, as often as needed, or in the start form.

They are those of plans, read and measured by the same code (`swarmproof.judge.limits`): over the run, a phase of its
faults or a sliding window; with `abort` the run ends as soon as one is missed. What came of each is printed, is in
run.json, is a case of `--junit-xml FILE`, and a missed one makes the exit code 4: unless a reply broke the protocol
(1, as for all failures), for a server that lied has more to answer for than one that was slow.
"""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from locust import events
from locust.runners import STATE_RUNNING, STATE_SPAWNING, WorkerRunner

from records.faults import read_faults
from records.latency import LatencyStore
from records.run_directory import RUN_JSON, RunDirectory, write_atomically
from records.violations import INFORMATIONAL, read_violations
from swarmproof.judge import thresholds
from swarmproof.judge.case import Case
from swarmproof.judge.history import read_history
from swarmproof.judge.limits import ThresholdError, split_limits
from swarmproof.judge.verdict import EXIT_HARNESS_FAILED, EXIT_THRESHOLD, INVALID, MISSED, VALID, Check

logger = logging.getLogger(__name__)

REQUESTS: Final = "requests"


def given(options: Any) -> dict[str, str]:
    """The limits on the command line or in the start form, as run.json has those of plans. Errors: ThresholdError."""
    return split_limits(getattr(options, "threshold", "") or "")


def note(run: RunDirectory, limits: dict[str, str]) -> None:
    """Into run.json, beside those of a plan."""
    if limits:
        planned = (run.read_json(RUN_JSON) or {}).get("thresholds") or {}
        run.update_json(RUN_JSON, {"thresholds": {**planned, **limits}})


def add_options(parser: Any) -> None:
    """To Locust's parser; a mistake in one is told at once, in a sentence."""
    # Straight to the parser: Locust's web form does not show the options of an argument group.
    parser.add_argument(
        "--threshold",
        action=_Another,
        default="",
        type=_limits,
        metavar="LIMIT",
        help="what must hold, or the exit code is 4: 'p99{envelope echo}<5ms', 'fail_ratio over 9s<0.05 abort' "
        "(ends the run); may be given several times, or several between ;",
    )
    group = parser.add_argument_group("swarmproof", "what comes of a run")
    group.add_argument(
        "--junit-xml",
        default="",
        type=_writable,
        metavar="FILE",
        help="write the thresholds as test cases into this file",
    )


class _Another(argparse._AppendAction):
    """One text of all that were given: what a field of the form can show, and a list cannot."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        before = getattr(namespace, self.dest, "")
        setattr(namespace, self.dest, f"{before}; {values}" if before else values)


def _limits(text: str) -> str:
    try:
        split_limits(text)
    except ThresholdError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text.strip()


def problem(text: str) -> str:
    """What is wrong with thresholds that were typed into the start form, as a sentence; "" when nothing is."""
    try:
        split_limits(text)
    except ThresholdError as error:
        return f"Threshold: {error}"
    return ""


def _writable(text: str) -> str:
    if text and (Path(text).is_dir() or not Path(text).absolute().parent.is_dir()):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: its folder does not exist; name another")
    return text


def conclude(
    environment: Any, run: RunDirectory, limits: dict[str, str], recorded: Callable[[], LatencyStore]
) -> Check | None:
    """Measure the limits of a run that is over, and write what came of them. None: nothing was asked for.

    `recorded` gives the latencies of all processes.
    """
    junit = getattr(environment.parsed_options, "junit_xml", "")
    if not limits and not junit:
        return None
    facts = run.read_json(RUN_JSON) or {}
    case = Case(read_history(()), faults=read_faults(run), latency=recorded(), facts={**facts, "thresholds": limits})
    check = thresholds.check(case)
    run.update_json(RUN_JSON, {"threshold_results": check.to_json()})
    if junit:
        _write_junit(environment, run, Path(junit), check)
    return check


def _write_junit(environment: Any, run: RunDirectory, path: Path, check: Check) -> None:
    # Here, not above: the reports bring plotly with them, which takes longer to import than Locust.
    from swarmproof.report.contents import read_contents
    from swarmproof.report.junit import render_junit

    contents = read_contents(run)
    contents.verdict = {"checks": [_requests(environment).to_json(), check.to_json()]}
    try:
        write_atomically(path, render_junit(contents))
    except OSError as error:
        logger.error("cannot write --junit-xml %s: %s", path, error.strerror)
        environment.process_exit_code = EXIT_HARNESS_FAILED


def _requests(environment: Any) -> Check:
    """Failed requests, as Locust's own exit code has them."""
    failed = sum(error.occurrences for error in environment.runner.errors.values())
    total = environment.stats.total.num_requests
    if failed and getattr(environment.parsed_options, "exit_code_on_error", 1):
        return Check(REQUESTS, INVALID, f"{failed} failures of {total} requests")
    return Check(REQUESTS, VALID, f"{total} requests, {failed} failures")


def lines(check: Check) -> list[str]:
    """For the console: one for each limit, and why the run was ended if it was."""
    found = [
        f"threshold  {'kept  ' if result['holds'] else 'MISSED'}  {result['text']}"
        for result in check.evidence.get("results", ())
    ]
    if aborted := check.evidence.get("aborted"):
        found.append(f"threshold  the run was ended because {aborted}")
    return found


def tell(
    environment: Any, run: RunDirectory | None, limits: dict[str, str], recorded: Callable[[], LatencyStore]
) -> None:
    """After a run that was started in the web UI, which goes on without exit code."""
    check = conclude(environment, run, limits, recorded) if run is not None else None
    for line in lines(check) if check is not None else ():
        logger.info("%s", line)


def _on_quitting(environment: Any, **_: Any) -> None:
    """Registered at import, and called last (Locust goes backwards): the master has heard its workers by then."""
    extension = getattr(environment, "swarmproof", None)
    if extension is None or isinstance(environment.runner, WorkerRunner):
        return
    if environment.runner.state in (STATE_SPAWNING, STATE_RUNNING):
        environment.runner.quit()  # a signal ended the run; Locust would stop it only after asking for the exit code
    run: RunDirectory | None = extension.run
    if run is None:
        return
    check = extension.thresholds = conclude(environment, run, extension.limits, extension.recorded)
    if check is None or check.verdict != MISSED or environment.process_exit_code is not None:
        return
    counts = read_violations(run)[0]
    if not any(number for (kind, _), number in counts.items() if kind not in INFORMATIONAL):
        environment.process_exit_code = EXIT_THRESHOLD


events.quitting.add_listener(_on_quitting)
