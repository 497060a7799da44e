"""Replication: appends, acknowledgements, fast backup, commitment, and snapshots for those too far behind."""

from protocols.raft_messages import (
    Append,
    AppendReply,
    Entry,
    Heartbeat,
    SnapshotChunk,
    SnapshotReply,
)
from servers.raft.core_state import LEADER, NOBODY, IncomingSnapshot
from servers.raft.elections import Elections
from servers.raft.progress import PROBE, REPLICATE, Progress
from servers.raft.progress import SNAPSHOT as SENDING_SNAPSHOT
from servers.raft.types import Busy, InvariantBroken, NotLeader, PeerStatus, Snapshot


class Replication(Elections):
    # --- the leader's side -------------------------------------------------------------------------------------

    def propose(self, data: bytes) -> tuple[int, int]:
        """Append ``data`` to the log; returns the (index, term) under which it will be committed, if ever.

        The entry leaves with the next Ready, together with everything else proposed until then. Raises
        NotLeader or Busy; after either, it was definitely not proposed.
        """
        if self.role is not LEADER:
            raise NotLeader(self.leader)
        if self._transfer_to:
            raise Busy("leadership is being handed over")
        if not data:
            raise ValueError("an empty proposal would be mistaken for a leader's no-op")
        log = self.log
        config = self.config
        pending_bytes = self._uncommitted_bytes + len(data)
        if log.last_index - self.commit_index >= config.max_uncommitted_entries or (
            pending_bytes > config.max_uncommitted_bytes
        ):
            raise Busy("too many proposals wait to be committed")
        self._uncommitted_bytes = pending_bytes
        index = log.last_index + 1
        log.append(Entry(index, self.term, data))
        self._dirty = True
        return index, self.term

    def peer_unreachable(self, node_id: int) -> None:
        """The link to a peer broke: what was in flight is probably lost, so find out before sending more."""
        progress = self._progress.get(node_id)
        if progress is not None and progress.state == REPLICATE:
            progress.become_probe(progress.match + 1)
            progress.paused = True  # until the next heartbeat is due or something arrives

    def peer_status(self) -> list[PeerStatus]:
        """The leader's view of its peers; empty on any other node."""
        return [progress.status(self.now) for progress in self._progress_in_order]

    def _flush_appends(self) -> None:
        """Called by ready(): send every peer what it may be sent; peers at the same index share one list."""
        shared: dict[int, list[Entry]] = {}
        for progress in self._progress_in_order:
            if progress.state == REPLICATE:
                if progress.next <= self.log.last_index:
                    self._send_ahead(progress, shared)
            elif not progress.paused:
                if progress.state == PROBE:
                    self._send_probe(progress, shared)
                else:
                    self._send_chunk(progress)

    def _send_ahead(self, progress: Progress, shared: dict[int, list[Entry]]) -> None:
        last_index = self.log.last_index
        if progress.next <= self.log.base_index:
            self._start_snapshot(progress)
            return
        window = min(progress.window, self.config.max_inflight_appends)
        while progress.next <= last_index and len(progress.inflight) < window:
            entries = self._send_append(progress, shared)
            progress.next = entries[-1].index + 1
            progress.inflight.append(entries[-1].index)

    def _send_probe(self, progress: Progress, shared: dict[int, list[Entry]]) -> None:
        if progress.next <= self.log.base_index:
            self._start_snapshot(progress)
            return
        if self.now - progress.heard_at > 2 * self.config.heartbeat_ticks:
            self._send_append_of(progress, [])  # nobody may be there: a header is enough to find out
        else:
            self._send_append(progress, shared)
        progress.paused = True

    def _send_append(self, progress: Progress, shared: dict[int, list[Entry]]) -> list[Entry]:
        first = progress.next
        entries = shared.get(first)
        if entries is None:
            entries = shared[first] = self.log.batch(first, self.config.max_append_bytes)
        self._send_append_of(progress, entries)
        return entries

    def _send_append_of(self, progress: Progress, entries: list[Entry]) -> None:
        prev = progress.next - 1
        commit = self.commit_index
        self._before.append(
            Append(self.node_id, progress.node_id, self.term, prev, self.log.term_at(prev), commit, entries)
        )
        progress.commit_sent = max(progress.commit_sent, min(commit, prev + len(entries)))

    def _nudge(self, progress: Progress) -> None:
        """A heartbeat is due. If nothing was acknowledged since the last one, an Append or its answer is lost."""
        if not progress.answered:
            if progress.state != REPLICATE:
                if progress.fell_back_to >= 0:
                    progress.offset, progress.fell_back_to = progress.fell_back_to, -1
                progress.paused = False
            elif progress.match < self.log.last_index:
                if progress.next <= self.log.base_index:
                    progress.become_probe(progress.next)
                else:
                    # An empty Append at the end of what was sent tells what is missing, for the price of a header.
                    self._send_append_of(progress, [])
        progress.answered = False

    def _tell_commit(self) -> None:
        """Followers that nothing else told hear of the new commit index within a tick."""
        commit = self.commit_index
        for progress in self._progress_in_order:
            known = min(progress.match, commit)
            if progress.commit_sent < known:
                progress.commit_sent = known
                self._before.append(Heartbeat(self.node_id, progress.node_id, self.term, known, self._read_round))
                self._dirty = True

    def _on_append_reply(self, message: AppendReply) -> None:
        # An answer of an earlier term never gets here: step() compares terms first. Within this term an
        # acknowledged entry stays in the follower's log, so an old answer is at worst old news.
        if self.role is not LEADER:
            return
        progress = self._progress[message.sender]
        if not message.ok:
            self._back_up(progress, message)
            return
        if message.index > self.log.last_index:
            raise InvariantBroken(f"node {message.sender} acknowledged entry {message.index} of this term")
        news = progress.acknowledged(message.index)
        if progress.state == PROBE or (progress.state == SENDING_SNAPSHOT and progress.match >= self.log.base_index):
            progress.become_replicate()
        elif progress.snapshot is not None and progress.match >= progress.snapshot.index:
            # Installed, but the log was trimmed beyond it meanwhile: the next one is due.
            progress.become_probe(progress.match + 1)
        if news:
            self._maybe_commit()
            if self._transfer_to == message.sender:
                self._finish_transfer()

    def _back_up(self, progress: Progress, message: AppendReply) -> None:
        progress.answered = True
        if progress.state == REPLICATE:
            if message.index > progress.match:
                progress.become_probe(progress.match + 1)
        elif progress.state == PROBE and message.index == progress.next - 1:
            # Raft paper, end of 5.3: skip a whole conflicting term per refusal. Every entry of ours above the hint
            # with a later term than the hint's cannot be in the follower's log.
            agreed = self.log.agreement_hint(message.hint_index, message.hint_term, floor=progress.match)
            progress.become_probe(min(message.index, agreed + 1))

    def _may_commit(self, index: int) -> bool:
        """Raft paper, 5.4.2: only entries of the current term are committed by counting replicas."""
        return self.log.term_at(index) == self.term

    def _maybe_commit(self) -> None:
        matches = [progress.match for progress in self._progress_in_order]
        matches.append(self.log.stable)  # the leader counts itself only after its own fsync
        matches.sort(reverse=True)
        index = matches[self.quorum - 1]
        before = self.commit_index
        if index > before and self._may_commit(index):
            self._advance_commit(index)
            freed = sum(len(entry.data) for entry in self.log.between(before + 1, index))
            self._uncommitted_bytes = max(0, self._uncommitted_bytes - freed)

    # --- snapshots, the leader's side --------------------------------------------------------------------------

    def _start_snapshot(self, progress: Progress) -> None:
        if self.now - progress.heard_at >= self.config.election_ticks_min:
            progress.paused = True  # nobody is there to receive it; a heartbeat will ask again
            return
        snapshot = self._outgoing_snapshot
        if snapshot is None or snapshot.index < self.log.base_index:
            if self._load_snapshot is None:
                raise InvariantBroken("the log was trimmed but there is no snapshot to send")
            snapshot = self._load_snapshot()
            if snapshot.index < self.log.base_index:
                raise InvariantBroken(
                    f"the log is trimmed to {self.log.base_index} but the snapshot only covers {snapshot.index}"
                )
            self._outgoing_snapshot = snapshot
        size_bytes = len(snapshot.data)
        if self._refuse_too_large(progress.node_id, snapshot.index, size_bytes):
            # Its size alone, once a heartbeat, so that the follower can complain of it too.
            progress.become_probe(progress.next)
            progress.paused = True
            self._before.append(
                SnapshotChunk(
                    self.node_id, progress.node_id, self.term, snapshot.index, snapshot.term, size_bytes, 0, b""
                )
            )
            return
        progress.become_snapshot(snapshot)
        self._send_chunk(progress)

    def _send_chunk(self, progress: Progress) -> None:
        snapshot = progress.snapshot
        assert snapshot is not None
        total = len(snapshot.data)
        size = self.config.snapshot_chunk_bytes
        # All sent but not acknowledged: the last chunk again makes the follower answer.
        start = progress.offset if progress.offset < total else max(0, total - size)
        self._before.append(
            SnapshotChunk(
                self.node_id,
                progress.node_id,
                self.term,
                snapshot.index,
                snapshot.term,
                total,
                start,
                snapshot.data[start : start + size],
            )
        )
        progress.paused = True

    def _on_snapshot_reply(self, message: SnapshotReply) -> None:
        if self.role is not LEADER:
            return
        progress = self._progress[message.sender]
        snapshot = progress.snapshot
        if snapshot is None or snapshot.index != message.index or message.offset > len(snapshot.data):
            return
        if message.offset > progress.offset:
            progress.answered = True
            progress.offset, progress.fell_back_to = message.offset, -1
            progress.paused = False
        else:
            # Old news, or a follower that restarted and has less than before. A chunk for each of these would make a
            # storm of a link that duplicates (the sorcerer's apprentice of TFTP, RFC 1123, 4.2.3.1): every chunk is
            # answered, every answer would bring a chunk. Once a heartbeat, if nothing else arrives, is soon enough.
            progress.fell_back_to = message.offset

    # --- the follower's side -----------------------------------------------------------------------------------

    def _on_append(self, message: Append) -> None:
        log = self.log
        prev = message.prev_index
        entries = message.entries
        commit = self.commit_index
        if prev < commit:
            # What is committed here is in every later leader's log (leader completeness): skip over it.
            if prev + len(entries) <= commit:
                self._acknowledge(commit)
                return
            entries = entries[commit - prev :]
            prev = commit
        elif log.term_at(prev) != message.prev_term:
            hint = log.agreement_hint(prev, message.prev_term, floor=commit)
            self._after.append(
                AppendReply(self.node_id, message.sender, self.term, False, prev, hint, log.term_at(hint))
            )
            return
        self._merge(prev, entries)
        self._acknowledge(prev + len(entries))
        self._advance_commit(min(message.commit, self._matched_index))

    def _merge(self, prev: int, entries: list[Entry]) -> None:
        """Raft paper, figure 2: "if an existing entry conflicts with a new one (same index but different terms),
        delete the existing entry and all that follow it". Only then: a delayed shorter Append must not
        remove entries that were acknowledged since."""
        log = self.log
        for position, entry in enumerate(entries):
            if entry.index > log.last_index:
                log.extend(entries[position:] if position else entries)
                return
            if log.term_at(entry.index) != entry.term:
                self._truncate_from(entry.index)
                log.extend(entries[position:])
                return

    def _truncate_from(self, index: int) -> None:
        if index <= self.commit_index:
            raise InvariantBroken(f"the leader contradicts entry {index}, which is committed here")
        self.log.truncate_from(index)
        self._matched_index = min(self._matched_index, index - 1)

    def _acknowledge(self, index: int) -> None:
        """Our log equals the leader's up to ``index``; say so once that much is durable."""
        self._matched_index = max(self._matched_index, index)
        self._ack_index = max(self._ack_index, index)

    def _flush_ack(self) -> None:
        """Called by ready(): one answer for all Appends since the last Ready."""
        if self._ack_index >= 0 and self.leader != NOBODY:
            self._after.append(AppendReply(self.node_id, self.leader, self.term, True, self._ack_index, 0, 0))
        self._ack_index = -1

    def _on_snapshot_chunk(self, chunk: SnapshotChunk) -> None:
        if chunk.index <= self.commit_index:
            self._acknowledge(self.commit_index)
            return
        if self.log.term_at(chunk.index) == chunk.index_term:
            # We have the very entry it ends with, hence all before it (log matching): nothing to install.
            self._acknowledge(chunk.index)
            self._advance_commit(chunk.index)
            return
        incoming = self._incoming
        if incoming is None or not incoming.accepts(chunk):
            if incoming is not None and chunk.index < incoming.index:
                return
            if self._refuse_too_large(chunk.sender, chunk.index, chunk.total):
                return
            incoming = self._incoming = IncomingSnapshot(chunk)
        if chunk.offset == len(incoming.data) and chunk.offset + len(chunk.data) <= incoming.total:
            incoming.data += chunk.data
            if len(incoming.data) == incoming.total:
                self._install(incoming)
                return
        self._send_when_term_durable(
            SnapshotReply(self.node_id, chunk.sender, self.term, chunk.index, len(incoming.data))
        )

    def _install(self, incoming: IncomingSnapshot) -> None:
        """Raft paper, figure 13: our log does not contain the snapshot's last entry, so all of it goes."""
        self._incoming = None
        self._received_snapshot = Snapshot(incoming.index, incoming.index_term, bytes(incoming.data))
        self.log.restore(incoming.index, incoming.index_term)
        self._delivered = incoming.index
        self._advance_commit(incoming.index)
        self._acknowledge(incoming.index)
