"""Kills that take more than one moment: one node after the other, or a second one while the cluster elects."""

import contextlib
import random
import signal
import threading
import time
from collections.abc import Sequence
from typing import ClassVar

from swarmproof.faults.fault import CLUSTER_KINDS, Fault, NoEffect, Strike, signal_to
from swarmproof.faults.selection import Choice, NotNow
from swarmproof.targets.base import Member
from swarmproof.targets.cluster import ClusterMember, ClusterTarget
from swarmproof.targets.process import KILL_WITHIN_S, State

LOOK_AGAIN_S = 0.005
BACK_WITHIN_S = 30.0
DEFAULT_DOWN_S = 1.0
# From the leader's death to an election takes at least 300 ms; a watch that has not noticed by then never will.
ELECTION_SEEN_WITHIN_S = 3.0


def _kill(member: Member) -> None:
    signal_to(member, signal.SIGKILL, ends_it=True)


def _is_gone(member: Member) -> str | None:
    if member.process.state is not State.EXITED:
        return None
    return f"{member.name} is gone: it {member.process.describe_end()}"


class RollingKill(Fault):
    name = "rolling-kill"
    summary = "SIGKILL for one node after the other, each when the one before is back"
    heal_word = "restart"
    is_deadly = True
    selectors: ClassVar[Sequence[str]] = ("all",)
    has_one_outage = False

    def begin(self, strike: Strike) -> None:
        _kill(strike.choice.members[0])

    def evidence(self, strike: Strike) -> Sequence[str | None]:
        return [_is_gone(strike.choice.members[0])]

    def end(self, strike: Strike) -> str:
        """The first is down already; it comes back, and then the others go the same way."""
        members = strike.choice.members
        done: list[str] = []
        for member in members:
            if strike.is_abandoned():
                return f"; {len(done)} of {len(members)} were killed in turn"
            if member is not members[0]:
                _kill(member)
                if not member.process.wait_for_exit(KILL_WITHIN_S):
                    raise NoEffect(f"{member.name} did not end")
                strike.wait(strike.heal_after_s if strike.heal_after_s is not None else DEFAULT_DOWN_S)
                if strike.is_abandoned():
                    continue
            self.heal(member)
            wait_until_back(strike.choice.cluster, member, strike)
            done.append(member.name)
        return f"; {', '.join(done)} were killed and came back in turn"

    def heal(self, victim: Member) -> None:
        if victim.process.state is State.EXITED:
            victim.start()


class KillDuringElection(Fault):
    name = "kill-election"
    summary = "SIGKILL for the leader, and for a follower as soon as nobody leads"
    heal_word = "restart"
    is_deadly = True
    selectors: ClassVar[Sequence[str]] = ("leader",)
    kinds: ClassVar[Sequence[str]] = CLUSTER_KINDS
    effect_within_s = ELECTION_SEEN_WITHIN_S + 2.0

    def widen(self, choice: Choice, rng: random.Random) -> Choice:
        if choice.cluster is None:
            raise NotNow("there was no cluster")
        leader = choice.members[0]
        others = [member for member in choice.cluster.members if member is not leader and member.process.pid]
        if not others:
            raise NotNow("the cluster had no follower")
        second = rng.choice(others)
        return Choice([leader, second], f"{choice.why}; {second.name} drawn from the followers", choice.cluster)

    def begin(self, strike: Strike) -> None:
        leader, second = strike.choice.members
        _kill(leader)
        threading.Thread(target=self._kill_second, args=(strike, second), daemon=True).start()

    def evidence(self, strike: Strike) -> Sequence[str | None]:
        leader, second = strike.choice.members
        moment = strike.memory.get("moment")
        gone = _is_gone(second)
        return [_is_gone(leader), f"{gone}, {moment}" if gone and moment else None]

    def _kill_second(self, strike: Strike, second: Member) -> None:
        cluster = strike.choice.cluster
        assert cluster is not None
        deadline = time.monotonic() + ELECTION_SEEN_WITHIN_S
        while time.monotonic() < deadline and not strike.is_abandoned():
            if cluster.leader() is None:
                with contextlib.suppress(NoEffect):
                    _kill(second)
                    strike.memory["moment"] = "while nobody led"
                return
            time.sleep(LOOK_AGAIN_S)

    def heal(self, victim: Member) -> None:
        if victim.process.state is State.EXITED:
            victim.start()


def wait_until_back(cluster: ClusterTarget | None, member: Member, strike: Strike) -> None:
    """Until the node follows (or leads) again."""
    if cluster is None or cluster.watch is None or not isinstance(member, ClusterMember):
        return
    began_ns = time.monotonic_ns()
    deadline = time.monotonic() + BACK_WITHIN_S
    while time.monotonic() < deadline and not strike.is_abandoned():
        status = cluster.watch.status(member.node_id, began_ns)
        if status is not None and status.leader is not None:
            return
        time.sleep(LOOK_AGAIN_S)
