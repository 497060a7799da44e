"""The faults check knows the faults by the names that the engine gives them."""

from pathlib import Path

import pytest

from swarmproof.faults.catalogue import CATALOGUE
from swarmproof.judge import UNKNOWN, VALID, judge
from swarmproof.judge.faulting import DEADLY
from tests.judge.synthetic import MS, fault, simulate, write_run

START_NS = 10**12
KILL_S = 4.0


def test_every_deadly_kind_is_one_of_the_engine_and_no_kill_is_forgotten() -> None:
    assert {name for name, kind in CATALOGUE.items() if kind.is_deadly} == DEADLY
    assert {name for name in CATALOGUE if "kill" in name} <= DEADLY


@pytest.mark.parametrize("kind", sorted(DEADLY))
def test_any_kind_of_kill_must_meet_writes(kind: str, tmp_path: Path) -> None:
    kill = fault(1, KILL_S, START_NS)
    kill.kind = kind
    history = simulate(3, start_ns=START_NS, seconds=8.0)
    assert judge(write_run(tmp_path, history, faults=[kill], start_ns=START_NS)).verdict == VALID
    quiet = [
        op
        for op in history
        if op.op == "get" or op.return_ns is None or not -500 * MS < op.return_ns - kill.requested_ns < 500 * MS
    ]
    check = judge(write_run(tmp_path, quiet, faults=[kill], start_ns=START_NS)).check("faults")
    assert check.verdict == UNKNOWN
    assert "no write was acknowledged in the 100 ms before it" in check.reason


def test_of_many_gaps_the_first_are_told_and_all_are_evidence(tmp_path: Path) -> None:
    faults = [fault(number, KILL_S, START_NS) for number in range(1, 11)]
    for record in faults:
        record.took_effect = False
    check = judge(write_run(tmp_path, simulate(3, start_ns=START_NS, seconds=8.0), faults=faults)).check("faults")
    assert check.reason.count("did not take effect") == 3
    assert check.reason.endswith("and 7 more")
    assert len(check.evidence["gaps"]) == 10


def test_a_fault_that_was_not_healed_makes_the_run_unknown(tmp_path: Path) -> None:
    kill = fault(1, KILL_S, START_NS)
    history = simulate(3, start_ns=START_NS, seconds=8.0)
    assert judge(write_run(tmp_path, history, faults=[kill], start_ns=START_NS)).check("faults").verdict == VALID
    kill.error = "n1 did not come back: it ended with exit code 1"
    check = judge(write_run(tmp_path, history, faults=[kill], start_ns=START_NS)).check("faults")
    assert check.verdict == UNKNOWN
    assert "was not healed as planned: n1 did not come back" in check.reason
