"""Drives one real core message by message: what goes in is written in the test, what comes out is collected."""

from random import Random

from protocols.raft_messages import Append, AppendReply, Entry, PeerMessage, VoteReply
from servers.raft.core import Core
from servers.raft.types import CoreConfig, HardState, ReadState, Ready, Snapshot


class DrivenCore:
    def __init__(
        self,
        node_id: int = 1,
        *,
        members: int = 3,
        term: int = 0,
        vote: int = 0,
        terms: list[int] | None = None,
        snapshot: Snapshot | None = None,
        **options: int,
    ) -> None:
        """``terms``: the terms of the log's entries, from just after the snapshot on."""
        base = snapshot.index if snapshot else 0
        entries = [Entry(base + 1 + i, t, b"%d" % (base + 1 + i)) for i, t in enumerate(terms or [])]
        self.snapshot = snapshot
        self.core = Core(
            CoreConfig(node_id, tuple(range(1, members + 1)), **options),
            HardState(term, vote),
            base,
            snapshot.term if snapshot else 0,
            entries,
            Random(node_id),
            load_snapshot=lambda: self.snapshot,
        )
        self.sent: list[PeerMessage] = []
        self.committed: list[Entry] = []
        self.reads: list[ReadState] = []
        self.readys: list[Ready] = []

    def run(self) -> list[PeerMessage]:
        """Handle every Ready as a shell does; returns what was sent since the last call."""
        while self.core.has_ready():
            ready = self.core.ready()
            self.readys.append(ready)
            self.sent += ready.messages_before
            self.core.persisted(ready)
            self.sent += ready.messages_after
            if ready.snapshot:
                self.core.applied(ready.snapshot.index)
            self.committed += ready.committed
            if ready.committed:
                self.core.applied(ready.committed[-1].index)
            self.reads += ready.read_states
        sent, self.sent = self.sent, []
        return sent

    def tick(self, times: int = 1) -> list[PeerMessage]:
        sent = []
        for _ in range(times):
            self.core.tick()
            sent += self.run()
        return sent

    def step(self, *messages: PeerMessage) -> list[PeerMessage]:
        for message in messages:
            self.core.step(message)
        return self.run()

    def elect(self) -> list[PeerMessage]:
        """Let the core campaign and win; returns what it sends as the new leader."""
        self.start_prevote()
        me, term = self.core.node_id, self.core.term + 1
        for peer in self.core.peers:
            self.core.step(VoteReply(peer, me, term, True, True))
        self.run()
        for peer in self.core.peers:
            self.core.step(VoteReply(peer, me, term, False, True))
        return self.run()

    def start_prevote(self) -> list[PeerMessage]:
        for _ in range(self.core.config.election_ticks_max + 1):
            sent = self.tick()
            if sent:
                return sent
        raise AssertionError("no campaign within the longest election timeout")

    def follow(self, leader: int, term: int, commit: int = 0) -> list[PeerMessage]:
        """Hear an empty Append at the very start of the log from ``leader``."""
        return self.step(Append(leader, self.core.node_id, term, 0, 0, commit, []))

    def acknowledge(self, peer: int, index: int | None = None) -> list[PeerMessage]:
        """``peer`` acknowledges everything up to ``index`` (default: the whole log) in the current term."""
        index = self.core.last_index if index is None else index
        return self.step(AppendReply(peer, self.core.node_id, self.core.term, True, index, 0, 0))

    def log_terms(self) -> list[int]:
        log = self.core.log
        return [entry.term for entry in log.between(log.base_index + 1, log.last_index)]


def entries(first: int, *terms: int) -> list[Entry]:
    return [Entry(first + i, term, b"%d" % (first + i)) for i, term in enumerate(terms)]


def of_type(messages: list[PeerMessage], kind: type) -> list[PeerMessage]:
    return [message for message in messages if type(message) is kind]
