"""Whoever exports a run and judges the history comes to the same as who judges the run."""

import json
from pathlib import Path

import pytest

from records.clocks import ClockOffset, write_clocks
from records.operations import OperationLog, read_jsonl
from records.run_directory import RUN_JSON, RunDirectory
from swarmproof.judge import INVALID, UNKNOWN, VALID, check_history, judge
from swarmproof.judging import export
from tests.judge.synthetic import simulate, write_run
from tests.judge.test_clocks import MS, START_NS, two_machines
from tests.judge.test_gaps import run_with_a_gap


def both(run: RunDirectory) -> tuple[str, str]:
    """What the linearizability check says: of the run, and of its export."""
    _, exported = export(run.path, None)
    assert exported is not None
    again = check_history(read_jsonl(exported))
    return judge(run).check("linearizability").verdict, again.check("linearizability").verdict


@pytest.mark.parametrize(
    ("error_ns", "answer"), [(None, INVALID), (0, INVALID), (MS - 1, INVALID), (MS, VALID), (50 * MS, VALID)]
)
def test_the_export_is_widened_by_the_errors_of_the_clocks(tmp_path: Path, error_ns: int | None, answer: str) -> None:
    assert both(two_machines(tmp_path, error_ns)) == (answer, answer)


def test_a_healthy_run_of_one_machine_is_exported_as_it_was(tmp_path: Path) -> None:
    history = simulate(3, seconds=2.0, kills_s=(), start_ns=START_NS)
    run = write_run(tmp_path, history, start_ns=START_NS)
    assert both(run) == (VALID, VALID)
    written = {(op.call_ns, op.return_ns, op.key) for op in read_jsonl(run.file("history.jsonl"))}
    assert written == {(op.call_ns, op.return_ns, op.key) for op in history}


def test_a_time_before_zero_becomes_zero(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "just-booted")
    log = OperationLog(run.operations_dir / "far.msgpack", "far")
    log.complete(log.invoke(0, "put", "k", "v", call_ns=5), "ok", return_ns=10)
    log.complete(log.invoke(0, "get", "k", call_ns=2000), "ok", return_ns=2100, out="v")
    log.close()
    write_clocks(run, {"far": ClockOffset(1000, 100)})
    run.write_json(RUN_JSON, {})
    assert both(run) == (VALID, VALID)
    times = [(op.call_ns, op.return_ns) for op in read_jsonl(run.file("history.jsonl"))]
    assert times == [(0, 0), (900, 1200)]


@pytest.mark.parametrize("lost", [[], ["worker-b-41"]])
def test_what_a_lost_worker_may_explain_convicts_nobody_in_the_export_either(tmp_path: Path, lost: list[str]) -> None:
    run = run_with_a_gap(tmp_path, {"lost_workers": lost, "unsalvaged_workers": lost})
    answer = UNKNOWN if lost else INVALID
    assert both(run) == (answer, answer)
    lines = run.file("history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines if '"op"' not in line] == (
        [{"unsalvaged_workers": lost}] if lost else []
    )
