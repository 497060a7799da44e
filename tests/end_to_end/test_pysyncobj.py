"""The positive control: a real library that loses acknowledged writes is convicted, and left in peace it is not."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

from records.run_directory import RunDirectory
from tests.swarmproof.leftovers import swarmproof

PLAN = """
seed = {seed}
[[target]]
kind = "pysyncobj"
arguments = ["--compaction-entries", "20"]
[load]
locustfile = "raft_kv"
users = {users}
run_time = "{run_time_s}s"
"""
FAULT = """
[[fault]]
kind = "kill-compacting"
target = "all"
at = "4s"
every = "4s"
restart_after = "0.5s"
"""
# Whether a kill hits the moment is chance; docs/findings.md has the figures.
ATTEMPTS = 6
RUN_TIME_S = 30


@pytest.fixture(autouse=True)
def _library() -> None:
    if importlib.util.find_spec("pysyncobj") is None:
        reason = "pysyncobj is not installed (extra `controls`)"
        if os.environ.get("CI"):
            pytest.fail(reason + ", and CI must have it")
        pytest.skip(reason)


def test_left_in_peace_it_is_valid(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(PLAN.format(seed=1, users=8, run_time_s=6))
    done = swarmproof("run", "mine.toml", directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_during_its_log_compaction_it_is_convicted_of_a_lost_write(tmp_path: Path) -> None:
    for seed in range(ATTEMPTS):
        (tmp_path / "mine.toml").write_text(PLAN.format(seed=seed, users=20, run_time_s=RUN_TIME_S) + FAULT)
        done = swarmproof("run", "mine.toml", directory=tmp_path, timeout_s=200)
        run = RunDirectory.open(tmp_path / "runs" / "latest")
        verdict = json.loads(run.file("verdict.json").read_text())
        # 2: a busy machine woke the generator late, which leaves everything else undecided.
        assert done.returncode in (0, 1, 2), done.stdout + done.stderr
        if done.returncode == 1 and "an acknowledged write was lost" in done.stdout:
            assert verdict["verdict"] == "invalid"
            assert run.file("counterexample.json").exists()
            return
    pytest.fail(f"nothing was lost in {ATTEMPTS} runs")
