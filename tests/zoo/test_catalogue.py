"""The scenarios are plans that `swarmproof run` accepts, and a twin is its bug's plan without the bug."""

import pytest

from swarmproof.plan import parse_plan
from swarmproof.zoo.catalogue import CATALOGUE, HEALTHY, Exhibit
from swarmproof.zoo.run import NoSuchExhibit, chosen

LONGEST_RUN_S = 10
# A write that lands half a minute late takes that long.
PATIENT = {"late-write": 40}

exhibits = pytest.mark.parametrize("exhibit", CATALOGUE.values(), ids=list(CATALOGUE))


@exhibits
def test_both_plans_are_accepted_and_short(exhibit: Exhibit) -> None:
    for text in (exhibit.scenario.plan(1, exhibit.bug), exhibit.twin_plan_of.plan(1)):
        plan = parse_plan(text, exhibit.name)
        assert plan.load.run_time is not None
        assert plan.load.run_time <= PATIENT.get(exhibit.name, LONGEST_RUN_S)
        assert all(fault.at is not None and fault.at < plan.load.run_time for fault in plan.fault)


@exhibits
def test_only_the_bugs_own_plan_plants_it(exhibit: Exhibit) -> None:
    assert ("--bug" in exhibit.scenario.plan(1, exhibit.bug)) == bool(exhibit.bug)
    assert "--bug" not in exhibit.twin_plan_of.plan(1)


@exhibits
def test_the_seed_moves_the_faults_and_the_same_seed_does_not(exhibit: Exhibit) -> None:
    scenario = exhibit.scenario
    assert scenario.plan(1) == scenario.plan(1)
    if scenario.faults:
        times = [parse_plan(scenario.plan(seed), "zoo").fault[0].at for seed in range(1, 20)]
        assert len(set(times)) > 10


def test_nothing_named_means_all_and_an_unknown_name_is_told_the_others() -> None:
    assert chosen([]) == list(CATALOGUE.values())
    assert [exhibit.name for exhibit in chosen(["split-brain", "freeze"])] == ["split-brain", "freeze"]
    with pytest.raises(NoSuchExhibit, match=r"no 'unicorn' in the zoo; there are: .*split-brain"):
        chosen(["unicorn"])


@pytest.mark.parametrize("store", HEALTHY)
def test_the_healthy_stores_have_their_leader_killed_and_no_bug(store: str) -> None:
    plan = parse_plan(HEALTHY[store].plan(1), store)
    assert "--bug" not in HEALTHY[store].plan(1)
    assert [(fault.kind, fault.target) for fault in plan.fault] == [("kill", "leader")] * 2
