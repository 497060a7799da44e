"""Plans: what is right is taken, and each mistake is one sentence with file, line, key and what is allowed."""

from importlib import resources
from pathlib import Path

import pytest

from swarmproof.faults.schedule import FaultSpec
from swarmproof.plan import CommandTable, RaftTable, built_in_plans, load_plan, parse_plan
from swarmproof.plan_errors import PlanError, line_of
from swarmproof.plan_overrides import Overrides, override

PLAN = """\
title = "Leader killed twice"
seed = 7

[[target]]
kind = "envelope"

[[target]]
kind = "raft"
nodes = 3

[load]
locustfile = "raft_kv"
users = 20
rate = "2000/s"
run_time = "60s"

[[fault]]
kind = "kill"
target = "leader"
every = "20s ± 2s"
restart_after = "5s"

[[fault]]
kind = "pause"
target = "node 2"
at = "10s"
for = "3s"

[thresholds]
"p99{append}" = "< 50ms"
"""


def mistake(old: str, new: str, plan: str = PLAN) -> str:
    assert old in plan
    with pytest.raises(PlanError) as caught:
        parse_plan(plan.replace(old, new, 1), "my.toml")
    return str(caught.value)


def test_a_plan_is_what_it_says() -> None:
    plan = parse_plan(PLAN, "my.toml")
    assert (plan.title, plan.seed, plan.load.users, plan.load.rate, plan.load.run_time) == (
        "Leader killed twice",
        7,
        20,
        "2000",
        60.0,
    )
    assert isinstance(plan.target[1], RaftTable)
    assert plan.faults() == [
        FaultSpec("kill", "leader", every_s=20.0, jitter_s=2.0, heal_after_s=5.0),
        FaultSpec("pause", "n2", at_s=10.0, heal_after_s=3.0),
    ]
    assert plan.thresholds == {"p99{append}": "< 50ms"}


def test_a_threshold_may_end_the_run() -> None:
    limits = '"p99{append}" = { limit = "< 50ms", abort = true }\n"fail_ratio over 10s" = { limit = "< 1%" }'
    plan = parse_plan(PLAN.replace('"p99{append}" = "< 50ms"', limits), "my.toml")
    assert plan.thresholds == {"p99{append}": "< 50ms abort", "fail_ratio over 10s": "< 1%"}


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ('"p42" = "< 50ms"', "there is no metric p42"),
        ('"p99" = "50ms"', "write a sign and a number"),
        ('"p99" = { limit = "< 1s", abrt = true }', "a threshold is a text such as"),
    ],
)
def test_a_threshold_that_cannot_be_read_is_a_mistake_of_the_plan(limit: str, words: str) -> None:
    assert words in mistake('"p99{append}" = "< 50ms"', limit)


def test_stages_are_one_schedule() -> None:
    stages = """
[load]
locustfile = "envelope"
arrivals = "poisson"
max_lateness = "2s"
[[load.stage]]
rate = "0..5000"
duration = "30s"
[[load.stage]]
rate = 5000
duration = "1m"
[[load.stage]]
rate = "300/m"
"""
    load = parse_plan(stages, "my.toml").load
    assert load.schedule() == "0..5000 for 30s then 5000 for 60s then 5"
    assert (load.arrivals, load.max_lateness) == ("poisson", 2.0)
    with pytest.raises(PlanError, match="only the last stage may be without a duration"):
        parse_plan(stages.replace('duration = "1m"', ""), "my.toml")


def test_a_command_of_ones_own_is_a_target() -> None:
    text = """
[[target]]
kind = "command"
name = "mine"
command = "./server --port {port}"
ready = "log:listening"
env = { DEBUG = "1" }
[load]
locustfile = "envelope"
"""
    (target,) = parse_plan(text, "my.toml").target
    assert isinstance(target, CommandTable)
    assert (target.name, target.ready, target.env) == ("mine", "log:listening", {"DEBUG": "1"})


@pytest.mark.parametrize("name", sorted(built_in_plans()))
def test_each_built_in_plan_is_valid_and_has_a_title(name: str) -> None:
    short, plan, text = load_plan(name)
    assert short == name
    assert plan.title
    assert text == (resources.files("plans") / f"{name}.toml").read_text("utf-8")


def test_the_main_plans_are_there() -> None:
    assert {"demo", "raft-failover", "envelope"} <= set(built_in_plans())


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("users = 20", 'users = "many"', 13, 'users = "many" in [load] must be a whole number'),
        ("users = 20", "users = 0", 13, "users = 0 in [load] must be greater than or equal to 1"),
        ("users = 20", "userz = 20", 13, "[load] has no key 'userz'; did you mean 'users'? the keys are: arrivals,"),
        ("seed = 7", "seed = 7\nfoo = 2", 3, "the plan has no key 'foo'; the keys are: evidence, fault, load"),
        ("seed = 7", "seed = -1", 2, "seed = -1 in the plan must be greater than or equal to 0"),
        ('"kill"', '"kil"', 18, "kind = \"kil\" in [[fault]] number 1: there is no fault 'kil'; there are: kill, term"),
        ('restart_after = "5s"', 'restart_after = "5 x"', 21, "'5 x' is not a duration; write it such as 250ms"),
        ('restart_after = "5s"', 'restart_aftr = "5s"', 21, "did you mean 'restart_after'?"),
        ('restart_after = "5s"', 'restart_after = "5s"\nfor = "2s"', 17, "give restart_after or for, not both"),
        ('every = "20s ± 2s"\n', "", 17, "[[fault]] number 1: kill leader has no time; give it `at`"),
        ('at = "10s"', 'at = "soon"', 26, "at = \"soon\" in [[fault]] number 2: 'soon' is not a duration"),
        ('"raft"\nnodes', '"rafd"\nnodes', 7, "there is no target kind 'rafd'; there are: envelope, f00d,"),
        ('kind = "raft"\n', "", 7, "[[target]] number 2 lacks the key 'kind'; it can be envelope, f00d"),
        ("nodes = 3", "nodes = 4", 9, "nodes = 4 in [[target]] number 2 must be 1 or 3 or 5"),
        ("nodes = 3", "nodes = 3\nports = [1, 2]", 7, "ports must hold 3 numbers, one per node, not 2"),
        ('locustfile = "raft_kv"\n', "", 11, "[load] lacks the key 'locustfile'"),
        ('rate = "2000/s"', 'rate = "fast"', 14, "'fast' is not a rate; write it such as 2000/s"),
        ('rate = "2000/s"', 'rate = "0..9"', 14, "the ramp '0..9' needs a duration, such as 0..9 in 30s"),
        ('rate = "2000/s"', "rate = 5\nstage = [{ rate = 5 }]", 11, "give rate or [[load.stage]], not both"),
        ('rate = "2000/s"', 'arrivals = "poisson"', 11, "are of an open load; give it a rate"),
        ('rate = "2000/s"', 'arrivals = "even"', 14, "must be 'constant' or 'poisson'"),
    ],
)
def test_a_mistake_names_line_key_and_what_is_allowed(old: str, new: str, line: int, words: str) -> None:
    sentence = mistake(old, new)
    assert sentence.startswith(f"my.toml, line {line}: "), sentence
    assert words in sentence
    assert "\n" not in sentence


def test_a_mistake_of_toml_itself_names_the_line() -> None:
    assert mistake("[load]", "[load") == (
        "my.toml is not TOML: expected ']' at the end of a table declaration (at line 11, column 6)"
    )


def test_a_fault_needs_something_to_hit() -> None:
    assert "kill leader needs a [[target]] of kind raft" in mistake('kind = "raft"\nnodes = 3', 'kind = "f00d"')
    assert "kill n9 has nothing to hit; the targets here are: leader, follower" in mistake('"leader"', '"node 9"')
    parse_plan(PLAN.replace('"leader"', '"envelope"'), "my.toml")


def test_two_targets_need_two_names() -> None:
    assert "two targets are called 'envelope'; give one" in mistake('kind = "raft"\nnodes = 3', 'kind = "envelope"')


def test_two_clusters_in_one_run_would_share_one_history() -> None:
    sentence = mistake('kind = "raft"\nnodes = 3', 'kind = "raft"\nnodes = 3\n\n[[target]]\nkind = "etcd"')
    assert "a run has one history, so it can have one cluster, not raft and etcd; give each a plan" in sentence


def test_a_fault_may_name_its_cluster() -> None:
    parse_plan(PLAN.replace('target = "leader"', 'target = "leader of raft"'), "my.toml")
    assert "there is no cluster 'store' here" in mistake('target = "leader"', 'target = "leader of store"')


def test_more_mistakes_are_counted() -> None:
    assert mistake("users = 20", 'users = "x"\nworkers = "y"').endswith("(1 more after that)")


def test_an_unknown_plan_lists_the_plans() -> None:
    with pytest.raises(PlanError, match=r"there is no plan 'dmo'; the built-in plans are: .*demo.*raft-failover"):
        load_plan("dmo")


def test_a_plan_file_is_read_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(PLAN)
    assert load_plan(str(path))[0] == "mine"
    with pytest.raises(PlanError, match=r"there is no plan file .*other\.toml"):
        load_plan(str(tmp_path / "other.toml"))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError, match="it is not UTF-8 text"):
        load_plan(str(path))


def test_lines_are_found_by_table_and_number() -> None:
    assert line_of(PLAN, ("fault", 1, "at")) == 26
    assert line_of(PLAN, ("fault", 0, "at")) == 17
    assert line_of(PLAN, ("title",)) == 1
    assert line_of(PLAN, ("absent",)) is None


def test_options_replace_the_values_of_the_plan() -> None:
    plan = override(
        parse_plan(PLAN, "my.toml"),
        Overrides(
            users=5,
            run_time="1m30s",
            rate="10/s",
            workers=2,
            seed=9,
            faults=["kill envelope @1s restart 2s", "pause follower every 9s ± 1s"],
            thresholds=["recovery<3s", "p99{append} <= 9ms"],
            options=["depth=16", "--payload-bytes=8", "engine=true"],
        ),
    )
    assert (plan.load.users, plan.load.run_time, plan.load.rate, plan.load.workers) == (5, 90.0, "10", 2)
    assert plan.load.locustfile == "raft_kv"
    assert plan.seed == 9
    assert plan.faults()[2:] == [
        FaultSpec("kill", "envelope", at_s=1.0, heal_after_s=2.0),
        FaultSpec("pause", "follower", every_s=9.0, jitter_s=1.0),
    ]
    assert plan.thresholds == {"p99{append}": "<= 9ms", "recovery": "< 3s"}
    assert plan.load.options == {"depth": "16", "payload_bytes": "8", "engine": True}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (Overrides(run_time="x"), "-t: 'x' is not a duration"),
        (Overrides(rate="x"), "--rate: 'x' is not a rate"),
        (Overrides(rate="5", arrivals="even"), "must be constant or poisson"),
        (Overrides(thresholds=["p42<5ms"]), "--threshold 'p42<5ms': there is no metric p42"),
        (Overrides(faults=["kill leader"]), "--fault: kill leader has no time"),
        (Overrides(faults=["kill n7 @1s"]), "--fault: kill n7 has nothing to hit"),
        (Overrides(thresholds=["p99"]), "--threshold 'p99' is not a limit"),
        (Overrides(options=["depth"]), "--option 'depth' must be NAME=VALUE"),
    ],
)
def test_a_mistake_in_an_option_names_the_option(overrides: Overrides, words: str) -> None:
    with pytest.raises(PlanError) as caught:
        override(parse_plan(PLAN, "my.toml"), overrides)
    assert words in str(caught.value)


def test_the_engine_is_one_key_of_the_load():
    text = 'title = "t"\n[[target]]\nkind = "envelope"\n[load]\nlocustfile = "envelope"\n'
    assert parse_plan(text, "t").load.locust_options == {}
    assert parse_plan(text + "engine = true\noptions = { depth = 4 }\n", "t").load.locust_options == {
        "engine": True,
        "depth": 4,
    }
