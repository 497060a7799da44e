"""What was sent is in the history: through a leader's death, a worker's death, and the end of the load."""

import os
import signal
from pathlib import Path

from records.operations import INFO, OK, Operation, read_operations
from records.run_directory import RUN_JSON, RunDirectory
from swarmproof.judge import judge
from tests.swarmproof.leftovers import Command, await_nothing_left, processes_with

PLAN = """
title = "A leader and a worker die"
[[target]]
kind = "raft"
nodes = 3
[load]
locustfile = "raft_kv"
users = 8
workers = 2
run_time = "9s"
[load.options]
keys = 8
depth = 2
[[fault]]
kind = "kill"
target = "leader"
at = "2s"
restart_after = "500ms"
"""


def test_a_killed_workers_operations_are_in_the_history_and_explain_what_is_in_the_store(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    command = Command("run", "plan.toml", directory=tmp_path)
    command.read_until("is back")
    victim = next(line for line in processes_with(command.mark) if "--worker " in line).split()[0]
    os.kill(int(victim), signal.SIGKILL)
    assert command.wait(120) == 3, command.log()  # a lost worker is a failure of the harness
    await_nothing_left(command.mark)
    command.close()
    run = RunDirectory.open(tmp_path / "runs" / "latest")
    operations = list(read_operations(run))

    lost = [operation for operation in operations if operation.process.endswith(f"-{victim}")]
    assert any(operation.status == OK for operation in lost)
    assert any(operation.status == INFO for operation in lost), "what it had under way when it died"
    assert_the_store_holds_nothing_else(operations)
    verdict = judge(run)
    assert verdict.check("linearizability").verdict == "valid", verdict.summary
    assert verdict.check("durability").verdict == "valid", verdict.summary
    assert len((run.read_json(RUN_JSON) or {})["load"]["lost_workers"]) == 1


def assert_the_store_holds_nothing_else(operations: list[Operation]) -> None:
    """Every token in the final reads was written by an append of the history, in flight or not."""
    sent = {operation.value for operation in operations if operation.op == "append"}
    final = [operation for operation in operations if operation.final and "/a" in operation.key and operation.out]
    held = [f"{token}," for operation in final for token in str(operation.out).split(",") if token]
    assert len(held) > 100
    assert set(held) <= sent
