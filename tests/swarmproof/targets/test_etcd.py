"""Real etcd clusters: elected, killed, restarted; wrong versions refused; and serializable reads convicted."""

import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocols.etcd import EtcdCodec
from protocols.kv import APPEND, GET, OK, PUT, KvReply, KvRequest
from records.operations import Operation
from swarmproof.judge import check_history
from swarmproof.targets.base import Surroundings
from swarmproof.targets.cluster import ClusterMember
from swarmproof.targets.errors import TargetNotStarted
from swarmproof.targets.etcd import EtcdTarget, find_etcd, reason_against
from swarmproof.targets.kv_client import write_somewhere
from tests.components import require

DEADLINE_S = 30.0
# Attempts to catch a member that is behind; each alone succeeds more often than not.
STALE_ATTEMPTS = 10


@pytest.fixture(autouse=True)
def _forget_the_program() -> Iterator[None]:
    find_etcd.cache_clear()
    yield
    find_etcd.cache_clear()


@pytest.fixture
def etcd(around: Surroundings) -> Iterator[EtcdTarget]:
    require("etcd")
    cluster = EtcdTarget(3, around)
    cluster.start()
    yield cluster
    cluster.stop()


def test_a_cluster_elects_survives_its_leader_and_takes_it_back(etcd: EtcdTarget) -> None:
    watch, first = etcd.watch, etcd.leader()
    assert watch is not None
    assert first is not None
    assert etcd.address.startswith("etcd://127.0.0.1:")
    assert sorted(row.role for row in etcd.rows()) == ["follower", "follower", "leader"]
    leader = etcd.member_of(first.node)
    assert "--pre-vote=true" in leader.process.command
    with leader.connect() as connection:
        assert connection.call(KvRequest(PUT, "k", "v", client_id=1, seq=1)).result == OK

    killed_ns = time.monotonic_ns()
    leader.process.kill()
    second = watch.wait_for_leader(DEADLINE_S, after_ns=killed_ns, min_term=first.term + 1)
    assert second is not None
    assert second.node != first.node
    connections = {member.node_id: member.connect() for member in etcd.members}
    request = KvRequest(APPEND, "k", "w", client_id=1, seq=2)
    for _ in range(2):  # the second one is a retry: applied once
        written = write_somewhere(connections, request, choose=lambda: second.node, within_s=DEADLINE_S)
        assert written.reply is not None
        assert written.reply.result == OK

    leader.start()
    assert etcd.wait_until_all_answer(DEADLINE_S) == []
    reply = connections[first.node].call(KvRequest(GET, "k"), 10.0)
    assert (reply.result, reply.value) == (OK, "vw")
    for connection in connections.values():
        connection.close()


def test_serializable_reads_taken_for_linearizable_are_convicted(etcd: EtcdTarget) -> None:
    """The negative control: a member that stood still answers from its own, older state."""
    found = etcd.leader()
    assert found is not None
    leader = etcd.member_of(found.node)
    behind = next(member for member in etcd.members if member is not leader)
    history: list[Operation] = []
    for attempt in range(STALE_ATTEMPTS):
        key = f"k{attempt}"
        _write(leader, history, key, f"old{attempt}")
        _read(behind, history, key)  # linearizable: it has the old value now
        behind.process.pause()
        for number in range(50):
            _write(leader, history, key, f"new{attempt}.{number}")
        _read(behind, history, key, stale=True)
        if history[-1].out != f"new{attempt}.49":
            break
    else:
        pytest.fail(f"no stale read in {STALE_ATTEMPTS} attempts")
    honest = check_history(iter(history))
    assert honest.verdict == "valid", "a read that is known to be stale is not judged"
    history[-1].stale = False
    assert check_history(iter(history)).verdict == "invalid"


def _write(member: ClusterMember, history: list[Operation], key: str, value: str) -> None:
    call_ns = time.monotonic_ns()
    with member.connect(5.0) as connection:
        reply = connection.call(KvRequest(PUT, key, value, client_id=1, seq=len(history)))
    assert reply.result == OK
    _record(history, Operation(0, 0, "put", key, value), call_ns, reply)


def _read(member: ClusterMember, history: list[Operation], key: str, *, stale: bool = False) -> None:
    """Read; when stale, from a member that stands still: it is continued once the question waits at its door."""
    codec = EtcdCodec()
    call_ns = time.monotonic_ns()
    with socket.create_connection(("127.0.0.1", member.port), 5.0) as connection:
        connection.sendall(codec.encode(1, KvRequest(GET, key, stale=stale)))
        member.process.resume()
        replies: list[tuple[int, KvReply]] = []
        while not replies:
            data = connection.recv(65536)
            assert data
            replies = codec.receive_data(data)
    reply = replies[0][1]
    _record(history, Operation(0, 1, "get", key, out=reply.value, stale=stale), call_ns, reply)


def _record(history: list[Operation], operation: Operation, call_ns: int, reply: KvReply) -> None:
    operation.id, operation.call_ns, operation.return_ns = len(history) + 1, call_ns, time.monotonic_ns()
    operation.status, operation.version = "ok", reply.version
    history.append(operation)


# -- which etcd ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(3, 4, 22), (3, 4, 23), (3, 5, 6), (3, 5, 21), (3, 6, 0)])
def test_good_versions_are_taken(version: tuple[int, int, int]) -> None:
    assert reason_against(version) is None


@pytest.mark.parametrize("version", [(2, 3, 8), (3, 3, 25), (3, 4, 21), (3, 5, 0), (3, 5, 1), (3, 5, 5)])
def test_bad_versions_are_refused_with_the_reason(version: tuple[int, int, int]) -> None:
    reason = reason_against(version)
    assert reason is not None
    assert "install" in reason


def _program(folder: Path, text: str) -> None:
    path = folder / "etcd"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_bad_version_on_this_machine_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, around: Surroundings
) -> None:
    _program(tmp_path, "echo 'etcd Version: 3.5.1'")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetNotStarted, match=r"is version 3\.5\.1, and 3\.5\.0 to 3\.5\.5 can make members differ"):
        EtcdTarget(3, around)


def test_a_program_that_is_not_etcd_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, around: Surroundings
) -> None:
    _program(tmp_path, "echo hello")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetNotStarted, match="names no version; is it etcd"):
        EtcdTarget(3, around)


def test_a_missing_program_is_told_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, around: Surroundings
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetNotStarted, match="install the package etcd-server"):
        EtcdTarget(3, around)
