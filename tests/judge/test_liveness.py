"""After the last heal writes succeed again within a bound: only a write that had its chance convicts a store."""

from dataclasses import replace
from pathlib import Path

import pytest

from records.operations import Operation
from swarmproof.judge import INVALID, UNKNOWN, VALID, judge
from swarmproof.judge.verdict import Check
from tests.judge.build import get, put
from tests.judge.synthetic import MS, S, fault, write_run

#: The only fault: a kill at 1 s that is healed at 4 s. The bound is 10 s, so it ends at 14 s.
KILL_S = 1.0


def liveness(root: Path, history: list[Operation], *, load_ends_s: float | None = None) -> Check:
    start_ns = 10**12
    moved = [
        replace(op, call_ns=op.call_ns + start_ns, return_ns=op.return_ns and op.return_ns + start_ns) for op in history
    ]
    facts: dict[str, object] = {}
    if load_ends_s is not None:
        facts = {"load": {"start_ns": start_ns, "end_ns": start_ns + int(load_ends_s * S)}}
    run = write_run(root, moved, faults=[fault(1, KILL_S, start_ns)], start_ns=start_ns, facts=facts)
    return judge(run).check("liveness")


BEFORE = put("before", 0, 1 * MS)
LATE = put("late", 20 * S, 20 * S + MS)


def test_a_write_that_nobody_tried_in_time_convicts_nobody(tmp_path: Path) -> None:
    check = liveness(tmp_path, [BEFORE, LATE])
    assert (check.verdict, check.reason) == (UNKNOWN, "no write was tried in the 10 s after the last heal")


@pytest.mark.parametrize(
    "failing",
    [
        put("never answered", 5 * S),
        put("answered too late", 5 * S, 15 * S),
        put("waited through the outage", 3 * S, 19 * S),
        put("refused", 5 * S, 5 * S + MS, status="fail"),
    ],
    ids=lambda op: op.value,
)
def test_its_twin_with_a_write_that_failed_in_time_is_invalid(tmp_path: Path, failing: Operation) -> None:
    check = liveness(tmp_path, [BEFORE, failing, LATE])
    assert check.verdict == INVALID
    assert (
        check.reason
        == "no write succeeded within 10 s of the last heal, though 1 were tried: the store did not recover"
    )


@pytest.mark.parametrize(
    "nothing",
    [
        put("given up before the heal", 2 * S, 3 * S, status="fail"),
        put("unanswered since before the heal", 2 * S),
        put("called as the bound ends", 14 * S - MS, 14 * S + MS),
        get(None, 5 * S, 5 * S + MS),
    ],
    ids=lambda op: op.value or op.op,
)
def test_what_had_no_chance_convicts_nobody(tmp_path: Path, nothing: Operation) -> None:
    assert liveness(tmp_path, [BEFORE, nothing, LATE]).verdict == UNKNOWN


def test_a_write_in_time_is_enough(tmp_path: Path) -> None:
    assert liveness(tmp_path, [BEFORE, put("a", 5 * S), put("b", 6 * S, 7 * S), LATE]).verdict == VALID
    assert liveness(tmp_path, [BEFORE, put("a", 3 * S, 7 * S)]).verdict == VALID


def test_final_reads_long_after_the_load_do_not_lengthen_the_watch(tmp_path: Path) -> None:
    """Nobody wrote when the bound ended, so nobody knows whether the store had recovered by then."""
    history = [BEFORE, put("unanswered", 5 * S), get("before", 30 * S, 31 * S, final=True, node=1)]
    check = liveness(tmp_path, history, load_ends_s=6)
    assert (check.verdict, check.reason) == (
        UNKNOWN,
        "no write succeeded after the last heal, but the load ended 2.0 s after it",
    )
    assert liveness(tmp_path, history, load_ends_s=15).verdict == INVALID
