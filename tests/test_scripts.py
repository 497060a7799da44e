"""The test scripts are thin doors to the same pytest, with the seed's options."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT

REPORTS = ROOT / "test-reports"


def run(script: str, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [str(ROOT / "scripts" / script), *options]
    env = os.environ | {"TESTS": "tests/protocols/test_frames.py"}
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, env=env)


def test_a_few_unit_tests_with_everything_switched_on() -> None:
    done = run("test-unit.sh", "--verbose", "--html", "--coverage", "--", "-k", "not every_byte")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    assert "TOTAL" in done.stdout
    page = (REPORTS / "unit.html").read_text(encoding="utf-8")
    assert "passed" in page
    assert "http" not in page.replace("http1", "").replace("test_http", ""), "the page loads nothing"
    assert Path(REPORTS / "coverage-unit" / "index.html").is_file()


@pytest.mark.parametrize("script", ["test-unit.sh", "test-integration.sh", "test-all.sh"])
def test_help_names_the_options_and_a_wrong_one_is_refused(script: str) -> None:
    assert "[--verbose] [--html] [--coverage]" in run(script, "--help").stdout
    done = run(script, "--colour")
    assert done.returncode == 2
    assert "unknown option --colour" in done.stderr


def test_a_failing_test_fails_the_script() -> None:
    done = run("test-unit.sh", "--", "-k", "no_test_has_this_name")
    assert done.returncode == 5  # pytest: no tests were collected
