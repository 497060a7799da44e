"""Durability asks for the final read of every key at every node, also at one to which nothing could be sent."""

from pathlib import Path
from typing import Any

import pytest

from records.run_directory import RunDirectory
from swarmproof.final_reads import read_everything
from swarmproof.history import SupervisorHistory
from swarmproof.judge import UNKNOWN, VALID, judge
from swarmproof.judge.verdict import Check
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


class _Broken:
    """A member that cannot even be connected to in the usual way."""

    name, node_id = "n3", 3

    def connect(self, _: float) -> Any:
        raise RuntimeError("no connection at all")


class _Cluster:
    members = (_Broken(),)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_node_whose_reading_ends_in_an_error_counts_as_unread(tmp_path: Path) -> None:
    history = SupervisorHistory(RunDirectory.create(tmp_path, "x"))
    cluster: Any = _Cluster()
    assert read_everything(cluster, ["a", "b"], history, within_s=1.0) == {"keys": 2, "nodes": {"n3": 0}}
    history.close()
