"""What a fault cost its clients, counted by hand on a history of a few operations, or on what ended in each second."""

import csv
from pathlib import Path
from typing import Any

from records.faults import FaultRecord, append_fault
from records.latency import LatencyLog, LatencyStore
from records.operations import FAIL, INFO, OK, Operation, OperationLog
from records.run_directory import OUTAGES_CSV, RUN_JSON, RunDirectory
from swarmproof.outages import Costs, summary_of, write_outages
from tests.swarmproof import test_whole_seconds as seconds

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


def cost_of(fault: FaultRecord, history: list[Operation], **facts: Any) -> dict[str, Any]:
    return Costs(facts, history, LatencyStore()).of(fault)


def test_an_outage_is_counted_from_strike_to_first_acknowledged_write() -> None:
    row = cost_of(kill(new_leader_s=0.35, first_ack_s=0.4), HISTORY)
    assert (row["failed"], row["unknown"], row["delayed"]) == (1, 1, 1)
    assert row["detection_s"] == 0.06
    assert row["worst_client_gap_s"] == 4.71  # client 1: from 300 ms to 5010 ms
    assert row["worst_key_gap_s"] == 4.71
    assert (row["new_leader_s"], row["first_ack_s"], row["healed_after_s"]) == (0.35, 0.4, 2.0)
    assert row["source"] == "history"


def test_an_outage_around_which_nothing_was_under_way_has_no_figures() -> None:
    for history in ([], [operation(1, 1, 60_000, 60_010)]):
        row = cost_of(kill(), history)
        missing = ("detection_s", "worst_client_gap_s", "failed", "unknown", "delayed", "lost_operations", "source")
        assert [row.get(name) or None for name in missing] == [None] * len(missing)
        assert "failed" not in row, "a zero would say that nothing failed"


def test_operations_that_nobody_asked_for_any_more_were_not_lost() -> None:
    history = [operation(at, 1, at - 2, at) for at in range(-5000, 500, 10)]
    assert cost_of(kill(), history)["lost_operations"] > 100
    assert cost_of(kill(), history, load={"end_ns": START + 500 * MS})["lost_operations"] <= 1


def test_figures_are_summed_up_over_the_faults_that_have_them() -> None:
    rows = [cost_of(kill(first_ack_s=figure), []) for figure in (0.3, 0.5, 0.9)] + [cost_of(kill(), [])]
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


def test_a_server_without_a_history_is_costed_by_its_own_seconds(tmp_path: Path) -> None:
    """Beside it a key-value store went on, whose history must not be taken for the clients of the victim."""
    run = RunDirectory.create(tmp_path, "test")
    targets = [
        {"name": name, "kind": name, "address": f"tcp://127.0.0.1:{port}", "members": [{"name": name}]}
        for name, port in (("envelope", 1001), ("f00d", 1002), ("websocket_rpc", 1003))
    ]
    targets.append({"name": "raft", "kind": "raft", "address": "kv://x", "members": [{"name": "n1"}]})
    run.write_json(RUN_JSON, {"targets": targets, "load": {"host": None, "end_ns": seconds.LOAD_END}})
    for number, chosen in enumerate(("envelope", "n1", "f00d"), 1):
        append_fault(
            run,
            FaultRecord(
                number, "kill", chosen, chosen, requested_ns=seconds.STRIKE, took_effect=True, healed_ns=seconds.HEAL
            ),
        )
    latencies = LatencyLog(run.latency_dir / "worker.msgpack", "worker")
    kv = [(at, took, outcome, "kv put") for at, took, outcome, _ in seconds.steady(-6000, 9000)]
    latencies.append(seconds.delta_of([*seconds.KILL, *kv]))
    latencies.close()
    log = OperationLog(run.operations_dir / "worker.msgpack", "worker")
    for at_ms in range(-5000, 5000, 10):
        called_ns = seconds.STRIKE + (at_ms - 2) * MS
        log.complete(log.invoke(1, "put", "k", "v", call_ns=called_ns), OK, return_ns=called_ns + 2 * MS)
    log.close()
    recovery = write_outages(run)
    assert recovery["detection_s"]["count"] == 1
    assert recovery["back_to_baseline_s"] == {"min": 1.2, "median": 1.45, "max": 1.7, "count": 2}
    with run.file(OUTAGES_CSV).open() as file:
        envelope, store, silent = csv.DictReader(file)
    assert (envelope["failed"], envelope["unknown"], envelope["delayed"]) == ("15", "5", "2")
    assert (envelope["detection_s"], envelope["source"]) == ("0.7", "seconds")
    assert (store["failed"], store["unknown"], store["delayed"]) == ("0", "0", "0")
    assert (store["detection_s"], store["source"]) == ("", "history")
    assert store["p99_before_us"] == envelope["p99_before_us"]
    assert int(envelope["p99_during_us"]) > 1_000_000 > int(store["p99_during_us"])
    unknown = ("detection_s", "back_to_baseline_s", "failed", "unknown", "delayed", "lost_operations", "source")
    assert [silent[name] for name in unknown] == [""] * len(unknown), "nobody spoke to it: that is no zero"
