"""What can be done to a target: each kind knows how to strike, how its effect is observed, and how it is healed.

A kind acts on members (processes) today; kinds that act on links or disks are further subclasses of `Fault` with
victims of their own. The engine knows only the three verbs and their words.
"""

import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final

from swarmproof.faults.compaction import COMPACTS_WITHIN_S, wait_for_compaction
from swarmproof.targets.base import Member
from swarmproof.targets.process import State


class Fault(ABC):
    """One kind of fault. `strike` begins it, `observed` says what is seen of it, `heal` ends it (idempotent)."""

    name: str
    summary: str
    heal_word: str  # what healing is called on the command line: `restart 5s`, `for 3s`
    # How long the effect may take to be seen before it counts as not taken effect.
    effect_within_s: float = 2.0

    def await_moment(self, victims: Sequence[Member]) -> str | None:
        """Wait for the moment to strike; what to say when it did not come. Most kinds strike at once."""
        return None

    @abstractmethod
    def strike(self, victim: Member) -> None:
        """Begin, without waiting for the effect."""

    @abstractmethod
    def observed(self, victim: Member) -> str | None:
        """What is seen of the effect on this victim, such as `n1 is gone: it was killed by SIGKILL`, or None."""

    @abstractmethod
    def heal(self, victim: Member) -> None:
        """End it and wait until the victim answers. Errors: TargetError."""


class _EndsTheProcess(Fault):
    """Shared by the kinds after which the process is gone: the effect is its death, healing is a new start."""

    heal_word = "restart"

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
        victim.process.signal(signal.SIGKILL, ends_it=True)


class KillCompacting(Kill):
    name = "kill-compacting"
    summary = "SIGKILL as soon as a majority has written a new dump of its state: in the middle of a log compaction"

    def await_moment(self, victims: Sequence[Member]) -> str | None:
        if not wait_for_compaction(victims):
            return f"no majority compacted its log at one moment within {COMPACTS_WITHIN_S:g} s"
        return None


class Term(_EndsTheProcess):
    name = "term"
    summary = "SIGTERM: the process is asked to end and may drain"
    effect_within_s = 10.0  # a graceful end is allowed to take its time

    def strike(self, victim: Member) -> None:
        victim.process.terminate()


class Pause(Fault):
    name = "pause"
    summary = "SIGSTOP: the process stands still, its connections stay open; SIGCONT ends it"
    heal_word = "for"

    def strike(self, victim: Member) -> None:
        victim.process.pause()

    def observed(self, victim: Member) -> str | None:
        return f"{victim.name} stands still (SIGSTOP)" if victim.process.is_stopped_by_kernel() else None

    def heal(self, victim: Member) -> None:
        victim.process.resume()


CATALOGUE: Final[Mapping[str, Fault]] = {fault.name: fault for fault in (Kill(), KillCompacting(), Term(), Pause())}

# The words of a target that are not the name of a process.
SELECTORS: Final[Sequence[str]] = ("leader", "follower", "majority", "all")
TARGET_FORMS: Final = "leader, follower, node N, majority, all, or the name of a server"
