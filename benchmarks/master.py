"""What does a master cost that has 200 workers? CPU of the master process alone, with all our records on.

    python -m benchmarks.master                       200 workers, a minute
    python -m benchmarks.master --short               the same for 20 s

The workers are simulated (`benchmarks.simulated_workers`): they do nothing but report every three seconds, as workers
on other machines do. Exit code 1 when the master uses more than half a core, or has not heard everything.
"""

import argparse
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from records.latency import LatencyStore
from records.progress import ProgressReader
from records.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 0.5
START_WITHIN_S = 120.0
SETTLE_S = 5.0
END_WITHIN_S = 120.0


def measure(workers: int, rate: float, seconds: float, folder: Path) -> bool:
    """Print the figures; whether the master stayed within its limit and heard everything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    run = RunDirectory(folder / "run")
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "envelope.py"), "--master"]
    command += ["--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", str(workers)]
    command += ["--enable-rebalancing", "--headless", "--only-summary", "-u", str(workers * 10)]
    command += ["-r", str(workers * 10), "-t", f"{round(seconds + SETTLE_S + 5)}s", "--run-dir", str(run.path)]
    simulate = [sys.executable, "-m", "benchmarks.simulated_workers"]
    with (folder / "master.log").open("wb") as log:
        master = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    simulated = subprocess.Popen(
        [*simulate, "--port", port, "--workers", str(workers), "--rate", str(rate)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = _wait_for_load(run, workers, master)
        time.sleep(SETTLE_S)
        process = psutil.Process(master.pid)
        before, began = process.cpu_times(), time.monotonic()
        memory = process.memory_info().rss
        time.sleep(seconds)
        after, took_s = process.cpu_times(), time.monotonic() - began
        share = (after.user + after.system - before.user - before.system) / took_s
        grown = process.memory_info().rss - memory
        master.wait(END_WITHIN_S)
        said, _ = simulated.communicate(timeout=END_WITHIN_S)
    finally:
        for child in (master, simulated):
            if child.poll() is None:
                child.kill()
                child.wait()
    reported = int(re.search(r"reports of (\d+)", said)[1])  # type: ignore[index]
    heard = LatencyStore.load(run).summary().count
    print(f"workers                    {line['workers']}, each reports every 3 s and does {rate:g} requests a second")
    print(f"CPU of the master          {share:.1%} of one core (limit {LIMIT:.0%})")
    print(f"a report costs             {share / (workers / 3) * 1000:.2f} ms")
    print(f"memory                     {memory / 1e6:.0f} MB, {grown / 1e6:+.1f} MB in {took_s:.0f} s")
    print(f"requests reported / heard  {reported} / {heard}")
    return share < LIMIT and reported == heard


def _wait_for_load(run: RunDirectory, workers: int, master: "subprocess.Popen[bytes]") -> dict[str, object]:
    reader = ProgressReader(run)
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline and master.poll() is None:
        for line in reader.read_new():
            if line["workers"] == workers and line["count"]:
                return line
        time.sleep(0.2)
    log = (run.path.parent / "master.log").read_text(errors="replace")
    raise SystemExit(f"the master did not begin with {workers} workers:\n{log[-2000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second of each worker")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--short", action="store_true", help="20 s")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="swarmproof-master-") as folder:
        seconds = 20.0 if arguments.short else arguments.seconds
        return 0 if measure(arguments.workers, arguments.rate, seconds, Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
