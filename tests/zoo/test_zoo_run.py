"""A fast part of the zoo, for real: one bug on the wire, one in the store, and a healthy twin."""

import json
from pathlib import Path

import pytest

from tests.swarmproof.leftovers import swarmproof

# Two runs of 6 s and their processes; a starved machine takes several times that.
WITHIN_S = 280


def test_the_zoo_lists_its_bugs(tmp_path: Path) -> None:
    listed = swarmproof("zoo", directory=tmp_path)
    assert listed.returncode == 0
    for name in ("split-brain", "swapped-ids", "too-little-load"):
        assert name in listed.stdout


def test_a_name_that_is_not_in_the_zoo_is_one_sentence(tmp_path: Path) -> None:
    refused = swarmproof("zoo", "run", "unicorn", directory=tmp_path)
    assert refused.returncode == 3
    assert "no 'unicorn' in the zoo" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.timeout(WITHIN_S + 20)
def test_a_lie_on_the_wire_is_caught_and_its_healthy_twin_is_left_alone(tmp_path: Path) -> None:
    options = ["--seeds", "1", "--markdown", "table.md"]
    done = swarmproof("zoo", "run", "altered-timestamp", *options, directory=tmp_path, timeout_s=WITHIN_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "caught 1/1 (protocol 1), twin flagged 0/1" in done.stdout
    (row,) = json.loads((tmp_path / "runs" / "zoo" / "zoo.json").read_text())
    assert "timestamp altered" in row["counterexample"]
    assert "| altered-timestamp | 1/1 |" in (tmp_path / "table.md").read_text()


@pytest.mark.timeout(3 * WITHIN_S + 20)
def test_a_lie_of_the_store_is_caught(tmp_path: Path) -> None:
    # On a starved machine a run may end before the bug could show; the zoo counts that as not caught, and so do we
    # only when it happens three times.
    for seed in ("1", "2", "3"):
        options = ["--seeds", "1", "--first-seed", seed, "--no-twins"]
        done = swarmproof("zoo", "run", "other-key", *options, directory=tmp_path, timeout_s=WITHIN_S)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a reply of another key" in done.stdout
