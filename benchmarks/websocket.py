"""What the WebSocket servers and users cost, part by part, each with its bound.

    python -m benchmarks.websocket [--short] [--only servers,throughput,flat,idle,load]

    servers      establishment, round trips at 1,000 messages/s, CPU of both sides for each message, memory
    throughput   checked messages/s through one worker process at depth 16, against a server that keeps up
    flat         memory of each server over ten minutes of messages and reconnections (--short: 20 seconds)
    idle         10,000 connected users in one worker, and their server (--short: 1,000)
    load         20,000 connections of websocket_load, from several loopback addresses (--short: 2,000)

CPU of both sides is measured where it matters, so that the figures stand for themselves on a machine that is busy with
something else. Exit code 1 when a bound was missed.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from protocols.rpc import encode_request
from protocols.tool_call import encode_call, encode_hello
from protocols.websocket import Opened, Text, WebSocketClient

ROOT = Path(__file__).parent.parent
DEADLINE_S = 30.0
ESTABLISHMENTS = 100
DEPTH = 16
#: Seed 002 names messages of 1,000 a second.
PACE_S = 0.001
#: Each with its limits out of the way.
SERVERS = {
    "websocket_echo": (),
    "websocket_load": (),
    "websocket_performance": (),
    "websocket_security": ("--burst", "1000000000"),
    "websocket_rpc": (),
    "websocket_tools": ("--no-limits", "--hello-timeout", "3600"),
}


class Peer:
    """One connection of our sans-I/O client."""

    def __init__(self, address: tuple[str, int], source: str = "") -> None:
        self.client = WebSocketClient(f"ws://{address[0]}:{address[1]}/")
        self.sock = socket.create_connection(address, DEADLINE_S, (source, 0) if source else None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.flush()
        while not any(isinstance(event, Opened) for event in self.client.receive_data(self.sock.recv(65_536))):
            pass

    def flush(self) -> None:
        self.sock.sendall(b"".join(self.client.data_to_send()))

    def exchange(self, texts: list[str]) -> None:
        """Send all, await as many replies."""
        for text in texts:
            self.client.send_text(text)
        self.flush()
        due = len(texts)
        while due > 0:
            data = self.sock.recv(65_536)
            if not data:
                raise SystemExit("the server closed the connection")
            due -= sum(isinstance(event, Text) for event in self.client.receive_data(data))

    def greet(self, name: str) -> None:
        """What a server wants to hear first."""
        if name == "websocket_tools":
            self.exchange([encode_hello("benchmark", "")])

    def paced(self, name: str, count: int) -> list[float]:
        """Milliseconds of `count` round trips, begun at 1,000 a second or as soon as the last has ended."""
        trips_ms = []
        due_s = time.perf_counter()
        for number in range(count):
            due_s += PACE_S
            time.sleep(max(0.0, due_s - time.perf_counter()))
            start_s = time.perf_counter()
            self.exchange([text_for(name, number)])
            trips_ms.append((time.perf_counter() - start_s) * 1000)
        return trips_ms


def text_for(name: str, number: int) -> str:
    if name == "websocket_rpc":
        return encode_request(number, "echo", {"text": "x" * 40})
    if name == "websocket_tools":
        return encode_call(f"r{number}", "echo", {"text": "x" * 40})
    if name == "websocket_performance":
        return "metrics"  # all else it counts and does not answer
    return f"{number:064d}"


class Server:
    """`python -m servers.NAME`, or another command that says `listening on`, for as long as the block takes."""

    def __init__(self, name: str, *options: str, command: tuple[str, ...] = ()) -> None:
        own = ("-m", f"servers.{name}", "--port", "0", "--log-level", "error", *options)
        self.popen = subprocess.Popen([sys.executable, *(command or own)], stdout=subprocess.PIPE, text=True)
        assert self.popen.stdout is not None
        found = re.search(r"listening on (?:(\S+):)?(\d+)", self.popen.stdout.readline())
        if found is None:
            self.popen.wait()
            raise SystemExit(f"{name} did not start")
        self.name = name
        self.address = (found[1] or "127.0.0.1", int(found[2]))
        self.process = psutil.Process(self.popen.pid)

    def memory_mb(self) -> float:
        """Of the process and its workers."""
        family = [self.process, *self.process.children()]
        return float(sum(process.memory_info().rss for process in family)) / 1e6

    def cpu_s(self) -> float:
        return float(sum(self.process.cpu_times()[:2]))

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.terminate()
        self.popen.wait()


class Bounds:
    """What was promised, and whether it held."""

    def __init__(self) -> None:
        self.missed = 0

    def say(self, what: str, value: float, bound: float, unit: str, *, at_least: bool = False) -> None:
        kept = value >= bound if at_least else value < bound
        self.missed += not kept
        relation = ">=" if at_least else "<"
        shown = f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"
        print(f"  {what}: {shown} {unit} (bound {relation} {bound:,g}) {'kept' if kept else 'MISSED'}", flush=True)


def measure_servers(bounds: Bounds, short: bool) -> None:
    messages = 10_000 if short else 100_000
    paced = 1_000 if short else 10_000
    print("servers: one connection, 64 bytes; depth 16 for the CPU; memory after it all")
    head = f"  {'':22}{'open ms':>9}{'p50 ms':>9}{'p99 ms':>9}{'messages/s':>12}{'srv us':>9}{'cli us':>9}{'MB':>7}"
    print(head, flush=True)
    worst_open = worst_trip = worst_mb = 0.0
    for name, options in SERVERS.items():
        with Server(name, *options) as server:
            opened_ms = []
            for _ in range(ESTABLISHMENTS):
                start_s = time.perf_counter()
                peer = Peer(server.address)
                opened_ms.append((time.perf_counter() - start_s) * 1000)
                peer.sock.close()
            peer = Peer(server.address)
            peer.greet(name)
            trips_ms = peer.paced(name, paced)
            cpu_s, own_cpu_s, start_s = server.cpu_s(), time.process_time(), time.perf_counter()
            for first in range(0, messages, DEPTH):
                peer.exchange([text_for(name, number) for number in range(first, first + DEPTH)])
            took_s = time.perf_counter() - start_s
            cpu_us = (server.cpu_s() - cpu_s) / messages * 1e6
            own_us = (time.process_time() - own_cpu_s) / messages * 1e6
            peer.sock.close()
            open_ms, trip_ms, memory_mb = statistics.median(opened_ms), statistics.median(trips_ms), server.memory_mb()
            p99_ms = statistics.quantiles(trips_ms, n=100)[98]
            print(
                f"  {name:22}{open_ms:9.2f}{trip_ms:9.3f}{p99_ms:9.3f}{messages / took_s:12,.0f}"
                f"{cpu_us:9.1f}{own_us:9.1f}{memory_mb:7.0f}",
                flush=True,
            )
            worst_open, worst_trip = max(worst_open, open_ms), max(worst_trip, trip_ms)
            worst_mb = max(worst_mb, memory_mb)
    bounds.say("establishment, slowest median", worst_open, 10, "ms")
    bounds.say("round trip at 1,000 messages/s, slowest p50", worst_trip, 5, "ms")
    bounds.say("memory, largest server", worst_mb, 50, "MB")


def measure_throughput(bounds: Bounds, short: bool) -> None:
    seconds = 8 if short else 15
    print(
        f"throughput: locust -u 20 --depth 16, {seconds} s, every id and payload checked; tool calls without --engine"
    )
    worst = float("inf")
    for name in ("websocket_echo", "websocket_rpc"):
        targets = {
            "a server that keeps up": ("-m", "benchmarks.targets.fast", name),
            "ours": (),
        }
        for target, command in targets.items():
            with Server(name, command=command) as server:
                rate, cpu_us, failures = run_locust(name, server.address, seconds, "--engine")
            print(f"  {name} against {target}: {rate:,.0f}/s, {cpu_us:.2f} us of the worker's CPU each", flush=True)
            if failures:
                raise SystemExit(f"{failures} failures: the figure means nothing")
            # A worker that shares its core with others is judged by what a whole core would give it.
            worst = min(worst, 1e6 / cpu_us)
    with Server("websocket_tools", "--no-limits") as server:
        rate, cpu_us, failures = run_locust("websocket_tools", server.address, seconds)
    print(
        f"  websocket_tools against ours: {rate:,.0f}/s, {cpu_us:.2f} us of the worker's CPU each, {failures} failures"
    )
    bounds.say("checked messages/s for each second of one core, the slowest", worst, 50_000, "/s", at_least=True)


def run_locust(scenario: str, address: tuple[str, int], seconds: int, *options: str) -> tuple[float, float, int]:
    """(messages/s, CPU microseconds of the worker for each, failures)."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / f"{scenario}.py"), "--headless"]
        command += [*options, "-u", "20", "-r", "1000", "-t", f"{seconds}s", "--depth", str(DEPTH), "--only-summary"]
        command += ["--host", f"ws://{address[0]}:{address[1]}/", "--run-dir", f"{directory}/run"]
        command += ["--json-file", f"{directory}/stats"]
        with open(f"{directory}/log", "wb") as log:
            worker = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
            begun, cpu_s = 0.0, 0.0
            progress = Path(directory, "run", "progress.jsonl")
            first: dict[str, Any] = {}
            last: dict[str, Any] = {}
            process = psutil.Process(worker.pid)
            while worker.poll() is None:
                line = last_line(progress)
                if line and line.get("state") != "stopped" and line["count"] != last.get("count"):
                    used_s = sum(process.cpu_times()[:2])
                    if not first:
                        first, begun = line, used_s
                    last, cpu_s = line, used_s
                time.sleep(0.1)
        if not last or last["count"] == first["count"]:
            raise SystemExit(f"{scenario}: the load did not run: {Path(directory, 'log').read_text()[-2000:]}")
        count = last["count"] - first["count"]
        took_s = last["elapsed_s"] - first["elapsed_s"]
        failures = sum(row["num_failures"] for row in json.loads(Path(directory, "stats.json").read_text()))
        return count / took_s, (cpu_s - begun) / count * 1e6, failures


def last_line(path: Path) -> dict[str, Any]:
    """The newest whole line of a file of JSON lines; {} when there is none."""
    try:
        parsed: dict[str, Any] = json.loads(path.read_text().rstrip().rsplit("\n", 1)[-1])
    except (OSError, ValueError):
        return {}
    return parsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="smaller numbers, in about two minutes")
    parser.add_argument("--only", default="", metavar="PARTS", help="some of the parts, with commas between them")
    arguments = parser.parse_args()
    parts = {
        "servers": measure_servers,
        "throughput": measure_throughput,
        "flat": websocket_scale.measure_flat,
        "idle": websocket_scale.measure_idle,
        "load": websocket_scale.measure_load,
    }
    wanted = arguments.only.split(",") if arguments.only else list(parts)
    if unknown := set(wanted) - set(parts):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: choose from {', '.join(parts)}")
    bounds = Bounds()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for part in wanted:
        parts[part](bounds, arguments.short)
    if bounds.missed:
        sys.exit(1)


if __name__ == "__main__":
    from benchmarks import websocket_scale

    main()
