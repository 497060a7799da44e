"""Durability asks for the final read of every key at every node, also at one to which nothing could be sent."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from records.operations import Operation, read_operations
from records.run_directory import RunDirectory
from swarmproof.final_reads import read_everything
from swarmproof.history import SupervisorHistory
from swarmproof.judge import UNKNOWN, VALID, check_history, judge
from swarmproof.judge.verdict import Check
from swarmproof.targets.kv_client import KvConnection
from swarmproof.targets.ports import free_ports
from swarmproof.targets.process import State
from tests.judge.build import get, put
from tests.judge.synthetic import simulate, write_run

START_NS = 10**12
KEYS = 12


def durability(root: Path, reads: Any, *, silent_node: int | None = None) -> Check:
    history = simulate(3, seconds=2.0, kills_s=(), start_ns=START_NS)
    assert len({op.key for op in history}) == KEYS
    history = [op for op in history if not (op.final and op.node == silent_node)]
    return judge(write_run(root, history, start_ns=START_NS, facts={"final_reads": reads})).check("durability")


def reads_of(**nodes: int) -> dict[str, Any]:
    return {"raft": {"keys": KEYS, "nodes": nodes}}


def test_a_node_that_refused_every_connection_leaves_durability_unknown(tmp_path: Path) -> None:
    check = durability(tmp_path, reads_of(n1=KEYS, n2=KEYS, n3=0), silent_node=3)
    assert (check.verdict, check.reason) == (UNKNOWN, "the final read reached 0 of 12 keys at n3")
    assert check.evidence["nodes_read_in_part"] == {"n3": 0}


def test_its_twin_in_which_every_node_answered_is_valid(tmp_path: Path) -> None:
    assert durability(tmp_path, reads_of(n1=KEYS, n2=KEYS, n3=KEYS)).verdict == VALID


@pytest.mark.parametrize("reads", [{}, None, 7, {"raft": 3}, {"raft": {"keys": "12", "nodes": {"n1": 0}}}])
def test_a_run_that_tells_nothing_of_its_nodes_is_judged_by_its_history(tmp_path: Path, reads: Any) -> None:
    assert durability(tmp_path, reads).verdict == VALID


class _Member:
    """A node at `port`, or one to which not even a connection can be made."""

    name, node_id = "n3", 3
    process = SimpleNamespace(state=State.RUNNING)

    def __init__(self, port: int | None) -> None:
        self._port = port

    def connect(self, timeout_s: float) -> KvConnection:
        if self._port is None:
            raise RuntimeError("no connection at all")
        return KvConnection("127.0.0.1", self._port, timeout_s)


def _read(root: Path, port: int | None) -> tuple[dict[str, Any], list[Operation]]:
    run = RunDirectory.create(root, "x")
    history = SupervisorHistory(run)
    cluster: Any = SimpleNamespace(members=[_Member(port)])
    reads = read_everything(cluster, ["a", "b"], history, within_s=0.2)
    history.close()
    return reads, list(read_operations(run))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_node_whose_reading_ends_in_an_error_counts_as_unread(tmp_path: Path) -> None:
    assert _read(tmp_path, None) == ({"keys": 2, "nodes": {"n3": 0}}, [])


def test_reads_that_a_node_refused_to_take_are_in_the_history(tmp_path: Path) -> None:
    reads, history = _read(tmp_path, free_ports(1)[0])
    assert reads == {"keys": 2, "nodes": {"n3": 0}}
    assert [(op.op, op.key, op.node, op.final, op.status) for op in history] == [
        ("get", key, 3, True, "fail") for key in ("a", "b")
    ]
    done = [put("v", 0, 1, key=key) for key in "ab"] + [get("v", 2, 3, key=key, node=1, final=True) for key in "ab"]
    assert check_history(done).check("durability").verdict == VALID
    assert check_history(done + history).check("durability").verdict == UNKNOWN
