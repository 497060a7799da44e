"""A store on PySyncObj as a target: the positive control. It acknowledges before any fsync and loses writes; a judge
that finds it valid after a kill during its log compaction is not worth its verdicts.
"""

import importlib.util
import sys
from collections.abc import Sequence

from swarmproof.targets.base import LOOPBACK
from swarmproof.targets.cluster import ClusterMember, ClusterTarget, node_names
from swarmproof.targets.errors import TargetNotStarted
from swarmproof.targets.ports import free_ports

MODULE = "servers.controls.pysyncobj_kv"


class PySyncObjTarget(ClusterTarget):
    """A cluster of PySyncObj nodes, on loopback only: PySyncObj unpickles what the network sends."""

    kind = "pysyncobj"

    def _make_members(self) -> Sequence[ClusterMember]:
        if importlib.util.find_spec("pysyncobj") is None:
            raise TargetNotStarted(
                "cannot start pysyncobj: the library is not installed; install the extra with "
                "pip install 'swarmproof[controls]'"
            )
        ports = self._asked_ports or free_ports(self._count)
        peer_ports = free_ports(self._count)
        members = []
        peers = ",".join(f"{LOOPBACK}:{port}" for port in peer_ports)
        for position, name in enumerate(node_names(self.name, self._count, self.kind)):
            command = [sys.executable, "-m", MODULE, "--id", str(position + 1), "--port", str(ports[position])]
            command += ["--peers", peers, "--data-dir", str(self._around.nodes_dir / name / "data")]
            command += self._arguments
            members.append(
                ClusterMember(
                    position + 1,
                    name,
                    port=ports[position],
                    peer_port=peer_ports[position],
                    command=command,
                    around=self._around,
                )
            )
        client_ports = self._client_ports([member.name for member in members], ports, framed=True)
        self.address = "kv://" + ",".join(f"{LOOPBACK}:{port}" for port in client_ports)
        return members
