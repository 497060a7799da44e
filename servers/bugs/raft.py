"""The bugs of a Raft node by name."""

from collections.abc import Mapping
from typing import Final

from servers.bugs import raft_log, raft_replies
from servers.raft.node import RaftNode

BUGS: Final[Mapping[str, type[RaftNode]]] = {
    "ack-before-replication": raft_log.AcksBeforeReplication,
    "stale-follower-read": raft_replies.StaleFollowerRead,
    "stale-leader-read": raft_log.StaleLeaderRead,
    "applied-twice": raft_log.AppliedTwice,
    "swapped-replies": raft_replies.SwappedReplies,
    "other-key": raft_replies.OtherKey,
    "split-brain": raft_log.SplitBrain,
    "rejected-write-visible": raft_replies.RejectedWriteVisible,
    "late-write": raft_replies.LateWrite,
    "diverged-replay": raft_log.DivergedReplay,
    "diverged-snapshot": raft_log.DivergedSnapshot,
    "unanswered-writes": raft_replies.Unanswered,
    "deaf-to-term": raft_replies.DeafToTerm,
    "livelock": raft_replies.Livelock,
}
