"""A Raft cluster of reference nodes as a target: `python -m servers.raft`, three or five of them.

Each node keeps its data in `nodes/nX/data` of the run directory, so a killed node that starts again recovers from disk.
The cluster's shared secret is a file of mode 0600 that is removed with the cluster.
"""

import os
import re
import secrets
import sys
from collections.abc import Collection, Sequence

from swarmproof.targets.base import LOOPBACK, READY_WITHIN_S, Surroundings
from swarmproof.targets.cluster import ClusterMember, ClusterTarget, node_names
from swarmproof.targets.links import PEERS, LinkPlan, link_name
from swarmproof.targets.ports import free_ports

STARTUP_LINE = re.compile(r"^raft listening on (\S+):(\d+)", re.MULTILINE)
SECRET_BYTES = 32
# In the folder of a node: while it holds something, the node obeys it (swarmproof/faults/storage.py).
DISK_FAULTS_NAME = "disk-faults"


class RaftMember(ClusterMember):
    """One reference node. `node_id` is its number on the wire, too."""

    def wait_ready(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Wait until it says that it listens and answers `status`. Errors: TargetError."""
        self.process.wait_for_line(STARTUP_LINE, timeout_s)
        super().wait_ready(timeout_s)


class RaftTarget(ClusterTarget):
    """A cluster of reference nodes."""

    kind = "raft"

    def __init__(
        self,
        nodes: int,
        around: Surroundings,
        *,
        name: str = "raft",
        ports: Sequence[int] | None = None,
        arguments: Sequence[str] = (),
        links: Collection[str] = (),
    ) -> None:
        self._secret_file = around.nodes_dir / f"{name}.secret"
        self._cluster_id = f"{name}-{secrets.token_hex(4)}"
        super().__init__(nodes, around, name=name, ports=ports, arguments=arguments, links=links)

    def prepare(self) -> None:
        """Write the secret, open the links."""
        super().prepare()
        path = self._secret_file
        path.parent.mkdir(parents=True, exist_ok=True)
        self._around.guard.protect(path)
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES) + "\n")

    def stop(self) -> None:
        super().stop()
        self._around.guard.remove(self._secret_file)

    def _make_members(self) -> Sequence[ClusterMember]:
        ports = self._asked_ports or free_ports(self._count)
        peer_ports = free_ports(self._count)
        ids = range(1, self._count + 1)
        members = []
        names = node_names(self.name, self._count, self.kind)
        client_ports = self._client_ports(names, ports, framed=True)
        clients = _addresses(ids, client_ports)
        dialled = self._dialled_ports(names, peer_ports)
        for name, node, port, peer_port in zip(names, ids, ports, peer_ports, strict=True):
            command = [sys.executable, "-m", "servers.raft", "--id", str(node), "--host", LOOPBACK]
            command += ["--port", str(port), "--peer-port", str(peer_port)]
            command += [
                "--peers",
                _addresses(ids, dialled[node - 1]),
                "--clients",
                clients,
                "--cluster-id",
                self._cluster_id,
            ]
            command += ["--data-dir", str(self._around.nodes_dir / name / "data")]
            command += ["--secret-file", str(self._secret_file)]
            command += ["--disk-faults", str(self._around.nodes_dir / name / DISK_FAULTS_NAME), *self._arguments]
            members.append(RaftMember(node, name, port=port, peer_port=peer_port, command=command, around=self._around))
        self.address = "kv://" + ",".join(f"{LOOPBACK}:{port}" for port in client_ports)
        return members

    def _dialled_ports(self, names: Sequence[str], peer_ports: Sequence[int]) -> list[list[int]]:
        """For each node the peer ports that it dials: the nodes' own, or one link for each direction."""
        if PEERS not in self._links:
            return [list(peer_ports)] * len(names)
        dialled: list[list[int]] = []
        for source in names:
            ports = free_ports(len(names))
            for place, destination in enumerate(names):
                if destination == source:
                    ports[place] = peer_ports[place]
                else:
                    plan = LinkPlan(link_name(source, destination), ports[place], peer_ports[place], framed=True)
                    self._link_plans.append(plan)
            dialled.append(ports)
        return dialled


def _addresses(ids: Sequence[int], ports: Sequence[int]) -> str:
    """As --peers and --clients want them: `1=127.0.0.1:9101,2=127.0.0.1:9102`."""
    return ",".join(f"{node}={LOOPBACK}:{port}" for node, port in zip(ids, ports, strict=True))
