"""Seed 002, "Circuit Breaker Integration": a server dies under load and comes back; the breaker's way through it."""

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from records.breakers import read_breakers
from records.run_directory import RunDirectory
from swarmproof.report import render_report
from tests.processes import ROOT, Process, ServerProcess, wait_until
from tests.servers.tool_clients import TOKEN

TOKEN_ENV = {"SWARMPROOF_TOKEN": TOKEN}


def lines_of(run: Path) -> list[dict[str, Any]]:
    files = list(run.glob("breaker-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def transitions(run: Path) -> list[tuple[str, str]]:
    return [(line["from"], line["to"]) for line in lines_of(run) if line["from"] != line["to"]]


def test_breaker_transitions_with_real_connection_failures(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    run = tmp_path / "run"
    first = ServerProcess("websocket_tools", "--no-limits", env=TOKEN_ENV)
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "websocket_tools.py"), "--headless"]
    command += ["-u", "4", "-r", "100", "-t", "60s", "--only-summary", "--run-dir", str(run)]
    command += ["--host", f"ws://127.0.0.1:{first.port}", "--token-file", str(token_file), "--breaker"]
    command += ["--breaker-reset", "1", "--connect-deadline", "0.2", "--json-file", str(tmp_path / "stats")]
    try:
        load = Process(command)
        try:
            wait_until(lambda: (run / "progress.jsonl").exists() and (run / "progress.jsonl").stat().st_size, "load")
            first.kill()
            wait_until(lambda: transitions(run), "the breaker to open")
            wait_until(lambda: ("half-open", "open") in transitions(run), "a trial to fail")
            with ServerProcess("websocket_tools", "--no-limits", port=first.port, env=TOKEN_ENV):
                wait_until(lambda: ("half-open", "closed") in transitions(run), "the breaker to close")
                assert load.running
                load.signal(15)
                load.wait()
        finally:
            load.close()
    finally:
        first.close()
    seen = transitions(run)
    assert seen[0] == ("closed", "open")
    assert all(after[0] == before[1] for before, after in pairwise(seen)), "no transition is missing"
    lines = lines_of(run)
    assert [line["at_ns"] for line in lines] == sorted(line["at_ns"] for line in lines)
    opened = next(line for line in lines if line["to"] == "open")
    tried = next(line for line in lines if line["to"] == "half-open")
    assert tried["at_ns"] - opened["at_ns"] >= 1_000_000_000
    assert tried["reason"] == "1 s are over"
    assert opened["reason"]
    assert lines[-1]["refused"] > 0
    found = read_breakers(RunDirectory.open(run))
    assert found.refused.total() == lines[-1]["refused"]
    # Shown at the end of the run, after the table.
    said = render_report(RunDirectory.open(run))
    assert f"closed -> open: {opened['reason']}" in said
    assert "calls refused" in said
    # Refused calls are no failures: those are a few before each opening, not thousands.
    table = json.loads((tmp_path / "stats.json").read_text())
    failures = sum(row["num_failures"] for row in table if row["name"] != "connect")
    assert 5 <= failures <= 5 + 4 + 3 * len(seen)


@pytest.mark.parametrize(("name", "depth"), [("envelope", 8), ("f00d", 8), ("websocket_echo", 1), ("websocket_rpc", 8)])
def test_breaker_in_engine_mode_goes_the_same_way(name: str, depth: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    scheme = "ws" if name.startswith("websocket") else "tcp"
    first = ServerProcess(name)
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / f"{name}.py"), "--headless", "--engine"]
    command += ["-u", "4", "-r", "100", "-t", "60s", "--only-summary", "--run-dir", str(run), "--depth", str(depth)]
    command += ["--host", f"{scheme}://127.0.0.1:{first.port}", "--breaker", "--breaker-reset", "0.3"]
    if name == "f00d":
        command += ["--f00d-connections", "reuse"]
    else:
        command += ["--connect-deadline", "0.2"]
    try:
        load = Process(command)
        try:
            wait_until(lambda: (run / "progress.jsonl").exists() and (run / "progress.jsonl").stat().st_size, "load")
            first.kill()
            wait_until(lambda: ("half-open", "open") in transitions(run), "a trial to fail")
            with ServerProcess(name, port=first.port):
                wait_until(lambda: ("half-open", "closed") in transitions(run), "the breaker to close")
                counts = answered(run)
                wait_until(lambda: answered(run) > counts + 100, "load to go on as before")
                load.signal(15)
                load.wait()
        finally:
            load.close()
    finally:
        first.close()
    seen = transitions(run)
    assert seen[0] == ("closed", "open")
    assert all(after[0] == before[1] for before, after in pairwise(seen)), "no transition is missing"
    refused = read_breakers(RunDirectory.open(run)).refused.total()
    # Four connections of so many places, each asking twenty times a second at most, for as long as it was open.
    assert 4 * depth <= refused


def answered(run: Path) -> int:
    last = (run / "progress.jsonl").read_text().splitlines()[-1]
    line = json.loads(last) if last.endswith("}") else {"count": 0, "failed": 0}
    return int(line["count"] - line["failed"])
