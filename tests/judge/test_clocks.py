"""Times of another machine are as good as its clock: what lies within the error is no violation."""

from pathlib import Path

import pytest

from records.clocks import ClockOffset, write_clocks
from records.operations import OperationLog
from records.run_directory import RUN_JSON, RunDirectory
from swarmproof.judge import INVALID, VALID, judge

MS = 1_000_000
START_NS = 10**12


def two_machines(root: Path, error_ns: int | None) -> RunDirectory:
    """A put of one machine ends 1 ms before a read of the other begins, which does not see it."""
    run = RunDirectory.create(root, "two-machines")
    here = OperationLog(run.operations_dir / "worker-here-1.msgpack", "worker-here-1")
    put = here.invoke(0, "put", "k", "new", call_ns=START_NS)
    here.complete(put, "ok", return_ns=START_NS + 2 * MS, version=1)
    there = OperationLog(run.operations_dir / "worker-there-1.msgpack", "worker-there-1")
    read = there.invoke(1, "get", "k", call_ns=START_NS + 3 * MS)
    there.complete(read, "ok", return_ns=START_NS + 4 * MS, out=None)
    here.close()
    there.close()
    run.write_json(RUN_JSON, {"load": {"start_ns": START_NS}})
    if error_ns is not None:
        write_clocks(run, {"worker-there-1": ClockOffset(0, error_ns)})
    return run


@pytest.mark.parametrize(
    ("error_ns", "answer"),
    [(None, INVALID), (0, INVALID), (MS - 1, INVALID), (MS, VALID), (50 * MS, VALID)],
)
def test_a_contradiction_within_the_clocks_error_is_none(tmp_path: Path, error_ns: int | None, answer: str) -> None:
    check = judge(two_machines(tmp_path, error_ns)).check("linearizability")
    assert check.verdict == answer
    assert check.evidence.get("widened_by_s", 0) == pytest.approx((error_ns or 0) / 1e9, abs=1e-6)


def test_only_the_machine_with_the_other_clock_is_given_that_room(tmp_path: Path) -> None:
    run = two_machines(tmp_path, None)
    write_clocks(run, {"worker-elsewhere-7": ClockOffset(0, 50 * MS)})
    assert judge(run).check("linearizability").verdict == INVALID
