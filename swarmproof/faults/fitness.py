"""Whether a fault can be done to what it is aimed at: known before anything is struck, for plans and live requests.

A fault that was recorded and could never be done would make the verdict unknown.
"""

from collections.abc import Sequence
from typing import NamedTuple

from swarmproof.faults.catalogue import CATALOGUE
from swarmproof.faults.fault import CLIENT_LINKS, PEER_LINKS, WITH_FRAMES, WITH_PEER_LINKS, default_links
from swarmproof.faults.proxy.toxics import merge_toxics, needs_frames
from swarmproof.faults.schedule import FaultMistake, FaultSpec
from swarmproof.faults.selection import CLUSTER_SELECTORS, split_target
from swarmproof.targets.base import Target
from swarmproof.targets.cluster import ClusterTarget
from swarmproof.targets.links import CLIENTS, LinkBoard

# Kinds of target that tell how far their log is ahead of what is committed.
WITH_IN_FLIGHT = ("raft",)


class Victim(NamedTuple):
    """A target that a fault would hit: its kind, and how many nodes it has (1 for a server)."""

    kind: str
    nodes: int


def needed_links(spec: FaultSpec, victims: Sequence[Victim]) -> str | None:
    """Which links of its victims a fault acts on; None for most."""
    if spec.kind != "link":
        return CATALOGUE[spec.kind].needs_links
    found = {default_links(victim.kind, victim.nodes) for victim in victims}
    return spec.links or (PEER_LINKS if PEER_LINKS in found else CLIENT_LINKS)


def check_fit(spec: FaultSpec, victims: Sequence[Victim], cluster: Victim | None) -> None:
    """Whether the kind, its links and its toxics fit `victims`; `cluster` has the history. Errors: FaultMistake."""
    can_hit = CATALOGUE[spec.kind].kinds
    if can_hit and not all(victim.kind in can_hit for victim in victims):
        kinds = ", ".join(dict.fromkeys(victim.kind for victim in victims))
        raise FaultMistake(f"{spec.kind} needs a target of kind {' or '.join(can_hit)}; {spec.target} is {kinds}")
    if spec.in_flight is not None and (cluster is None or cluster.kind not in WITH_IN_FLIGHT):
        known = f"{cluster.kind} does not tell how many" if cluster is not None else "there is no leader here"
        raise FaultMistake(
            f"{spec.kind} {spec.target}: in_flight counts the writes that the leader of a raft target has not "
            f"committed yet, and {known}; use at, every or after_operations"
        )
    links = needed_links(spec, victims)
    if links == PEER_LINKS and not all(victim.kind in WITH_PEER_LINKS and victim.nodes > 1 for victim in victims):
        instead = "; use links = clients" if spec.kind == "link" else ""
        raise FaultMistake(
            f"{spec.kind} {spec.target}: only a raft target has links between nodes, if it has several{instead}"
        )
    toxics = merge_toxics(spec.toxics)
    if needs_frames(toxics) and not all(victim.kind in WITH_FRAMES for victim in victims):
        kinds = ", ".join(dict.fromkeys(victim.kind for victim in victims if victim.kind not in WITH_FRAMES))
        raise FaultMistake(
            f"{spec.kind} {spec.target}: duplicate, reorder, swap and a share of drop need a stream of length-prefixed "
            f"frames, as {', '.join(WITH_FRAMES)} have; {kinds} has none"
        )
    if links == PEER_LINKS and any(toxic.kind == "swap" for toxic in toxics):
        raise FaultMistake(
            f"link {spec.target}: swap exchanges frames of two connections, and a link between nodes has one; use "
            "reorder, or links = clients"
        )


def check_live(spec: FaultSpec, targets: Sequence[Target], board: LinkBoard | None) -> None:
    """Whether the fault can be done to targets that run, with the links that they have. Errors: FaultMistake."""
    clusters = [target for target in targets if isinstance(target, ClusterTarget)]
    hit = hit_by(spec.target, targets)
    victims = [Victim(target.kind, len(target.members)) for target in hit]
    check_fit(spec, victims, Victim(clusters[0].kind, len(clusters[0].members)) if clusters else None)
    if spec.is_conditional or spec.every_s is not None:
        raise FaultMistake(f"{spec.describe()}: a fault that is asked for now strikes now; leave its moment out")
    links = needed_links(spec, victims)
    if links is None:
        return
    names = board.names if board is not None else set()
    for target in hit:
        members = {member.name for member in target.members}
        sources = {CLIENTS} if links == CLIENT_LINKS else members
        if not any(name.partition(">")[0] in sources and name.partition(">")[2] in members for name in names):
            raise FaultMistake(
                f"{spec.kind} {spec.target}: {target.name} has no links of its {links} to act on; start it with links "
                "(`links = true` in [[target]], or `swarmproof up --links`)"
            )


def hit_by(text: str, targets: Sequence[Target]) -> Sequence[Target]:
    """The targets that a fault aimed at `text` hits; `text` is known to be good (check_target)."""
    wanted, name = split_target(text)
    clusters = [target for target in targets if isinstance(target, ClusterTarget) and name in (None, target.name)]
    if wanted in CLUSTER_SELECTORS:
        return clusters[:1]
    if wanted == "all":
        return clusters[:1] or targets
    by_member = [target for target in targets if any(member.name == wanted for member in target.members)]
    return by_member[:1] or [target for target in targets if target.name == wanted][:1]
