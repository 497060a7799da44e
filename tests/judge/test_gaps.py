"""A worker that died on another machine leaves a history with a gap: no store is convicted by what is missing."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from records.operations import Operation
from records.run_directory import RUN_JSON, RunDirectory
from swarmproof.judge import INVALID, UNKNOWN, judge
from tests.judge.synthetic import simulate, write_run


def run_with_a_gap(folder: Path, load: dict[str, object]) -> RunDirectory:
    """A healthy history, without one write that others have read."""
    start_ns = time.monotonic_ns()
    history: list[Operation] = simulate(3, start_ns=start_ns, seconds=4.0)
    read = {token for one in history if one.op == "get" for token in str(one.out or "").split(",") if token}
    missing = next(one for one in history if one.op == "append" and str(one.value).rstrip(",") in read)
    run = write_run(folder, [replace(one) for one in history if one is not missing], start_ns=start_ns)
    facts = run.read_json(RUN_JSON) or {}
    run.update_json(RUN_JSON, {"load": {**facts.get("load", {}), **load}})
    return run


@pytest.mark.parametrize("load", [{}, {"unsalvaged_workers": []}, {"lost_workers": ["b"], "unsalvaged_workers": []}])
def test_a_value_that_nobody_wrote_convicts_the_store(tmp_path: Path, load: dict[str, object]) -> None:
    assert judge(run_with_a_gap(tmp_path, load)).check("linearizability").verdict == INVALID


def test_it_does_not_when_a_lost_worker_may_have_written_it(tmp_path: Path) -> None:
    load = {"lost_workers": ["b"], "unsalvaged_workers": ["b"]}
    verdict = judge(run_with_a_gap(tmp_path, load))
    check = verdict.check("linearizability")
    assert (verdict.verdict, check.verdict) == (UNKNOWN, UNKNOWN)
    assert "a worker on another machine died with operations that are in no history" in check.reason
    assert check.counterexample is not None
