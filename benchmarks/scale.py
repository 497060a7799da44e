"""How far does one worker go? Ten thousand users in one process, and two workers against one.

    python -m benchmarks.scale                  10,000 users, and 1 against 2 workers
    python -m benchmarks.scale --short          2,000 users, shorter
    python -m benchmarks.scale --engine         the engine drives the connections

Users think a second between requests, so that it is their number and not their haste that is measured. Printed: how
long it took until all were connected, failures while they came and afterwards, memory per user. For the workers: CPU
per operation and operations a second; where there are cores for both, two should do 1.8 times the work of one, and
where there are not, an operation should cost the same. Exit code 1 when a request failed.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from records.latency import LatencyStore
from records.progress import ProgressReader
from records.run_directory import RUN_JSON, RunDirectory

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 300.0
USERS_PER_S = 500
#: A connection at each end, and what a process has open anyway.
FILES_PER_USER, OTHER_FILES = 1, 200

SCENARIO = """\
from locust import constant, task
from swarmproof.fleet import extension
from users.envelope import EnvelopeUser
class Thinking(EnvelopeUser):
    wait_time = constant({think_s})
    @task
    def echo(self):
        self.client.echo(self.random_payload())
"""


class Outcome(NamedTuple):
    """One run. CPU is of the processes that make the load; `rss` of the busiest of them, empty and full."""

    requests: int
    failed: int
    connected: int
    connected_after_s: float
    cpu_s: float
    seconds: float
    rss_before: int
    rss: int
    errors: list[dict[str, Any]]


def run(folder: Path, users: int, think_s: float, seconds: float, *, workers: int, engine: bool) -> Outcome:
    """`users` against a reference server for so long."""
    folder.mkdir()
    scenario = folder / "thinking.py"
    scenario.write_text(SCENARIO.format(think_s=think_s))
    server = subprocess.Popen(
        [sys.executable, "-m", "servers.envelope", "--port", "0", "--max-clients", str(users * 2)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().rpartition(":")[2].strip()
        directory = RunDirectory(folder / "run")
        command = [sys.executable, "-m", "locust", "-f", str(scenario), "--headless", "--only-summary"]
        command += ["-u", str(users), "-r", str(USERS_PER_S), "-t", f"{round(seconds + users / USERS_PER_S)}s"]
        command += ["--host", f"tcp://127.0.0.1:{port}", "--run-dir", str(directory.path)]
        command += ["--processes", str(workers)] if workers > 1 else []
        command += ["--engine"] if engine else []
        with (folder / "locust.log").open("wb") as log:
            locust = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )
        return _watch(locust, directory, users)
    finally:
        server.terminate()
        server.wait()


def _watch(locust: "subprocess.Popen[bytes]", run: RunDirectory, users: int) -> Outcome:
    top = psutil.Process(locust.pid)
    progress = ProgressReader(run)
    began = time.monotonic()
    cpu: dict[int, float] = {}
    rss_before = rss = 0
    connected_after_s = 0.0
    while locust.poll() is None:
        if time.monotonic() - began > DEADLINE_S:
            locust.kill()
            raise SystemExit(f"the run did not end within {DEADLINE_S:g} s")
        try:
            for process in (top, *top.children()):
                times = process.cpu_times()
                cpu[process.pid] = times.user + times.system
                rss = max(rss, process.memory_info().rss)
        except psutil.NoSuchProcess:
            pass
        lines = progress.read_new()
        rss_before = rss_before or (rss if lines else 0)
        for line in lines:
            connects = [one["count"] for name, one in line["operations"].items() if name.endswith(" connect")]
            if not connected_after_s and sum(connects) >= users:
                connected_after_s = line["elapsed_s"]
        time.sleep(0.25)
    store = LatencyStore.load(run)
    load = json.loads(run.file(RUN_JSON).read_text())["load"]
    ok, failed, unknown, _ = store.outcomes("envelope echo")
    connected = store.outcomes("envelope connect")[0]
    seconds = (load["end_ns"] - load["start_ns"]) / 1e9
    count = ok + failed + unknown
    all_cpu_s = sum(cpu.values())
    failures = failed + sum(store.outcomes("envelope connect")[1:3])
    return Outcome(count, failures, connected, connected_after_s, all_cpu_s, seconds, rss_before, rss, load["errors"])


def many_users(folder: Path, users: int, seconds: float, engine: bool) -> bool:
    """Print what so many users in one process cost; whether none of their requests failed."""
    few = run(folder / "few", 10, 1.0, 4, workers=1, engine=engine)
    many = run(folder / "many", users, 1.0, seconds, workers=1, engine=engine)
    print(f"{users} users in one worker{' (engine)' if engine else ''}, one request a second each")
    print(f"  connected             {many.connected}, all after {many.connected_after_s:.1f} s (at {USERS_PER_S}/s)")
    print(f"  requests, failures    {many.requests}, {many.failed}")
    for error in many.errors[:5]:
        print(f"    {error['count']} x {error['operation']}: {error['error']}")
    print(f"  memory per user       {(many.rss - few.rss) / users / 1000:.1f} kB ({many.rss / 1e6:.0f} MB in all)")
    return many.failed == 0 and many.connected >= users


def two_workers(folder: Path, seconds: float, engine: bool) -> None:
    """Print what two workers do against one, closed load without thinking."""
    one = run(folder / "one", 20, 0.0, seconds, workers=1, engine=engine)
    two = run(folder / "two", 20, 0.0, seconds, workers=2, engine=engine)
    rates = [outcome.requests / outcome.seconds for outcome in (one, two)]
    costs_us = [outcome.cpu_s / outcome.requests * 1e6 for outcome in (one, two)]
    print("20 users without think time")
    print(f"  1 worker              {rates[0]:9.0f}/s  {costs_us[0]:6.1f} us of CPU each (start-up included)")
    print(f"  2 workers             {rates[1]:9.0f}/s  {costs_us[1]:6.1f} us of CPU each")
    print(f"  2 against 1           {rates[1] / rates[0]:.2f}x the rate on this machine")
    print(f"  by CPU per operation  2 workers with a core each would do {2 * costs_us[0] / costs_us[1]:.2f}x")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--engine", action="store_true")
    parser.add_argument("--short", action="store_true", help="2,000 users, a few seconds")
    arguments = parser.parse_args()
    users, seconds = (2_000, 6.0) if arguments.short else (arguments.users, arguments.seconds)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < users * FILES_PER_USER + OTHER_FILES:
        raise SystemExit(f"{users} users need more than the {hard} open files that are allowed; see `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="swarmproof-scale-") as folder:
        went_well = many_users(Path(folder), users, seconds, arguments.engine)
        two_workers(Path(folder), seconds, arguments.engine)
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
