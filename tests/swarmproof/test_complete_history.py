"""What was sent is in the history: through a leader's death, a worker's death, and the end of the load."""

import os
import signal
from pathlib import Path

from records.operations import INFO, OK, Operation, read_operations
from records.run_directory import RUN_JSON, RunDirectory
from swarmproof.judge import judge
from tests.swarmproof.leftovers import Command, await_nothing_left, processes_with

READ_BACK = 3
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
mix = "append=8,get=8,cas=6,put=2"
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
    assert {operation.op for operation in operations} == {"append", "get", "cas", "put"}, "the mix has no delete"
    assert_the_store_holds_nothing_else(operations)
    assert_clients_read_back_after_the_kill(
        [one for one in operations if one.process not in (lost[0].process, "supervisor")]
    )
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


def assert_clients_read_back_after_the_kill(operations: list[Operation]) -> None:
    """Each client's first write that another node acknowledged is followed by reads of what it had written last."""
    seen = 0
    for client in {operation.client for operation in operations}:
        mine = sorted((one for one in operations if one.client == client), key=lambda one: one.call_ns)
        written: list[Operation] = []
        for place, operation in enumerate(mine):
            if operation.op == "get" or operation.status != OK:
                continue
            if written and operation.node != written[-1].node:
                keys = {one.key for one in written[-READ_BACK:]} | {operation.key}
                following = mine[place + 1 : place + 1 + len(keys)]
                assert {(one.op, one.key) for one in following} == {("get", key) for key in keys}
                seen += 1
                break
            written.append(operation)
    assert seen > 0
