"""The Raft core: sans-I/O, in the shape of etcd-io/raft.

Messages, ticks and proposals go in; a :class:`Ready` comes out that says what to persist, what to send before and
after that, what is committed and which reads may be served. The core has no sockets, clock, disk or randomness of its
own: ticks and the random generator are handed in, so that the same calls give the same Readys, byte by byte.

The shell's loop::

    core.step(message) / core.tick() / core.propose(data) / core.read_index(context)   # any number of them
    while core.has_ready():
        ready = core.ready()
        send(ready.messages_before)                    # at once
        if ready.hard_state or ready.snapshot or ready.entries:
            disk: hard_state; then snapshot, which replaces the WHOLE log; then entries, which overwrite from
                  entries[0].index on; sync
        core.persisted(ready)                          # exactly once for every Ready, in order, also for empty ones
        send(ready.messages_after)
        if ready.snapshot: restore the state machine from it; core.applied(ready.snapshot.index)
        apply(ready.committed); core.applied(index of the last one)
        for context, index, ok in ready.read_states: serve once applied_index >= index (or report failure)
        for alarm in ready.alarms: show it to people
        from time to time: save a snapshot at an applied index, then core.compact(up to which the log was trimmed)

While the disk is syncing one Ready the shell may go on stepping, and may call ready() again and send its
``messages_before`` and apply its ``committed`` at once (these are durable on a quorum); only ``persisted`` and
``messages_after`` keep the order of the Readys.

* Every Ready must be passed to persisted(), in the order of ready(), or RuntimeError.
* ``committed`` holds at most ``max_committed_entries``; has_ready() stays true while there are more.
* Entries with ``data == b""`` are no-ops of new leaders: skip them, but count them as applied.
* propose(b"") is a ValueError. NotLeader and Busy mean: definitely not proposed.
* When ``ready.role`` is no longer LEADER, or ``ready.term`` changed, proposals still waiting have an unknown
  outcome. If the index of a waiting proposal is committed with another term, that proposal is gone for good.
* ``load_snapshot`` (constructor) returns the newest durable snapshot; it is called when a follower needs one.
* compact(index) trims to an index that may lie below the newest snapshot's: keep a margin of entries, or a
  follower that is a little behind needs a whole snapshot.
* ``rng`` must not repeat itself after a restart (contexts of forwarded reads start at a random number).
* read_index raises NotLeader(0) when no leader is known and Busy when too many reads wait.
* InvariantBroken (from any call) means the node must stop.
"""

from typing import Any

from protocols.raft_messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PeerMessage,
    ReadReply,
    ReadRequest,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from servers.raft.core_state import LEADER, NOBODY
from servers.raft.reads import Reads
from servers.raft.replication import Replication
from servers.raft.types import HardState, InvariantBroken, Ready

# Only a term's leader sends these, so they name it.
LEADER_MESSAGES = (Append, Heartbeat, SnapshotChunk)


class Core(Replication, Reads):
    """One Raft node. Not thread-safe: one greenlet or thread at a time."""

    _ready_sequence = 0
    _persisted_sequence = 0

    @property
    def last_index(self) -> int:
        """Index of the newest log entry, durable or not."""
        return self.log.last_index

    @property
    def is_leader(self) -> bool:
        return self.role is LEADER

    def tick(self) -> None:
        """One tick of the clock passed."""
        self.now += 1
        if self.role is not LEADER:
            if self._asked:
                self._expire_questions()
            self._tick_follower()
            return
        self._check_quorum()
        if self.role is not LEADER:
            return
        if self._transfer_to and self.now >= self._transfer_deadline:
            self._transfer_to = NOBODY
        if self.now >= self._heartbeat_due:
            self._heartbeat_due = self.now + self.config.heartbeat_ticks
            self._broadcast_heartbeat()
            for progress in self._progress_in_order:
                self._nudge(progress)
        else:
            self._tell_commit()

    def step(self, message: PeerMessage) -> None:
        """A message arrived from a peer. Anything may arrive at any time, twice, late or never."""
        sender = message.sender
        if message.to != self.node_id or sender not in self.peers:
            return
        kind = type(message)
        term = message.term
        if term != self.term:
            if term < self.term:
                self._answer_the_past(message)
                return
            if kind is VoteRequest and not message.force and self._in_lease():  # type: ignore[union-attr]
                return
            # A pre-vote and its grant name a term that nobody is in yet.
            if not (kind is VoteRequest and message.pre) and not (  # type: ignore[union-attr]
                kind is VoteReply and message.pre and message.granted  # type: ignore[union-attr]
            ):
                self.become_follower(term, sender if kind in LEADER_MESSAGES else NOBODY)
        if kind in LEADER_MESSAGES:
            if self.role is LEADER:
                raise InvariantBroken(f"node {sender} leads term {term} too")
            if self.leader != sender:
                if self.leader != NOBODY:
                    raise InvariantBroken(f"nodes {self.leader} and {sender} both lead term {term}")
                self.become_follower(term, sender)
            self._elapsed = 0
        elif self.role is LEADER:
            self._progress[sender].heard_at = self.now
        _HANDLERS[kind](self, message)
        self._dirty = True

    def _answer_the_past(self, message: PeerMessage) -> None:
        """A message of an earlier term is never acted upon. Who still leads or campaigns in that term is told ours:
        otherwise a node that came back with a higher term could neither join nor, under PreVote, be elected."""
        kind = type(message)
        if kind in LEADER_MESSAGES:
            self._send_when_term_durable(AppendReply(self.node_id, message.sender, self.term, False, 0, 0, 0))
            self._dirty = True
        elif kind is VoteRequest:
            pre = message.pre  # type: ignore[union-attr]
            self._send_when_term_durable(VoteReply(self.node_id, message.sender, self.term, pre, False))
            self._dirty = True

    def has_ready(self) -> bool:
        """Whether ready() has something to say."""
        return self._dirty or self._delivered < min(self.commit_index, self.log.handed)

    def ready(self) -> Ready:
        """Everything that is to be done now; it counts as handed over."""
        self._dirty = False
        log = self.log
        if self._next_reads:
            self._start_reads()
        if self.role is LEADER:
            self._flush_appends()
        self._flush_ack()
        hard_state: HardState | None = HardState(self.term, self.vote)
        if hard_state == self._handed_hard_state:
            hard_state = None
        else:
            self._handed_hard_state = HardState(self.term, self.vote)
        snapshot, self._received_snapshot = self._received_snapshot, None
        entries = log.take_unhanded()
        first = self._delivered + 1
        last = min(self.commit_index, log.handed, self._delivered + self.config.max_committed_entries)
        self._delivered = max(self._delivered, last)
        self._ready_sequence += 1
        ready = Ready(
            hard_state=hard_state,
            snapshot=snapshot,
            entries=entries,
            messages_before=self._before,
            messages_after=self._after,
            committed=log.between(first, last) if last >= first else (),
            read_states=self._read_states,
            alarms=self._alarms,
            role=self.role,
            leader=self.leader,
            term=self.term,
            sequence=self._ready_sequence,
            last_index=log.handed,
            generation=log.generation,
        )
        self._before, self._after, self._read_states, self._alarms = [], [], [], []
        self._dirty = False
        return ready

    def persisted(self, ready: Ready) -> None:
        """The Ready's hard state, snapshot and entries are durable, and so are those of all Readys before it."""
        if ready.sequence != self._persisted_sequence + 1:
            raise RuntimeError(f"persisted Ready {ready.sequence} after Ready {self._persisted_sequence}")
        self._persisted_sequence = ready.sequence
        self._durable_term = ready.term
        self.log.stable_to(ready.last_index, ready.generation)
        if self.role is LEADER:
            self._maybe_commit()
        else:
            self._own_vote_durable()

    def applied(self, index: int) -> None:
        """The state machine has applied everything up to ``index``."""
        if not self.applied_index <= index <= self.commit_index:
            raise InvariantBroken(f"applied {index} after {self.applied_index} with commit index {self.commit_index}")
        self.applied_index = index

    def compact(self, index: int) -> None:
        """Everything up to ``index`` is in a durable snapshot and trimmed from the log."""
        if index > self.applied_index:
            raise InvariantBroken(f"the log may not be trimmed to {index}, applied is only {self.applied_index}")
        self.log.trim(index)


_HANDLERS: dict[type[Any], Any] = {
    VoteRequest: Core._on_vote_request,
    VoteReply: Core._on_vote_reply,
    Append: Core._on_append,
    AppendReply: Core._on_append_reply,
    Heartbeat: Core._on_heartbeat,
    HeartbeatReply: Core._on_heartbeat_reply,
    SnapshotChunk: Core._on_snapshot_chunk,
    SnapshotReply: Core._on_snapshot_reply,
    ReadRequest: Core._on_read_request,
    ReadReply: Core._on_read_reply,
    TimeoutNow: Core._on_timeout_now,
}
