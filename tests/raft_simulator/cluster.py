"""The virtual clock, the troubles a seed brings, and one run from start to verdict."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from protocols.kv import GET, PUT, decode_request
from servers.raft.core import Core
from servers.raft.state_machine import KvStateMachine
from servers.raft.types import InvariantBroken
from tests.raft_simulator.client import SimClient
from tests.raft_simulator.disk import SimDisk
from tests.raft_simulator.invariants import Invariants
from tests.raft_simulator.linearizability import Op, linearizable
from tests.raft_simulator.network import SimNetwork
from tests.raft_simulator.node import SimNode
from tests.raft_simulator.profile import MS, TICK_US, Profile, profile_of
from tests.raft_simulator.violation import Violation

LINEARIZABLE = "linearizability"
LIVENESS = "liveness after healing"
INVARIANT_BROKEN = "the core's own alarm"
STORM = "messages do not breed messages"

# So many events within so much virtual time are a storm: something answers every answer. The busiest of
# four hundred seeds has 88.
STORM_WITHIN_US = 10_000
STORM_EVENTS = 1_000


@dataclass(frozen=True)
class Seams:
    """Where a test may put something broken in place of the real thing."""

    core: type[Core] = Core
    machine: type[KvStateMachine] = KvStateMachine
    disk: type[SimDisk] = SimDisk
    serves_after_disk_error: bool = False


REAL = Seams()


class Cluster:
    """One simulated cluster. ``run()`` plays the seed's whole story; scenarios drive it piece by piece instead."""

    def __init__(
        self, seed: int, profile: Profile | None = None, seams: Seams = REAL, transcript: list[str] | None = None
    ) -> None:
        self.seed = seed
        self.profile = profile or profile_of(seed)
        self.seams = seams
        self.transcript = transcript
        self.rng = Random(f"run {seed}")
        self.now_us = 0
        self.tick_us = TICK_US
        self.crash_before_send = 0.0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self.steps = 0
        self.history: list[Op] = []
        self.network = SimNetwork(self.profile, self._fork(), self.schedule)
        # Until then no more than so many steps.
        self._calm_until_us = self._calm_steps = 0
        self.invariants = Invariants(self)
        self.nodes = {i: SimNode(i, self, self._fork()) for i in range(1, self.profile.nodes + 1)}
        self.clients = [SimClient(i, self, self._fork()) for i in range(1, self.profile.clients + 1)]
        self.key_of = lru_cache(maxsize=None)(lambda data: decode_request(data).key if data else None)
        for node in self.nodes.values():
            node.start()

    def _fork(self) -> Random:
        return Random(self.rng.getrandbits(64))

    # --- the clock ---------------------------------------------------------------------------------------------

    def schedule(self, delay_us: int, event: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (self.now_us + delay_us, self._sequence, event))

    def run_for(self, duration_us: int, until: Callable[[], bool] | None = None) -> bool:
        """Play events for that long, or until the condition holds; returns whether it held (True without one)."""
        end_us = self.now_us + duration_us
        events = self._events
        if until is not None and until():
            return True
        while events and events[0][0] <= end_us:
            self.now_us, _, event = heapq.heappop(events)
            self.steps += 1
            if self.now_us >= self._calm_until_us:
                self._calm_until_us, self._calm_steps = self.now_us + STORM_WITHIN_US, self.steps + STORM_EVENTS
            elif self.steps > self._calm_steps:
                raise Violation(STORM, f"{STORM_EVENTS} events within {STORM_WITHIN_US / 1e3:g} ms")
            try:
                event()
            except InvariantBroken as broken:
                raise Violation(INVARIANT_BROKEN, str(broken)) from broken
            if until is not None and until():
                return True
        self.now_us = end_us
        return until is None

    def note(self, who: int, text: str, *values: object) -> None:
        """A line of the transcript; formatted only when somebody reads it."""
        if self.transcript is not None:
            name = f"n{who}" if who > 0 else f"c{-who}" if who else "--"
            self.transcript.append(f"{self.now_us / 1e6:9.6f} {name:>3} {text % values}")

    # --- who is who --------------------------------------------------------------------------------------------

    def leader(self) -> SimNode | None:
        """The leader of the highest term among the nodes that run."""
        leading = [node for node in self.nodes.values() if node.core is not None and node.core.is_leader]
        return max(leading, key=lambda node: node.core.term if node.core else 0, default=None)

    def others(self, node: SimNode) -> list[int]:
        return [other for other in self.nodes if other != node.node_id]

    # --- a whole run -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The seed's story: clients work while things go wrong, then everything heals. Raises Violation."""
        for client in self.clients:
            client.start()
        if self.profile.troubles:
            self.crash_before_send = 0.002 if "crash" in self.profile.troubles else 0.0
            self._schedule_trouble()
        self.run_for(self.profile.trouble_us)
        self.finish()

    def finish(self) -> None:
        """Heal, demand progress of everybody, and judge the history."""
        self.heal()
        for client in self.clients:
            client.stopped = True
        if not self.run_for(self.profile.heal_us, self._quiet):
            raise Violation(LIVENESS, "a client still waits for an answer")
        for client in self.clients:
            for number in range(self.profile.keys):
                for kind in (PUT, GET):
                    self._finally(client, kind, f"k{number}")
        if not self.run_for(self.profile.heal_us, self._converged):
            state = [(n.node_id, n.core.applied_index, n.core.commit_index) for n in self.nodes.values() if n.core]
            raise Violation(LIVENESS, f"the nodes do not reach the same applied index: {state}")
        self.check_linearizable()

    def heal(self) -> None:
        self.note(0, "everything heals")
        self.profile_is_over = True
        self.crash_before_send = 0.0
        self.network.heal()
        self.network.perfect = True
        for node in self.nodes.values():
            node.slow = node.clock = 1
            node.disk.fails = False
            node.disk.restore_bit()
            node.resume()
            if not node.alive:
                node.start()

    profile_is_over = False

    def _quiet(self) -> bool:
        return all(client.op is None for client in self.clients)

    def _finally(self, client: SimClient, kind: str, key: str) -> None:
        """An operation on the healed cluster: it must succeed in time, whatever the number of attempts."""
        before = client.completed
        deadline_us = self.now_us + self.profile.heal_us
        while self.now_us < deadline_us:
            client.invoke(kind, key)
            self.run_for(self.profile.heal_us, lambda: client.op is None)
            if client.completed > before:
                return
        raise Violation(LIVENESS, f"c{client.client_id} cannot {kind} {key}")

    def _converged(self) -> bool:
        cores = [node.core for node in self.nodes.values()]
        return all(
            core is not None and core.applied_index == cores[0].applied_index for core in cores if cores[0]
        ) and (cores[0] is not None and cores[0].applied_index == self.invariants.max_commit)

    def check_linearizable(self) -> None:
        for key in sorted({op.key for op in self.history}):
            ops = [op for op in self.history if op.key == key]
            if not linearizable(ops):
                listed = "\n".join(f"  {op}" for op in ops)
                raise Violation(LINEARIZABLE, f"no order explains these answers for {key}:\n{listed}")

    # --- troubles ----------------------------------------------------------------------------------------------

    def _schedule_trouble(self) -> None:
        mean_us = self.profile.trouble_every_us
        self.schedule(self.rng.randint(mean_us // 4, mean_us * 7 // 4), self._trouble)

    def _trouble(self) -> None:
        if self.profile_is_over:
            return
        kind = self.rng.choice(self.profile.troubles)
        self.make_trouble(kind)
        self._schedule_trouble()

    def make_trouble(self, kind: str) -> None:
        rng = self.rng
        node = self.nodes[rng.randint(1, len(self.nodes))]
        leader = self.leader() or node
        target = leader if "leader" in kind else node
        self.note(0, "trouble: %s (n%d)", kind, target.node_id)
        restart_us = rng.randint(10 * MS, 400 * MS)
        match kind:
            case "crash" | "crash leader":
                self.crash(target, restart_us)
            case "crash all":
                for victim in self.nodes.values():
                    self.crash(victim, restart_us)
            case "restart":
                self.crash(target, 0)
            case "pause" | "pause leader":
                target.pause()
                self.schedule(restart_us, target.resume)
            case "resume":
                target.resume()
            case "isolate" | "isolate leader":
                self.network.isolate(target.node_id, self._places_but(target))
            case "one-way":
                self.network.cut.add((target.node_id, rng.randint(1, len(self.nodes))))
                self.network.cut |= {(rng.randint(1, len(self.nodes)), target.node_id)}
            case "halves":
                left = [i for i in self.nodes if rng.random() < 0.5]
                self.network.split(left, [i for i in self.nodes if i not in left])
            case "heal":
                self.network.heal()
            case "slow disk":
                target.slow = rng.choice((1, 5, 20))
            case "disk error":
                target.disk.fails = True
                self.schedule(restart_us, lambda: self._replace_disk(target))
            case "bit flip":
                self._flip_bit(target, restart_us)
            case "slow clock":
                target.clock = rng.choice((2, 5, 10))
            case "slow clock of an isolated leader":
                leader.clock = 20
                self.network.isolate(leader.node_id, self.others(leader))
            case "good clocks":
                for other in self.nodes.values():
                    other.clock = 1
            case "transfer":
                leader.transfer()

    def _places_but(self, node: SimNode) -> list[int]:
        """All nodes, and now and then the clients too."""
        clients = [-client.client_id for client in self.clients] if self.rng.random() < 0.3 else []
        return self.others(node) + clients

    def crash(self, node: SimNode, restart_us: int | None) -> None:
        if node.alive:
            node.crash()
            if restart_us is not None:
                self.schedule(restart_us, lambda: self.start(node))

    def start(self, node: SimNode) -> None:
        if node.alive:
            return
        refusal = node.disk.refusal()
        if refusal is None:
            node.start()
        else:
            self.note(node.node_id, "refuses to start: %s", refusal)

    def _flip_bit(self, node: SimNode, restore_us: int) -> None:
        """A bit of a dead node's files is flipped: it must not start; once the bit is as it was, it is back."""
        if not node.alive:
            return  # it may be damaged already
        self.crash(node, None)
        flipped = node.disk.flip_bit()
        self.note(node.node_id, "flipped: %s", flipped)

        def restore() -> None:
            self.start(node)
            node.disk.restore_bit()
            self.start(node)

        self.schedule(restore_us, restore)

    def _replace_disk(self, node: SimNode) -> None:
        """The disk works again; a node that stopped because of it starts again."""
        node.disk.fails = False
        self.start(node)


def simulate(seed: int, profile: Profile | None = None, seams: Seams = REAL) -> Cluster:
    """Play one seed to its end. Raises Violation; play it again with :func:`replay` to read why."""
    cluster = Cluster(seed, profile, seams)
    cluster.run()
    return cluster


def replay(seed: int, profile: Profile | None = None, seams: Seams = REAL) -> tuple[list[str], Violation | None]:
    """Play one seed and keep the transcript."""
    transcript: list[str] = []
    cluster: Any = None
    try:
        cluster = Cluster(seed, profile, seams, transcript)
        cluster.run()
    except Violation as violation:
        return transcript, violation
    return transcript, None
