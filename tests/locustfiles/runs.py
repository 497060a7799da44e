"""Plain Locust runs of a scenario, as a user would start them, and what they left behind."""

import json
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from records.progress import ProgressReader
from records.run_directory import RunDirectory
from records.violations import read_violations
from tests.processes import ROOT, Process

RUN_DEADLINE_S = 90.0


class LocustRun:
    """The outcome: exit code, output, Locust's own table and errors, violations by kind."""

    def __init__(self, exit_code: int, log: str, directory: Path) -> None:
        self.exit_code = exit_code
        self.log = log
        self.run = RunDirectory(directory / "run")
        table = directory / "stats.json"
        self.table: list[dict[str, Any]] = json.loads(table.read_text()) if table.exists() else []

    def requests(self, name: str) -> int:
        return sum(row["num_requests"] for row in self.table if row["name"] == name)

    @property
    def errors(self) -> Counter[str]:
        """Locust's failures by text."""
        load = (self.run.read_json("run.json") or {}).get("load", {})
        counts: Counter[str] = Counter()
        for error in load.get("errors", []):
            counts[error["error"]] += error["count"]
        return counts

    @property
    def violations(self) -> Counter[str]:
        """Recorded violations by kind."""
        counts: Counter[str] = Counter()
        for (kind, _), number in read_violations(self.run)[0].items():
            counts[kind] += number
        return counts


def run_locust(
    scenario: str,
    directory: Path,
    *options: str,
    users: int = 4,
    seconds: float = 2,
    until: tuple[int, int] | None = None,
) -> LocustRun:
    """`locust -f locustfiles/SCENARIO.py --headless ...` to its end. Its files go into `directory`.

    `until`: interrupted (as by Ctrl-C) as soon as so many violations are recorded and so many requests have failed; a
    load at full speed costs a core. A reply that is missing is a violation only in the end: till then it may come late.
    """
    path = scenario if scenario.endswith(".py") else str(ROOT / "locustfiles" / f"{scenario}.py")
    command = [sys.executable, "-m", "locust", "-f", path, "--headless", "--only-summary"]
    command += ["-u", str(users), "-r", "100", "-t", f"{seconds}s", "--run-dir", str(directory / "run")]
    command += ["--json-file", str(directory / "stats"), *options]
    if "--processes" in options:  # its master would listen at Locust's one port, and tests run side by side
        port = str(free_port())
        command += ["--master-bind-port", port, "--master-port", port]
    process = Process(command)
    try:
        if until is not None:
            _wait_for(process, RunDirectory(directory / "run"), *until)
            process.signal(signal.SIGINT)
        exit_code = process.wait(RUN_DEADLINE_S)
        return LocustRun(exit_code, process.log(), directory)
    finally:
        process.close()


def _wait_for(process: Process, run: RunDirectory, violations: int, failed: int) -> None:
    """Until so many are on the disk, where they are put once a second, or the run has ended by itself."""
    progress = ProgressReader(run)
    failed_so_far = 0
    while process.running:
        failed_so_far = max((line["failed"] for line in progress.read_new()), default=failed_so_far)
        if failed_so_far >= failed and sum(read_violations(run)[0].values()) >= violations:
            return
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
