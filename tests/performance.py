"""Round trips of the seed's happy-path tests, gathered over a whole pytest session (also one divided by pytest-xdist).

`tests/conftest.py` prints their report at the end and writes test-reports/performance-report.json (seed 003). Only
tests that ask for `performance_tracker` are tracked; a threshold that is exceeded warns and fails nothing.
"""

from pathlib import Path

import pytest

from records.performance_report import REPORT_JSON, Samples, console_block, performance_report, write_report
from tests.processes import ROOT

SAMPLES = pytest.StashKey[list[float]]()
WORKER_OUTPUT = "performance_samples_ms"


def begin(config: pytest.Config) -> None:
    """At the start of a session."""
    config.stash[SAMPLES] = []


def hand_over(config: pytest.Config) -> None:
    """At the end of a worker's session: its samples travel to the one who reports."""
    output = getattr(config, "workeroutput", None)
    if output is not None:
        output[WORKER_OUTPUT] = config.stash[SAMPLES]


def take_over(config: pytest.Config, output: dict[str, object]) -> None:
    """A worker's samples have come."""
    samples = output.get(WORKER_OUTPUT)
    if isinstance(samples, list):
        config.stash[SAMPLES] += samples


def report(config: pytest.Config, path: Path = ROOT / REPORT_JSON) -> str:
    """Write the report; its console block, "" when no tracked test has run."""
    samples = Samples()
    samples.extend(config.stash[SAMPLES])
    if not samples.count:
        return ""
    made = performance_report(samples)
    write_report(made, path)
    return console_block(made)
