"""Every way of running Locust leaves the same run directory, and its figures are complete."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from records.hlog import read_hlog
from records.latency import LatencyStore
from records.operations import read_operations
from records.progress import ProgressReader
from records.run_directory import LATENCY_HLOG, REQUESTS_CSV, REQUESTS_JSON, RUN_JSON, RunDirectory
from records.violations import read_violations
from tests.processes import ROOT, wait_until

SCENARIO = Path(__file__).with_name("clockwork.py")
END_DEADLINE_S = 60.0


@contextmanager
def locust(folder: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(SCENARIO), "--only-summary", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run_locust(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    with locust(folder, *arguments, **environment) as process:
        output, _ = process.communicate(timeout=END_DEADLINE_S)
        return process.returncode, output


def locust_count(output: str) -> int:
    """How many requests Locust itself counted."""
    match = re.search(r"Aggregated\s+(\d+)", output)
    assert match, output
    return int(match[1])


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_a_standalone_run_leaves_everything_in_a_run_directory(tmp_path: Path) -> None:
    code, output = run_locust(tmp_path, "--headless", "-u", "3", "-r", "3", "-t", "3s")
    assert code == 0, output
    run = RunDirectory.open(tmp_path / "runs" / "latest")
    summary = LatencyStore.load(run).summary("clock tick")
    assert summary.count == locust_count(output) > 0
    assert summary.min_us >= 2000
    assert read_hlog(run.file(LATENCY_HLOG))["clock_tick"].total == summary.count
    rows = list(csv.DictReader(run.file(REQUESTS_CSV).open()))
    assert {row["count"] for row in rows} == {str(summary.count)}
    values = json.loads(run.file(REQUESTS_JSON).read_text())
    assert [(value["time"], value["count"]) for value in values] == [
        ("response", summary.count),
        ("service", summary.count),
    ]
    assert values[0]["p9999_us"] == summary.p9999_us
    operations = list(read_operations(run))
    assert sum(operation.status == "ok" for operation in operations) == summary.count
    load = json.loads(run.file(RUN_JSON).read_text())["load"]
    assert (load["locustfile"], load["users"], load["role"]) == ("clockwork", 3, "standalone")
    assert load["end_ns"] - load["start_ns"] >= 2_000_000_000
    assert values[0]["rate"] == pytest.approx(summary.count * 1e9 / (load["end_ns"] - load["start_ns"]))
    lines = ProgressReader(run).read_new()
    assert lines[-1]["count"] == summary.count
    assert re.search(rf"^clock tick +{summary.count} ", output, re.MULTILINE), output
    assert "swarmproof check" in output


def test_run_dir_is_used_as_given_and_the_supervisor_is_not_talked_over(tmp_path: Path) -> None:
    code, output = run_locust(tmp_path, "--headless", "-u", "1", "-t", "1s", "--run-dir", str(tmp_path / "mine"))
    assert code == 0, output
    assert LatencyStore.load(RunDirectory.open(tmp_path / "mine")).operations() == ["clock tick"]
    assert "swarmproof check" not in output


def test_a_run_directory_that_cannot_be_made_ends_the_run_with_one_sentence_and_exit_3(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    code, output = run_locust(tmp_path, "--headless", "-u", "1", "-t", "1s")
    assert code == 3, output
    assert "cannot create a run directory" in output
    assert "Traceback" not in output


def test_a_failed_check_makes_locusts_exit_code_non_zero(tmp_path: Path) -> None:
    code, output = run_locust(tmp_path, "--headless", "-u", "1", "-t", "1s", CLOCKWORK_VIOLATES="1")
    assert code == 1, output
    counts, _ = read_violations(RunDirectory.open(tmp_path / "runs" / "latest"))
    assert sum(counts.values()) > 0
    assert "violation  payload mismatch" in output


@pytest.mark.parametrize("shared_disk", [True, False], ids=["one-machine", "no-shared-disk"])
def test_master_and_workers_leave_one_complete_run_directory(tmp_path: Path, shared_disk: bool) -> None:
    port = str(free_port())
    master_folder, worker_folder = tmp_path / "master", tmp_path / "workers"
    master_folder.mkdir()
    worker_folder.mkdir()
    environment = {} if shared_disk else {"CLOCKWORK_NO_SHARED_DISK": "1"}
    worker = ("--worker", "--master-port", port)
    master = ("--master", "--master-bind-port", port, "--master-bind-host", "127.0.0.1", "--expect-workers", "2")
    with (
        locust(worker_folder, *worker, TMPDIR=str(worker_folder), **environment) as first,
        locust(worker_folder, *worker, TMPDIR=str(worker_folder), **environment) as second,
    ):
        code, output = run_locust(master_folder, *master, "--headless", "-u", "4", "-r", "4", "-t", "5s")
        assert code == 0, output
        for process in (first, second):
            process.communicate(timeout=END_DEADLINE_S)
    run = RunDirectory.open(master_folder / "runs" / "latest")
    summary = LatencyStore.load(run).summary("clock tick")
    assert summary.count == locust_count(output) > 0
    assert sum(operation.status == "ok" for operation in read_operations(run)) == summary.count
    assert len(list(run.operations_dir.iterdir())) == 2
    assert read_hlog(run.file(LATENCY_HLOG))["clock_tick"].total == summary.count
    assert list(worker_folder.iterdir()) == []  # nothing is left in a worker's temporary folder


def test_a_killed_worker_is_named_lost_and_what_it_sent_is_in_the_history(tmp_path: Path) -> None:
    port = str(free_port())
    worker = ("--worker", "--master-port", port)
    master = (
        *("--master", "--master-bind-port", port, "--master-bind-host", "127.0.0.1", "--expect-workers", "2"),
        *("--headless", "-u", "4", "-r", "4", "-t", "12s", "--enable-rebalancing"),
    )
    with (
        locust(tmp_path, *worker) as first,
        locust(tmp_path, *worker) as second,
        locust(tmp_path, *master) as commander,
    ):
        latest = tmp_path / "runs" / "latest"
        wait_until(lambda: len(list(latest.glob("latency/*"))) == 2, "both workers to record")
        wait_until(lambda: all(path.stat().st_size for path in latest.glob("latency/*")), "both to have written")
        first.send_signal(signal.SIGKILL)
        output, _ = commander.communicate(timeout=END_DEADLINE_S)
        second.communicate(timeout=END_DEADLINE_S)
    run = RunDirectory.open(latest)
    load = json.loads(run.file(RUN_JSON).read_text())["load"]
    assert len(load["lost_workers"]) == 1, output
    # It recorded about six hundred a second into the run directory, and reports every three seconds.
    assert 0 <= load["unreported_requests"] < 5000
    assert load["unsalvaged_requests_about"] == 0
    assert "one worker was lost: " in output
    processes = {operation.process for operation in read_operations(run)}
    assert len(processes) == 2
    assert "is lost" in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_interrupted_is_complete_up_to_there(tmp_path: Path, number: signal.Signals) -> None:
    with locust(tmp_path, "--headless", "-u", "2", "-r", "2", "-t", "60s") as process:
        progress = tmp_path / "runs" / "latest" / "progress.jsonl"
        wait_until(lambda: progress.exists() and len(progress.read_text().splitlines()) > 2, "progress")
        begin = time.monotonic()
        process.send_signal(number)
        output, _ = process.communicate(timeout=END_DEADLINE_S)
        assert time.monotonic() - begin < END_DEADLINE_S
    run = RunDirectory.open(tmp_path / "runs" / "latest")
    assert LatencyStore.load(run).summary("clock tick").count == locust_count(output)
    assert run.file(LATENCY_HLOG).exists()
