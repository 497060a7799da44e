"""What `swarmproof new protocol` writes works at once, far from this repository, and never overwrites anything."""

import fnmatch
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from swarmproof.new.protocol import CONTENTS, check_name
from tests.processes import ROOT, Process
from tests.swarmproof.leftovers import swarmproof

DEADLINE_S = 200.0
NAME = "device_lines"
FILES = {
    *("device_lines_codec.py", "device_lines_user.py", "device_lines_server.py", "locustfile.py", "plan.toml"),
    *("test_device_lines_codec.py", "test_device_lines_server.py", "test_device_lines_plan.py", "pytest.ini"),
}


def run(*command: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    """With the installed packages only: without this repository on the path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("elsewhere")
    done = run("swarmproof.cli", "new", "protocol", NAME, directory=parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in FILES)
    return parent / NAME


def test_it_writes_a_folder_of_small_files(written: Path) -> None:
    assert {path.name for path in written.iterdir()} == FILES
    assert [path.name for path in written.iterdir() if "$" in path.read_text(encoding="utf-8")] == []
    assert "class DeviceLinesCodec:" in (written / "device_lines_codec.py").read_text(encoding="utf-8")


def test_what_it_writes_is_in_good_order(written: Path) -> None:
    rules = ["--select", "E,F,W,B,C4,UP,SIM,PL,RUF,PT,RET,PERF", "--ignore", "PLR2004"]
    for rest in (["check", *rules], ["format", "--check"]):
        done = run("ruff", *rest, "--no-cache", "--isolated", "--line-length", "120", ".", directory=written)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_that_it_writes_pass(written: Path) -> None:
    done = run("pytest", "-q", "-p", "no:cacheprovider", directory=written)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_its_plan_ends_with_a_verdict_from_another_folder_too(written: Path) -> None:
    done = run("swarmproof.cli", "run", f"{NAME}/plan.toml", "-t", "4s", directory=written.parent)
    assert "device_lines ready at tcp://127.0.0.1:" in done.stdout
    starved = "the generator itself was the bottleneck" in done.stdout
    assert starved or "verdict VALID" in done.stdout, done.stdout + done.stderr
    assert done.returncode == (2 if starved else 0), done.stdout + done.stderr


def test_its_scenario_runs_under_plain_locust_in_engine_mode(written: Path) -> None:
    server = Process([sys.executable, str(written / f"{NAME}_server.py"), "--port", "0"])
    try:
        host = "tcp://" + server.read_line().split()[-1]
        options = ["--headless", "-u", "4", "-r", "9", "-t", "2s", "--host", host, "--depth", "4", "--engine"]
        done = run("locust", *options, directory=written)
        assert done.returncode == 0, done.stderr
        assert "device_lines request" in done.stderr + done.stdout
        assert server.stop() == 0
    finally:
        server.close()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Lines", "cannot be the name of a protocol"),
        ("7up", "cannot be the name of a protocol"),
        ("a-b", "cannot be the name of a protocol"),
        ("../up", "cannot be the name of a protocol"),
        ("", "cannot be the name of a protocol"),
        ("x" * 41, "at most 40 characters"),
        ("class", "is taken"),
        ("socket", "is taken"),
        ("users", "is taken"),
    ],
)
def test_a_bad_name_is_one_sentence(name: str, sentence: str, tmp_path: Path) -> None:
    done = swarmproof("new", "protocol", "--", name, directory=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_good_name_is_welcome() -> None:
    for name in ("lines", "device_link", "x", "a" * 40):
        check_name(name)


def test_an_existing_file_is_left_as_it_is_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text("mine")
    done = swarmproof("new", "protocol", "lines", "--directory", ".", directory=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("error: plan.toml exists already and is left as it is")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("plan.toml", "mine")]


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("mine")
    done = swarmproof("new", "protocol", "lines", directory=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert done.stderr.startswith("error: lines is a file")


def test_the_templates_are_package_data() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = data["tool"]["setuptools"]["package-data"]["swarmproof"]
    templates = [path.relative_to(ROOT / "swarmproof") for path in (ROOT / "swarmproof/new/templates").rglob("*.*")]
    assert len(templates) == len(CONTENTS)
    for template in templates:
        assert any(fnmatch.fnmatch(str(template), pattern) for pattern in patterns), template
