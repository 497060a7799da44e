"""One history out of those of machines with different clocks: shifted, with a bound on what the shift may be wrong."""

from pathlib import Path

import pytest

from records.clock import clock_name
from records.clocks import ClockMeasurement, ClockOffset, error_ns, read_clocks, write_clocks
from records.operations import OperationLog, read_operations
from records.run_directory import RunDirectory
from swarmproof.judge.case import Case


def make_run(folder: Path) -> RunDirectory:
    run = RunDirectory.create(folder, "x")
    for process, call_ns in (("near", 1_000), ("far", 5_001_000)):
        log = OperationLog(run.operations_dir / f"{process}.msgpack", process)
        identity = log.invoke(1, "put", "k", process, call_ns=call_ns)
        log.complete(identity, "ok", return_ns=call_ns + 500)
        log.invoke(2, "put", "k", process + "2", call_ns=call_ns + 700)
        log.close()
    return run


def test_the_offset_is_the_middle_of_the_round_trip_and_its_half_the_error() -> None:
    measured = ClockMeasurement()
    measured.add(1_000, 51_500, 2_000)
    assert measured.offset == ClockOffset(50_000, 500)


def test_the_shortest_round_trip_is_believed() -> None:
    measured = ClockMeasurement()
    measured.add(0, 59_000, 10_000)
    measured.add(20_000, 70_050, 20_100)
    measured.add(30_000, 88_000, 40_000)
    assert measured.offset == ClockOffset(50_000, 50)


@pytest.mark.parametrize("drift_first", [True, False])
def test_a_clock_that_drifts_has_a_wider_bound(drift_first: bool) -> None:
    answers = [(0, 50_050, 100), (1_000_000, 1_052_060, 1_000_120)]  # 50 000 ahead, later 52 000
    measured = ClockMeasurement()
    for answer in answers if drift_first else reversed(answers):
        measured.add(*answer)
    assert measured.offset.error_ns >= 1_800
    true_offsets = (50_000, 52_000)
    assert all(abs(measured.offset.offset_ns - true) <= measured.offset.error_ns + 110 for true in true_offsets)


def test_a_history_of_two_machines_is_on_the_masters_clock(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    before = {(operation.process, operation.client): operation for operation in read_operations(run)}
    assert before["far", 1].call_ns == 5_001_000
    write_clocks(run, {"far": ClockOffset(5_000_000, 120), "near": ClockOffset(0, 0, shared=True)})
    after = {(operation.process, operation.client): operation for operation in read_operations(run)}
    assert (after["far", 1].call_ns, after["far", 1].return_ns) == (1_000, 1_500)
    assert (after["far", 2].call_ns, after["far", 2].return_ns) == (1_700, None)
    assert (after["near", 1].call_ns, after["near", 1].return_ns) == (1_000, 1_500)
    assert error_ns(run) == 120


def test_the_judge_widens_the_intervals_of_each_machine_by_its_error(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_clocks(run, {"far": ClockOffset(5_000_000, 120)})
    assert sorted(Case.of_run(run).history.call.tolist()) == [880, 1_000, 1_580, 1_700]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"far": 3}', '{"far": {"offset_ns": "1"}}', '{"far": {"offset_ns": 1}}']
)
def test_a_damaged_file_is_no_offset(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path)
    run.file("clocks.json").write_text(text)
    assert read_clocks(run) == {}
    assert len(list(read_operations(run))) == 4


def test_two_readings_of_the_clocks_name_are_the_same() -> None:
    assert clock_name() == clock_name() != ""
