"""What is no history is refused by `swarmproof check`: file and line, exit code 3, and no more memory than usual."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

PUT = {"id": 1, "client": 0, "op": "put", "key": "k", "value": "v", "call": 10, "return": 20, "status": "ok"}
GET = {"id": 2, "client": 1, "op": "get", "key": "k", "out": "v", "call": 30, "return": 40, "status": "ok"}
GIGABYTE = 1 << 30
# The program with numpy takes some 60 MB; a line that were read whole would take a thousand.
MOST_MB = 250


# Its own high-water mark: what `wait4` tells of a child begins with that of the process that started it.
PROGRAM = """
import atexit, sys

@atexit.register
def tell():
    with open("/proc/self/status") as status:
        print(*(line for line in status if line.startswith("VmHWM")), file=sys.stderr)

from swarmproof.cli import main
sys.argv[0] = "swarmproof"
main()
"""


def check(path: Path) -> tuple[int, str, float]:
    """Exit code, standard error, and the most memory that the process ever had, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "check", str(path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    said, found, peak_kb = done.stderr.rpartition("VmHWM:")
    assert found, done.stderr
    return done.returncode, said, int(peak_kb.split()[0]) / 1024


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (json.dumps(GET)[:40], "not JSON"),
        (json.dumps(GET | {"call": -30}), "call must be a whole number"),
        (json.dumps(GET | {"key": ["k"]}), "key must be a text"),
        (json.dumps(GET | {"id": 1}), "id 1 was used before"),
    ],
    ids=["cut off", "negative time", "wrong type", "repeated id"],
)
def test_a_bad_line_is_told_with_its_place(tmp_path: Path, second: str, why: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(f"{json.dumps(PUT)}\n{second}\n")
    code, said, _ = check(path)
    assert code == 3
    assert f"history.jsonl:2: {why}" in said.replace("\n", " ")
    assert "Traceback" not in said


def test_a_line_of_a_gigabyte_is_refused_in_flat_memory(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps(PUT) + "\n")
    with path.open("r+b") as file:
        file.truncate(GIGABYTE)  # sparse: it takes no room on the disk
    code, said, peak_mb = check(path)
    assert code == 3
    assert "history.jsonl:2: the line is longer than" in said.replace("\n", " ")
    assert peak_mb < MOST_MB


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(bytes(range(256)) * 100)
    code, said, _ = check(path)
    assert (code, "history.jsonl:1: " in said) == (3, True)
