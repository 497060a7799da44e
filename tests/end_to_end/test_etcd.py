"""A whole run against etcd: the same workload, faults and verdict as with our own cluster."""

import json
from pathlib import Path

import pytest

from records.faults import read_faults
from records.operations import read_operations
from records.run_directory import RunDirectory
from tests.components import require
from tests.swarmproof.leftovers import swarmproof

PLAN = """
seed = 3
[[target]]
kind = "etcd"
[load]
locustfile = "raft_kv"
users = 8
run_time = "12s"
options = {{ stale-reads = {stale} }}
[[fault]]
kind = "kill"
target = "leader"
at = "4s"
restart_after = "2s"
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stale", [0, 20])
def test_a_killed_etcd_leader_costs_time_and_no_write(stale: int, tmp_path: Path) -> None:
    require("etcd")
    (tmp_path / "mine.toml").write_text(PLAN.format(stale=stale))
    done = swarmproof("run", "mine.toml", directory=tmp_path, timeout_s=200)
    assert done.returncode == 0, done.stdout + done.stderr
    run = RunDirectory.open(tmp_path / "runs" / "latest")
    assert json.loads(run.file("verdict.json").read_text())["verdict"] == "valid"
    (fault,) = read_faults(run)
    assert fault.took_effect
    assert 0 < fault.figures["new_leader_s"] <= fault.figures["first_ack_s"]
    assert fault.after["term"] > fault.before["term"]
    operations = list(read_operations(run))
    assert {operation.op for operation in operations if not operation.final} == {"put", "get", "append", "cas"}
    assert {operation.node for operation in operations if operation.final} == {1, 2, 3}
    assert any(operation.stale for operation in operations) == (stale > 0), "stale reads are recorded as such"


def test_without_etcd_a_plan_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "mine.toml").write_text(PLAN.format(stale=0))
    done = swarmproof("run", "mine.toml", directory=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith(
        "error: cannot start etcd: there is no program 'etcd'; install the package etcd-server"
    )
