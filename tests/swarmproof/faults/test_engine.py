"""Faults on real processes: struck, observed, healed, recorded; and honest about what did not happen."""

import re
import threading
import time
from collections.abc import Callable

import pytest

from records.operations import read_operations
from records.run_directory import RunDirectory
from swarmproof.faults.catalogue import CATALOGUE
from swarmproof.faults.probe import PROBE_KEY
from swarmproof.faults.schedule import FaultMistake, FaultSpec, build_schedule
from swarmproof.targets.command import CommandTarget
from swarmproof.targets.errors import NoSuchTarget
from swarmproof.targets.process import State
from swarmproof.targets.raft import RaftTarget
from tests.processes import wait_until
from tests.swarmproof.faults.conftest import Harness

MakeHarness = Callable[..., Harness]
AT_ONCE = 0.05


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("kill", "sleeper is gone: it was killed by SIGKILL"),
        ("term", "sleeper is gone: it was killed by SIGTERM"),
        ("pause", "sleeper stands still"),
    ],
)
def test_each_kind_is_observed_and_healed(kind: str, words: str, sleeper: CommandTarget, harness: MakeHarness) -> None:
    seen = harness(sleeper)
    record = seen.engine.inject(kind, "sleeper", AT_ONCE)
    assert record.took_effect
    assert words in record.observed
    process = sleeper.members[0].process
    wait_until(lambda: seen.last(record.id).healed_ns, "the heal")
    wait_until(lambda: not seen.engine.active(), "the fault to be over")
    assert process.state is State.RUNNING
    assert not process.is_stopped_by_kernel()
    final = seen.last(record.id)
    assert final.requested_ns <= (final.effect_ns or 0) < (final.healed_ns or 0)
    assert (final.chosen, final.error) == ("sleeper", "")


def test_a_record_is_on_file_before_the_fault_strikes(sleeper: CommandTarget, harness: MakeHarness) -> None:
    seen = harness(sleeper)
    seen.engine.inject("kill", "sleeper", AT_ONCE)
    first = seen.written[0]
    assert (first.kind, first.chosen, first.took_effect) == ("kill", "sleeper", False)
    seen.engine.end_load()


def test_a_fault_without_effect_is_recorded_as_such(
    sleeper: CommandTarget, harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CATALOGUE["kill"], "strike", lambda member: None)
    monkeypatch.setattr(CATALOGUE["kill"], "effect_within_s", 0.1)
    seen = harness(sleeper)
    record = seen.engine.inject("kill", "sleeper", AT_ONCE)
    assert not record.took_effect
    assert record.error == "no effect was seen on sleeper within 0.1 s"
    seen.engine.end_load()


def test_a_victim_that_does_not_come_back_is_reported(
    sleeper: CommandTarget, harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = harness(sleeper)
    monkeypatch.setattr(sleeper.members[0].process, "command", ["no-such-program"])
    record = seen.engine.inject("kill", "sleeper", AT_ONCE)
    seen.engine.end_load()
    assert "sleeper did not come back" in seen.last(record.id).error
    assert any("did not come back" in line for line in seen.lines)


def test_a_schedule_is_carried_out_from_the_start_of_the_load(sleeper: CommandTarget, harness: MakeHarness) -> None:
    seen = harness(sleeper)
    start_ns = time.monotonic_ns()
    seen.engine.begin(build_schedule([FaultSpec("pause", "sleeper", at_s=0.3, heal_after_s=0.1)], 1, 10.0), start_ns)
    wait_until(lambda: any(record.healed_ns for record in seen.written), "the fault")
    seen.engine.end_load()
    record = seen.last(1)
    assert record.took_effect
    assert record.elapsed_s >= 0.3
    assert record.requested_ns - start_ns >= 0.3e9


def test_what_was_not_due_before_the_end_did_not_take_effect(sleeper: CommandTarget, harness: MakeHarness) -> None:
    seen = harness(sleeper)
    schedule = build_schedule([FaultSpec("kill", "sleeper", at_s=at_s) for at_s in (100.0, 200.0)], 1, None)
    seen.engine.begin(schedule, time.monotonic_ns())
    seen.engine.end_load()
    for number in (1, 2):
        assert not seen.last(number).took_effect
        assert "the load ended before it was due at" in seen.last(number).error
    assert sleeper.members[0].process.starts == 1


def test_the_end_of_the_load_heals_what_would_have_stayed(sleeper: CommandTarget, harness: MakeHarness) -> None:
    seen = harness(sleeper)
    seen.engine.inject("pause", "sleeper")
    assert seen.engine.active()
    seen.engine.end_load()
    assert not seen.engine.active()
    assert not sleeper.members[0].process.is_stopped_by_kernel()


def test_heal_takes_a_name(sleeper: CommandTarget, harness: MakeHarness) -> None:
    seen = harness(sleeper)
    seen.engine.inject("kill", "sleeper")
    assert seen.engine.heal("somebody else") == []
    assert seen.engine.heal("sleeper") == ["sleeper"]
    assert sleeper.members[0].process.state is State.RUNNING


def test_abandoning_continues_what_is_paused_and_restarts_nothing(sleeper: CommandTarget, harness: MakeHarness) -> None:
    seen = harness(sleeper)
    seen.engine.inject("kill", "sleeper")
    seen.engine.abandon()
    wait_until(lambda: not seen.engine.active(), "the fault to be over")
    assert sleeper.members[0].process.starts == 1


def test_a_scheduled_victim_that_is_still_down_is_waited_for(sleeper: CommandTarget, harness: MakeHarness) -> None:
    seen = harness(sleeper)
    specs = [
        FaultSpec("kill", "sleeper", at_s=0.0, heal_after_s=0.3),
        FaultSpec("kill", "sleeper", 0.0, None, 0, 1, 0.05),
    ]
    seen.engine.begin(build_schedule(specs, 1, 10.0), time.monotonic_ns())
    wait_until(lambda: any(r.id == 2 and r.took_effect for r in seen.written), "the second fault")
    assert "because sleeper was not back yet" in seen.last(2).why
    seen.engine.end_load()
    assert sleeper.members[0].process.starts == 3


@pytest.mark.parametrize(("kind", "target"), [("explode", "sleeper"), ("kill", "leader"), ("kill", "n9"), ("kill", "")])
def test_an_unknown_fault_or_target_is_a_sentence(
    kind: str, target: str, sleeper: CommandTarget, harness: MakeHarness
) -> None:
    with pytest.raises((FaultMistake, NoSuchTarget), match="there is no"):
        harness(sleeper).engine.inject(kind, target)


def test_a_killed_leader_gives_the_figures_of_the_outage(
    cluster: RaftTarget, harness: MakeHarness, run: RunDirectory
) -> None:
    seen = harness(cluster)
    led = cluster.leader()
    assert led is not None
    record = seen.engine.inject("kill", "leader", 1.0)
    assert record.chosen == f"n{led.node}"
    wait_until(lambda: not seen.engine.active(), "the fault to be over", 60.0)
    final = seen.last(record.id)
    assert final.before == {"leader": f"n{led.node}", "term": led.term, "node": led.node}
    assert final.after["term"] > led.term
    assert final.after["leader"] not in (None, final.chosen)
    new_leader_s, first_ack_s = final.figures["new_leader_s"], final.figures["first_ack_s"]
    assert new_leader_s is not None
    assert first_ack_s is not None
    assert 0 < new_leader_s <= first_ack_s
    assert f"{final.after['leader']} leads term {final.after['term']}" in final.observed
    seen.history.close()
    (probe,) = list(read_operations(run))
    assert (probe.key, probe.op, probe.status) == (PROBE_KEY, "put", "ok")


def test_the_leader_is_not_killed_while_the_last_victim_is_away(cluster: RaftTarget, harness: MakeHarness) -> None:
    seen = harness(cluster)
    specs = [FaultSpec("kill", "leader", at_s=0.0, heal_after_s=heal_s) for heal_s in (1.5, AT_ONCE)]
    seen.engine.begin(build_schedule(specs, 1, 10.0), time.monotonic_ns())
    wait_until(lambda: any(r.id == 2 and r.took_effect for r in seen.written), "the second kill", 60.0)
    first, second = seen.last(1), seen.last(2)
    assert re.search(f"; waited .* because .*{first.chosen} was not back yet", second.why)
    assert first.healed_ns is not None
    assert second.requested_ns >= first.healed_ns
    seen.engine.end_load()


def test_without_a_leader_there_is_nobody_to_kill(cluster: RaftTarget, harness: MakeHarness) -> None:
    seen = harness(cluster)
    for member in cluster.members[:2]:
        member.process.kill()
    wait_until(lambda: cluster.leader() is None, "the survivor to step down")
    spec = FaultSpec("kill", "leader", at_s=0.0)
    seen.engine.begin(build_schedule([spec], 1, 10.0), time.monotonic_ns())
    threading.Event().wait(0.2)  # it must keep waiting; there is no condition for "nothing happened"
    assert seen.written == []
    seen.engine.end_load()
    assert not seen.last(1).took_effect
    assert "in vain because the cluster had no leader" in seen.last(1).error
    assert cluster.members[2].process.state is State.RUNNING


def test_a_majority_takes_the_leader_with_it(cluster: RaftTarget, harness: MakeHarness) -> None:
    seen = harness(cluster)
    led = cluster.leader()
    assert led is not None
    record = seen.engine.inject("kill", "majority", 0.5)
    names = record.chosen.split(", ")
    assert len(names) == 2
    assert f"n{led.node}" in names
    wait_until(lambda: not seen.engine.active(), "the fault to be over", 60.0)
    assert seen.last(record.id).figures["first_ack_s"] is not None
    assert cluster.wait_until_all_answer(30.0) == []


def test_the_same_seed_draws_the_same_follower(cluster: RaftTarget, harness: MakeHarness) -> None:
    chosen = []
    for _ in range(2):
        seen = harness(cluster, seed=5)
        chosen.append(seen.engine.inject("pause", "follower", AT_ONCE).chosen)
        seen.engine.end_load()
    assert chosen[0] == chosen[1]
