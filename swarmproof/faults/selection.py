"""Whom a fault hits: `leader`, `follower`, `node 2`, `majority`, `all`, or a server by name, and why."""

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from swarmproof.targets.base import Member, Target, member_named
from swarmproof.targets.cluster import ClusterTarget
from swarmproof.targets.errors import NoSuchTarget

_NODE = re.compile(r"(?:node\s*|n)?(\d+)")
_OF_A_CLUSTER = re.compile(r"(leader|follower|majority|halves|bridge|all) of (\S+)")
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


def split_target(text: str) -> tuple[str, str | None]:
    """`leader of store` is ("leader", "store"); without a cluster's name ("leader", None)."""
    wanted = normal_target(text)
    found = _OF_A_CLUSTER.fullmatch(wanted)
    return (found[1], found[2]) if found else (wanted, None)


def check_target(targets: Sequence[Target], text: str) -> None:
    """Whether the name can ever be hit here. Errors: NoSuchTarget with what there is."""
    wanted, name = split_target(text)
    if wanted in CLUSTER_SELECTORS or name is not None:
        _cluster(targets, wanted, name)
    elif wanted == "all":
        _all(targets)
    else:
        member_named(targets, wanted)


def choose(targets: Sequence[Target], text: str, rng: random.Random) -> Choice:
    """The members that `text` means now. Errors: NoSuchTarget (never here), NotNow (wait for it)."""
    wanted, name = split_target(text)
    if wanted in CLUSTER_SELECTORS:
        return _choose_in_cluster(_cluster(targets, wanted, name), wanted, rng)
    if wanted == "all":
        cluster = _cluster(targets, wanted, name) if name is not None else _all(targets)
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


def _cluster(targets: Sequence[Target], wanted: str, name: str | None) -> ClusterTarget:
    """The cluster of that name, or the only one. Errors: NoSuchTarget."""
    clusters = [target for target in targets if isinstance(target, ClusterTarget)]
    fitting = [cluster for cluster in clusters if name in (None, cluster.name)]
    if len(fitting) == 1:
        return fitting[0]
    if not clusters:
        names = ", ".join(member.name for target in targets for member in target.members)
        raise NoSuchTarget(
            f"there is no {wanted} without a Raft cluster among the targets; there are: {names or 'none'}"
        )
    forms = ", ".join(f"{wanted} of {cluster.name}" for cluster in clusters)
    if fitting:
        raise NoSuchTarget(f"{wanted} may be of several clusters; say which: {forms}")
    raise NoSuchTarget(f"there is no cluster {name!r}; there is: {forms}")


def _all(targets: Sequence[Target]) -> ClusterTarget | None:
    """The cluster that `all` means beside single servers; None without one. Errors: NoSuchTarget for several."""
    has_cluster = any(isinstance(target, ClusterTarget) for target in targets)
    return _cluster(targets, "all", None) if has_cluster else None
