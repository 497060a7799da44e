"""What must hold after every step, each under its name in shared language: the Raft paper's figure 3 first.

The observer sees every node from outside, keeps what was ever true (leaders, votes, log entries, committed
entries, acknowledgements), and raises Violation at the first event that contradicts it. It has its own idea of what
the log means (:class:`Oracle`), independent of the state machine under test.
"""

from typing import TYPE_CHECKING

from protocols.kv import APPEND, CAS, CAS_FAILED, ERROR, OK, PUT, UNKNOWN, KvReply, KvRequest
from protocols.raft_messages import Append, AppendReply, Entry, Heartbeat, PeerMessage, VoteReply, VoteRequest
from servers.raft.types import Ready, Role, Snapshot
from tests.raft_simulator.violation import Violation

if TYPE_CHECKING:
    from tests.raft_simulator.client import SimClient
    from tests.raft_simulator.cluster import Cluster
    from tests.raft_simulator.linearizability import Op
    from tests.raft_simulator.node import SimNode

ELECTION_SAFETY = "election safety"
APPEND_ONLY = "leader append-only"
LOG_MATCHING = "log matching"
LEADER_COMPLETENESS = "leader completeness"
STATE_MACHINE_SAFETY = "state machine safety"
MONOTONIC = "term, commit and applied never fall"
ONE_VOTE = "one vote per term"
PERSIST_BEFORE_SEND = "persist before send"
DURABLE_ON_QUORUM = "committed is durable on a quorum"
OWN_TERM = "a leader commits by counting only entries of its term"
SNAPSHOT_COMMITTED = "snapshot covers only committed entries"
APPLIED_ONCE = "each request is applied once"
SAME_STATE = "equal applied index, equal state"
FRESH_READS = "a read sees every write acknowledged before it"
FAIL_STOP = "a node stops when fsync fails"


class Oracle:
    """What the committed requests mean, applied once each and in order."""

    def __init__(self) -> None:
        self.values: dict[str, str | None] = {}
        self.results: dict[tuple[int, int], tuple[str, str | None]] = {}
        self.last_seq: dict[int, int] = {}

    def apply(self, request: KvRequest) -> tuple[str, str | None] | None:
        """(result, value seen) of a fresh request; None if it is a retry or was overtaken, and must change nothing."""
        assert request.client_id is not None
        assert request.seq is not None
        if request.seq <= self.last_seq.get(request.client_id, 0):
            return None
        self.last_seq[request.client_id] = request.seq
        before = self.values.get(request.key)
        seen = None
        result = OK
        value: str | None = request.value  # type: ignore[assignment]
        if request.op == PUT:
            self.values[request.key] = value
        elif request.op == APPEND:
            self.values[request.key] = (before or "") + (value or "")
        elif request.op == CAS:
            if before == request.expect:
                self.values[request.key] = value
            else:
                result, seen = CAS_FAILED, before
        self.results[request.client_id, request.seq] = (result, seen)
        return result, seen


class Watch:
    """What was last seen of one node in its present life."""

    __slots__ = ("applied", "commit", "generation", "last_index", "leads", "role", "term")

    def __init__(self) -> None:
        self.term = self.commit = self.applied = 0
        self.leads = 0
        self.generation = self.last_index = 0
        self.role = Role.FOLLOWER


class Invariants:
    def __init__(self, cluster: "Cluster") -> None:
        self.cluster = cluster
        self.quorum = cluster.profile.nodes // 2 + 1
        self.oracle = Oracle()
        self.leaders: dict[int, int] = {}
        self.votes: dict[tuple[int, int], int] = {}
        # (index, term) -> (term before it, data): two logs that agree there agree on everything before.
        self.entries: dict[tuple[int, int], tuple[int, bytes]] = {}
        self.committed: list[tuple[int, bytes]] = [(0, b"")]
        # The term in which each of them was first seen committed: only leaders of later terms must have it.
        self.committed_in: list[int] = [0]
        # index -> the answer the first node gave; the others must give the same.
        self.replies: dict[int, KvReply] = {}
        self.digests: dict[int, str] = {}
        self.acknowledged_index = 0
        self.max_commit = 0
        self.terms: dict[int, int] = {}
        self.watches: dict[int, Watch] = {}

    def fail(self, rule: str, detail: str) -> None:
        raise Violation(rule, detail)

    # --- one node after each of its events ---------------------------------------------------------------------

    def started(self, node: "SimNode") -> None:
        core = node.core
        assert core is not None
        watch = self.watches[node.node_id] = Watch()
        if core.term < self.terms.get(node.node_id, 0):
            self.fail(MONOTONIC, f"n{node.node_id} restarts in term {core.term}, it was in {self.terms[node.node_id]}")
        watch.term = core.term
        watch.applied = watch.commit = core.applied_index
        log = core.log
        for entry in log.between(log.base_index + 1, log.last_index):
            self._match(node, entry, log.term_at(entry.index - 1))
        self.restored(node)

    def crashed(self, node: "SimNode") -> None:
        """What is committed stays on the disks of a quorum, whatever crashes do to them."""
        index = self.max_commit
        if index:
            self.durable(index, self.committed[index][0])

    def check(self, node: "SimNode") -> None:
        """Called after everything that can change a node."""
        core = node.core
        assert core is not None
        watch = self.watches[node.node_id]
        term, commit, log = core.term, core.commit_index, core.log
        if term < watch.term or commit < watch.commit or core.applied_index < watch.applied:
            self.fail(
                MONOTONIC,
                f"n{node.node_id} fell from term {watch.term} commit {watch.commit} applied {watch.applied}"
                f" to {term}, {commit}, {core.applied_index}",
            )
        if core.applied_index > commit or commit > log.last_index:
            self.fail(MONOTONIC, f"n{node.node_id} applied {core.applied_index} commit {commit} log {log.last_index}")
        if core.role is Role.LEADER:
            if watch.leads != term:
                self._elected(node)
                watch.leads = term
            elif log.generation != watch.generation or log.last_index < watch.last_index:
                self.fail(APPEND_ONLY, f"leader n{node.node_id} shortened its log in term {term}")
            elif commit > watch.commit and log.term_at(commit) != term:
                self.fail(
                    OWN_TERM, f"n{node.node_id} commits entry {commit} of term {log.term_at(commit)} in term {term}"
                )
            watch.generation, watch.last_index = log.generation, log.last_index
        watch.term, watch.commit, watch.applied = term, commit, core.applied_index
        if commit > self.max_commit:
            self._committed(node)

    def _elected(self, node: "SimNode") -> None:
        core = node.core
        assert core is not None
        other = self.leaders.setdefault(core.term, node.node_id)
        if other != node.node_id:
            self.fail(ELECTION_SAFETY, f"n{other} and n{node.node_id} both lead term {core.term}")
        self.cluster.note(node.node_id, "leads term %d", core.term)
        log = core.log
        for index in range(log.base_index + 1, self.max_commit + 1):
            if self.committed_in[index] < core.term and log.term_at(index) != self.committed[index][0]:
                self.fail(
                    LEADER_COMPLETENESS,
                    f"n{node.node_id} leads term {core.term} without committed entry {index}"
                    f" of term {self.committed[index][0]}",
                )

    def _committed(self, node: "SimNode") -> None:
        """The highest commit index of all moved: what it covers must be on the disks of a quorum, now and for good."""
        core = node.core
        assert core is not None
        log = core.log
        first = len(self.committed)
        if log.base_index >= first:
            self.fail(SNAPSHOT_COMMITTED, f"n{node.node_id} trimmed entry {first} that nobody committed before")
        for entry in log.between(first, core.commit_index):
            self.committed.append((entry.term, entry.data))
            self.committed_in.append(core.term)
        self.max_commit = core.commit_index
        self.durable(core.commit_index, log.term_at(core.commit_index))

    def durable(self, index: int, term: int) -> None:
        disks = [other.node_id for other in self.cluster.nodes.values() if other.disk.durable.holds(index, term)]
        if len(disks) < self.quorum:
            self.fail(DURABLE_ON_QUORUM, f"entry {index} of term {term} is only on the disks of {disks}")

    # --- Readys and messages -----------------------------------------------------------------------------------

    def handed_over(self, node: "SimNode", ready: Ready) -> None:
        core = node.core
        assert core is not None
        for entry in ready.entries:
            self._match(node, entry, core.log.term_at(entry.index - 1))

    def _match(self, node: "SimNode", entry: Entry, term_before: int) -> None:
        # (A trimmed predecessor has term 0 and says nothing.)
        known = self.entries.setdefault((entry.index, entry.term), (term_before, entry.data))
        if known[1] != entry.data or (term_before and known[0] and known[0] != term_before):
            self.fail(
                LOG_MATCHING, f"n{node.node_id} has another entry {entry.index} of term {entry.term} than somebody else"
            )

    def sending(self, node: "SimNode", message: PeerMessage) -> None:
        if node.disk.failed:
            self.fail(FAIL_STOP, f"n{node.node_id} sends {message!r} after its disk failed")
        self.terms[node.node_id] = max(self.terms.get(node.node_id, 0), node.disk.durable.hard_state.term)
        kind = type(message)
        if (kind is VoteRequest or kind is VoteReply) and message.pre:  # type: ignore[union-attr]
            return
        hard_state = node.disk.durable.hard_state
        if message.term > hard_state.term:
            self._not_durable(node, message, f"its durable term is {hard_state.term}")
        if kind is VoteRequest or (kind is VoteReply and message.granted):  # type: ignore[union-attr]
            candidate = node.node_id if kind is VoteRequest else message.to
            given = self.votes.setdefault((node.node_id, message.term), candidate)
            if given != candidate:
                self.fail(ONE_VOTE, f"n{node.node_id} votes for n{given} and n{candidate} in term {message.term}")
            if hard_state.term == message.term and hard_state.vote != candidate:
                self._not_durable(node, message, f"its durable vote is {hard_state.vote}")
        elif kind is AppendReply and message.ok and message.term == hard_state.term:  # type: ignore[union-attr]
            # (Of an earlier term: one sync made both the entry and its replacement by a newer leader durable. The
            # answer is late, not wrong: had the entry been committed with it, the newer leader would have the entry.)
            image = node.disk.durable
            last = max(image.last_index, image.snapshot.index if image.snapshot else 0)
            if last < message.index:  # type: ignore[operator]
                self._not_durable(node, message, f"its disk ends at {last}")
        elif kind is Append or kind is Heartbeat:
            leader = self.leaders.get(message.term)
            if leader is not None and leader != node.node_id:
                self.fail(
                    ELECTION_SAFETY, f"n{node.node_id} speaks as leader of term {message.term}, as n{leader} does"
                )

    def _not_durable(self, node: "SimNode", message: PeerMessage, why: str) -> None:
        self.fail(PERSIST_BEFORE_SEND, f"n{node.node_id} sends {message!r} but {why}")

    # --- the state machine -------------------------------------------------------------------------------------

    def applied(self, node: "SimNode", entry: Entry, request: KvRequest | None, reply: KvReply) -> None:
        index = entry.index
        if index >= len(self.committed):
            core = node.core
            assert core is not None
            self._committed(node)
        if self.committed[index] != (entry.term, entry.data):
            self.fail(STATE_MACHINE_SAFETY, f"n{node.node_id} applied another entry {index} than was committed first")
        known = self.replies.get(index)
        if known is None:
            if request is not None:
                self._compare(index, request, reply)
            self.replies[index] = reply
        elif known != reply:
            self.fail(
                APPLIED_ONCE if known.replayed != reply.replayed else STATE_MACHINE_SAFETY,
                f"n{node.node_id} answers {reply.result} {reply.value!r} to entry {index}, another node"
                f" {known.result} {known.value!r}",
            )
        self._digest(node, index)

    def _compare(self, index: int, request: KvRequest, reply: KvReply) -> None:
        """The first node that applies an entry is compared with the oracle, the others with the first."""
        expected = self.oracle.apply(request)
        name = f"request {request.client_id}.{request.seq} at entry {index}"
        if expected is None:
            assert request.client_id is not None
            assert request.seq is not None
            before = self.oracle.results.get((request.client_id, request.seq))
            if reply.result in {ERROR, UNKNOWN}:
                return  # too old or overtaken: not applied, and said so
            if not reply.replayed:
                self.fail(APPLIED_ONCE, f"{name} was applied before and is applied again")
            if before != (reply.result, reply.value):
                self.fail(APPLIED_ONCE, f"{name} is answered {reply.result} {reply.value!r}, first it was {before}")
        elif expected != (reply.result, reply.value) or reply.replayed:
            self.fail(STATE_MACHINE_SAFETY, f"{name} gives {reply}, not {expected}")

    def restored(self, node: "SimNode") -> None:
        core = node.core
        assert core is not None
        if core.applied_index:
            self._digest(node, core.applied_index)

    def _digest(self, node: "SimNode", index: int) -> None:
        digest = node.machine.digest()
        if self.digests.setdefault(index, digest) != digest:
            self.fail(SAME_STATE, f"n{node.node_id} differs from another node after entry {index}")

    def snapshot_saved(self, node: "SimNode", snapshot: Snapshot) -> None:
        core = node.core
        assert core is not None
        if snapshot.index > core.commit_index or self.committed[snapshot.index][0] != snapshot.term:
            self.fail(SNAPSHOT_COMMITTED, f"n{node.node_id} saved a snapshot at {snapshot.index}")
        self.cluster.note(node.node_id, "saves a snapshot at %d, log from %d", snapshot.index, core.log.base_index + 1)

    # --- clients -----------------------------------------------------------------------------------------------

    def acknowledging(self, node: "SimNode", entry: Entry) -> None:
        if node.disk.failed:
            self.fail(FAIL_STOP, f"n{node.node_id} acknowledges entry {entry.index} after its disk failed")
        self.durable(entry.index, entry.term)
        self.acknowledged_index = max(self.acknowledged_index, entry.index)

    def read_served(self, client: "SimClient", op: "Op", reply: KvReply) -> None:
        """A read that shows a version shows one not older than the last write acknowledged before the call."""
        newest = self.newest_write(op.key, client.invoked_at_commit)
        if newest > (reply.version or 0):
            self.fail(
                FRESH_READS,
                f"c{client.client_id} read {op.key} as of entry {reply.version}, but entry {newest} was"
                f" acknowledged before it asked",
            )

    def newest_write(self, key: str, up_to: int) -> int:
        for index in range(min(up_to, len(self.committed) - 1), 0, -1):
            reply = self.replies.get(index)
            if reply is not None and reply.result == OK and reply.version == index and self._key(index) == key:
                return index
        return 0

    def _key(self, index: int) -> str | None:
        return self.cluster.key_of(self.committed[index][1])
