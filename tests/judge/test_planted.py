"""Lies planted into true histories of a simulated store: each is caught, and its healthy twin is not flagged."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from records.operations import Operation
from swarmproof.judge import INVALID, UNKNOWN, VALID, Limits, check_history, judge
from tests.judge.synthetic import S, fault, simulate, write_run

History = list[Operation]
KILL_S = 4.0


def without(history: History, value: str) -> None:
    """As if the write of ``value`` had never been applied, except for its acknowledgement (lists only)."""
    for op in history:
        if op.op == "get" and op.out is not None:
            op.out = op.out.replace(value, "") or None


def acknowledged_append_before(history: History, at_s: float) -> Operation:
    return [op for op in history if op.op == "append" and op.status == "ok" and op.return_ns < at_s * S][-1]


def lose_an_append_at_the_kill(history: History, rng: random.Random) -> None:
    del rng
    without(history, acknowledged_append_before(history, KILL_S).value)


def lose_the_last_write_of_a_key(history: History, rng: random.Random) -> None:
    """No later write shows the gap: only the final reads can."""
    del rng
    reads = [op for op in history if op.final and op.key == "list-0"]
    last = [op for op in history if op.key == "list-0" and op.op == "append" and op.status == "ok"][-1]
    for op in history:
        if op.key == "list-0" and op.call_ns > last.call_ns and op.op == "append":
            op.status, op.return_ns = "fail", None  # nothing was written after it
            without(history, op.value)
    for read in reads:
        read.out = read.out.replace(last.value, "") or None
    for op in history:
        if op.key == "list-0" and op.op == "get" and not op.final and op.out and last.value in op.out:
            op.out = op.out.replace(last.value, "")


def read_stale(history: History, rng: random.Random) -> None:
    reads = [op for op in history if op.op == "get" and op.status == "ok" and op.key == "list-1" and op.out]
    old, new = reads[len(reads) // 3], rng.choice(reads[len(reads) // 2 + 20 :])
    new.out, new.version = old.out, old.version


def apply_a_retry_twice(history: History, rng: random.Random) -> None:
    del rng
    value = acknowledged_append_before(history, KILL_S).value
    for op in history:
        if op.op == "get" and op.out and value in op.out and op.call_ns > KILL_S * S:
            op.out += value


def swap_two_replies(history: History, rng: random.Random) -> None:
    """Two pipelined gets of one key get one another's answers."""
    reads = [op for op in history if op.op == "get" and op.status == "ok" and op.key == "list-2" and op.out]
    first = rng.choice(reads[:20])
    second = next(op for op in reversed(reads) if op.out != first.out)
    first.out, second.out = second.out, first.out
    first.version, second.version = second.version, first.version


def answer_with_another_key(history: History, rng: random.Random) -> None:
    foreign = next(op for op in history if op.op == "put" and op.status == "ok" and op.key == "key-1")
    read = rng.choice([op for op in history if op.op == "get" and op.status == "ok" and op.key == "key-2" and op.out])
    read.out = foreign.value


def corrupt_a_payload(history: History, rng: random.Random) -> None:
    read = rng.choice([op for op in history if op.op == "get" and op.status == "ok" and op.out])
    read.out = read.out[:-1] + "\x00"


def let_two_leaders_accept_a_cas(history: History, rng: random.Random) -> None:
    winner = rng.choice([op for op in history if op.op == "cas" and op.ok and op.expect is not None])
    history.append(
        Operation(
            id=10**6,
            client=99,
            op="cas",
            key=winner.key,
            value="other;",
            expect=winner.expect,
            ok=True,
            call_ns=winner.call_ns,
            return_ns=winner.return_ns,
            status="ok",
            node=3,
        )
    )


def let_a_refused_write_show_up(history: History, rng: random.Random) -> None:
    del rng
    read_values = {op.out for op in history if op.op == "get"}
    write = next(op for op in history if op.op == "put" and op.value in read_values)
    write.status = "fail"


def let_one_replica_diverge(history: History, rng: random.Random) -> None:
    """Visible only in the final reads at that one node."""
    del rng
    value = acknowledged_append_before(history, KILL_S).value
    for op in history:
        if op.final and op.node == 2 and op.out:
            op.out = op.out.replace(value, "") or None


PLANTED: dict[str, Callable[[History, random.Random], None]] = {
    plant.__name__: plant
    for plant in (
        lose_an_append_at_the_kill,
        lose_the_last_write_of_a_key,
        read_stale,
        apply_a_retry_twice,
        swap_two_replies,
        answer_with_another_key,
        corrupt_a_payload,
        let_two_leaders_accept_a_cas,
        let_a_refused_write_show_up,
        let_one_replica_diverge,
    )
}
SEEDS = 8


@pytest.mark.parametrize("name", PLANTED)
def test_the_planted_lie_is_caught_with_a_short_counterexample(name: str) -> None:
    for seed in range(SEEDS):
        history = simulate(seed, seconds=6.0, clients=8, kills_s=(KILL_S,))
        PLANTED[name](history, random.Random(seed))
        verdict = check_history(history)
        assert verdict.verdict == INVALID, f"seed {seed}"
        assert verdict.exit_code == 1
        assert verdict.invalid_keys
        example = verdict.counterexample
        assert example is not None
        assert 1 <= len(example["operations"]) <= 4
        assert example["key"] in verdict.invalid_keys
        assert "no order of the operations" not in example["sentence"], example["sentence"]


def test_the_healthy_twins_are_never_flagged() -> None:
    for seed in range(SEEDS * 3):
        history = simulate(seed, seconds=6.0, clients=8, kills_s=(KILL_S,), unknown=0.02)
        verdict = check_history(history)
        assert verdict.verdict == VALID, f"seed {seed}: {verdict.to_json()}"


def test_a_lost_write_is_told_in_a_sentence_with_the_fault_beside_it(tmp_path: Path) -> None:
    start_ns = time.monotonic_ns()
    history = simulate(2, seconds=6.0, kills_s=(KILL_S,), start_ns=start_ns)
    lost = [op for op in history if op.op == "append" and op.status == "ok" and op.return_ns < start_ns + KILL_S * S][
        -1
    ]
    without(history, lost.value)
    run = write_run(tmp_path, history, faults=[fault(1, KILL_S, start_ns)], start_ns=start_ns)
    verdict = judge(run)
    assert verdict.check("durability").verdict == INVALID
    assert verdict.check("linearizability").verdict == INVALID
    example = run.read_json("counterexample.json")
    assert f'n{lost.node} acknowledged append "{lost.value}" to key {lost.key} at ' in example["sentence"]
    assert example["sentence"].endswith("does not contain it: an acknowledged write was lost")
    assert example["fault"] == {"id": 1, "kind": "kill", "chosen": "n1", "at_s": 4.002}
    assert example["operations"][0]["return_after_fault_s"] < 0 < example["operations"][-1]["call_after_fault_s"]


def test_a_write_that_timed_out_may_land_thirty_seconds_later() -> None:
    history = simulate(5, seconds=3.0, kills_s=(), final=False)
    late = Operation(10**6, 1, "put", "key-0", "late;", call_ns=S, status="info")
    read = Operation(10**6 + 1, 1, "get", "key-0", out="late;", call_ns=33 * S, return_ns=33 * S + 1, status="ok")
    assert check_history([*history, late, read]).verdict == VALID


@pytest.mark.parametrize("deletes", [False, True])
def test_a_hot_key_of_500_clients_with_many_unknown_outcomes_is_decided(deletes: bool) -> None:
    history = simulate(6, clients=500, registers=1, lists=1, seconds=1.0, kills_s=(), unknown=0.05, deletes=deletes)
    assert sum(op.status == "info" for op in history) > 100
    assert check_history(history).verdict == VALID


def test_a_hot_key_whose_replies_name_no_version_gets_an_answer_within_the_limit() -> None:
    history = simulate(6, clients=500, registers=1, lists=1, seconds=1.0, kills_s=(), unknown=0.05)
    for operation in history:
        operation.version = None
    limits = Limits(key_time_s=1.0, total_time_s=1.0)
    verdict = check_history(history, limits=limits)
    assert verdict.verdict in (VALID, UNKNOWN)
    assert verdict.judged_in_s < 60 * limits.total_time_s


@pytest.mark.parametrize("seed", range(4))
def test_a_lie_about_a_hot_key_is_convicted_among_many_unknown_outcomes(seed: int) -> None:
    """Once in eight thousand operations a reader is told what had been there long before."""
    history = simulate(seed, clients=100, registers=1, lists=1, seconds=1.0, kills_s=(), unknown=0.05)
    reads = [op for op in history if op.op == "get" and op.status == "ok" and op.key == "key-0" and not op.final]
    rng = random.Random(seed)
    lie, told = rng.choice(reads[len(reads) // 2 :]), rng.choice(reads[: len(reads) // 4])
    lie.out, lie.version = told.out, told.version
    assert check_history(history).verdict == INVALID
