"""A fault that somebody asks for while a run goes on: carried out now, or refused in a sentence without a record."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from records.run_directory import RunDirectory
from swarmproof.faults.catalogue import CATALOGUE
from swarmproof.faults.engine import FIRST_LIVE_ID, FaultRefused
from swarmproof.faults.fault import NoEffect
from swarmproof.faults.schedule import MAX_SCHEDULED, FaultMistake, FaultSpec, build_schedule, parse_fault
from swarmproof.targets.base import Member, Surroundings
from swarmproof.targets.command import CommandTarget
from swarmproof.targets.guard import Guard
from swarmproof.targets.process import State
from swarmproof.targets.raft import RaftTarget
from tests.processes import wait_until
from tests.swarmproof.faults.conftest import Harness

MakeHarness = Callable[..., Harness]


@pytest.fixture
def other(guard: Guard, run: RunDirectory) -> CommandTarget:
    target = CommandTarget("sleep 300", Surroundings(guard, run.nodes_dir), name="other", ready="log:^")
    target.start()
    return target


@pytest.fixture
def unstarted(guard: Guard, tmp_path: Path) -> RaftTarget:
    """A cluster that was never started: what can be refused is refused without looking at it."""
    return RaftTarget(3, Surroundings(guard, tmp_path / "nodes"))


def test_a_live_fault_before_the_load_and_a_scheduled_one_have_records_of_their_own(
    sleeper: CommandTarget, other: CommandTarget, harness: MakeHarness
) -> None:
    seen = harness(sleeper, other)
    live = seen.engine.inject("pause", "sleeper")
    schedule = build_schedule([FaultSpec("pause", "other", at_s=0.0)], 1, 10.0)
    seen.engine.begin(schedule, time.monotonic_ns())
    wait_until(lambda: any(r.took_effect and r.chosen == "other" for r in seen.written), "the scheduled fault")
    assert {record.id for record in seen.engine.active()} == {live.id, 1}
    seen.engine.end_load()
    assert (seen.last(live.id).chosen, seen.last(1).chosen) == ("sleeper", "other")


def test_no_schedule_is_long_enough_to_reach_the_numbers_of_live_faults() -> None:
    longest = build_schedule([FaultSpec("kill", "n1", at_s=0.0, every_s=1.0, count=MAX_SCHEDULED)], 1, None)
    assert longest[-1].id < FIRST_LIVE_ID
    with pytest.raises(FaultMistake, match="would strike more than"):
        build_schedule([FaultSpec("kill", "n1", at_s=0.0, every_s=1.0, count=MAX_SCHEDULED + 1)], 1, None)


def test_when_the_load_is_over_nothing_is_struck_any_more(sleeper: CommandTarget, harness: MakeHarness) -> None:
    seen = harness(sleeper)
    assert seen.engine.inject("pause", "sleeper").took_effect
    seen.engine.end_load()
    written = len(seen.written)
    with pytest.raises(FaultRefused, match="kill sleeper was not carried out: the load is over: nothing is struck"):
        seen.engine.inject("kill", "sleeper")
    assert len(seen.written) == written
    assert sleeper.members[0].process.starts == 1


def test_a_request_that_is_being_decided_when_the_load_ends_is_healed_or_refused(
    sleeper: CommandTarget, harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = harness(sleeper)
    deciding, ended = threading.Event(), threading.Event()
    widen = CATALOGUE["kill"].widen

    def slowly(choice: object, rng: object) -> object:
        deciding.set()
        ended.wait(0.2)  # the end of the load comes while it is being decided
        return widen(choice, rng)  # type: ignore[arg-type]

    monkeypatch.setattr(CATALOGUE["kill"], "widen", slowly)
    request = threading.Thread(target=seen.engine.inject, args=("kill", "sleeper"))
    request.start()
    assert deciding.wait(30)
    seen.engine.end_load()
    ended.set()
    request.join()
    assert seen.engine.active() == []
    assert sleeper.members[0].process.state is State.RUNNING, "what was decided before the end was healed at the end"


def test_the_second_of_two_who_ask_for_the_same_is_refused_at_once(
    sleeper: CommandTarget, harness: MakeHarness
) -> None:
    seen = harness(sleeper)
    first = seen.engine.inject("kill", "sleeper")
    began = time.monotonic()
    with pytest.raises(FaultRefused, match="kill sleeper is under way; wait until it is healed, or heal it"):
        seen.engine.inject("kill", "sleeper")
    assert time.monotonic() - began < 5.0, "it was waited for"
    assert {record.id for record in seen.written} == {first.id}
    seen.engine.heal()
    assert seen.engine.inject("kill", "sleeper").took_effect
    seen.engine.end_load()


def test_the_second_kill_of_a_leader_is_refused_and_after_the_heal_it_is_not(
    cluster: RaftTarget, harness: MakeHarness
) -> None:
    seen = harness(cluster)
    first = seen.engine.inject("kill", "leader")
    for target in ("leader", "follower", "majority"):
        with pytest.raises(FaultRefused, match=f"kill {first.chosen} is under way"):
            seen.engine.inject("kill", target)
    assert {record.id for record in seen.written} == {first.id}
    seen.engine.heal()
    assert seen.engine.inject("pause", "follower", 0.05).took_effect
    seen.engine.end_load()


def test_what_does_not_run_is_not_struck(sleeper: CommandTarget, harness: MakeHarness) -> None:
    seen = harness(sleeper)
    sleeper.members[0].process.kill()
    with pytest.raises(FaultRefused, match="kill sleeper was not carried out: sleeper does not run"):
        seen.engine.inject("kill", "sleeper")
    assert seen.written == []


@pytest.mark.parametrize("kind", ["kill", "term", "pause"])
def test_a_scheduled_fault_on_a_dead_process_has_no_effect(
    kind: str, sleeper: CommandTarget, harness: MakeHarness
) -> None:
    seen = harness(sleeper)
    sleeper.members[0].process.kill()
    seen.engine.begin(build_schedule([FaultSpec(kind, "sleeper", at_s=0.0)], 1, 10.0), time.monotonic_ns())
    wait_until(lambda: seen.written and seen.last(1).error, "the fault")
    seen.engine.end_load()
    assert not seen.last(1).took_effect
    assert seen.last(1).error == "sleeper did not run: it was killed by SIGKILL before the fault struck"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("disk-full sleeper", "disk-full needs a target of kind raft; sleeper is command"),
        ("mode n1 mode=TIMEOUT", "mode needs a target of kind f00d; n1 is raft"),
        ("partition sleeper", "partition needs a target of kind raft; sleeper is command"),
        ("partition leader", "raft has no links of its peers to act on"),
        ("disconnect sleeper", "sleeper has no links of its clients to act on"),
        ("link sleeper latency=5ms", "sleeper has no links of its clients to act on"),
        ("link sleeper duplicate=5%", "need a stream of length-prefixed frames.*; command has none"),
        ("kill-election sleeper", "kill-election needs a target of kind raft or etcd or pysyncobj"),
        ("kill leader when 3 in flight", "a fault that is asked for now strikes now"),
        ("slow-fsync n1 delay=abc", "'abc' is not a duration"),
    ],
)
def test_the_impossible_is_a_sentence_and_no_record(
    text: str, words: str, sleeper: CommandTarget, unstarted: RaftTarget, harness: MakeHarness
) -> None:
    seen = harness(sleeper, unstarted)
    with pytest.raises(FaultMistake, match=words):
        seen.engine.inject_spec(parse_fault(f"{text} @0s"))
    assert seen.written == []


def test_a_bug_in_the_healing_of_one_is_told_and_the_others_are_healed(
    sleeper: CommandTarget, other: CommandTarget, harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = harness(sleeper, other)
    heal = CATALOGUE["kill"].heal

    def broken(victim: Member) -> None:
        if victim.name == "sleeper":
            raise KeyError("a bug")
        heal(victim)

    monkeypatch.setattr(CATALOGUE["kill"], "heal", broken)
    record = seen.engine.inject("kill", "all")
    seen.engine.end_load()
    assert "sleeper did not come back: KeyError: 'a bug'" in seen.last(record.id).error
    assert other.members[0].process.state is State.RUNNING


def test_a_bug_in_the_end_of_a_fault_does_not_keep_the_victims_from_being_healed(
    sleeper: CommandTarget, harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = harness(sleeper)

    def broken(strike: object) -> str:
        raise KeyError("a bug")

    monkeypatch.setattr(CATALOGUE["kill"], "end", broken)
    record = seen.engine.inject("kill", "sleeper")
    seen.engine.end_load()
    assert "KeyError: 'a bug'" in seen.last(record.id).error
    assert sleeper.members[0].process.state is State.RUNNING


def test_the_others_are_hit_when_one_of_the_victims_is_gone(sleeper: CommandTarget, other: CommandTarget) -> None:
    sleeper.members[0].process.kill()

    class Both:
        choice = type("Chosen", (), {"members": [sleeper.members[0], other.members[0]]})

    with pytest.raises(NoEffect, match="sleeper did not run"):
        CATALOGUE["kill"].begin(Both())  # type: ignore[arg-type]
    assert other.members[0].process.wait_for_exit(30)
