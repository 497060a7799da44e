"""Whole run directories: what each check says, what counts, and the exit code."""

import json
import time
from pathlib import Path

import pytest

from records import violations as kinds
from records.latency import LatencyLog, LatencyRecorder
from records.operations import HistoryError, Operation
from records.run_directory import RunDirectory, RunDirectoryError
from records.violations import ViolationLog
from swarmproof.judge import INVALID, NOT_APPLICABLE, UNKNOWN, VALID, judge
from swarmproof.judge.verdict import MISSED, Check, Verdict
from tests.judge.synthetic import S, fault, simulate, write_run


@pytest.fixture
def start_ns() -> int:
    return time.monotonic_ns()


@pytest.fixture
def history(start_ns: int) -> list[Operation]:
    return simulate(3, start_ns=start_ns, seconds=8.0)


def test_a_healthy_run_is_valid(tmp_path: Path, history: list[Operation], start_ns: int) -> None:
    run = write_run(tmp_path, history, faults=[fault(1, 4.0, start_ns)], start_ns=start_ns)
    verdict = judge(run)
    assert verdict.verdict == VALID, verdict.to_json()
    assert verdict.exit_code == 0
    written = json.loads(run.file("verdict.json").read_text())
    assert written["verdict"] == "valid"
    assert {check["name"] for check in written["checks"]} >= {
        "protocol",
        "durability",
        "linearizability",
        "duplicates",
        "faults",
        "liveness",
        "thresholds",
    }
    assert written["invalid_keys"] == []
    assert written["unknown_keys"] == []
    assert "1 of 1 faults took effect" in written["summary"]
    assert not run.file("counterexample.json").exists()


def test_judging_again_gives_the_same_and_removes_an_old_counterexample(
    tmp_path: Path, history: list[Operation], start_ns: int
) -> None:
    run = write_run(tmp_path, history, start_ns=start_ns)
    run.write_json("counterexample.json", {"sentence": "of an earlier judge"})
    assert judge(run.path).checks == judge(str(run.path)).checks
    assert not run.file("counterexample.json").exists()


def test_a_run_without_key_value_operations_is_judged_by_its_replies(tmp_path: Path, start_ns: int) -> None:
    run = write_run(tmp_path, simulate(1, seconds=1.0, start_ns=start_ns), others=("envelope echo",))
    for path in run.operations_dir.iterdir():
        path.unlink()
    assert judge(run).verdict == UNKNOWN  # its latencies tell of kv operations, the history is gone
    echo = _protocol_only(tmp_path, start_ns)
    verdict = judge(echo)
    assert verdict.verdict == VALID
    assert verdict.check("linearizability").verdict == NOT_APPLICABLE
    assert verdict.check("durability").verdict == NOT_APPLICABLE


def _protocol_only(root: Path, start_ns: int) -> RunDirectory:
    run = write_run(root, [], start_ns=start_ns, name="echo")
    recorder = LatencyRecorder()
    for n in range(100):
        recorder.record("envelope echo", start_ns + n * 1000, start_ns + n * 1000, start_ns + n * 1000 + 500_000)
    log = LatencyLog(run.latency_dir / "w.msgpack", "w")
    log.append(recorder.take())
    log.close()
    return run


def test_no_data_is_unknown(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "empty")
    verdict = judge(run)
    assert verdict.verdict == UNKNOWN
    assert verdict.exit_code == 2
    assert "no data" in verdict.summary


def test_a_directory_that_is_none_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="there is no run directory"):
        judge(tmp_path / "nowhere")


def test_a_damaged_history_is_refused_by_name(tmp_path: Path, history: list[Operation]) -> None:
    run = write_run(tmp_path, history)
    (path,) = run.operations_dir.iterdir()
    path.write_bytes(path.read_bytes()[:200] + b"\xc1\xc1\xc1" + path.read_bytes()[200:])
    with pytest.raises(HistoryError, match=r"worker-1\.msgpack"):
        judge(run)


@pytest.mark.parametrize(
    "kind", [kinds.UNKNOWN_ID, kinds.DUPLICATE, kinds.CROSSED, kinds.PAYLOAD, kinds.VERSION, kinds.MISSING, kinds.ACK]
)
def test_a_broken_reply_of_any_kind_makes_the_run_invalid(
    tmp_path: Path, history: list[Operation], start_ns: int, kind: str
) -> None:
    run = write_run(
        tmp_path,
        history,
        violations=lambda log: log.add(
            kind, "envelope echo", "as planted", request_id=7, at_ns=start_ns + S, got=b"\x01"
        ),
    )
    verdict = judge(run)
    assert verdict.exit_code == 1
    assert kind in verdict.check("protocol").reason
    assert verdict.counterexample is not None
    assert kind in verdict.counterexample["sentence"]
    assert run.read_json("counterexample.json")["violation"]["got_hex"] == "01"


def test_late_replies_are_only_told(tmp_path: Path, history: list[Operation]) -> None:
    run = write_run(tmp_path, history, violations=lambda log: log.add(kinds.LATE, "kv get"))
    verdict = judge(run)
    assert verdict.verdict == VALID
    assert "1 × late reply" in verdict.check("protocol").reason


def test_a_fault_that_did_not_happen_makes_the_run_unknown(
    tmp_path: Path, history: list[Operation], start_ns: int
) -> None:
    run = write_run(tmp_path, history, faults=[fault(1, 4.0, start_ns, took_effect=False)], start_ns=start_ns)
    verdict = judge(run)
    assert verdict.verdict == UNKNOWN
    assert "did not take effect" in verdict.summary


def test_a_planned_fault_without_a_record_makes_the_run_unknown(
    tmp_path: Path, history: list[Operation], start_ns: int
) -> None:
    run = write_run(tmp_path, history, faults=[fault(1, 4.0, start_ns)], start_ns=start_ns, facts={"planned_faults": 2})
    assert "only 1 of 2 planned faults" in judge(run).summary


def test_a_kill_of_an_idle_store_proves_nothing(tmp_path: Path, history: list[Operation], start_ns: int) -> None:
    run = write_run(tmp_path, history, faults=[fault(1, 8.6, start_ns)], start_ns=start_ns)
    verdict = judge(run)
    assert verdict.verdict == UNKNOWN
    assert "too little load" in verdict.summary


def test_a_plan_may_demand_more_evidence(tmp_path: Path, history: list[Operation], start_ns: int) -> None:
    faults = [fault(1, 4.0, start_ns)]
    run = write_run(
        tmp_path, history, faults=faults, start_ns=start_ns, facts={"evidence": {"writes_before_kill": 5000}}
    )
    verdict = judge(run)
    assert verdict.verdict == UNKNOWN
    assert "(5000 needed)" in verdict.summary


def test_writes_at_risk_must_be_read_back(tmp_path: Path, start_ns: int) -> None:
    history = [op for op in simulate(3, start_ns=start_ns, seconds=8.0, final=False) if op.call_ns < start_ns + 4 * S]
    run = write_run(tmp_path, history, faults=[fault(1, 4.0, start_ns)], start_ns=start_ns)
    check = judge(run).check("faults")
    assert check.verdict == UNKNOWN
    assert "were not read afterwards" in check.reason


def test_without_final_reads_durability_is_unknown(tmp_path: Path, start_ns: int) -> None:
    run = write_run(tmp_path, simulate(3, seconds=2.0, kills_s=(), final=False, start_ns=start_ns))
    assert judge(run).check("durability").verdict == UNKNOWN


def test_a_final_read_that_failed_at_one_node_makes_durability_unknown(tmp_path: Path, start_ns: int) -> None:
    history = simulate(3, seconds=2.0, kills_s=(), start_ns=start_ns)
    last = history[-1]
    last.status, last.return_ns, last.out, last.version = "info", None, None, None
    check = judge(write_run(tmp_path, history)).check("durability")
    assert check.verdict == UNKNOWN
    assert last.key in check.reason
    retried = Operation(10_000, 1, "get", last.key, call_ns=last.call_ns + S, final=True, node=last.node)
    retried.status, retried.return_ns = "ok", retried.call_ns + 1
    twin = next(op for op in reversed(history) if op.key == last.key and op.status == "ok")
    retried.out, retried.version = twin.out, twin.version
    assert judge(write_run(tmp_path, [*history, retried])).check("durability").verdict == VALID


def test_a_store_that_never_recovers_is_invalid(tmp_path: Path, start_ns: int) -> None:
    history = simulate(3, seconds=20.0, start_ns=start_ns, deletes=False)
    for op in history:
        if op.call_ns > start_ns + 4 * S and op.op != "get" and op.status == "ok":
            op.status, op.return_ns, op.ok, op.version = "info", None, None, None
    run = write_run(tmp_path, history, faults=[fault(1, 4.0, start_ns)], start_ns=start_ns)
    check = judge(run).check("liveness")
    assert check.verdict == INVALID
    assert "did not recover" in check.reason


def test_a_run_that_ended_too_soon_leaves_liveness_unknown(tmp_path: Path, start_ns: int) -> None:
    history = simulate(3, seconds=8.0, start_ns=start_ns, deletes=False)
    for op in history:
        if op.call_ns > start_ns + 4 * S and op.op != "get" and op.status == "ok":
            op.status, op.return_ns, op.ok, op.version = "info", None, None, None
    run = write_run(tmp_path, history, faults=[fault(1, 4.0, start_ns)], start_ns=start_ns)
    assert judge(run).check("liveness").verdict == UNKNOWN


@pytest.mark.parametrize(
    ("load", "word"),
    [({"dropped": 12}, "dropped"), ({"hub_lag_p99_s": 0.9}, "bottleneck"), ({"lost_workers": ["w1"]}, "lost")],
)
def test_a_generator_in_trouble_makes_the_run_unknown(
    tmp_path: Path, history: list[Operation], load: dict[str, object], word: str
) -> None:
    verdict = judge(write_run(tmp_path, history, facts={"load": load}))
    assert verdict.verdict == UNKNOWN
    assert word in verdict.summary


def test_a_lost_worker_is_a_failure_of_the_harness(tmp_path: Path, history: list[Operation]) -> None:
    facts = {"load": {"lost_workers": ["worker-b-41"]}}
    verdict = judge(write_run(tmp_path, history, facts=facts))
    assert verdict.exit_code == 3
    assert verdict.harness_problems == ["the load generator lost 1 workers: worker-b-41"]
    facts |= {"harness_problems": ["locust-worker-2 died during the run"]}
    assert judge(write_run(tmp_path, history, facts=facts)).harness_problems == facts["harness_problems"]


def test_a_lie_of_the_server_outranks_a_lost_worker(tmp_path: Path, history: list[Operation], start_ns: int) -> None:
    def crossed(log: ViolationLog) -> None:
        log.add(kinds.CROSSED, "kv get", at_ns=start_ns)

    run = write_run(tmp_path, history, facts={"load": {"lost_workers": ["w1"]}}, violations=crossed)
    assert judge(run).exit_code == 1


def test_few_writes_are_evidence_enough_where_nothing_was_broken(tmp_path: Path, start_ns: int) -> None:
    """The minimum load is one before each fault: a quiet run without faults that was read back is valid."""
    writes = [
        Operation(n, 1, "append", "k", f"{n};", call_ns=start_ns + n * S, return_ns=start_ns + n * S + 1, status="ok")
        for n in range(7)
    ]
    read = Operation(9, 2, "get", "k", out="0;1;2;3;4;5;6;", call_ns=start_ns + 9 * S, return_ns=start_ns + 10 * S)
    read.status, read.final, read.node = "ok", True, 1
    verdict = judge(write_run(tmp_path, [*writes, read], start_ns=start_ns))
    assert (verdict.verdict, verdict.exit_code) == (VALID, 0)
    assert judge(write_run(tmp_path, writes, start_ns=start_ns)).verdict == UNKNOWN


def test_missed_thresholds_alone_exit_with_4(tmp_path: Path, history: list[Operation], start_ns: int) -> None:
    limits = {"p99{kv append}": "< 1us", "fail_ratio": "< 1%", "recovery": "< 2s", "rate": "> 1/s"}
    faults = [fault(1, 4.0, start_ns)]
    run = write_run(tmp_path, history, faults=faults, start_ns=start_ns, facts={"thresholds": limits})
    verdict = judge(run)
    assert verdict.verdict == VALID
    assert verdict.exit_code == 4
    assert verdict.check("thresholds").evidence["missed"] == 1
    assert "p99{kv append} is" in verdict.summary


@pytest.mark.parametrize("left", ["p99{kv apend}", "p42", "p99{{", "recovery"])
def test_a_threshold_on_nothing_counts_as_missed(tmp_path: Path, history: list[Operation], left: str) -> None:
    run = write_run(tmp_path, history, facts={"plan": {"thresholds": {left: "< 1s"}}})
    assert judge(run).check("thresholds").verdict == MISSED


@pytest.mark.parametrize("right", ["50ms", "< fast", "< 1.2.3s", ""])
def test_a_limit_that_cannot_be_read_is_said_and_missed(tmp_path: Path, history: list[Operation], right: str) -> None:
    run = write_run(tmp_path, history, facts={"thresholds": {"p99": right}})
    assert judge(run).check("thresholds").verdict == MISSED


def test_the_worst_check_decides() -> None:
    def verdict(*answers: str) -> Verdict:
        return Verdict([Check(str(n), answer, "") for n, answer in enumerate(answers)])

    assert verdict(VALID, NOT_APPLICABLE).exit_code == 0
    assert verdict(VALID, UNKNOWN).exit_code == 2
    assert verdict(VALID, UNKNOWN, INVALID).exit_code == 1
    assert verdict(VALID, MISSED).exit_code == 4
    assert verdict(UNKNOWN, MISSED).exit_code == 2
    assert verdict(NOT_APPLICABLE).exit_code == 2
    assert verdict().verdict == UNKNOWN


def test_two_replies_that_carry_each_others_payload_are_called_swapped(
    tmp_path: Path, history: list[Operation], start_ns: int
) -> None:
    one, other, third = b"payload one", b"payload two", b"damaged three"

    def swapped(log: ViolationLog) -> None:
        log.add(kinds.PAYLOAD, "envelope echo", "byte 8", request_id=6, expected=third, got=b"damage!", at_ns=start_ns)
        log.add(kinds.PAYLOAD, "envelope echo", "byte 8", request_id=7, expected=one, got=other, at_ns=start_ns)
        log.add(kinds.PAYLOAD, "envelope echo", "byte 8", request_id=8, expected=other, got=one, at_ns=start_ns)

    check = judge(write_run(tmp_path, history, start_ns=start_ns, violations=swapped)).check("protocol")
    assert check.verdict == INVALID
    assert "crossed: 2 of the replies kept" in check.reason
    assert check.counterexample is not None
    assert (
        "request 7): it is the reply to request 8, which got that of this one: replies swapped"
        in (check.counterexample["sentence"])
    )


def test_a_damaged_payload_is_not_called_crossed(tmp_path: Path, history: list[Operation], start_ns: int) -> None:
    def damaged(log: ViolationLog) -> None:
        log.add(kinds.PAYLOAD, "envelope echo", "byte 8", request_id=7, expected=b"payload one", got=b"payload 0ne")
        log.add(kinds.PAYLOAD, "envelope echo", "byte 0", request_id=8, expected=b"x", got=b"y")
        log.add(kinds.PAYLOAD, "envelope echo", "byte 0", request_id=9, expected=b"y", got=b"x")

    check = judge(write_run(tmp_path, history, start_ns=start_ns, violations=damaged)).check("protocol")
    assert "crossed" not in check.reason
    assert check.counterexample is not None
    assert "swapped" not in check.counterexample["sentence"]
