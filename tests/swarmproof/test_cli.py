"""The command line: help everywhere, one sentence for each mistake, and the right exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from swarmproof.cli import app
from swarmproof.targets.ports import free_ports
from tests.swarmproof.leftovers import swarmproof

COMMANDS = [
    *("run", "up", "plans", "status", "fault", "heal", "down"),
    *("check", "report", "compare", "export", "integration-test", "election-test"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: swarmproof {command}" in " ".join(result.output.split())


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert all(command in result.output for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "dmo"], "there is no plan 'dmo'; the built-in plans are: "),
        (["run", "nowhere/plan.toml"], "there is no plan file nowhere/plan.toml"),
        (["run", "envelope", "-t", "soon"], "-t: 'soon' is not a duration"),
        (["run", "envelope", "--fault", "kill leader @1s"], "--fault: kill leader needs a [[target]] of kind raft"),
        (["run", "envelope", "--fault", "explode all @1s"], "--fault: there is no fault 'explode'; there are: kill"),
        (["up", "postgres"], "there is no target 'postgres'; there are: envelope, f00d"),
        (["up", "envelope:x"], "in 'envelope:x' a number must follow the colon"),
        (["up", "raft:4"], "'raft:4': a cluster has 1, 3 or 5 nodes"),
        (["status"], "there is no run in runs/; start one with `swarmproof up`"),
        (["fault", "kill", "leader"], "there is no run in runs/"),
        (["down", "--run", "nowhere"], "there is no run in nowhere"),
        (["check", "nowhere"], "there is no nowhere; give a run directory or a history"),
        (["check", "."], ". holds no run: it has neither run.json nor operations/"),
        (["report", "nowhere"], "there is no run directory nowhere"),
        (["export", "nowhere"], "there is no run directory nowhere"),
        (["integration-test", "--port", "{free}"], "nothing accepts connections at 127.0.0.1:"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_3(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    port = str(free_ports(1)[0])
    done = swarmproof(*(port if word == "{free}" else word for word in arguments), directory=tmp_path)
    assert done.returncode == 3, done
    assert done.stderr.startswith(f"error: {sentence}"), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["no-such-command"], ["run"], ["run", "envelope", "-u", "x"], ["check", "--no"]])
def test_a_usage_error_is_typers_own_and_looks_like_one(arguments: list[str], tmp_path: Path) -> None:
    done = swarmproof(*arguments, directory=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: ")


def test_a_directory_without_permission_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = swarmproof("up", "envelope", "--out", "file/runs", directory=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("error: cannot create a run directory under file/runs")


def test_a_dry_run_prints_the_same_schedule_for_the_same_seed(tmp_path: Path) -> None:
    def schedule(seed: int) -> str:
        arguments = ["run", "raft-failover", "--dry-run", "--seed", str(seed), "--fault", "pause n2 @10s for 3s"]
        done = swarmproof(*arguments, directory=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    first = schedule(3)
    assert first == schedule(3)
    assert first != schedule(4).replace("seed 4", "seed 3")
    assert "fault     10.000 s  pause n2, healed after 3 s" in first
    assert first.count("kill leader") == 2
    assert list(tmp_path.iterdir()) == [], "a dry run leaves nothing"


def test_a_history_of_json_lines_is_judged(tmp_path: Path) -> None:
    def operation(number: int, **fields: object) -> str:
        times = {"call": number * 10, "return": number * 10 + 5, "status": "ok"}
        return json.dumps({"id": number, "client": 0, "key": "k", **times, **fields}) + "\n"

    put = operation(1, op="put", value="v1")
    good, bad, broken = (tmp_path / name for name in ("good.jsonl", "bad.jsonl", "broken.jsonl"))
    good.write_text(put + operation(2, op="get", out="v1"))
    bad.write_text(put + operation(2, op="get", out="v0"))
    broken.write_text(put + "{\n")
    assert swarmproof("check", "good.jsonl", directory=tmp_path).returncode == 0
    verdict = swarmproof("check", "bad.jsonl", directory=tmp_path)
    assert verdict.returncode == 1
    assert "verdict INVALID" in verdict.stdout
    assert "counterexample: " in verdict.stdout
    told = swarmproof("check", "bad.jsonl", "--json", directory=tmp_path)
    assert (told.returncode, json.loads(told.stdout)["verdict"]) == (1, "invalid")
    mistake = swarmproof("check", "broken.jsonl", directory=tmp_path)
    assert mistake.returncode == 3
    assert "broken.jsonl" in mistake.stderr


def test_the_integration_test_is_a_command(tmp_path: Path) -> None:
    done = swarmproof("integration-test", "--clients", "2", "--frames", "3", "--codec", "msgpack", directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "2 clients, 6 frames, 0 failures"
    assert list(tmp_path.iterdir()) == []


def test_a_nodes_log_is_printed_for_people_and_a_wrong_folder_is_told(tmp_path: Path) -> None:
    done = swarmproof("raft", "inspect", str(tmp_path), directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no node has used it yet" in done.stdout
    done = swarmproof("raft", "inspect", str(tmp_path / "nowhere"), directory=tmp_path)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_reader_that_goes_away_is_not_an_invalid_verdict(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        command = [sys.executable, "-m", "swarmproof.cli", "plans"]
        done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    finally:
        os.close(write_end)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
