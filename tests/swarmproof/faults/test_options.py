"""Toxics, options, links and moments in a fault's sentence and in a plan; what makes no sense is a sentence."""

import pytest

from swarmproof.faults.schedule import FaultMistake, FaultSpec, build_schedule, parse_fault
from swarmproof.plan import Plan, parse_plan
from swarmproof.plan_errors import PlanError

HEAD = '[load]\nlocustfile = "mixed"\nrun_time = "60s"\n'
RAFT = '[[target]]\nkind = "raft"\n'


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        (
            "link leader peers latency=50ms±10ms up:bandwidth=1MB/s drop @5s for 3s",
            FaultSpec(
                "link",
                "leader",
                at_s=5.0,
                heal_after_s=3.0,
                links="peers",
                toxics=("latency=50ms±10ms", "up:bandwidth=1MB/s", "drop"),
            ),
        ),
        (
            "kill leader after 5,000 operations restart 2s",
            FaultSpec("kill", "leader", at_s=0.0, heal_after_s=2.0, after_operations=5000),
        ),
        ("pause leader when 10 in flight for 1s", FaultSpec("pause", "leader", 0.0, heal_after_s=1.0, in_flight=10)),
        (
            "kill leader @10s when 3 requests are in flight on the leader",
            FaultSpec("kill", "leader", at_s=10.0, in_flight=3),
        ),
        ("mode f00d mode=TIMEOUT @1s", FaultSpec("mode", "f00d", at_s=1.0, options=(("mode", "TIMEOUT"),))),
        ("partition halves @1s for 2s", FaultSpec("partition", "halves", at_s=1.0, heal_after_s=2.0)),
    ],
)
def test_a_fault_takes_toxics_options_and_moments(text: str, spec: FaultSpec) -> None:
    assert parse_fault(text) == spec
    assert build_schedule([spec], 1, 60.0)[0].due_s == spec.at_s


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("link leader @1s", "link leader has no toxics; give it one or more of: latency"),
        ("link leader poison=3 @1s", "there is no toxic 'poison'"),
        ("kill halves @1s", "kill cannot be aimed at 'halves'; it can be leader"),
        ("partition majority @1s", "partition cannot be aimed at 'majority'"),
        ("kill leader delay=3s @1s", "kill has no option 'delay'; its options are: none"),
        ("slow-fsync leader speed=3 @1s", "slow-fsync has no option 'speed'; its options are: delay=200ms"),
        ("mode f00d @1s", "mode needs mode, such as mode=TIMEOUT"),
        ("kill leader every 5s after 10 operations", "strikes once after its operations"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(text: str, words: str) -> None:
    with pytest.raises(FaultMistake, match=words):
        parse_fault(text)


def plan(*faults: str, target: str = RAFT) -> Plan:
    return parse_plan(target + HEAD + "".join(f"[[fault]]\n{fault}\n" for fault in faults), "plan.toml")


def test_only_targets_with_a_fault_on_links_pay_for_them() -> None:
    envelope = '[[target]]\nkind = "envelope"\n'
    both = plan(
        'kind = "partition"\ntarget = "leader"\nat = "1s"',
        'kind = "disconnect"\ntarget = "envelope"\nat = "1s"',
        target=RAFT + envelope,
    ).targets_with_links()
    assert [sorted(table.link_kinds) for table in both] == [["peers"], ["clients"]]
    none = plan('kind = "kill"\ntarget = "leader"\nat = "1s"', target=RAFT + envelope).targets_with_links()
    assert [table.link_kinds for table in none] == [frozenset(), frozenset()]
    (everything,) = plan(target=RAFT + "links = true\n").targets_with_links()
    assert everything.link_kinds == {"peers", "clients"}


def test_a_plan_says_the_same_as_a_sentence() -> None:
    (spec,) = plan(
        'kind = "link"\ntarget = "leader"\nlinks = "clients"\ntoxics = ["latency=5ms"]\nat = "3s"\nfor = "2s"'
    ).faults()
    assert spec == parse_fault("link leader clients latency=5ms @3s for 2s")


@pytest.mark.parametrize(
    ("fault", "target", "words"),
    [
        (
            'kind = "partition"\ntarget = "leader"\nat = "1s"',
            '[[target]]\nkind = "etcd"\n',
            "of kind raft; leader is etcd",
        ),
        ('kind = "mode"\ntarget = "n1"\nmode = "TIMEOUT"\nat = "1s"', RAFT, "mode needs a .* of kind f00d; n1 is raft"),
        (
            'kind = "link"\ntarget = "n1"\nlinks = "peers"\ntoxics = ["drop"]\nat = "1s"',
            '[[target]]\nkind = "etcd"\n',
            "only a raft target has links between nodes",
        ),
        ('kind = "link"\ntarget = "n1"\ntoxics = ["drip"]\nat = "1s"', RAFT, "there is no toxic 'drip'"),
        ('kind = "kill"\ntarget = "n1"\nin_flight = 0', RAFT, "in_flight = 0 in .*fault.* number 1 must be greater"),
    ],
)
def test_a_plan_that_asks_for_the_impossible_is_a_sentence(fault: str, target: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        plan(fault, target=target)


def test_the_gauntlets_can_be_read_and_hold_every_fault_of_a_cluster() -> None:
    from swarmproof.faults.catalogue import CATALOGUE
    from swarmproof.plan import load_plan

    kinds = {spec.kind for spec in load_plan("gauntlet")[1].faults()}
    not_for_ours = {"kill-compacting", "mode", "rpc-errors"}  # a known bug of another store; servers without a cluster
    assert kinds == set(CATALOGUE) - not_for_ours
    assert {spec.kind for spec in load_plan("etcd-gauntlet")[1].faults()} <= kinds
