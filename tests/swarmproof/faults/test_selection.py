"""Whom a fault means where there are several clusters: never silently the first."""

import pytest

from swarmproof.faults.schedule import FaultMistake, parse_fault
from swarmproof.faults.selection import check_target, split_target
from swarmproof.targets.errors import NoSuchTarget
from swarmproof.targets.raft import RaftTarget


class _Named(RaftTarget):
    """A cluster that is never started."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._members = []


BOTH = [_Named("red"), _Named("blue")]


@pytest.mark.parametrize("word", ["leader", "follower", "majority", "halves", "bridge", "all"])
def test_among_several_clusters_one_must_be_named(word: str) -> None:
    with pytest.raises(NoSuchTarget) as refused:
        check_target(BOTH, word)
    assert str(refused.value) == f"{word} may be of several clusters; say which: {word} of red, {word} of blue"
    check_target(BOTH, f"{word} of blue")
    check_target(BOTH[:1], word)


def test_a_cluster_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(NoSuchTarget, match="there is no cluster 'green'; there is: leader of red, leader of blue"):
        check_target(BOTH, "leader of green")
    with pytest.raises(NoSuchTarget, match="without a Raft cluster"):
        check_target([], "leader of green")


def test_a_name_is_split_from_its_selector_and_other_names_are_left_alone() -> None:
    assert split_target("leader  of red") == ("leader", "red")
    assert split_target("node 2") == ("n2", None)
    assert split_target("leader-of-red") == ("leader-of-red", None)


def test_a_fault_on_the_command_line_names_a_cluster() -> None:
    spec = parse_fault("kill leader of red @10s restart 5s")
    assert (spec.target, spec.at_s, spec.heal_after_s) == ("leader of red", 10.0, 5.0)
    with pytest.raises(FaultMistake, match="cannot be aimed at 'halves of red'"):
        parse_fault("kill halves of red @10s")
