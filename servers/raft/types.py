"""The nouns of the Raft core: what it is configured with, what it hands out, and how it refuses."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from protocols.raft_messages import Entry, PeerMessage

__all__ = [
    "Busy",
    "CoreConfig",
    "Entry",
    "HardState",
    "InvariantBroken",
    "NotLeader",
    "PeerStatus",
    "ReadState",
    "Ready",
    "Role",
    "Snapshot",
]


class Role(IntEnum):
    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


class HardState(NamedTuple):
    """What must survive a crash besides the log: the current term and who got the vote in it (0 = nobody)."""

    term: int
    vote: int


class Snapshot(NamedTuple):
    """The state machine after applying ``index`` (an entry of ``term``)."""

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    term: int
    data: bytes


class ReadState(NamedTuple):
    """The answer to ``read_index(context)``. ``ok``: serve the read once ``index`` is applied.
    Not ok: leadership was lost or the leader could not be asked; nothing was read, the client may retry."""

    context: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    ok: bool


class NotLeader(Exception):
    """This node cannot take the proposal or read; ``leader`` is the node to ask, 0 if unknown."""

    def __init__(self, leader: int) -> None:
        super().__init__(f"not leader, try node {leader}" if leader else "not leader, no leader known")
        self.leader = leader


class Busy(Exception):
    """A bounded queue is full or leadership is being handed over. Definitely not proposed."""


class InvariantBroken(Exception):
    """A promise of Raft does not hold: this node's disk, or a peer, forgot something it acknowledged.

    The node must stop: going on could only spread the damage.
    """


@dataclass(frozen=True, slots=True)
class CoreConfig:
    """Times are in ticks (the shell decides how long a tick is; 10 ms is a good one)."""

    node_id: int
    members: tuple[int, ...]
    # Raft paper, 9.3: timeouts spread over one more minimum elect without split votes nearly always.
    election_ticks_min: int = 30
    election_ticks_max: int = 60
    heartbeat_ticks: int = 5
    # One Append stays far below the 1 MiB frame even with a last entry of the largest value.
    max_append_bytes: int = 256 * 1024
    # Appends sent and not yet acknowledged, per peer: bounds what a slow peer costs in memory.
    max_inflight_appends: int = 64
    # Proposed and not yet committed; beyond it proposals are refused as Busy.
    max_uncommitted_entries: int = 4096
    max_uncommitted_bytes: int = 32 * 1024 * 1024
    # Entries in one Ready.committed, so that a restart with a long log does not block the heartbeat.
    max_committed_entries: int = 2048
    # Reads that wait for their round; beyond it reads are refused as Busy.
    max_pending_reads: int = 65536
    snapshot_chunk_bytes: int = 256 * 1024
    # A snapshot is assembled in memory before it is handed over: a larger one is neither sent nor taken.
    max_snapshot_bytes: int = 1024 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.node_id <= 0 or self.node_id not in self.members:
            raise ValueError(f"node {self.node_id} is not among the members {self.members}")
        if len(set(self.members)) != len(self.members) or min(self.members) <= 0:
            raise ValueError(f"members must be distinct positive ids, not {self.members}")
        if not 0 < self.heartbeat_ticks < self.election_ticks_min <= self.election_ticks_max:
            raise ValueError("need 0 < heartbeat_ticks < election_ticks_min <= election_ticks_max")


@dataclass(slots=True, eq=False)
class Ready:
    """What the shell has to do next. See the loop in :mod:`servers.raft.core`."""

    hard_state: HardState | None
    snapshot: Snapshot | None
    entries: list[Entry]
    messages_before: list[PeerMessage]
    messages_after: list[PeerMessage]
    committed: Sequence[Entry]
    read_states: list[ReadState]
    # Sentences for people about what does not get better by itself; each is said once.
    alarms: list[str]
    role: Role
    leader: int
    term: int
    # Bookkeeping of persisted(): the place in the order of Readys, and which version of the log this one saw.
    sequence: int
    last_index: int
    generation: int

    @property
    def must_sync(self) -> bool:
        """Whether anything in here has to reach the disk before ``messages_after`` may leave."""
        return self.hard_state is not None or bool(self.entries) or self.snapshot is not None


class PeerStatus(NamedTuple):
    """What the leader knows of a peer, for metrics and people."""

    node_id: int
    state: str
    match_index: int
    next_index: int
    inflight: int
    silent_ticks: int
