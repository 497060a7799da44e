"""`swarmproof trend`: a history of reports."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from records.performance_report import Samples, performance_report, write_report
from tests.processes import ROOT


def trend(*paths: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "swarmproof.cli", "trend", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=90, check=False)


def report_of(path: Path, day: int, values: list[float]) -> Path:
    samples = Samples()
    samples.extend(values)
    write_report(performance_report(samples, now=datetime(2026, 1, day, tzinfo=UTC)), path)
    return path


def test_reports_are_compared_oldest_first_whatever_their_names(tmp_path: Path) -> None:
    newest = report_of(tmp_path / "a.json", 3, [10.0, 30.0])
    oldest = report_of(tmp_path / "c.json", 1, [10.0, 10.0])
    middle = report_of(tmp_path / "b.json", 2, [500.0])
    done = trend(newest, oldest, middle)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line[:10] for line in lines[1:4]] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert "+4900.0 %" in lines[2]
    assert "exceeds threshold 300.0 ms" in lines[2]
    assert lines[4] == "newest against oldest of 3: p50 +100.0 %, p95 +190.0 %, p99 +198.0 %"
    assert lines[5] == "milliseconds; percentiles by linear interpolation between closest ranks"


def test_a_file_that_is_no_report_is_named_and_left_out(tmp_path: Path) -> None:
    other = tmp_path / "coverage.json"
    other.write_text("{}")
    done = trend(other, report_of(tmp_path / "r.json", 1, [1.0]), tmp_path / "missing.json")
    assert done.returncode == 0
    assert f"left out: {other} is no performance report" in done.stdout
    assert "missing.json: No such file" in done.stdout


def test_nothing_to_compare_is_one_sentence_and_exit_code_3(tmp_path: Path) -> None:
    done = trend(tmp_path / "missing.json")
    assert done.returncode == 3
    assert "there is no performance report among these files" in done.stderr
    assert "Traceback" not in done.stderr
