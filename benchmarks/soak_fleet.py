"""Does a fleet stay flat? Memory, file descriptors, threads and greenlets of master and workers, over an hour.

    make soak-fleet                        an hour
    make soak-fleet DURATION=60s           a minute
    python -m benchmarks.soak_fleet --duration 10m --workers 2 --users 50 --csv samples.csv

A quantity is flat when the middle of its last third is not above that of its first by more than an allowance; the
first tenth is left out, in which everything is imported and every user connects. The histograms of an hour take their
room (one of each second and operation), and the allowance knows it. Exit code 1 when something is not flat.
"""

import argparse
import csv
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from records.run_directory import RunDirectory
from swarmproof.durations import parse_duration_s

ROOT = Path(__file__).resolve().parent.parent
SCENARIO = Path(__file__).with_name("soak_scenario.py")
SAMPLES = 120
EVERY_AT_LEAST_S = 0.5
STARTED_WITHIN_S = 90.0
STOP_WITHIN_S = 60.0
WARM_UP_SHARE = 0.1

#: What may be added per hour, and at any rate: noise of the allocator, a log file that is opened.
ALLOWED_PER_HOUR = {"rss_mb": 24.0, "fds": 0.0, "threads": 0.0, "greenlets": 0.0}
ALLOWED_ANYHOW = {"rss_mb": 6.0, "fds": 3.0, "threads": 2.0, "greenlets": 6.0}


class Sample(NamedTuple):
    """One process at one moment."""

    process: str
    at_s: float
    rss_mb: float
    fds: float
    threads: float
    greenlets: float


class Verdict(NamedTuple):
    """One quantity of one process: the middle of the first and of the last third."""

    process: str
    quantity: str
    first: float
    last: float
    allowed: float

    @property
    def is_flat(self) -> bool:
        return self.last - self.first <= self.allowed


def judge(samples: Sequence[Sample], duration_s: float) -> list[Verdict]:
    """Every quantity of every process."""
    verdicts = []
    for process in sorted({sample.process for sample in samples}):
        of_it = [one for one in samples if one.process == process]
        of_it = of_it[int(len(of_it) * WARM_UP_SHARE) :]
        third = max(1, len(of_it) // 3)
        for quantity, anyhow in ALLOWED_ANYHOW.items():
            values = [getattr(one, quantity) for one in of_it]
            allowed = anyhow + ALLOWED_PER_HOUR[quantity] * duration_s / 3600
            first, last = statistics.median(values[:third]), statistics.median(values[-third:])
            verdicts.append(Verdict(process, quantity, first, last, allowed))
    return verdicts


def soak(duration_s: float, workers: int, users: int, folder: Path) -> list[Sample]:
    """Run a fleet against an envelope server and look at its processes until the time is over."""
    server = subprocess.Popen(
        [sys.executable, "-m", "servers.envelope", "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    fleet = None
    try:
        assert server.stdout is not None
        port = server.stdout.readline().rpartition(":")[2].strip()
        run = RunDirectory(folder / "run")
        command = [sys.executable, "-m", "locust", "-f", str(SCENARIO), "--processes", str(workers)]
        command += ["--headless", "--only-summary", "--enable-rebalancing", "-u", str(users), "-r", str(users)]
        command += ["-t", f"{round(duration_s) + 30}s", "--host", f"tcp://127.0.0.1:{port}"]
        command += ["--run-dir", str(run.path)]
        command += ["--master-bind-host", "127.0.0.1", "--soak-folder", str(folder)]
        command += ["--master-bind-port", (free := str(_free_port())), "--master-port", free]
        with (folder / "fleet.log").open("wb") as log:
            fleet = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        names = _wait_for_all(folder, workers + 1, fleet)
        return _watch(folder, names, duration_s, fleet)
    finally:
        for process in (fleet, server):
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _wait_for_all(folder: Path, count: int, fleet: "subprocess.Popen[bytes]") -> dict[str, int]:
    """Name -> pid of all processes that write down how many greenlets they have."""
    deadline = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < deadline and fleet.poll() is None:
        found = sorted(folder.glob("*.greenlets"))
        if len(found) == count:
            return {path.stem: int(path.stem.rpartition("-")[2]) for path in found}
        time.sleep(0.1)
    raise SystemExit(f"the fleet did not start:\n{(folder / 'fleet.log').read_text(errors='replace')[-2000:]}")


def _watch(folder: Path, names: dict[str, int], duration_s: float, fleet: "subprocess.Popen[bytes]") -> list[Sample]:
    samples: list[Sample] = []
    processes = {name: psutil.Process(pid) for name, pid in names.items()}
    began = time.monotonic()
    every_s = max(EVERY_AT_LEAST_S, duration_s / SAMPLES)
    while (at_s := time.monotonic() - began) < duration_s:
        if fleet.poll() is not None:
            raise SystemExit(f"the fleet ended early:\n{(folder / 'fleet.log').read_text(errors='replace')[-2000:]}")
        for name, process in processes.items():
            greenlets = (folder / f"{name}.greenlets").read_text() or "0"
            rss_mb = process.memory_info().rss / 1e6
            samples.append(Sample(name, at_s, rss_mb, process.num_fds(), process.num_threads(), float(greenlets)))
        time.sleep(every_s)
    return samples


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--duration", default="1h", help="such as 60s, 10m, 1h")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--csv", type=Path, help="write all samples into this file")
    arguments = parser.parse_args()
    duration_s = parse_duration_s(arguments.duration)
    with tempfile.TemporaryDirectory(prefix="swarmproof-soak-") as folder:
        samples = soak(duration_s, arguments.workers, arguments.users, Path(folder))
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(Sample._fields)
            writer.writerows(samples)
    verdicts = judge(samples, duration_s)
    print(f"{'process':<16} {'quantity':<10} {'first third':>12} {'last third':>12} {'allowed':>9}")
    for one in verdicts:
        says = "flat" if one.is_flat else "NOT FLAT"
        print(f"{one.process:<16} {one.quantity:<10} {one.first:12.1f} {one.last:12.1f} {one.allowed:+9.1f}  {says}")
    bad = [one for one in verdicts if not one.is_flat]
    print(f"{len(samples)} samples in {duration_s:g} s: {'flat' if not bad else f'{len(bad)} are NOT FLAT'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
