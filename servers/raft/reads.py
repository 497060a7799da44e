"""ReadIndex: linearizable reads without a log entry, at every node (thesis 6.4).

The leader notes its commit index, lets a quorum confirm in one heartbeat round that it still leads, and then the
read may be served once that index is applied. All reads that arrive while a round is under way share the next one.
A follower asks the leader for the index, again one question for all reads that arrived meanwhile. There are no
lease reads: a clock that stands still must not make a read stale.
"""

from protocols.raft_messages import Heartbeat, HeartbeatReply, ReadReply, ReadRequest
from servers.raft.core_state import LEADER, NOBODY, CoreState, ReadBatch
from servers.raft.types import Busy, NotLeader, ReadState


class Reads(CoreState):
    def read_index(self, context: int) -> None:
        """Ask for a read index; the answer comes as ``ReadState(context, index, ok)`` in a later Ready.

        Raises NotLeader(0) if no leader is known, Busy if too many reads wait.
        """
        if self.role is not LEADER and self.leader == NOBODY:
            raise NotLeader(NOBODY)
        if len(self._next_reads.local) >= self.config.max_pending_reads:
            raise Busy("too many reads wait")
        self._next_reads.local.append(context)
        self._dirty = True

    def _start_reads(self) -> None:
        """Called by ready(): turn the reads that wait into a round (leader) or a question (follower)."""
        batch = self._next_reads
        if self.role is LEADER:
            # Before the first commit of its own term a leader does not know what is committed (Raft paper, 8).
            if self._current_reads is None and self.commit_index >= self._term_start_index:
                self._begin_round(batch)
        elif self.leader != NOBODY:
            context = self._next_context
            self._next_context += 1
            batch.deadline = self.now + self.config.election_ticks_max
            self._asked[context] = batch
            self._next_reads = ReadBatch()
            self._send_when_term_durable(ReadRequest(self.node_id, self.leader, self.term, context))

    def _begin_round(self, batch: ReadBatch) -> None:
        self._next_reads = ReadBatch()
        self._current_reads = batch
        self._read_round += 1
        batch.round = self._read_round
        batch.index = self.commit_index
        self._broadcast_heartbeat()
        self._finish_round()

    def _broadcast_heartbeat(self) -> None:
        """Raft paper, 5.3; the commit index never exceeds what the follower is known to hold."""
        for progress in self._progress_in_order:
            commit = min(progress.match, self.commit_index)
            progress.commit_sent = max(progress.commit_sent, commit)
            self._before.append(Heartbeat(self.node_id, progress.node_id, self.term, commit, self._read_round))
        self._dirty = True

    def _round_confirmed(self, read_round: int) -> bool:
        """Whether a quorum, ourselves included, answered a heartbeat of this round or a later one."""
        votes = 1 + sum(progress.round >= read_round for progress in self._progress_in_order)
        return votes >= self.quorum

    def _finish_round(self) -> None:
        batch = self._current_reads
        if batch is None or not self._round_confirmed(batch.round):
            return
        self._current_reads = None
        self._read_states.extend(ReadState(context, batch.index, True) for context in batch.local)
        for node, context in batch.forwarded:
            self._before.append(ReadReply(self.node_id, node, self.term, context, batch.index, True))
        self._dirty = True

    def _on_heartbeat(self, message: Heartbeat) -> None:
        self._advance_commit(message.commit)
        self._send_when_term_durable(HeartbeatReply(self.node_id, message.sender, self.term, message.round))

    def _on_heartbeat_reply(self, message: HeartbeatReply) -> None:
        if self.role is not LEADER:
            return
        progress = self._progress[message.sender]
        if message.round > progress.round:
            progress.round = message.round
            self._finish_round()

    def _on_read_request(self, message: ReadRequest) -> None:
        if self.role is not LEADER or len(self._next_reads.forwarded) >= self.config.max_pending_reads:
            reply = ReadReply(self.node_id, message.sender, self.term, message.context, 0, False)
            self._send_when_term_durable(reply)
            return
        self._next_reads.forwarded.append((message.sender, message.context))

    def _on_read_reply(self, message: ReadReply) -> None:
        batch = self._asked.pop(message.context, None)
        if batch is None:
            return
        if message.ok:
            # The leader committed it, and our log equals the leader's this far: no need to wait to be told.
            self._advance_commit(min(message.index, self._matched_index))
        self._read_states.extend(ReadState(context, message.index, message.ok) for context in batch.local)

    def _expire_questions(self) -> None:
        """A question or its answer was lost: the client is told and may try again."""
        for context in [context for context, batch in self._asked.items() if batch.deadline <= self.now]:
            self._fail_batch(self._asked.pop(context))
