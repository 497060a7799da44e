"""A real cluster as a target: it elects, loses its leader, gets it back, and leaves nothing."""

import os
import signal
import socket
import stat
import time

import pytest

from protocols.kv import APPEND, CAS, GET, NOT_FOUND, OK, PUT, STATUS, KvRequest
from swarmproof.targets.base import Surroundings
from swarmproof.targets.errors import TargetNotReady, TargetNotStarted
from swarmproof.targets.kv_client import KvConnection, write_somewhere
from swarmproof.targets.ports import is_free
from swarmproof.targets.process import State
from swarmproof.targets.raft import RaftTarget, node_names
from tests.processes import wait_until

DEADLINE_S = 30.0


def test_a_cluster_elects_survives_its_leader_and_takes_it_back(around: Surroundings) -> None:
    cluster = RaftTarget(3, around)
    cluster.start()
    watch = cluster.watch
    assert watch is not None
    first = cluster.leader()
    assert first is not None
    leader = cluster.member_of(first.node)
    with KvConnection("127.0.0.1", leader.port) as connection:
        assert connection.call(KvRequest(PUT, "k", "v", client_id=1, seq=1)).result == OK

    killed_ns = time.monotonic_ns()
    leader.process.kill()
    second = watch.wait_for_leader(DEADLINE_S, after_ns=killed_ns, not_node=first.node)
    assert second is not None
    assert second.term > first.term
    assert second.since_ns > killed_ns
    assert watch.status(first.node) is None

    connections = {m.node_id: KvConnection("127.0.0.1", m.port) for m in cluster.members}
    written = write_somewhere(
        connections,
        KvRequest(APPEND, "k", "w", client_id=1, seq=2),
        choose=lambda: second.node,
        within_s=DEADLINE_S,
    )
    assert written.reply is not None
    assert (written.reply.result, written.node) == (OK, second.node)

    leader.start()
    assert cluster.wait_until_all_answer(DEADLINE_S) == []
    reply = connections[first.node].call(KvRequest(GET, "k"), 10.0)
    assert (reply.result, reply.value) == (OK, "vw")
    for connection in connections.values():
        connection.close()
    rows = cluster.rows()
    assert [row.name for row in rows] == ["n1", "n2", "n3"]
    assert sorted(row.role for row in rows) == ["follower", "follower", "leader"]
    cluster.stop()
    assert all(member.process.state is State.EXITED and is_free(member.port) for member in cluster.members)


def test_the_secret_is_private_and_goes_with_the_cluster(around: Surroundings) -> None:
    cluster = RaftTarget(1, around)
    cluster.start()
    secret = around.nodes_dir / "raft.secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    command = " ".join(cluster.members[0].process.command)
    assert secret.read_text().strip() not in command
    cluster.stop()
    assert not secret.exists()


def test_a_paused_leader_is_replaced_and_does_not_answer(around: Surroundings) -> None:
    cluster = RaftTarget(3, around)
    cluster.start()
    first = cluster.leader()
    assert first is not None
    assert cluster.watch is not None
    paused_ns = time.monotonic_ns()
    cluster.member_of(first.node).process.pause()
    second = cluster.watch.wait_for_leader(DEADLINE_S, after_ns=paused_ns, not_node=first.node)
    assert second is not None
    assert second.term > first.term
    cluster.member_of(first.node).process.resume()
    assert cluster.wait_until_all_answer(DEADLINE_S) == []
    cluster.stop()


def test_a_majority_that_is_gone_leaves_no_leader(around: Surroundings) -> None:
    cluster = RaftTarget(3, around)
    cluster.start()
    for member in cluster.members[:2]:
        member.process.kill()
    silent = cluster.wait_until_all_answer(0.5)
    assert set(silent) >= {"n1", "n2"}
    # A leader that survives steps down by itself within an election timeout.
    wait_until(lambda: cluster.leader() is None, "the survivor to step down")
    with pytest.raises(TargetNotReady, match=r"raft elected no leader within 0\.1 s"):
        cluster.wait_for_leader(0.1)
    cluster.stop()


def test_a_client_port_in_use_is_one_sentence(around: Surroundings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cluster = RaftTarget(1, around, ports=[port])
        with pytest.raises(TargetNotStarted, match=f"cannot start raft: port {port} is in use"):
            cluster.start()
    assert not (around.nodes_dir / "raft.secret").exists()


def test_a_port_that_somebody_takes_meanwhile_is_replaced(around: Surroundings) -> None:
    cluster = RaftTarget(1, around)
    taken_port = cluster.members[0].port
    with socket.create_server(("127.0.0.1", taken_port)):
        cluster.start()
    assert cluster.members[0].port != taken_port
    cluster.stop()


def test_a_node_that_cannot_start_leaves_no_other_running(around: Surroundings) -> None:
    cluster = RaftTarget(3, around, arguments=["--no-such-option"])
    with pytest.raises(TargetNotStarted, match="no-such-option"):
        cluster.start()
    assert all(member.process.pid is None for member in cluster.members)


def test_requests_are_pipelined_and_come_back_by_position(around: Surroundings) -> None:
    cluster = RaftTarget(1, around)
    cluster.start()
    with KvConnection("127.0.0.1", cluster.members[0].port) as connection:
        writes = [KvRequest(PUT, f"k{n}", str(n), client_id=1, seq=n + 1) for n in range(200)]
        assert {reply.result for _, reply in connection.call_many(writes, depth=32)} == {OK}
        sent: list[int] = []
        reads = [KvRequest(GET, f"k{n}") for n in range(200)] + [KvRequest(GET, "absent")]
        values = {
            position: reply.value if reply.result == OK else reply.result
            for position, reply in connection.call_many(reads, depth=8, on_send=sent.append)
        }
        assert values == {n: str(n) for n in range(200)} | {200: NOT_FOUND}
        assert sent == list(range(201))
        assert connection.call(KvRequest(CAS, "k1", "x", "1", client_id=1, seq=999)).result == OK
        assert connection.call(KvRequest(STATUS)).status is not None
    cluster.stop()


def test_nodes_of_a_named_cluster_carry_its_name() -> None:
    assert node_names("raft", 3) == ["n1", "n2", "n3"]
    assert node_names("west", 1) == ["west-n1"]


def test_a_killed_cluster_can_be_stopped(around: Surroundings) -> None:
    cluster = RaftTarget(3, around)
    cluster.start()
    for member in cluster.members:
        pid = member.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    cluster.stop()
    assert all(member.process.state is State.EXITED for member in cluster.members)
