"""What every kind of fault knows: how to strike, how its effect is observed, how it is healed.

Most kinds act on each victim by itself (`strike`, `observed`, `heal`); those that act on what is between the victims,
or on one after the other, override the verbs for the whole choice (`begin`, `evidence`, `end`).
"""

import random
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from swarmproof.faults.selection import Choice
from swarmproof.targets.base import Member, Target
from swarmproof.targets.links import CLIENTS, PEERS, LinkBoard

# What a target must have been started with so that a kind can act on it.
PEER_LINKS: Final = PEERS
CLIENT_LINKS: Final = CLIENTS

# Kinds of target with a leader.
CLUSTER_KINDS: Final = ("raft", "etcd", "pysyncobj")
# Kinds of target whose nodes can be told an address of its own for each of the others.
WITH_PEER_LINKS: Final = ("raft",)
# Kinds of target whose clients and servers speak in length-prefixed frames, as nodes with links between them do.
WITH_FRAMES: Final = ("envelope", "raft", "pysyncobj")

MEMBER_TARGETS: Final = ("leader", "follower", "majority", "all", "node")


class NoEffect(Exception):
    """The fault cannot be carried out here; the text is the sentence for the record."""


@dataclass
class Strike:
    """One fault under way: whom it hits, its options as strings (`{"mode": "TIMEOUT"}`), and what it must remember."""

    owner: int
    choice: Choice
    options: Mapping[str, str]
    toxics: Sequence[str]
    links: str | None
    heal_after_s: float | None
    rng: random.Random
    board: LinkBoard | None
    targets: Sequence[Target]
    is_abandoned: Callable[[], bool] = lambda: False
    wait: Callable[[float], None] = lambda seconds: None
    memory: dict[str, Any] = field(default_factory=dict)

    def links_board(self) -> LinkBoard:
        """Errors: NoEffect without links."""
        if self.board is None or not self.board.names:
            raise NoEffect(
                "there are no links to act on; start the targets with links (`links = true` in [[target]], "
                "or `swarmproof up --links`)"
            )
        return self.board


class Fault:
    """One kind of fault. Healing is idempotent."""

    name: str
    summary: str
    heal_word: str  # what healing is called on the command line: `restart 5s`, `for 3s`
    # How long the effect may take to be seen before it counts as not taken effect.
    effect_within_s: float = 2.0
    # Words beside a server's name that can be its target.
    selectors: ClassVar[Sequence[str]] = MEMBER_TARGETS
    # Kinds of target that it can hit; empty: every kind.
    kinds: ClassVar[Sequence[str]] = ()
    # Option -> an example; which of them must be given.
    options: ClassVar[Mapping[str, str]] = {}
    required: ClassVar[Sequence[str]] = ()
    # Option -> how its value is read. Errors: ValueError with a sentence.
    readers: ClassVar[Mapping[str, Callable[[str], object]]] = {}
    # Whether the victims cannot do their work while it lasts: a leader among them is replaced, and they count as away.
    silences = True
    # Whether there is one outage whose end can be timed. Several in a row have no first acknowledged write.
    has_one_outage = True
    # Over as soon as it has struck: there is nothing that could last.
    is_instant = False
    # Whether it takes away a node with what that has not replicated: a careless store loses the writes of that moment,
    # so during a load it strikes while writes are being committed.
    is_deadly = False
    # Whether the time until it is healed counts from the strike, not from when its effect was seen.
    heals_from_strike = False
    # Links that it acts on.
    needs_links: str | None = None

    def await_moment(self, victims: Sequence[Member]) -> str | None:
        """Wait for the moment to strike; what to say when it did not come. Most kinds strike at once."""
        return None

    def widen(self, choice: Choice, rng: random.Random) -> Choice:
        """The choice with those who are hit, too. Errors: NotNow."""
        return choice

    def begin(self, strike: Strike) -> None:
        """Begin, without waiting for the effect. Errors: NoEffect, TargetError."""
        in_vain: list[str] = []
        for member in strike.choice.members:
            try:
                self.strike(member)
            except NoEffect as error:  # the others are to be hit all the same
                in_vain.append(str(error))
        if in_vain:
            raise NoEffect("; ".join(in_vain))

    def evidence(self, strike: Strike) -> Sequence[str | None]:
        """What is seen of the effect, one text for each part of it; None where nothing is seen yet."""
        return [self.observed(member) for member in strike.choice.members]

    def unseen(self, strike: Strike, seen: Sequence[str | None]) -> str:
        """On what no effect was seen, for a sentence."""
        names = [member.name for member in strike.choice.members]
        if len(seen) == len(names):
            names = [name for name, text in zip(names, seen, strict=True) if not text]
        return ", ".join(names)

    def window_s(self, strike: Strike) -> float:
        """How long the effect of this one may take to be seen."""
        return self.effect_within_s

    def end(self, strike: Strike) -> str:
        """End what is not a matter of one victim; what is to be added to what was observed. Errors: TargetError."""
        return ""

    def heal_one(self, strike: Strike, member: Member) -> None:
        """End it for this victim and wait until it answers. Errors: TargetError."""
        self.heal(member)

    def healed(self, members: Sequence[Member]) -> str:
        """What a person is told when it is healed; "" when there is nothing to tell."""
        return f"{names_of(members)} {'is' if len(members) == 1 else 'are'} back"

    def silences_in(self, strike: Strike) -> bool:
        return self.silences

    # For the kinds that act on each victim by itself.

    def strike(self, victim: Member) -> None:
        """Begin, without waiting for the effect. Errors: NoEffect."""
        raise NotImplementedError

    def observed(self, victim: Member) -> str | None:
        """What is seen of the effect on this victim, such as `n1 is gone: it was killed by SIGKILL`, or None."""
        return None

    def heal(self, victim: Member) -> None:
        """End it and wait until the victim answers. Errors: TargetError."""


def default_links(kind: str, nodes: int) -> str:
    """Which links a fault on links means where it does not say: between the nodes where there are such."""
    return PEER_LINKS if kind in WITH_PEER_LINKS and nodes > 1 else CLIENT_LINKS


def signal_to(victim: Member, number: signal.Signals, *, ends_it: bool = False) -> None:
    """Errors: NoEffect when there is no process any more that could get it."""
    if not victim.process.signal(number, ends_it=ends_it):
        raise NoEffect(not_running(victim))


def not_running(victim: Member) -> str:
    return f"{victim.name} did not run: it {victim.process.describe_end()} before the fault struck"


def names_of(members: Sequence[Member]) -> str:
    """`n1 and n2`."""
    return " and ".join(member.name for member in members)
