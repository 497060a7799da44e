"""Real nodes on disks that are slow or fail: no acknowledgement before a write is durable, none after an error."""

import time
from pathlib import Path

import pytest

from protocols import kv
from protocols.kv import KvRequest
from servers.raft.node import EXIT_FAILED
from tests.servers.raft.cluster import Cluster

SLOW_S = 0.5


class ClusterWithFaultyDisks(Cluster):
    def disk(self, node: int) -> Path:
        """The file that says how the disk of a node behaves."""
        return self.directory / f"disk-of-n{node}"

    def command(self, node: int, *options: str) -> list[str]:
        return super().command(node, "--disk-faults", str(self.disk(node)), *options)


def test_no_write_is_acknowledged_before_a_quorum_has_synced_it(tmp_path: Path) -> None:
    """Slow followers first: the leader is quick, and needs one of them. Then all are slow."""
    with ClusterWithFaultyDisks(3, tmp_path, "--election-ms", "2500-3000", "--heartbeat-ms", "100") as cluster:
        leader = cluster.leader()
        followers = [node for node in cluster.ids if node != leader]
        with cluster.connect(leader) as connection:
            assert connection.call(KvRequest(kv.PUT, "k", "quick")).result == kv.OK
            for slow in (followers, cluster.ids):
                for node in slow:
                    cluster.disk(node).write_text(f"slow {SLOW_S}")
                for number in range(2):
                    begun_s = time.monotonic()
                    assert connection.call(KvRequest(kv.PUT, "k", str(number))).result == kv.OK
                    taken_s = time.monotonic() - begun_s
                    assert taken_s >= SLOW_S, f"acknowledged after {taken_s:.3f} s with n{slow} slow"
        for node in cluster.ids:
            cluster.disk(node).unlink()


@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_a_failed_sync_ends_the_node_unheard_and_nothing_acknowledged_is_lost(tmp_path: Path, victim: str) -> None:
    with ClusterWithFaultyDisks(3, tmp_path) as cluster:
        leader = cluster.leader()
        written = 20
        for number in range(written):
            assert cluster.write(KvRequest(kv.PUT, f"k{number}", "v", client_id=1, seq=number + 1)).result == kv.OK
        broken = leader if victim == "leader" else next(node for node in cluster.ids if node != leader)
        last = KvRequest(kv.APPEND, "list", "once", client_id=1, seq=written + 1)
        with cluster.connect(leader) as connection:
            cluster.disk(broken).write_text("eio")
            if victim == "leader":
                with pytest.raises((EOFError, OSError)):
                    pytest.fail(f"answered {connection.call(last)} after its sync failed")
            else:
                assert connection.call(last).result == kv.OK
        process = cluster.processes[broken]
        assert process.wait() == EXIT_FAILED
        assert "the disk failed (Input/output error)" in process.log()
        assert cluster.write(last).result == kv.OK
        cluster.disk(broken).unlink()
        cluster.start(broken)
        cluster.kill(*cluster.ids)
        cluster.start(*cluster.ids)
        assert cluster.write(last).replayed
        for node in cluster.ids:
            assert cluster.read(node, "list").value == "once"
        for number in range(written):
            assert cluster.read(broken, f"k{number}").value == "v"
