"""What a node tells Prometheus: its role and progress, and how long its disk takes."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from servers.raft.node import RaftNode

# From a fast SSD to a disk that will cost the leader its leadership.
SYNC_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class NodeMetrics:
    """One registry; numbers are read from the node when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.observe_sync_s = Histogram(
            "raft_fsync_seconds",
            "Writing and syncing one group of entries.",
            buckets=SYNC_BUCKETS_S,
            registry=self.registry,
        ).observe

    def watch(self, node: RaftNode) -> None:
        self.registry.register(_NodeCollector(node))


class _NodeCollector(Collector):
    def __init__(self, node: RaftNode) -> None:
        self._node = node

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        node = self._node
        status = node.status()
        role = GaugeMetricFamily("raft_role", "1 for the role this node has.", labels=["role"])
        for name in ("follower", "pre_candidate", "candidate", "leader"):
            role.add_metric([name], float(name == status.role))
        yield role
        leader = status.leader.id if status.leader is not None else 0
        gauges = {
            "raft_term": ("Current term.", status.term),
            "raft_leader": ("The leader's number, 0 when none is known.", leader),
            "raft_commit_index": ("Index of the last committed entry.", status.commit_index),
            "raft_applied_index": ("Index of the last applied entry.", status.applied_index),
            "raft_last_log_index": ("Index of the last entry of the log.", status.last_log_index),
            "raft_keys": ("Keys, deleted ones included.", node.machine.keys),
            "raft_sessions": ("Clients whose results are remembered.", node.machine.sessions),
            "raft_clients": ("Clients known, those with forgotten results included.", node.machine.clients),
            "raft_log_size_bytes": ("Size of the log on disk.", node.log_size_bytes),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value=value)
        counters = {
            "raft_elections": ("Elections this node stood in.", node.elections_begun),
            "raft_leader_changes": ("Changes of leader this node saw.", node.leader_changes),
            "raft_writes_proposed": ("Writes that clients proposed here.", node.writes_proposed),
            "raft_reads_served": ("Linearizable reads served here.", node.reads_served),
            "raft_snapshots_saved": ("Snapshots written.", node.snapshots_saved),
            "raft_peer_messages_dropped": (
                "Messages to peers that could not be reached.",
                sum(link.dropped for link in node.links.values()),
            ),
        }
        for name, (text, value) in counters.items():
            yield CounterMetricFamily(name, text, value=value)
