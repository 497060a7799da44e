"""What every replicated store has as a target: nodes with numbers, a watch that knows who leads, a start in one go.

A store (raft.py, etcd.py, pysyncobj.py) says how one node is started (`_make_members`) and how it is spoken to
(`ClusterMember.connection_class`); faults, probe, final reads and tables then work on all of them alike.
"""

import shutil
import time
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from swarmproof.targets.base import (
    LOOPBACK,
    READY_WITHIN_S,
    START_ATTEMPTS,
    Member,
    MemberRow,
    Surroundings,
    Target,
)
from swarmproof.targets.errors import TargetNotReady, TargetNotStarted
from swarmproof.targets.kv_client import CALL_TIMEOUT_S, KvConnection, KvUnavailable
from swarmproof.targets.links import CLIENTS, LinkPlan, link_name
from swarmproof.targets.ports import free_ports, is_free
from swarmproof.targets.process import ChildProcess, State
from swarmproof.targets.raft_watch import Leadership, RaftWatch

LEADER_WITHIN_S = 15.0  # at most 2 s on a quiet machine; the rest is room for a loaded one
STATUS_TIMEOUT_S = 1.0
NODE_COUNTS = (1, 3, 5)


class ClusterMember(Member):
    """One node. `node_id` is its number from 1 on, `name` how it is shown."""

    #: How it is spoken to.
    connection_class: ClassVar[type[KvConnection]] = KvConnection

    def __init__(
        self,
        node_id: int,
        name: str,
        *,
        port: int,
        peer_port: int,
        command: Sequence[str],
        around: Surroundings,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.node_id = node_id
        self.name = name
        self.port = port
        self.peer_port = peer_port
        self.data_dir: Path = around.nodes_dir / name / "data"
        self.process = ChildProcess(
            name,
            command,
            directory=around.nodes_dir / name,
            guard=around.guard,
            env=env,
            on_death=around.on_death,
        )

    def connect(self, timeout_s: float = CALL_TIMEOUT_S) -> KvConnection:
        """A connection to it, which dials when first used."""
        return self.connection_class(LOOPBACK, self.port, timeout_s)

    def launch(self) -> None:
        """Start the process without waiting."""
        self.process.start()

    def wait_ready(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Wait until it answers `status`. Errors: TargetError."""
        self.process.wait_until(self.answers, timeout_s, f"answer `status` on port {self.port}")

    def start(self, timeout_s: float = READY_WITHIN_S) -> None:
        self.launch()
        self.wait_ready(timeout_s)

    def answers(self) -> bool:
        try:
            with self.connect(STATUS_TIMEOUT_S) as connection:
                connection.status()
        except KvUnavailable:
            return False
        return True


class ClusterTarget(Target):
    """A cluster on loopback. `ports`: the client ports to use; None means free ones."""

    def __init__(
        self,
        nodes: int,
        around: Surroundings,
        *,
        name: str = "",
        ports: Sequence[int] | None = None,
        arguments: Sequence[str] = (),
        links: Collection[str] = (),
    ) -> None:
        """`links`: PEERS, CLIENTS or both: which of its connections go through links of the board."""
        self.name = name or self.kind
        self._links = frozenset(links) if around.board is not None else frozenset()
        self._link_plans: list[LinkPlan] = []
        self.watch: RaftWatch | None = None
        self._count = nodes
        self._around = around
        self._arguments = arguments
        self._asked_ports = list(ports) if ports is not None else None
        self._members = self._make_members()

    @abstractmethod
    def _make_members(self) -> Sequence[ClusterMember]:
        """The nodes, on ports that are free now; sets `address`."""

    def prepare(self) -> None:
        """What must be there before a node starts. Part of `start`; for those who start the nodes one by one."""
        if self._around.board is not None and self._link_plans:
            self._around.board.open(LOOPBACK, self._link_plans)

    def _client_ports(self, names: Sequence[str], ports: Sequence[int], *, framed: bool = False) -> Sequence[int]:
        """The ports that clients are told: those of the nodes, or of links in front of them."""
        self._link_plans = []
        if CLIENTS not in self._links:
            return ports
        link_ports = free_ports(len(ports))
        self._link_plans = [
            LinkPlan(link_name(CLIENTS, name), link_port, port, framed)
            for name, link_port, port in zip(names, link_ports, ports, strict=True)
        ]
        return link_ports

    @property
    def members(self) -> Sequence[ClusterMember]:
        return self._members

    def start(self) -> None:
        """Start all nodes, wait until each answers and one leads. Errors: TargetError, with nothing left running."""
        for port in self._asked_ports or ():
            if not is_free(port):
                raise TargetNotStarted(
                    f"cannot start {self.name}: port {port} is in use; "
                    "stop the program that uses it or choose other ports"
                )
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                self._start_once()
            except TargetNotStarted:
                self.stop()
                ports = [port for member in self._members for port in (member.port, member.peer_port)]
                taken = any(not is_free(port) for port in ports)
                if self._asked_ports is not None or not taken or attempt == START_ATTEMPTS:
                    raise
                for member in self._members:
                    shutil.rmtree(member.data_dir, ignore_errors=True)
                self._members = self._make_members()
            except BaseException:
                self.stop()
                raise
            else:
                return

    def start_watching(self) -> RaftWatch:
        """Begin to poll all nodes for their status."""
        if self.watch is None:
            connect = self._members[0].connection_class
            self.watch = RaftWatch({member.node_id: (LOOPBACK, member.port) for member in self._members}, connect)
        return self.watch

    def stop(self) -> None:
        if self.watch is not None:
            self.watch.close()
            self.watch = None
        super().stop()

    def leader(self) -> Leadership | None:
        """Who leads now, as the watch knows; None before `start`."""
        return self.watch.leader() if self.watch is not None else None

    def member_of(self, node_id: int) -> ClusterMember:
        return self._members[node_id - 1]

    def wait_for_leader(self, timeout_s: float = LEADER_WITHIN_S) -> Leadership:
        """Errors: TargetNotReady when nobody leads in time."""
        found = self.start_watching().wait_for_leader(timeout_s)
        if found is None:
            logs = self._around.nodes_dir / f"{self._members[0].name[:-1]}*" / "log"
            raise TargetNotReady(f"{self.name} elected no leader within {timeout_s:g} s; see {logs}")
        return found

    def wait_until_all_answer(self, timeout_s: float, *, skip_the_dead: bool = False) -> list[str]:
        """Wait until every node answers and knows who leads; the names of those that do not by then.

        `skip_the_dead`: nobody will start again what has ended, so it is not waited for.
        """
        watch = self.start_watching()
        began_ns = time.monotonic_ns()  # what a node said before may be from before its death
        deadline = time.monotonic() + timeout_s
        with watch.urgently():
            while True:
                seen = {m.name: watch.status(m.node_id, began_ns) for m in self._members}
                silent = [name for name, status in seen.items() if status is None or status.leader is None]
                dead = {m.name for m in self._members if m.process.state is State.EXITED} if skip_the_dead else set()
                if dead.issuperset(silent) or time.monotonic() > deadline:
                    return silent
                time.sleep(0.02)

    def rows(self) -> list[MemberRow]:
        scheme = self.address.partition("://")[0]
        rows = []
        for member in self._members:
            status = self.watch.status(member.node_id) if self.watch is not None else None
            rows.append(
                MemberRow(
                    member.name,
                    self.kind,
                    f"{scheme}://{LOOPBACK}:{member.port}",
                    member.process.pid,
                    member.process.state.value,
                    status.role if status else "",
                    status.term if status else None,
                )
            )
        return rows

    def _start_once(self) -> None:
        self.prepare()
        for member in self._members:
            member.launch()
        for member in self._members:
            member.wait_ready()
        self.wait_for_leader()
        self.wait_until_all_answer(LEADER_WITHIN_S)  # so that the first table shows one term everywhere


def node_names(cluster: str, nodes: int, kind: str = "raft") -> list[str]:
    """What the nodes are called: n1, n2 ...; with the cluster's name in front when it has one of its own."""
    prefix = "" if cluster == kind else f"{cluster}-"
    return [f"{prefix}n{node}" for node in range(1, nodes + 1)]
