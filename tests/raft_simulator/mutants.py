"""Eight ways to build Raft wrong, and the name under which the simulator must catch each.

A simulator that has never caught anything proves nothing. Each mutant is the real thing with one sentence of the
specification left out, put in place through the seams of the simulated cluster.
"""

from dataclasses import dataclass

from protocols.kv import KvReply, KvRequest
from protocols.raft_messages import Append, Entry, PeerMessage
from servers.raft.core import Core
from servers.raft.state_machine import KvStateMachine
from servers.raft.types import Role
from tests.raft_simulator import invariants
from tests.raft_simulator.cluster import INVARIANT_BROKEN, LINEARIZABLE, Seams
from tests.raft_simulator.disk import SimDisk


@dataclass(frozen=True)
class Mutant:
    seams: Seams
    # The promises that may be the first to break; anything else would be a coincidence.
    caught_by: frozenset[str]


class SkipsFsync(SimDisk):
    """Reports a sync without doing it; only now and then do the writes reach the platter."""

    def sync(self, writes: int) -> None:
        if self._rng.random() < 0.2:
            super().sync(writes)


class CountsOldTerms(Core):
    def _may_commit(self, index: int) -> bool:
        return True


class VotesTwice(Core):
    def _may_vote(self, candidate: int) -> bool:
        return self.leader == 0


class ReadsWithoutQuorum(Core):
    def _round_confirmed(self, read_round: int) -> bool:
        return True


class TruncatesBelowCommit(Core):
    """Takes the leader's word for everything after ``prev``: a delayed shorter Append cuts the log short."""

    def step(self, message: PeerMessage) -> None:
        if type(message) is Append and message.term == self.term and self.role is Role.FOLLOWER:
            end = message.prev_index + len(message.entries)
            if self.log.base_index < end < self.log.last_index:
                self.log.truncate_from(end + 1)
        super().step(message)


class AppliesRetriesTwice(KvStateMachine):
    def apply(self, entry: Entry, request: KvRequest | None = None) -> KvReply:
        if request is not None:
            request = request._replace(client_id=None, seq=None)
        return super().apply(entry, request)


class ForgetsSessions(KvStateMachine):
    def restore(self, data: bytes) -> None:
        super().restore(data)
        self._sessions.clear()
        self._forgotten.clear()


MUTANTS: dict[str, Mutant] = {
    "skip fsync": Mutant(
        Seams(disk=SkipsFsync), frozenset({invariants.PERSIST_BEFORE_SEND, invariants.DURABLE_ON_QUORUM})
    ),
    "count old-term entries": Mutant(
        Seams(core=CountsOldTerms),
        frozenset({invariants.OWN_TERM, invariants.LEADER_COMPLETENESS}),
    ),
    "vote twice": Mutant(
        Seams(core=VotesTwice),
        frozenset({invariants.ONE_VOTE, invariants.ELECTION_SAFETY, invariants.PERSIST_BEFORE_SEND}),
    ),
    "ReadIndex without quorum": Mutant(
        Seams(core=ReadsWithoutQuorum), frozenset({invariants.FRESH_READS, LINEARIZABLE})
    ),
    "apply a retry twice": Mutant(Seams(machine=AppliesRetriesTwice), frozenset({invariants.APPLIED_ONCE})),
    "truncate below commit": Mutant(
        Seams(core=TruncatesBelowCommit),
        frozenset(
            {
                invariants.MONOTONIC,
                invariants.DURABLE_ON_QUORUM,
                invariants.LEADER_COMPLETENESS,
                invariants.STATE_MACHINE_SAFETY,
                invariants.PERSIST_BEFORE_SEND,
                INVARIANT_BROKEN,
            }
        ),
    ),
    "forget the session table in snapshots": Mutant(
        Seams(machine=ForgetsSessions),
        frozenset({invariants.APPLIED_ONCE, invariants.SAME_STATE, invariants.STATE_MACHINE_SAFETY}),
    ),
    "keep serving after fsync error": Mutant(
        Seams(serves_after_disk_error=True), frozenset({invariants.FAIL_STOP, invariants.DURABLE_ON_QUORUM})
    ),
}
