"""What a fault cost its clients, counted by hand on a history of a few operations."""

import csv
from pathlib import Path

from records.faults import FaultRecord, append_fault
from records.operations import FAIL, INFO, OK, Operation, OperationLog
from records.run_directory import OUTAGES_CSV, RunDirectory
from swarmproof.outages import outage_of, summary_of, write_outages

MS = 1_000_000
START = 10_000 * MS


def operation(number: int, client: int, call_ms: int, return_ms: int | None, status: str = OK) -> Operation:
    return_ns = START + return_ms * MS if return_ms is not None else None
    return Operation(
        number, client, "put", f"k{client}", call_ns=START + call_ms * MS, return_ns=return_ns, status=status
    )


def kill(**figures: float) -> FaultRecord:
    return FaultRecord(
        1,
        "kill",
        "leader",
        chosen="n1",
        requested_ns=START,
        took_effect=True,
        healed_ns=START + 2000 * MS,
        figures=dict(figures),
    )


HISTORY = [
    operation(1, 1, -20, -10),
    operation(2, 1, -5, 300),  # under way when it struck, and delayed
    operation(3, 2, -50, -40),
    operation(4, 2, 10, 60, FAIL),
    operation(5, 2, 70, None, INFO),
    operation(6, 2, 450, 460),
    operation(7, 3, -9000, None, INFO),  # lost long before: not this fault's
    operation(8, 1, 5000, 5010),
]


def test_an_outage_is_counted_from_strike_to_first_acknowledged_write() -> None:
    row = outage_of(kill(new_leader_s=0.35, first_ack_s=0.4), HISTORY)
    assert (row["failed"], row["unknown"], row["delayed"]) == (1, 1, 1)
    assert row["detection_s"] == 0.06
    assert row["worst_client_gap_s"] == 4.71  # client 1: from 300 ms to 5010 ms
    assert row["worst_key_gap_s"] == 4.71
    assert (row["new_leader_s"], row["first_ack_s"], row["healed_after_s"]) == (0.35, 0.4, 2.0)


def test_an_outage_that_nobody_noticed_has_no_detection_and_no_gap() -> None:
    row = outage_of(kill(), [])
    assert (row["detection_s"], row["worst_client_gap_s"], row["failed"]) == (None, None, 0)


def test_figures_are_summed_up_over_the_faults_that_have_them() -> None:
    rows = [outage_of(kill(first_ack_s=seconds), []) for seconds in (0.3, 0.5, 0.9)] + [outage_of(kill(), [])]
    assert summary_of(rows) == {"first_ack_s": {"min": 0.3, "median": 0.5, "max": 0.9, "count": 3}}


def test_a_run_without_faults_has_no_outages(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "test")
    assert write_outages(run) == {}
    assert not run.file(OUTAGES_CSV).exists()


def test_the_file_has_one_row_per_fault_that_took_effect(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "test")
    append_fault(run, kill(first_ack_s=0.4))
    append_fault(run, FaultRecord(2, "kill", "leader"))
    log = OperationLog(run.operations_dir / "worker.msgpack", "worker")
    log.complete(log.invoke(1, "put", "k", "v", call_ns=START), FAIL, return_ns=START + 100 * MS)
    log.close()
    assert write_outages(run)["first_ack_s"]["median"] == 0.4
    with run.file(OUTAGES_CSV).open() as file:
        (row,) = csv.DictReader(file)
    assert (row["id"], row["failed"], row["detection_s"]) == ("1", "1", "0.1")
