"""Run directories that are half there: whatever is missing, cut off or foreign, a sentence and the right exit code."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from records.leadership import Leader, append_leader
from records.run_directory import RunDirectory
from records.violations import LATE, ViolationLog
from swarmproof import cli
from swarmproof.judge import judge
from swarmproof.outages import write_outages
from swarmproof.report import write_html
from tests.judge.synthetic import S, fault, simulate, write_run

FILES = (
    *("run.json", "verdict.json", "faults.jsonl", "outages.csv", "progress.jsonl", "leadership.jsonl"),
    *("latency/worker-1.msgpack", "operations/worker-1.msgpack", "violations/worker-1.jsonl", "counterexample.json"),
)
Damage = Callable[[Path], object]
DAMAGES: dict[str, Damage] = {
    "missing": lambda path: path.unlink(),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "noise": lambda path: path.write_bytes(b"\x93\xc1\xff{[\x00noise" * 50),
    "another JSON": lambda path: path.write_text('[1, {"a": [null, "x"]}, "\\ud800"]\n{"id": [], "at_ns": {}}\n3\n'),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything in it."""
    start_ns = time.monotonic_ns()
    history = simulate(4, clients=3, seconds=2.0, kills_s=(1.0,), pause_s=0.06, start_ns=start_ns)
    lost = [op for op in history if op.op == "append" and op.status == "ok" and op.return_ns < start_ns + S][-1]
    for op in history:
        if op.op == "get" and op.out:
            op.out = op.out.replace(lost.value, "") or None
    root = tmp_path_factory.mktemp("whole")

    def plant(log: ViolationLog) -> None:
        log.add(LATE, "kv get", "1 s late", request_id=12, expected=b"\x02", got=b"<b>\x00")

    run = write_run(root, history, faults=[fault(1, 1.0, start_ns)], start_ns=start_ns, violations=plant)
    assert judge(run).verdict == "invalid"
    write_outages(run)
    append_leader(run, Leader(start_ns, "raft", "n1", 1))
    line = {"at_ns": start_ns, "elapsed_s": 1.0, "users": 4, "workers": 0, "cancelled": 1, "dropped": 0}
    run.file("progress.jsonl").write_text(json.dumps(line) + "\n")
    return run.path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Calls the command line in this process; the exit code, and what it printed."""
    monkeypatch.setattr(cli, "install_signal_handlers", lambda: None)

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["swarmproof", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code or 0
        printed = capsys.readouterr()
        assert isinstance(code, int)
        assert "Traceback" not in printed.err
        if code == 3:
            assert printed.err.startswith("error: "), printed.err
            assert printed.err.count("\n") == 1, printed.err
        return code, printed.out + printed.err

    return call


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_told_and_the_rest_is_shown(
    name: str, damage: str, whole: Path, tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    DAMAGES[damage](run / name)
    code, text = command("report", run)
    assert code == 0, text
    assert text.strip()
    page = (run / "report.html").read_text()
    assert "This run</h2>" in page
    assert '<p class="lead">' in page
    assert (run / "junit.xml").stat().st_size > 100
    code, text = command("compare", run, whole)
    assert code == 0, text
    code, text = command("export", run, "-o", tmp_path / "history.jsonl")
    assert code in (0, 3), text
    code, text = command("check", run)
    assert code in (0, 1, 2, 3), text
    if name.startswith(("operations/", "violations/")) and damage in ("noise", "another JSON", "a folder"):
        assert code == 3, text
    if name.startswith("latency/") and damage == "another JSON":
        assert code == 3, text


@pytest.mark.parametrize(
    "arguments", [("report",), ("check",), ("export",), ("compare", "{whole}"), ("report", "{whole}")]
)
def test_what_is_no_run_is_refused_with_a_sentence(
    arguments: tuple[str, ...], whole: Path, tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    empty, file, link = tmp_path / "empty", tmp_path / "file", tmp_path / "latest"
    empty.mkdir()
    file.write_bytes(b"\x00\xffnot a run")
    link.symlink_to("gone")
    words = [str(whole) if word == "{whole}" else word for word in arguments]
    for path, sentence in (
        (empty, "holds no run"),
        (tmp_path / "nowhere", "there is no"),
        (link, "there is no"),
        (file, ""),
    ):
        code, text = command(*words, path)
        assert code == 3, (path, text)
        assert sentence in text


def test_a_run_that_is_still_going_is_told_apart_from_one_that_crashed(
    whole: Path, tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    facts = json.loads((run / "run.json").read_text())
    del facts["end_ns"], facts["load"]["end_ns"]
    (run / "run.json").write_text(json.dumps(facts))
    (run / "verdict.json").unlink()
    os.utime(run / "progress.jsonl")
    assert "the run is still going; this shows its first 1 s" in command("report", run)[1]
    assert "the run is still going" in (run / "report.html").read_text()
    long_ago = time.time() - 3600
    os.utime(run / "progress.jsonl", (long_ago, long_ago))
    assert "it crashed or was killed" in command("report", run)[1]
    assert "This run has no verdict: the run did not come to its end" in (run / "report.html").read_text()


def test_a_run_that_never_began_has_a_page_that_says_so(
    tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    run = RunDirectory.create(tmp_path, "never")
    code, text = command("report", run.path)
    assert code == 0
    assert "nothing was loaded in this run" in text
    assert "nothing was loaded in this run" in write_html(run).read_text()
    run.file("control.sock").touch()
    assert "there is no load yet" in command("report", run.path)[1]


def test_what_the_harness_had_to_say_stands_on_top(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    opened = RunDirectory.open(run)
    opened.update_json("run.json", {"harness_problems": ["Locust ended before any load; it says: no such module"]})
    assert "the harness had a problem: Locust ended before any load" in write_html(opened).read_text()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_run_of_somebody_else_is_a_sentence(
    whole: Path, tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "verdict.json").chmod(0)
    run.chmod(0o500)
    assert command("report", run)[0] == 3
    run.chmod(0)
    assert command("report", run)[0] == 3
    run.chmod(0o700)


def test_a_page_that_cannot_be_written_is_a_sentence(
    whole: Path, tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    code, text = command("compare", whole, whole, "--html", tmp_path / "no" / "folder.html")
    assert code == 3
    assert "cannot write" in text
    assert "--html" in text


def test_figures_are_printed_as_json(whole: Path, command: Callable[..., tuple[int, str]]) -> None:
    found = json.loads(command("compare", whole, whole, "--json")[1])
    assert [pair["operation"] for pair in found["operations"]][-1] == "all"
    assert found["differences"] == []
    assert all(one["ratio"] == 1 for pair in found["operations"] for one in pair["percentiles"] if one["a_us"])
    (row,) = json.loads(command("report", whole, "--json")[1])["runs"]
    assert row["verdict"] == "invalid"


def test_several_runs_leave_one_page_beside_them(
    whole: Path, tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    for name in ("a", "b"):
        shutil.copytree(whole, tmp_path / name)
    code, text = command("report", tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert f"page    {tmp_path / 'trend.html'}" in text
    assert "2 of 2 runs are invalid" in (tmp_path / "trend.html").read_text()
    assert not (tmp_path / "a" / "report.html").exists(), "nothing is written into the runs"
