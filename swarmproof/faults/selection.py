"""Whom a fault hits: `leader`, `follower`, `node 2`, `majority`, `all`, or a server by name, and why."""

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from swarmproof.targets.base import Member, Target, member_named
from swarmproof.targets.cluster import ClusterTarget
from swarmproof.targets.errors import NoSuchTarget

_NODE = re.compile(r"(?:node\s*|n)?(\d+)")
CLUSTER_SELECTORS = frozenset({"leader", "follower", "majority", "halves", "bridge"})


class NotNow(Exception):
    """The target exists, but cannot be hit at the moment; the text completes `waited because ...`."""


class Choice(NamedTuple):
    """The members to hit, why these, and their cluster (None for a single server)."""

    members: Sequence[Member]
    why: str
    cluster: ClusterTarget | None


def normal_target(text: str) -> str:
    """`node 2`, `n2` and `2` are the same node; other names stay as they are."""
    words = " ".join(text.split())
    node = _NODE.fullmatch(words.lower())
    return f"n{node[1]}" if node else words


def check_target(targets: Sequence[Target], text: str) -> None:
    """Whether the name can ever be hit here. Errors: NoSuchTarget with what there is."""
    wanted = normal_target(text)
    if wanted in CLUSTER_SELECTORS:
        _cluster(targets, wanted)
    elif wanted != "all":
        member_named(targets, wanted)


def choose(targets: Sequence[Target], text: str, rng: random.Random) -> Choice:
    """The members that `text` means now. Errors: NoSuchTarget (never here), NotNow (wait for it)."""
    wanted = normal_target(text)
    if wanted in CLUSTER_SELECTORS:
        return _choose_in_cluster(_cluster(targets, wanted), wanted, rng)
    if wanted == "all":
        cluster = next((target for target in targets if isinstance(target, ClusterTarget)), None)
        chosen = cluster.members if cluster else [member for target in targets for member in target.members]
        return Choice(chosen, "all of them were asked for", cluster)
    member = member_named(targets, wanted)
    home = next(target for target in targets if member in target.members)
    return Choice([member], "asked for by name", home if isinstance(home, ClusterTarget) else None)


def _choose_in_cluster(cluster: ClusterTarget, wanted: str, rng: random.Random) -> Choice:
    found = cluster.leader()
    if found is None:
        raise NotNow("the cluster had no leader")
    leader = cluster.member_of(found.node)
    followers = [member for member in cluster.members if member is not leader and member.process.pid is not None]
    if wanted == "leader":
        return Choice([leader], f"{leader.name} led term {found.term}", cluster)
    if wanted == "follower":
        if not followers:
            raise NotNow("the cluster had no follower")
        return Choice([rng.choice(followers)], f"drawn from the followers of {leader.name}", cluster)
    if wanted == "bridge":  # not the leader: it would have nobody on the far side to miss
        if len(followers) < 2:
            raise NotNow("fewer than two followers were running")
        return Choice([rng.choice(followers)], f"bridge drawn from the followers of {leader.name}", cluster)
    if wanted == "halves":
        half = rng.sample(list(cluster.members), len(cluster.members) // 2)
        half.sort(key=lambda member: member.node_id)
        return Choice(half, f"the smaller half, drawn; {leader.name} led term {found.term}", cluster)
    count = len(cluster.members) // 2 + 1
    if len(followers) < count - 1:
        raise NotNow("fewer than a majority were running")
    why = f"{count} of {len(cluster.members)}: the leader {leader.name} and others drawn"
    return Choice([leader, *rng.sample(followers, count - 1)], why, cluster)


def _cluster(targets: Sequence[Target], wanted: str) -> ClusterTarget:
    for target in targets:
        if isinstance(target, ClusterTarget):
            return target
    names = ", ".join(member.name for target in targets for member in target.members)
    raise NoSuchTarget(f"there is no {wanted} without a Raft cluster among the targets; there are: {names or 'none'}")
