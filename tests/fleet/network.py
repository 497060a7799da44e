"""Hosts with addresses of their own, on one machine: network namespaces on a bridge.

    with Network("raft1", "worker1") as network:
        process = network.host("worker1").start([...])      # sees only that network, and its own clock if asked to
        network.host("worker1").cut()                        # its cable is pulled; `heal` puts it back

The bridge is in a namespace of its own, so nothing of the machine's own network is touched. Leaving the block ends
every process that was started within, and takes the namespaces away, whatever has failed.
"""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.processes import Process, wait_until

PREFIX = "swarmtest"
SUBNET = "10.213.77"
FIRST_HOST = 11


def ip(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0 or not check, f"ip {' '.join(arguments)}: {done.stderr.strip()}"
    return done.stdout


def require_namespaces() -> None:
    """Skip (in CI: fail) where namespaces cannot be made."""
    reason = ""
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        reason = "ip or unshare is not installed (distribution packages iproute2, util-linux)"
    elif os.geteuid() != 0:
        reason = "network namespaces need root"
    else:
        name = f"{PREFIX}-{secrets.token_hex(3)}"
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, timeout=30, check=False)
        if made.returncode == 0:
            ip("netns", "del", name, check=False)
            clock = ["unshare", "--time", "--mount", "--fork", "true"]
            made = subprocess.run(clock, capture_output=True, text=True, timeout=30, check=False)
        if made.returncode:
            reason = f"namespaces are not permitted here: {made.stderr.strip()}"
    if reason:
        if os.environ.get("CI"):
            pytest.fail(reason + ", and CI must be able to")
        pytest.skip(reason)


class Host:
    """One namespace. `clock_s`: how far its monotonic clock is ahead of the machine's."""

    def __init__(self, network: "Network", name: str, number: int) -> None:
        self._network = network
        self.name = name
        self.namespace = f"{network.prefix}-{name}"
        self.address = f"{SUBNET}.{FIRST_HOST + number}"
        self.port = f"v{number}{network.token}"  # of the bridge; a device's name has at most 15 letters
        self.processes: list[Process] = []

    def connect(self, switch: str) -> None:
        ip("netns", "add", self.namespace)
        ip("-n", switch, "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("-n", switch, "link", "set", self.port, "master", "br0", "up")
        ip("-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.namespace, "link", "set", "eth0", "up")
        ip("-n", self.namespace, "link", "set", "lo", "up")

    def start(self, command: Sequence[str], *, clock_s: int = 0, own_disk: Path | None = None) -> Process:
        """Start a process on this host. `own_disk`: a folder that is empty there, and seen by nobody else."""
        prefix = ["ip", "netns", "exec", self.namespace]
        if clock_s or own_disk is not None:
            prefix += ["unshare", "--mount", "--time", "--monotonic", str(clock_s), "--fork", "--kill-child"]
            mount = f"mount -t tmpfs tmpfs {own_disk} && " if own_disk is not None else ""
            prefix += ["sh", "-c", f'{mount}exec "$@"', "sh"]
        process = Process([*prefix, *command])
        self.processes.append(process)
        return process

    def cut(self) -> None:
        ip("-n", self._network.switch, "link", "set", self.port, "down")

    def heal(self) -> None:
        ip("-n", self._network.switch, "link", "set", self.port, "up")

    def pids(self) -> list[int]:
        return [int(pid) for pid in ip("netns", "pids", self.namespace, check=False).split()]

    def remove(self) -> None:
        for process in self.processes:
            process.close()
        for pid in self.pids():  # what those had started
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            wait_until(lambda: not self.pids(), f"the processes of {self.name} to be gone")
        finally:
            ip("netns", "del", self.namespace, check=False)


class Network:
    """Hosts on a bridge. Use as a context manager."""

    def __init__(self, *names: str) -> None:
        self.token = secrets.token_hex(3)
        self.prefix = f"{PREFIX}-{self.token}"
        self.switch = f"{self.prefix}-switch"
        self._hosts = {name: Host(self, name, number) for number, name in enumerate(names)}

    def host(self, name: str) -> Host:
        return self._hosts[name]

    def __enter__(self) -> Self:
        try:
            ip("netns", "add", self.switch)
            ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
            ip("-n", self.switch, "link", "set", "br0", "up")
            for host in self._hosts.values():
                host.connect(self.switch)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything and take it away; every host is tried, whatever one of them does."""
        problems = []
        for host in self._hosts.values():
            try:
                host.remove()
            except (AssertionError, OSError) as error:
                problems.append(str(error))
        ip("netns", "del", self.switch, check=False)
        assert not problems, problems

    def leftovers(self) -> list[str]:
        """Namespaces of this network that still exist."""
        names = [line.split()[0] for line in ip("netns", "list").splitlines() if line.strip()]
        return [name for name in names if name.startswith(self.prefix)]
