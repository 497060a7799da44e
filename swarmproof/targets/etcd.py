"""An etcd cluster as a target: the real store that our own is measured against, and that the judge must find valid.

The program comes with the distribution (package `etcd-server`). Versions that are known to lose or to diverge are
refused: a verdict about them would say nothing about the harness. Timeouts are those of our own cluster.
"""

import functools
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from swarmproof.targets.base import LOOPBACK
from swarmproof.targets.cluster import ClusterMember, ClusterTarget, node_names
from swarmproof.targets.errors import TargetNotStarted
from swarmproof.targets.etcd_client import EtcdConnection
from swarmproof.targets.ports import free_ports

PROGRAM = "etcd"
PACKAGE = "etcd-server"
HEARTBEAT_MS = 50
# etcd draws from one to two times this, as our cluster does from 300-600 ms.
ELECTION_MS = 300
VERSION_WITHIN_S = 10.0
VERSION_LINE = re.compile(r"^etcd Version: (\d+)\.(\d+)\.(\d+)", re.MULTILINE)

OLDEST = (3, 4, 22)
WITHDRAWN = ((3, 5, 0), (3, 5, 5))  # first and last

Version = tuple[int, int, int]


def reason_against(version: Version) -> str | None:
    """Why this version is refused, as the end of a sentence; None when it may be used."""
    if version < OLDEST:
        return "versions below 3.4.22 can serve stale or lost data after a crash; install 3.4.22 or newer"
    if WITHDRAWN[0] <= version <= WITHDRAWN[1]:
        return "3.5.0 to 3.5.5 can make members differ for good after a SIGKILL; install 3.5.6 or newer, or 3.4.22"
    return None


@functools.cache
def find_etcd() -> str:
    """The program's path. Errors: TargetNotStarted when it is missing, does not say its version, or is refused."""
    path = shutil.which(PROGRAM)
    if path is None:
        raise TargetNotStarted(
            f"cannot start etcd: there is no program {PROGRAM!r}; install the package {PACKAGE} "
            f"(Debian, Ubuntu: apt-get install {PACKAGE})"
        )
    try:
        said = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_WITHIN_S,
            check=False,
            env=_environment(),
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetNotStarted(f"cannot start etcd: {path} --version does not work: {error}") from error
    found = VERSION_LINE.search(said)
    if found is None:
        raise TargetNotStarted(f"cannot start etcd: {path} --version names no version; is it etcd?")
    version = (int(found[1]), int(found[2]), int(found[3]))
    reason = reason_against(version)
    if reason is not None:
        raise TargetNotStarted(f"cannot start etcd: {path} is version {'.'.join(map(str, version))}, and {reason}")
    return path


def _environment() -> dict[str, str]:
    """Ours without ETCD_*: each such variable is an option of etcd, set by somebody for another cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}


class EtcdMember(ClusterMember):
    """One member."""

    connection_class = EtcdConnection


class EtcdTarget(ClusterTarget):
    """A cluster of etcd members. `arguments` go to each of them, last."""

    kind = "etcd"

    def _make_members(self) -> Sequence[ClusterMember]:
        program = find_etcd()
        ports = self._asked_ports or free_ports(self._count)
        peer_ports = free_ports(self._count)
        names = node_names(self.name, self._count, self.kind)
        urls = [f"http://{LOOPBACK}:{port}" for port in ports]
        peer_urls = [f"http://{LOOPBACK}:{port}" for port in peer_ports]
        cluster = ",".join(f"{name}={url}" for name, url in zip(names, peer_urls, strict=True))
        token = f"{self.name}-{secrets.token_hex(4)}"
        members = []
        for position, name in enumerate(names):
            command = [program, "--name", name, "--data-dir", str(self._data_dir(name))]
            command += ["--listen-client-urls", urls[position], "--advertise-client-urls", urls[position]]
            command += ["--listen-peer-urls", peer_urls[position]]
            command += ["--initial-advertise-peer-urls", peer_urls[position]]
            command += ["--initial-cluster", cluster, "--initial-cluster-token", token]
            command += ["--initial-cluster-state", "new"]
            command += ["--heartbeat-interval", str(HEARTBEAT_MS), "--election-timeout", str(ELECTION_MS)]
            command += ["--pre-vote=true", "--logger=zap", "--log-outputs=stderr", *self._arguments]
            members.append(
                EtcdMember(
                    position + 1,
                    name,
                    port=ports[position],
                    peer_port=peer_ports[position],
                    command=command,
                    around=self._around,
                    env=_environment(),
                )
            )
        client_ports = self._client_ports([member.name for member in members], ports)
        self.address = "etcd://" + ",".join(f"{LOOPBACK}:{port}" for port in client_ports)
        return members

    def _data_dir(self, name: str) -> Path:
        return self._around.nodes_dir / name / "data"
