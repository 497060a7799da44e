"""What can be done to a target: the kinds that act on a process, and the list of all kinds."""

import signal
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from swarmproof.faults.compaction import COMPACTS_WITHIN_S, wait_for_compaction
from swarmproof.faults.fault import CLUSTER_KINDS, Fault, NoEffect, not_running, signal_to
from swarmproof.faults.network import Disconnect, Partition, PartitionIn, PartitionOut, Toxics
from swarmproof.faults.sequences import KillDuringElection, RollingKill
from swarmproof.faults.services import F00dMode, RpcErrors
from swarmproof.faults.storage import BitFlip, DiskFull, LogTruncate, SlowFsync
from swarmproof.targets.base import Member
from swarmproof.targets.process import State


class _EndsTheProcess(Fault):
    """Shared by the kinds after which the process is gone: the effect is its death, healing is a new start."""

    heal_word = "restart"
    is_deadly = True

    def observed(self, victim: Member) -> str | None:
        if victim.process.state is not State.EXITED:
            return None
        return f"{victim.name} is gone: it {victim.process.describe_end()}"

    def heal(self, victim: Member) -> None:
        if victim.process.state is State.EXITED:
            victim.start()


class Kill(_EndsTheProcess):
    name = "kill"
    summary = "SIGKILL: the process is gone at once, its disk stays"

    def strike(self, victim: Member) -> None:
        signal_to(victim, signal.SIGKILL, ends_it=True)


class KillCompacting(Kill):
    name = "kill-compacting"
    summary = "SIGKILL as soon as a majority has written a new dump of its state: in the middle of a log compaction"
    kinds: ClassVar[Sequence[str]] = CLUSTER_KINDS

    def await_moment(self, victims: Sequence[Member]) -> str | None:
        if not wait_for_compaction(victims):
            return f"no majority compacted its log at one moment within {COMPACTS_WITHIN_S:g} s"
        return None


class Term(_EndsTheProcess):
    name = "term"
    summary = "SIGTERM: the process is asked to end and may drain"
    effect_within_s = 10.0  # a graceful end is allowed to take its time

    def strike(self, victim: Member) -> None:
        signal_to(victim, signal.SIGTERM, ends_it=True)


class Pause(Fault):
    name = "pause"
    summary = "SIGSTOP: the process stands still, its connections stay open; SIGCONT ends it"
    heal_word = "for"

    def strike(self, victim: Member) -> None:
        if victim.process.pid is None:
            raise NoEffect(not_running(victim))
        victim.process.pause()

    def observed(self, victim: Member) -> str | None:
        return f"{victim.name} stands still (SIGSTOP)" if victim.process.is_stopped_by_kernel() else None

    def heal(self, victim: Member) -> None:
        victim.process.resume()


CATALOGUE: Final[Mapping[str, Fault]] = {
    fault.name: fault
    for fault in (
        Kill(),
        Term(),
        Pause(),
        KillCompacting(),
        RollingKill(),
        KillDuringElection(),
        Partition(),
        PartitionOut(),
        PartitionIn(),
        Toxics(),
        Disconnect(),
        DiskFull(),
        SlowFsync(),
        LogTruncate(),
        BitFlip(),
        F00dMode(),
        RpcErrors(),
    )
}

# The words of a target that are not the name of a process.
SELECTORS: Final[Sequence[str]] = ("leader", "follower", "majority", "all")
TARGET_FORMS: Final = "leader, follower, node N, majority, all, or the name of a server"
