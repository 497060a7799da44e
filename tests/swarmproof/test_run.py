"""`swarmproof run`: from a plan to a verdict, and every way in which a run can end."""

import csv
import json
import os
import re
import signal
from pathlib import Path

import pytest

from records.faults import read_faults
from records.operations import read_operations
from records.progress import ProgressReader
from records.run_directory import RUN_JSON, RunDirectory
from swarmproof.faults.probe import PROBE_KEY
from tests.processes import wait_until
from tests.swarmproof.leftovers import Command, await_nothing_left, processes_with, swarmproof

FILES = ("run.json", "verdict.json", "report.html", "junit.xml", "latency.hlog", "requests.csv", "progress.jsonl")


def latest(directory: Path) -> RunDirectory:
    return RunDirectory.open(directory / "runs" / "latest")


def start(directory: Path, *arguments: str) -> Command:
    """A run whose load has begun."""
    command = Command("run", *arguments, directory=directory)
    command.read_until(" users ")
    return command


def test_a_cluster_that_loses_its_leader_twice_is_judged_valid(tmp_path: Path) -> None:
    faults = ["--fault", "kill leader @2s restart 1s", "--fault", "kill leader @6s restart 1s"]
    done = swarmproof("run", "raft-failover", "-t", "11s", "-u", "6", *faults, directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict VALID" in done.stdout
    assert len(re.findall(r"leads term \d+ after [\d.]+ s; first acknowledged write after", done.stdout)) == 4
    run = latest(tmp_path)
    assert all(run.file(name).stat().st_size for name in FILES)
    records = read_faults(run)
    assert [record.took_effect for record in records] == [True, True]
    operations = list(read_operations(run))
    final = [operation for operation in operations if operation.final]
    keys = {operation.key for operation in operations}
    assert PROBE_KEY in keys
    assert {(o.key, o.node) for o in final if o.status == "ok"} == {(key, node) for key in keys for node in (1, 2, 3)}
    facts = run.read_json(RUN_JSON)
    assert facts["final_reads"]["raft"] == {"keys": len(keys), "nodes": dict.fromkeys(("n1", "n2", "n3"), len(keys))}
    assert facts["plan"]["load"]["users"] == 6
    assert (facts["planned_faults"], facts["exit"]) == (2, 0)
    assert not list(run.nodes_dir.glob("*.secret"))

    checked = swarmproof("check", "runs/latest", directory=tmp_path)
    assert checked.returncode == 0
    exported = swarmproof("export", "runs/latest", "-o", "-", directory=tmp_path)
    assert len(exported.stdout.splitlines()) == len(operations)
    history = tmp_path / "history.jsonl"
    history.write_text(exported.stdout)
    assert swarmproof("check", "history.jsonl", directory=tmp_path).returncode == 0
    run.file("report.html").unlink()
    assert "verdict VALID" in swarmproof("report", "runs/latest", directory=tmp_path).stdout
    assert run.file("report.html").stat().st_size


def test_a_fault_that_is_never_due_makes_the_verdict_unknown(tmp_path: Path) -> None:
    done = swarmproof("run", "envelope", "-t", "3s", "--fault", "kill envelope @60s", directory=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the load ended before it was due at 1 min" in done.stdout
    assert "verdict UNKNOWN" in done.stdout


def test_a_threshold_that_is_missed_is_exit_code_4(tmp_path: Path) -> None:
    done = swarmproof("run", "envelope", "-t", "3s", "-u", "2", "--threshold", "rate>9999999", directory=tmp_path)
    assert done.returncode == 4, done.stdout + done.stderr


def test_a_threshold_that_aborts_ends_the_run_early_with_exit_code_4(tmp_path: Path) -> None:
    limit = "rate over 2s > 9999999 abort"
    done = swarmproof("run", "envelope", "-t", "300s", "-u", "2", "--threshold", limit, directory=tmp_path)
    assert done.returncode == 4, done.stdout + done.stderr
    run = latest(tmp_path)
    assert "rate over 2s is" in run.read_json(RUN_JSON)["load"]["aborted"]
    assert "the run was ended because rate over 2s is" in done.stdout
    assert f'name="threshold {limit.replace("over 2s > ", "over 2s &gt; ")}"' in run.file("junit.xml").read_text()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_open_load_says_what_became_of_its_arrivals(tmp_path: Path, workers: str) -> None:
    options = ("-t", "5s", "--rate", "0..200 in 2s then 200", "--arrivals", "poisson", "--workers", workers)
    done = swarmproof("run", "envelope", *options, directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    load = latest(tmp_path).read_json(RUN_JSON)["load"]
    assert load["rate"] == "0..200 for 2s then 200"
    assert load["issued"] > 0
    assert load["dropped"] == 0


def test_quiet_prints_the_result_only(tmp_path: Path) -> None:
    done = swarmproof("run", "envelope", "-t", "3s", "-u", "2", "--quiet", directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("operation ")
    assert "ready at" not in done.stdout


def test_workers_share_the_load(tmp_path: Path) -> None:
    done = swarmproof("run", "envelope", "-t", "4s", "--workers", "2", directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(latest(tmp_path).latency_dir.glob("worker-*"))) == 2


def test_ctrl_c_ends_the_load_early_and_still_gives_a_verdict(tmp_path: Path) -> None:
    options = ("-t", "300s", "--fault", "pause follower @1s")
    command = Command("run", "raft-failover", *options, directory=tmp_path)
    command.read_until("stands still")
    command.signal(signal.SIGINT)
    text = command.read_until("report ")
    assert "Ctrl-C: ending the load early" in text
    assert "final read of" in text
    assert command.wait(60) == 2  # the plan's kills were never due
    await_nothing_left(command.mark)
    assert latest(tmp_path).read_json(RUN_JSON)["interrupted"] is True
    command.close()


def test_down_ends_a_run_like_ctrl_c(tmp_path: Path) -> None:
    command = start(tmp_path, "envelope", "-t", "300s")
    assert swarmproof("down", directory=tmp_path).returncode == 0
    assert command.wait(60) == 0
    await_nothing_left(command.mark)
    command.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_run_that_is_terminated_or_killed_leaves_nothing(number: signal.Signals, code: int, tmp_path: Path) -> None:
    options = ("-t", "300s", "--workers", "2", "--fault", "pause leader @1s")
    command = Command("run", "raft-failover", *options, directory=tmp_path)
    command.read_until("stands still")
    command.signal(number)
    assert command.wait(60) == code
    await_nothing_left(command.mark)
    command.close()


def test_a_single_server_that_dies_by_itself_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    command = start(tmp_path, "envelope", "-t", "300s")
    facts = latest(tmp_path).read_json(RUN_JSON)
    os.kill(facts["targets"][0]["members"][0]["pid"], signal.SIGKILL)
    assert command.wait(60) in (1, 3)
    await_nothing_left(command.mark)
    assert "error: envelope died: it was killed by SIGKILL" in command.log()
    command.close()


def test_a_worker_that_is_lost_is_a_failure_of_the_harness(tmp_path: Path) -> None:
    command = start(tmp_path, "envelope", "-t", "8s", "--workers", "2")
    worker = next(line for line in processes_with(command.mark) if "--worker " in line)
    os.kill(int(worker.split()[0]), signal.SIGKILL)
    assert command.wait(90) == 3
    await_nothing_left(command.mark)
    assert "died during the run, and what it had not reported is lost" in command.log()
    command.close()


def test_a_locustfile_that_cannot_be_imported_is_told_with_what_locust_says(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import no_such_module\n")
    (tmp_path / "mine.toml").write_text(
        '[[target]]\nkind = "envelope"\n[load]\nlocustfile = "mine.py"\nrun_time = "3s"\n'
    )
    done = swarmproof("run", "mine.toml", directory=tmp_path)
    assert done.returncode == 3
    assert "Locust ended before any load; it says: " in done.stderr
    assert "no_such_module" in done.stderr


@pytest.mark.parametrize(
    ("load", "sentence"),
    [
        ('locustfile = "mixed"', "the scenario mixed needs a [[target]] of each kind; missing: f00d, websocket_echo"),
        ('locustfile = "raft_kv"', "the scenario raft_kv has nothing to talk to; add a [[target]] of kind raft"),
        ('locustfile = "nothing"', "there is no scenario 'nothing'; the built-in ones are: envelope, f00d"),
    ],
)
def test_a_plan_that_cannot_be_run_is_one_sentence(load: str, sentence: str, tmp_path: Path) -> None:
    plan = f'[[target]]\nkind = "envelope"\n[load]\n{load}\nrun_time = "3s"\n'
    (tmp_path / "mine.toml").write_text(plan)
    done = swarmproof("run", "mine.toml", directory=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: {sentence}"), done.stderr


def test_a_plan_without_a_run_time_asks_for_one(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[[target]]\nkind = "envelope"\n[load]\nlocustfile = "envelope"\n')
    done = swarmproof("run", "mine.toml", directory=tmp_path)
    assert done.returncode == 3
    assert "the plan has no run_time" in done.stderr


def test_the_web_ui_is_served_and_the_run_ends_with_ctrl_c(tmp_path: Path) -> None:
    import urllib.request

    command = Command("run", "envelope", "-t", "300s", "--web", directory=tmp_path)
    address = re.search(r"http://\S+(?=;)", command.read_until("web UI at "))
    assert address

    def answers() -> bool:
        try:
            with urllib.request.urlopen(address[0], timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    wait_until(answers, "the web UI", 60.0)
    command.signal(signal.SIGINT)
    assert command.wait(60) in (2, 3)  # no load, no verdict
    await_nothing_left(command.mark)
    command.close()


def test_faults_can_be_struck_by_hand_during_a_run(tmp_path: Path) -> None:
    command = start(tmp_path, "envelope", "-t", "9s")
    reader = ProgressReader(latest(tmp_path))
    wait_until(lambda: any(line["elapsed_s"] >= 3 for line in reader.read_new()), "a rate to compare with", 60.0)
    struck = swarmproof("fault", "pause", "envelope", "--for", "2500ms", directory=tmp_path)
    assert struck.returncode == 0, struck
    assert "load: " in swarmproof("status", directory=tmp_path).stdout
    assert command.wait(60) == 0
    (record,) = read_faults(latest(tmp_path))
    assert (record.kind, record.chosen, record.took_effect) == ("pause", "envelope", True)
    with latest(tmp_path).file("outages.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["failed"], row["unknown"], row["source"]) == ("0", "0", "seconds"), row
    assert int(row["delayed"]) > 0, "every user waited out the pause"
    assert int(row["lost_operations"]) > 100
    assert float(row["worst_client_gap_s"]) >= 1, "a whole second of the two and a half"
    assert 0 < float(row["detection_s"]) <= 3
    assert "delayed" in latest(tmp_path).file("report.html").read_text()
    assert command.read_until(f"outages first error or silence: {float(row['detection_s']):.2f} s")
    assert json.loads(latest(tmp_path).file("verdict.json").read_text())["verdict"] == "valid"
    await_nothing_left(command.mark)
    command.close()


def test_a_link_that_repeats_replies_is_convicted_and_errors_on_request_are_seen(tmp_path: Path) -> None:
    load = '[load]\nlocustfile = "{}"\nusers = 4\nrate = "100/s"\nrun_time = "5s"\n'
    (tmp_path / "doubled.toml").write_text(
        '[[target]]\nkind = "envelope"\n'
        + load.format("envelope")
        + '[[fault]]\nkind = "link"\ntarget = "envelope"\ntoxics = ["duplicate=50%"]\n'
        + 'after_operations = 100\nfor = "1s"\n'
    )
    done = swarmproof("run", "doubled.toml", directory=tmp_path)
    assert done.returncode == 1, done
    assert "duplicate reply" in done.stdout
    (record,) = read_faults(latest(tmp_path))
    assert record.took_effect
    assert "operations were done (100 were asked for)" in record.why

    (tmp_path / "errors.toml").write_text(
        '[[target]]\nkind = "websocket_rpc"\n'
        + load.format("websocket_rpc")
        + '[[fault]]\nkind = "rpc-errors"\ntarget = "websocket_rpc"\nshare = "50%"\nat = "2s"\nfor = "1s"\n'
        + '[[fault]]\nkind = "disconnect"\ntarget = "websocket_rpc"\nat = "4s"\n'
    )
    done = swarmproof("run", "errors.toml", directory=tmp_path)
    burst, cut = read_faults(latest(tmp_path))
    assert burst.took_effect, (burst, done)
    assert "answers 50% of the calls with an error" in burst.observed
    assert cut.observed == "4 connections were reset"


def test_a_node_that_dies_by_itself_is_an_effect_without_a_fault(tmp_path: Path) -> None:
    command = start(tmp_path, "raft-failover", "-t", "5s", "-u", "4")
    node = next(line for line in processes_with(command.mark) if "servers.raft --id 2 " in line)
    os.kill(int(node.split()[0]), signal.SIGSEGV)
    assert "n2 died: it was killed by SIGSEGV" in command.read_until("died")
    assert command.wait(240) == 2
    verdict = json.loads(latest(tmp_path).file("verdict.json").read_text())
    assert verdict["verdict"] == "unknown"
    (check,) = [check for check in verdict["checks"] if check["name"] == "faults"]
    assert "without any fault, n2 died: it was killed by SIGSEGV" in check["reason"]
    command.close()
