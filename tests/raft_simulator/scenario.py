"""Drives a simulated cluster by hand: the stories that have names in the literature.

Nothing goes wrong by itself here; the test cuts links, kills nodes and says what must have happened. All invariants
are checked after every step all the same, and ``finish()`` demands that the healed cluster serves everybody and that
the history is linearizable.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from protocols.kv import APPEND, GET, NOT_FOUND, OK, KvReply, KvRequest
from servers.raft.core import Core
from tests.raft_simulator.cluster import REAL, Cluster, Seams
from tests.raft_simulator.linearizability import Op
from tests.raft_simulator.node import SimNode
from tests.raft_simulator.profile import MS, SECOND, Profile

# The story's own client, apart from the simulated ones that only appear in finish().
STORY_CLIENT = 99
KEY = "k0"

QUIET = Profile(clients=1, keys=1, disk_us=(100, 2 * MS), apply_early=False)


class Pending:
    """A request under way: ``reply`` is None until it is answered."""

    def __init__(self, op: Op) -> None:
        self.op = op
        self.reply: KvReply | None = None

    @property
    def acknowledged(self) -> bool:
        return self.reply is not None and self.reply.result == OK


class Scenario(Cluster):
    def __init__(self, seed: int = 0, nodes: int = 3, seams: Seams = REAL, **changes: Any) -> None:
        super().__init__(seed, replace(QUIET, nodes=nodes, **changes), seams)
        self._seq = 0
        self._away: set[int] = set()

    # --- waiting -----------------------------------------------------------------------------------------------

    def wait(self, what: str, condition: Callable[[], bool], within_us: int = 5 * SECOND) -> None:
        assert self.run_for(within_us, condition), f"within {within_us / SECOND:g} s: {what}"

    def elected(self, among: list[int] | None = None, within_us: int = 5 * SECOND) -> SimNode:
        """Wait for a leader (among these nodes) that the others of them follow."""
        nodes = [self.nodes[i] for i in among or self.nodes]

        def agreed() -> bool:
            cores = [node.core for node in nodes if node.core is not None]
            leaders = [core for core in cores if core.is_leader]
            return len(leaders) == 1 and all(
                core.leader == leaders[0].node_id and core.term == leaders[0].term for core in cores
            )

        self.wait("a leader that all follow", agreed, within_us)
        return next(node for node in nodes if node.core is not None and node.core.is_leader)

    def elected_among_running(self) -> SimNode:
        """A leader that those follow that are neither dead nor stopped."""
        return self.elected([i for i, node in self.nodes.items() if node.alive and not node.paused])

    def core(self, node: SimNode | int) -> Core:
        core = (node if isinstance(node, SimNode) else self.nodes[node]).core
        assert core is not None
        return core

    # --- asking ------------------------------------------------------------------------------------------------

    def submit(self, node: SimNode, text: str | None = None, *, seq: int | None = None, kind: str = APPEND) -> Pending:
        """Hand a request to a node, as if it had just arrived there."""
        if seq is None:
            self._seq += 1
            seq = self._seq
        value = None if kind == GET else (text or f"{STORY_CLIENT}.{seq};")
        pending = Pending(Op(STORY_CLIENT, kind, KEY, value, None, self.now_us))
        self.history.append(pending.op)

        def answer(reply: KvReply) -> None:
            pending.reply = reply
            if reply.result in {OK, NOT_FOUND}:
                pending.op.return_us = self.now_us
                pending.op.seen = reply.value  # type: ignore[assignment]

        session = (None, None) if kind == GET else (STORY_CLIENT, seq)
        node.request(KvRequest(kind, KEY, value, None, *session), answer)
        return pending

    def read(self, node: SimNode) -> Pending:
        return self.submit(node, kind=GET)

    def write(self, node: SimNode, text: str | None = None) -> Pending:
        """Submit and wait for the acknowledgement."""
        pending = self.submit(node, text)
        self.wait("the write is acknowledged", lambda: pending.acknowledged)
        return pending

    def agreed(self, among: list[int] | None = None) -> None:
        """Wait until these nodes have applied everything that is committed."""
        nodes = [self.nodes[i] for i in among or self.nodes]
        self.wait(
            "the same applied index everywhere",
            lambda: all(n.core is not None and n.core.applied_index == self.invariants.max_commit for n in nodes),
        )

    # --- harming -----------------------------------------------------------------------------------------------

    def disconnect(self, *nodes: SimNode | int) -> None:
        """Unplug these nodes: they hear nobody and nobody hears them."""
        self._away |= {node if isinstance(node, int) else node.node_id for node in nodes}
        self._cut()

    def connect(self, *nodes: SimNode | int) -> None:
        self._away -= {node if isinstance(node, int) else node.node_id for node in nodes}
        self._cut()

    def _cut(self) -> None:
        self.network.heal()
        for number in self._away:
            self.network.isolate(number, [other for other in self.nodes if other != number])

    def followers(self, leader: SimNode) -> list[SimNode]:
        return [node for node in self.nodes.values() if node is not leader]
