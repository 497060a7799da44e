"""Transitions and refusals of circuit breakers, as processes write them and a reader finds them."""

from pathlib import Path

from records.breakers import BreakerLog, read_breakers
from records.clock import read_clock
from records.run_directory import RUN_JSON, RunDirectory


def test_transitions_of_all_processes_come_in_the_order_of_time(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "x")
    first, second = BreakerLog(run, "worker-a-1"), BreakerLog(run, "worker-b-1")
    first.changed("h:1", "closed", "open", "connection refused", 0)
    second.changed("h:1", "closed", "open", "reset", 2)
    first.changed("h:1", "open", "half-open", "60 s are over", 7)
    found = read_breakers(run)
    assert [(c.process, c.old, c.new, c.reason) for c in found.changes] == [
        ("worker-a-1", "closed", "open", "connection refused"),
        ("worker-b-1", "closed", "open", "reset"),
        ("worker-a-1", "open", "half-open", "60 s are over"),
    ]
    assert found.refused == {"h:1": 9}, "each process counts its own"


def test_refused_calls_are_on_file_with_the_next_flush_and_are_no_transition(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "x")
    log = BreakerLog(run, "w")
    for refused in range(1, 101):
        log.refused("h:1", "open", refused)
    assert not read_breakers(run).refused
    log.close()
    assert read_breakers(run).refused == {"h:1": 100}
    assert not read_breakers(run).changes
    assert len(run.file("breaker-w.jsonl").read_text().splitlines()) == 1


def test_times_of_another_machine_are_told_by_the_clock_of_the_run(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "x")
    BreakerLog(run, "w").changed("h:1", "closed", "open", "reset", 0)
    (here,) = read_breakers(run).changes
    # The run was timed by a machine that booted 1,000 s later: its clock shows less at the same moment.
    monotonic_ns, wall_ns = read_clock()
    run.write_json(RUN_JSON, {"load": {"clock": [monotonic_ns - 1_000_000_000_000, wall_ns]}})
    (there,) = read_breakers(run).changes
    assert abs(here.at_ns - there.at_ns - 1_000_000_000_000) < 1_000_000


def test_half_a_line_and_foreign_lines_are_left_out(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "x")
    log = BreakerLog(run, "w")
    log.changed("h:1", "closed", "open", "reset", 3)
    with run.file("breaker-w.jsonl").open("a") as file:
        file.write('[]\n{"at_ns": "x"}\n{"at_ns": 1, "addr')
    found = read_breakers(run)
    assert (len(found.changes), found.refused) == (1, {"h:1": 3})


def test_without_a_run_nothing_is_written_and_a_quiet_breaker_leaves_no_file(tmp_path: Path) -> None:
    BreakerLog().changed("h:1", "closed", "open", "reset", 0)
    run = RunDirectory.create(tmp_path, "x")
    BreakerLog(run, "w").close()
    assert not list(run.path.glob("breaker-*"))
