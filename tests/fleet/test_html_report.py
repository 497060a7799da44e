"""Locust's own HTML report has our percentiles, faults and verdict behind its own tables."""

import time
from pathlib import Path

import pytest

from records.faults import FaultRecord, append_fault
from records.latency import LatencyStore
from records.run_directory import RunDirectory
from swarmproof.report.locust_sections import locust_sections
from tests.locustfiles.runs import run_locust
from tests.processes import ServerProcess
from tests.report import made


def test_locusts_report_of_a_run_has_our_percentiles(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    with ServerProcess("envelope") as server:
        done = run_locust("envelope", tmp_path, "--host", f"tcp://127.0.0.1:{server.port}", "--html", str(report))
    assert done.exit_code == 0, done.log
    page = report.read_text()
    assert page.count('<div id="root"></div>') == 1
    assert page.index('<div id="root"></div>') < page.index("Response time: from when the request was due")
    assert "<td>envelope echo</td>" in page
    assert "<th>p99.99</th>" in page
    assert "not judged yet; `swarmproof check" in page
    assert "missing from the HTML report" not in done.log


def test_faults_and_verdict_are_told_when_there_are_any(valid: RunDirectory) -> None:
    text = locust_sections(LatencyStore.load(valid), valid, "dark")
    assert "leader n1 killed at 4.0 s; n2 leads term 2 after 0.41 s" in text
    assert "VALID: linearizable" in text
    assert "#121212" in text


def test_names_of_others_stay_text(tmp_path: Path) -> None:
    run = made.valid_run(tmp_path)
    append_fault(run, FaultRecord(9, "kill", "<script>", chosen="<script>", requested_ns=time.monotonic_ns()))
    assert "<script>" not in locust_sections(LatencyStore.load(run), run, "light")


def test_nothing_recorded_adds_nothing_and_half_a_run_no_error(tmp_path: Path, half_there: list[RunDirectory]) -> None:
    assert locust_sections(LatencyStore(), None, "light") == ""
    for run in half_there:
        store = LatencyStore.load(run, lambda _: None)
        assert isinstance(locust_sections(store, run, "light"), str)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return made.valid_run(tmp_path_factory.mktemp("valid"))


@pytest.fixture
def half_there(tmp_path: Path) -> list[RunDirectory]:
    return made.half_there_runs(tmp_path)
