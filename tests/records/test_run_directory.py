"""A run directory is made once, found again, and never read half-written."""

import os
from pathlib import Path

import pytest

from records.faults import FaultRecord, append_fault, read_faults
from records.progress import ProgressReader, ProgressWriter
from records.recorder import Recorder
from records.run_directory import (
    FAULTS_JSONL,
    PROGRESS_JSONL,
    RunDirectory,
    RunDirectoryError,
    write_atomically,
)
from records.violations import DUPLICATE, EXAMPLES_PER_KIND, PAYLOAD, ViolationLog, read_violations


def test_latest_points_at_the_newest_run(tmp_path: Path) -> None:
    first = RunDirectory.create(tmp_path, "demo")
    second = RunDirectory.create(tmp_path, "demo")
    assert first.path != second.path
    assert (tmp_path / "latest").resolve() == second.path.resolve()


def test_a_file_called_latest_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "latest").write_text("mine")
    RunDirectory.create(tmp_path, "demo")
    assert (tmp_path / "latest").read_text() == "mine"


def test_a_name_cannot_leave_the_root(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "../../etc/x y")
    assert run.path.parent == tmp_path


def test_a_root_that_cannot_be_made_is_one_sentence_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="choose another with --out"):
        RunDirectory.create(tmp_path / "file", "demo")


def test_a_missing_run_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="there is no run directory"):
        RunDirectory.open(tmp_path / "nowhere")


def test_some_other_folder_is_not_taken_for_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="holds no run"):
        RunDirectory.open(tmp_path)


def test_json_is_merged_and_damage_is_named(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    assert run.read_json("run.json") is None
    run.update_json("run.json", {"a": 1})
    run.update_json("run.json", {"b": 2})
    assert run.read_json("run.json") == {"a": 1, "b": 2}
    run.file("run.json").write_text("{")
    with pytest.raises(RunDirectoryError, match=r"run\.json is not valid JSON"):
        run.read_json("run.json")


@pytest.mark.parametrize("is_replaced", [False, True])
def test_ctrl_c_while_a_file_is_written_stays_a_ctrl_c_and_leaves_one_whole_file(
    is_replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    replace = os.replace

    def interrupted(source: str, target: Path) -> None:
        if is_replaced:
            replace(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == ("new" if is_replaced else "old")
    assert list(tmp_path.iterdir()) == [path]


def test_the_last_state_of_a_fault_holds_and_a_half_line_is_skipped(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    assert read_faults(run) == []
    append_fault(run, FaultRecord(1, "kill", "leader", requested_ns=5))
    append_fault(run, FaultRecord(1, "kill", "leader", requested_ns=5, took_effect=True, figures={"new_leader_s": 0.4}))
    with run.file(FAULTS_JSONL).open("a") as file:
        file.write('{"id": 2, "kind": "ki')
    (fault,) = read_faults(run)
    assert fault.took_effect
    assert fault.figures == {"new_leader_s": 0.4}


def test_progress_is_read_line_by_line_and_never_by_half(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    reader = ProgressReader(run)
    assert reader.read_new() == []
    writer = ProgressWriter(run)
    writer.write({"elapsed_s": 1})
    with run.file(PROGRESS_JSONL).open("a") as file:
        file.write('{"elapsed')
    assert reader.read_new() == [{"elapsed_s": 1}]
    with run.file(PROGRESS_JSONL).open("a") as file:
        file.write('_s": 2}\n')
    assert reader.read_new() == [{"elapsed_s": 2}]
    writer.close()


def test_all_violations_are_counted_and_the_first_of_a_kind_kept_with_bytes(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    log = ViolationLog(run.violations_dir / "p.jsonl", "p")
    for number in range(EXAMPLES_PER_KIND + 50):
        log.add(PAYLOAD, "envelope echo", request_id=number, expected=b"a", got=b"b" * 10_000)
    log.add(DUPLICATE, "envelope echo")
    log.close()
    counts, examples = read_violations(run)
    assert counts == {(PAYLOAD, "envelope echo"): EXAMPLES_PER_KIND + 50, (DUPLICATE, "envelope echo"): 1}
    assert len(examples) == EXAMPLES_PER_KIND + 1
    assert examples[0].expected == b"a"
    assert len(examples[0].got) == 256


def test_the_recorder_works_before_a_run_and_keeps_runs_apart(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.latency.record("echo", 0, 0, 1)
    assert recorder.operations is None
    first = RunDirectory.create(tmp_path, "one")
    recorder.start(first.path, "p")
    recorder.violations.add(PAYLOAD, "echo")
    recorder.start(RunDirectory.create(tmp_path, "two").path, "p")
    assert recorder.flush()["operations"] == {}
    recorder.stop()
    assert recorder.run is None
    assert sum(read_violations(first)[0].values()) == 1
