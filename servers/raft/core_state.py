"""The state of one Raft node and the four transitions between roles.

``become_follower``, ``become_pre_candidate``, ``become_candidate`` and ``become_leader`` are the only places where
``role`` changes, and each sets everything its role needs at once. The subjects (elections, replication, reads)
are built on top of this in modules of their own and put together in :mod:`servers.raft.core`.
"""

from collections.abc import Callable, Sequence
from random import Random

from protocols.raft_messages import Entry, PeerMessage, ReadReply, SnapshotChunk
from servers.raft.memory_log import MemoryLog
from servers.raft.progress import Progress
from servers.raft.types import CoreConfig, HardState, InvariantBroken, ReadState, Role, Snapshot

FOLLOWER = Role.FOLLOWER
PRE_CANDIDATE = Role.PRE_CANDIDATE
CANDIDATE = Role.CANDIDATE
LEADER = Role.LEADER

NOBODY = 0

# Contexts of forwarded reads start at a random number of this many bits, so that a late answer to a question of an
# earlier run of this node never matches a new one.
CONTEXT_BITS = 60


class ReadBatch:
    """Reads that share one quorum round: our own contexts, and (node, context) of followers that asked."""

    __slots__ = ("deadline", "forwarded", "index", "local", "round")

    def __init__(self) -> None:
        self.local: list[int] = []
        self.forwarded: list[tuple[int, int]] = []
        self.round = 0
        self.index = 0
        self.deadline = 0

    def __bool__(self) -> bool:
        return bool(self.local or self.forwarded)


class IncomingSnapshot:
    """A snapshot that arrives in chunks."""

    __slots__ = ("data", "index", "index_term", "total")

    def __init__(self, chunk: SnapshotChunk) -> None:
        self.index = chunk.index
        self.index_term = chunk.index_term
        self.total = chunk.total
        self.data = bytearray()

    def accepts(self, chunk: SnapshotChunk) -> bool:
        """Whether the chunk belongs to this snapshot (wherever in it)."""
        return (chunk.index, chunk.index_term, chunk.total) == (self.index, self.index_term, self.total)


class CoreState:
    def __init__(  # noqa: PLR0917 - one place, one call: what a node starts from
        self,
        config: CoreConfig,
        hard_state: HardState,
        snapshot_index: int,
        snapshot_term: int,
        entries: Sequence[Entry],
        rng: Random,
        load_snapshot: Callable[[], Snapshot] | None = None,
    ) -> None:
        self.config = config
        self.node_id = config.node_id
        self.peers = tuple(sorted(member for member in config.members if member != config.node_id))
        self.quorum = len(config.members) // 2 + 1
        self.log = MemoryLog(snapshot_index, snapshot_term, entries)
        if self.log.last_index > snapshot_index and self.log.last_term > hard_state.term:
            raise InvariantBroken(
                f"the log ends in term {self.log.last_term} but the durable term is only {hard_state.term}"
            )
        self._rng = rng
        self._load_snapshot = load_snapshot

        self.term, self.vote = hard_state
        if snapshot_term > self.term:
            # The snapshot was saved before the term it ends in was synced. No vote of that term has left this
            # node, since a vote leaves only after its sync.
            self.term, self.vote = snapshot_term, NOBODY
        self.role = FOLLOWER
        self.leader = NOBODY
        self.commit_index = snapshot_index
        self.applied_index = snapshot_index
        self._delivered = snapshot_index
        self._handed_hard_state = hard_state
        self._durable_term = hard_state.term

        # Time, in ticks.
        self.now = 0
        self._elapsed = 0
        self._timeout = 0
        self._heartbeat_due = 0
        self._reset_election_timer()

        self._votes: dict[int, bool] = {}
        self._progress: dict[int, Progress] = {}
        self._progress_in_order: tuple[Progress, ...] = ()
        self._term_start_index = 0
        self._uncommitted_bytes = 0
        self._transfer_to = NOBODY
        self._transfer_deadline = 0
        self._outgoing_snapshot: Snapshot | None = None

        # What the next Ready will carry.
        self._dirty = self.term != hard_state.term
        self._before: list[PeerMessage] = []
        self._after: list[PeerMessage] = []
        self._read_states: list[ReadState] = []
        self._alarms: list[str] = []
        self._received_snapshot: Snapshot | None = None
        # The newest index to acknowledge to the leader; one reply per Ready covers all Appends before it.
        self._ack_index = -1
        # Everything up to here is known to equal the log of this term's leader.
        self._matched_index = 0
        self._incoming: IncomingSnapshot | None = None
        # The snapshot (its index) too large to be sent to a peer, or to be taken from it, that was last complained of.
        self._too_large: dict[int, int] = {}

        self._next_reads = ReadBatch()
        self._current_reads: ReadBatch | None = None
        self._read_round = 0
        self._asked: dict[int, ReadBatch] = {}
        self._next_context = rng.getrandbits(CONTEXT_BITS)

    # --- transitions -------------------------------------------------------------------------------------------

    def become_follower(self, term: int, leader: int) -> None:
        """Follow ``leader`` (0: nobody yet) in ``term``; a newer term forgets the vote of the older one."""
        was_following = self.role is FOLLOWER
        changed = term != self.term or leader != self.leader
        if term > self.term:
            self.term = term
            self.vote = NOBODY
        elif term < self.term:
            raise InvariantBroken(f"term would fall from {self.term} to {term}")
        if changed or not was_following:
            self._leave_role()
        if leader or not was_following:
            self._reset_election_timer()
        self.role = FOLLOWER
        self.leader = leader
        self._dirty = True

    def become_pre_candidate(self) -> None:
        """Ask whether an election could be won, without disturbing anybody's term (PreVote, thesis 9.6)."""
        self._leave_role()
        self.role = PRE_CANDIDATE
        self.leader = NOBODY
        self._votes = {self.node_id: True}
        self._reset_election_timer()
        self._dirty = True

    def become_candidate(self) -> None:
        """Campaign in the next term with our own vote."""
        self._leave_role()
        self.role = CANDIDATE
        self.leader = NOBODY
        self.term += 1
        self.vote = self.node_id
        self._votes = {self.node_id: True}
        self._reset_election_timer()
        self._dirty = True

    def become_leader(self) -> None:
        """Lead the current term; the first entry is a no-op, because only entries of this term may be counted
        towards commitment (Raft paper 5.4.2) and reads wait for the first commit (6.4 of the thesis)."""
        self._leave_role()
        self.role = LEADER
        self.leader = self.node_id
        next_index = self.log.last_index + 1
        self._progress = {peer: Progress(peer, next_index, self.now) for peer in self.peers}
        self._progress_in_order = tuple(self._progress.values())
        self._heartbeat_due = self.now + self.config.heartbeat_ticks
        self._read_round = 0
        self._uncommitted_bytes = sum(
            len(entry.data) for entry in self.log.between(self.commit_index + 1, self.log.last_index)
        )
        self._term_start_index = next_index
        self.log.append(Entry(next_index, self.term, b""))
        self._dirty = True

    def _leave_role(self) -> None:
        """Forget what belonged to the role, leader and term that end here; whoever waits is told."""
        self._votes = {}
        self._progress = {}
        self._progress_in_order = ()
        self._transfer_to = NOBODY
        self._outgoing_snapshot = None
        self._ack_index = -1
        self._matched_index = 0
        self._incoming = None
        self._fail_reads()

    def _reset_election_timer(self) -> None:
        self._elapsed = 0
        # A cluster of one node has nobody to wait for.
        shortest = self.config.election_ticks_min if self.peers else 1
        self._timeout = self._rng.randint(shortest, self.config.election_ticks_max if self.peers else 1)

    # --- shared by the subjects --------------------------------------------------------------------------------

    def _send_when_term_durable(self, message: PeerMessage) -> None:
        """For answers that promise nothing about the log: only our term has to be on disk before they leave."""
        (self._before if self._durable_term == self.term else self._after).append(message)

    def _refuse_too_large(self, peer: int, index: int, size_bytes: int) -> bool:
        """Whether a snapshot is above the limit; said aloud once for each peer and snapshot."""
        limit_bytes = self.config.max_snapshot_bytes
        if size_bytes <= limit_bytes:
            return False
        if self._too_large.get(peer) != index:
            self._too_large[peer] = index
            behind = f"node {peer}" if self.role is LEADER else f"this node, which node {peer} leads,"
            self._alarms.append(
                f"{behind} lacks entries that only the snapshot at entry {index} still has, but its {size_bytes} bytes"
                f" are above the limit of {limit_bytes}: it stays behind and acknowledges nothing"
            )
            self._dirty = True
        return True

    def _advance_commit(self, index: int) -> None:
        if index > self.log.last_index:
            raise InvariantBroken(
                f"the cluster committed entry {index}, which this node acknowledged, but its log ends at"
                f" {self.log.last_index}"
            )
        if index > self.commit_index:
            self.commit_index = index
            self._dirty = True

    def _fail_reads(self) -> None:
        """No read that waits for a quorum or a leader survives a change of role, leader or term."""
        batches = [self._next_reads, *self._asked.values()]
        if self._current_reads is not None:
            batches.append(self._current_reads)
        for batch in batches:
            self._fail_batch(batch)
        self._next_reads = ReadBatch()
        self._current_reads = None
        self._asked = {}

    def _fail_batch(self, batch: ReadBatch) -> None:
        self._read_states.extend(ReadState(context, 0, False) for context in batch.local)
        for node, context in batch.forwarded:
            reply = ReadReply(self.node_id, node, self.term, context, 0, False)
            self._send_when_term_durable(reply)
        if batch:
            self._dirty = True
