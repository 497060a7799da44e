"""The numbers behind the charts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from records.latency import CANCELLED, OK, LatencyRecorder, LatencyStore
from records.leadership import Leader, append_leader
from records.run_directory import RunDirectory
from swarmproof.report.contents import Contents, read_contents
from swarmproof.report.series import (
    arrivals,
    fault_bands,
    leader_ribbon,
    phases_of,
    rate_at,
    slow_operations,
    time_series,
)
from tests.report import made


def test_the_phases_are_those_of_the_thresholds(valid: RunDirectory) -> None:
    contents = read_contents(valid)
    phases = phases_of(contents)
    assert list(phases) == ["whole run", "before faults", "during faults", "after faults"]
    first, last = phases["whole run"][0]
    ((begin, end),) = phases["before faults"]
    assert begin == first
    effect_ns = contents.faults[0].effect_ns
    assert effect_ns is not None
    assert end == effect_ns // 10**9
    assert len(phases["during faults"]) == 2
    assert phases["after faults"][0][1] == last


def test_slow_operations_are_those_beyond_the_p99(valid: RunDirectory) -> None:
    contents = read_contents(valid)
    slow = slow_operations(contents)["kv put"]
    p99_ms = contents.latency.summary("kv put").p99_us / 1000
    assert min(slow["ms"]) > p99_ms * 0.999
    assert 0 < sum(slow["count"]) <= 0.011 * contents.latency.summary("kv put").count + 1


def test_the_series_of_a_quiet_second_has_gaps_and_not_zeros(valid: RunDirectory) -> None:
    series = time_series(read_contents(valid))["all operations"]
    ended = zip(series["ok"], series["failed"], series["unknown"], strict=True)
    quiet = [place for place, outcomes in enumerate(ended) if not any(outcomes)]
    assert all(series["p50"][place] is None for place in quiet)


def test_a_second_that_the_load_filled_in_part_is_no_lull(tmp_path: Path) -> None:
    recorder = LatencyRecorder()
    for at_ms in range(1_300, 4_450, 10):  # a hundred a second from 1.3 s to 4.45 s
        recorder.record("envelope echo", at_ms * 10**6, at_ms * 10**6, at_ms * 10**6, OK)
    recorder.record("envelope echo", 10**9, 10**9, 6 * 10**9, OK)  # one that was still under way
    recorder.record("envelope echo", 10**9, 10**9, 7 * 10**9, CANCELLED)
    contents = Contents(RunDirectory.create(tmp_path, "test"))
    contents.latency = LatencyStore(start_ns=1_300_000_000, end_ns=4_450_000_000)
    contents.latency.add(recorder.take())
    contents.faults = []
    ok = time_series(contents)["envelope echo"]["ok"]
    assert ok[:4] == pytest.approx([100, 100, 100, 100], rel=0.02)
    assert ok[4:] == [0, 1]


def test_leaders_as_recorded_win_over_what_faults_tell(tmp_path: Path) -> None:
    run = made.valid_run(tmp_path)
    start_ns = read_contents(run).start_ns
    assert start_ns is not None
    for second, leader, term in ((0, "n1", 1), (4, None, 1), (5, "n2", 2)):
        append_leader(run, Leader(start_ns + second * 10**9, "raft", leader, term))
    with run.file("leadership.jsonl").open("a") as file:
        file.write('{"at_ns": "x"}\n[1]\n{"at_ns": 5, "clus')
    ribbon = leader_ribbon(read_contents(run))
    assert [(led["from"], led["leader"], led["term"]) for led in ribbon] == [(0, "n1", 1), (4, None, 1), (5, "n2", 2)]
    assert ribbon[-1]["to"] == pytest.approx(time_series(read_contents(run))["all operations"]["t"][-1], abs=1)


def test_a_fault_without_a_new_leader_is_a_band_until_its_heal(tmp_path: Path) -> None:
    run = made.valid_run(tmp_path)
    contents = read_contents(run)
    leader, slow = contents.faults
    assert contents.start_ns is not None
    slow.kind, slow.figures = "slow-fsync", {}
    elected = replace(leader, id=3, figures={"new_leader_s": 0.41}, effect_ns=leader.requested_ns + 10**8)
    endless = replace(slow, id=4, healed_ns=None)
    without = replace(slow, id=5, took_effect=False, effect_ns=None)
    contents.faults += [elected, endless, without]
    bands = fault_bands(contents)
    assert [(band["from"], band["to"]) for band in bands] == [
        (4.002, 4.47),
        (9.002, 12.0),
        (4.1, 4.41),
        (9.002, pytest.approx(time_series(contents)["all operations"]["t"][-1] + 0.5, abs=0.01)),
        (9.0, 9.0),
    ]
    assert [band["healed"] for band in bands] == [7.0, 12.0, 7.0, None, None]


def test_arrivals_are_those_of_the_schedule(tmp_path: Path) -> None:
    run = made.valid_run(tmp_path)
    assert arrivals(read_contents(run)) == {}, "a closed load offers nothing"
    run.update_json("run.json", {"load": {"rate": "0..100 for 10s then 100"}})
    lines = [{"elapsed_s": float(second), "dropped": 5 * second} for second in range(1, 13)]
    run.file("progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "noise\n")
    found = arrivals(read_contents(run))
    assert found["offered"][:3] == [5.0, 15.0, 25.0]
    assert found["offered"][-1] == 100.0
    assert set(found["dropped"]) == {5.0}


def test_a_schedule_that_is_over_asks_for_nothing() -> None:
    from records.rates import parse_stages

    stages = parse_stages("100 for 10s then 100..0 in 10s")
    assert [rate_at(stages, at_s) for at_s in (0, 15, 25)] == [100, 50, 0]
