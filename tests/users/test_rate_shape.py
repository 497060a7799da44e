"""A shape of rates in a plain locustfile: alone, with workers, from the web UI; and the mistakes one can make in it."""

import json
import signal
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from records.run_directory import RunDirectory
from tests.locustfiles.runs import run_locust
from tests.processes import ROOT, Process, ServerProcess, wait_until
from tests.users.test_open_load import ended, free_port, load_of

SCENARIO = ROOT / "tests" / "users" / "rate_scenario.py"
# 0..100 in 2 s, 100 for 1 s, 50 for 1 s: the area under it.
WHOLE = 100 + 100 + 50


@pytest.fixture(scope="module")
def envelope() -> Iterator[str]:
    with ServerProcess("envelope") as server:
        yield f"tcp://127.0.0.1:{server.port}"


@pytest.mark.parametrize("options", [(), ("--processes", "2"), ("--engine",)], ids=["alone", "workers", "engine"])
def test_a_shape_offers_the_area_under_its_stages_and_ends_the_run(
    tmp_path: Path, envelope: str, options: tuple[str, ...]
) -> None:
    result = run_locust(str(SCENARIO), tmp_path, "--host", envelope, *options, seconds=60)
    assert result.exit_code == 0, result.log
    load = load_of(result.run)
    assert load["rate"] == "0..100 for 2s then 100 for 1s then 50 for 1s then 0"
    assert load["issued"] + load["dropped"] + load["unissued"] == WHOLE
    assert load["issued"] == ended(result.run)
    assert "little" not in load
    assert load["users"] == 4 or "4 users" in result.log


def test_the_run_time_ends_a_shape_that_would_go_on(tmp_path: Path, envelope: str) -> None:
    result = run_locust(str(SCENARIO), tmp_path, "--host", envelope, "--rate", "7", seconds=3)
    assert "the shape Rush says the rate; --rate 7 is not used" in result.log
    load = load_of(result.run)
    assert load["end_ns"] - load["start_ns"] < 30_000_000_000
    assert load["issued"] < WHOLE


def test_the_web_ui_starts_a_shape_and_starts_it_again(tmp_path: Path, envelope: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "locust", "-f", str(SCENARIO), "--host", envelope, "--threshold", "rate>1"]
    locust = Process([*command, "--run-dir", str(tmp_path / "run"), "--web-host", "127.0.0.1", "--web-port", str(port)])
    try:
        wait_until(lambda: answers(port), "the web UI", 60)
        for runs in (1, 2):
            form = urllib.parse.urlencode({"user_count": 4, "spawn_rate": 4, "host": envelope}).encode()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/swarm", form, timeout=30) as response:
                assert "shape class 'Rush'" in json.loads(response.read())["message"]
            wait_until(lambda runs=runs: len(finished(tmp_path)) == runs, "the shape to end", 60)
            for run in finished(tmp_path):
                load = load_of(run)
                assert load["issued"] + load["dropped"] + load["unissued"] == WHOLE
        wait_until(lambda: locust.log().count("threshold  kept    rate is ") == 2, "both results in the log", 30)
        locust.popen.send_signal(signal.SIGTERM)
        assert locust.wait(60) == 0
    finally:
        locust.close()


def test_stages_that_cannot_be_read_are_one_sentence_and_exit_3(
    tmp_path: Path, envelope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATE_STAGES", "0..100")
    result = run_locust(str(SCENARIO), tmp_path, "--host", envelope, seconds=30)
    assert result.exit_code == 3, result.log
    assert "the shape Rush cannot be followed: the ramp '0..100' needs a duration" in result.log
    assert "Traceback" not in result.log


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def finished(root: Path) -> list[RunDirectory]:
    """The runs that have been written to their end."""
    runs = [RunDirectory(entry) for entry in root.iterdir() if entry.is_dir() and not entry.is_symlink()]
    return [run for run in runs if "end_ns" in (run.read_json("run.json") or {}).get("load", {})]
