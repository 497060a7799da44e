"""What the pages are made of, from runs that are made up: what is said at every stage, however little there is."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from records.faults import FaultRecord, append_fault
from records.latency import FAILED, OK, LatencyRecorder, LatencyStore
from records.leadership import Leader, append_leader
from records.run_directory import RunDirectory
from records.violations import LATE, PAYLOAD, ViolationLog
from swarmproof.fleet.live import NO_SUPERVISOR, Live
from swarmproof.fleet.standing import standing
from swarmproof.fleet.web.routes import BadRequest, carry_out
from swarmproof.fleet.web.tabs import COLUMNS, FAULTS, extended_stats, percentile_rows
from swarmproof.fleet.web.view import MAX_POINTS, view

SECOND = 1_000_000_000


def extension_of(run: RunDirectory | None, state: str, *, start_ns: int = 0, store: LatencyStore | None = None) -> Any:
    """What `Live` looks at, without a Locust."""
    runner = SimpleNamespace(state=state, user_count=3)
    options = SimpleNamespace(run_dir=str(run.path) if run else "")
    return SimpleNamespace(
        environment=SimpleNamespace(parsed_options=options, runner=runner),
        run=run,
        store=store or LatencyStore(),
        start_ns=start_ns,
        end_ns=0,
        problem="",
        is_master=False,
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, "made-up")


def recorded(start_ns: int, seconds: int, *, skip: range = range(0), failed_at: int = -1) -> LatencyStore:
    """Ten operations of 2 ms in each second but those of `skip`."""
    recorder = LatencyRecorder()
    for second in range(seconds):
        for number in range(0 if second in skip else 10):
            end = start_ns + second * SECOND + number * 10_000_000
            recorder.record("kv put", end - 2_000_000, end - 1_000_000, end, FAILED if second == failed_at else OK)
    store = LatencyStore()
    store.add(recorder.take())
    return store


def test_before_the_first_test_every_table_says_so() -> None:
    live = Live(extension_of(None, "ready"))
    shown = view(live, time.monotonic_ns())
    assert shown["standing"]["verdict"] == "no run yet"
    assert shown["supervisor"] == {"available": False, "reason": NO_SUPERVISOR, "links": False, "active": []}
    for tab in extended_stats(live):
        assert tab["data"], tab["key"]
        assert any(tab["data"][0].values())
        assert set(tab["data"][0]) <= set(COLUMNS[tab["key"]])


def test_a_second_in_which_nothing_ended_is_shown_as_an_outage(run: RunDirectory) -> None:
    start = time.monotonic_ns() // SECOND * SECOND - 10 * SECOND
    live = Live(extension_of(run, "running", start_ns=start, store=recorded(start, 10, skip=range(4, 6))))
    series = view(live, start + 10 * SECOND)["series"]
    assert series["ok"] == [10.0] * 4 + [0.0] * 2 + [10.0] * 4
    assert series["p50"][4:6] == [None, None]
    assert series["p50"][0] == pytest.approx(2.0, rel=0.01)
    assert series["t"][0] == 0.5


def test_a_late_report_of_a_worker_changes_seconds_that_seemed_complete(run: RunDirectory) -> None:
    start = time.monotonic_ns() // SECOND * SECOND - 10 * SECOND
    store = recorded(start, 10)
    live = Live(extension_of(run, "running", start_ns=start, store=store))
    assert sum(second.ok for second in live.seconds()) == 100
    late = LatencyRecorder()
    late.record("kv put", start, start, start + 5_000_000)
    store.add(late.take())
    assert live.seconds()[0].ok == 11


def test_a_long_run_is_shown_in_wider_stretches_with_the_same_sum(run: RunDirectory) -> None:
    start = time.monotonic_ns() // SECOND * SECOND - 1000 * SECOND
    live = Live(extension_of(run, "stopped", start_ns=start, store=recorded(start, 1000)))
    series = view(live, time.monotonic_ns())["series"]
    assert len(series["t"]) <= MAX_POINTS
    # The last stretch is not full.
    assert sum(series["ok"]) * series["width"] == pytest.approx(10_000, rel=0.01)


def test_a_broken_reply_makes_a_run_invalid_at_once_and_a_late_one_does_not(run: RunDirectory) -> None:
    start = time.monotonic_ns()
    live = Live(extension_of(run, "running", start_ns=start, store=recorded(start, 1)))
    log = ViolationLog(run.violations_dir / "w.jsonl", "w")
    log.add(LATE, "kv put", at_ns=start + SECOND)
    log.flush()
    assert standing(live).verdict == "running"
    log.add(PAYLOAD, "kv put", at_ns=start + SECOND)
    log.flush()
    log.close()
    now = standing(live)
    assert now.verdict == "invalid already"
    assert not now.is_final
    shown = view(live, start + 2 * SECOND)
    assert [mark["kind"] for mark in shown["violations"]["marks"]] == [PAYLOAD]


def test_faults_and_leaders_have_times_from_the_start_of_the_load(run: RunDirectory) -> None:
    start = time.monotonic_ns()
    append_leader(run, Leader(start - SECOND, "raft", "n1", 1))
    fault = FaultRecord(1, "kill", "leader", "n1", requested_ns=start + 2 * SECOND)
    append_fault(run, fault)
    live = Live(extension_of(run, "running", start_ns=start, store=recorded(start, 3)))
    assert view(live, start + 3 * SECOND)["faults"][0]["pending"]
    fault.took_effect, fault.effect_ns, fault.observed = True, start + 2 * SECOND, "n1 is gone"
    fault.figures["first_ack_s"] = 0.5
    append_fault(run, fault)
    shown = view(live, start + 3 * SECOND)
    assert (shown["faults"][0]["at"], shown["faults"][0]["until"]) == (2.0, None)
    assert shown["faults"][0]["figures"]["first_ack_s"] == 0.5
    assert shown["leaders"] == [{"at": -1.0, "cluster": "raft", "name": "n1", "term": 1}]
    (row,) = (
        row for tab in extended_stats(live) if tab["key"] == FAULTS for row in tab["data"] if row["what"] == "kill"
    )
    assert (row["ack"], row["healed"]) == ("0.50\u00a0s", "not yet")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"checks": [1, {"name": null}]}', '{"verdict": "valid"}'])
def test_a_verdict_that_is_half_there_is_no_mistake(run: RunDirectory, text: str) -> None:
    run.file("verdict.json").write_text(text)
    live = Live(extension_of(run, "stopped", start_ns=1, store=recorded(time.monotonic_ns(), 1)))
    assert standing(live).verdict in ("not judged", "unknown", "valid")
    assert view(live, time.monotonic_ns())["standing"]["summary"] is not None


def test_percentiles_are_whole_microseconds_of_both_times(run: RunDirectory) -> None:
    live = Live(extension_of(run, "running", store=recorded(time.monotonic_ns(), 1, failed_at=0)))
    response, service = percentile_rows(live)
    assert (response["time"], service["time"]) == ("response", "service")
    assert response["mid"] == pytest.approx(2000, rel=0.01)
    assert service["mid"] == pytest.approx(1000, rel=0.01)
    assert (response["count"], response["failed"]) == (10, 10)


def test_nothing_is_broken_while_no_test_runs(run: RunDirectory) -> None:
    live = Live(extension_of(run, "stopped"))
    with pytest.raises(BadRequest, match="no test is running"):
        carry_out(live, {"action": "kill", "target": "leader"})
