"""A Raft cluster of reference nodes as a target: `python -m servers.raft`, three or five of them.

Each node keeps its data in `nodes/nX/data` of the run directory, so a killed node that starts again recovers from disk.
The cluster's shared secret is a file of mode 0600 that is removed with the cluster.
"""

import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Sequence

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
from swarmproof.targets.kv_client import KvConnection, KvUnavailable
from swarmproof.targets.ports import free_ports, is_free
from swarmproof.targets.process import ChildProcess
from swarmproof.targets.raft_watch import Leadership, RaftWatch

STARTUP_LINE = re.compile(r"^raft listening on (\S+):(\d+)", re.MULTILINE)
SECRET_BYTES = 32
LEADER_WITHIN_S = 15.0  # at most 2 s on a quiet machine; the rest is room for a loaded one
STATUS_TIMEOUT_S = 1.0
NODE_COUNTS = (1, 3, 5)


class RaftMember(Member):
    """One node. `node_id` is its number on the wire, `name` how it is shown."""

    def __init__(
        self,
        node_id: int,
        name: str,
        *,
        port: int,
        peer_port: int,
        command: Sequence[str],
        around: Surroundings,
    ) -> None:
        self.node_id = node_id
        self.name = name
        self.port = port
        self.peer_port = peer_port
        self.data_dir = around.nodes_dir / name / "data"
        self.process = ChildProcess(
            name,
            command,
            directory=around.nodes_dir / name,
            guard=around.guard,
            on_death=around.on_death,
        )

    def launch(self) -> None:
        """Start the process without waiting."""
        self.process.start()

    def wait_ready(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Wait until it says that it listens and answers `status`. Errors: TargetError."""
        self.process.wait_for_line(STARTUP_LINE, timeout_s)
        self.process.wait_until(self.answers, timeout_s, f"answer `status` on port {self.port}")

    def start(self, timeout_s: float = READY_WITHIN_S) -> None:
        self.launch()
        self.wait_ready(timeout_s)

    def answers(self) -> bool:
        try:
            with KvConnection(LOOPBACK, self.port, STATUS_TIMEOUT_S) as connection:
                connection.status()
        except KvUnavailable:
            return False
        return True


class RaftTarget(Target):
    """A cluster. `ports`: the client ports to use; None means free ones."""

    kind = "raft"

    def __init__(
        self,
        nodes: int,
        around: Surroundings,
        *,
        name: str = "raft",
        ports: Sequence[int] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.watch: RaftWatch | None = None
        self._count = nodes
        self._around = around
        self._arguments = arguments
        self._asked_ports = list(ports) if ports is not None else None
        self._secret_file = around.nodes_dir / f"{name}.secret"
        self._cluster_id = f"{name}-{secrets.token_hex(4)}"
        self._make_members()

    @property
    def members(self) -> Sequence[RaftMember]:
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
                self._make_members()
            except BaseException:
                self.stop()
                raise
            else:
                return

    def prepare(self) -> None:
        """Write the secret. Part of `start`; for those who start the nodes one by one."""
        path = self._secret_file
        path.parent.mkdir(parents=True, exist_ok=True)
        self._around.guard.protect(path)
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES) + "\n")

    def start_watching(self) -> RaftWatch:
        """Begin to poll all nodes for their status."""
        if self.watch is None:
            self.watch = RaftWatch({member.node_id: (LOOPBACK, member.port) for member in self._members})
        return self.watch

    def stop(self) -> None:
        if self.watch is not None:
            self.watch.close()
            self.watch = None
        super().stop()
        self._around.guard.remove(self._secret_file)

    def leader(self) -> Leadership | None:
        """Who leads now, as the watch knows; None before `start`."""
        return self.watch.leader() if self.watch is not None else None

    def member_of(self, node_id: int) -> RaftMember:
        return self._members[node_id - 1]

    def wait_for_leader(self, timeout_s: float = LEADER_WITHIN_S) -> Leadership:
        """Errors: TargetNotReady when nobody leads in time."""
        found = self.start_watching().wait_for_leader(timeout_s)
        if found is None:
            logs = self._around.nodes_dir / f"{self._members[0].name[:-1]}*" / "log"
            raise TargetNotReady(f"{self.name} elected no leader within {timeout_s:g} s; see {logs}")
        return found

    def wait_until_all_answer(self, timeout_s: float, give_up: Callable[[], bool] = lambda: False) -> list[str]:
        """Wait until every node answers and knows who leads; the names of those that do not by then."""
        watch = self.start_watching()
        began_ns = time.monotonic_ns()  # what a node said before may be from before its death
        deadline = time.monotonic() + timeout_s
        with watch.urgently():
            while True:
                seen = {m.name: watch.status(m.node_id, began_ns) for m in self._members}
                silent = [name for name, status in seen.items() if status is None or status.leader is None]
                if not silent or time.monotonic() > deadline or give_up():
                    return silent
                time.sleep(0.02)

    def rows(self) -> list[MemberRow]:
        rows = []
        for member in self._members:
            status = self.watch.status(member.node_id) if self.watch is not None else None
            rows.append(
                MemberRow(
                    member.name,
                    self.kind,
                    f"kv://{LOOPBACK}:{member.port}",
                    member.process.pid,
                    member.process.state.value,
                    status.role if status else "",
                    status.term if status else None,
                )
            )
        return rows

    # Internals.

    def _start_once(self) -> None:
        self.prepare()
        for member in self._members:
            member.launch()
        for member in self._members:
            member.wait_ready()
        self.wait_for_leader()
        self.wait_until_all_answer(LEADER_WITHIN_S)  # so that the first table shows one term everywhere

    def _make_members(self) -> None:
        ports = self._asked_ports or free_ports(self._count)
        peer_ports = free_ports(self._count)
        ids = range(1, self._count + 1)
        peers = ",".join(f"{node}={LOOPBACK}:{port}" for node, port in zip(ids, peer_ports, strict=True))
        clients = ",".join(f"{node}={LOOPBACK}:{port}" for node, port in zip(ids, ports, strict=True))
        self._members = []
        names = node_names(self.name, self._count)
        for name, node, port, peer_port in zip(names, ids, ports, peer_ports, strict=True):
            command = [sys.executable, "-m", "servers.raft", "--id", str(node), "--host", LOOPBACK]
            command += ["--port", str(port), "--peer-port", str(peer_port)]
            command += ["--peers", peers, "--clients", clients, "--cluster-id", self._cluster_id]
            command += ["--data-dir", str(self._around.nodes_dir / name / "data")]
            command += ["--secret-file", str(self._secret_file), *self._arguments]
            self._members.append(
                RaftMember(node, name, port=port, peer_port=peer_port, command=command, around=self._around)
            )
        self.address = "kv://" + ",".join(f"{LOOPBACK}:{member.port}" for member in self._members)


def node_names(cluster: str, nodes: int) -> list[str]:
    """What the nodes are called: n1, n2 ...; with the cluster's name in front when it has one of its own."""
    prefix = "" if cluster == RaftTarget.kind else f"{cluster}-"
    return [f"{prefix}n{node}" for node in range(1, nodes + 1)]
