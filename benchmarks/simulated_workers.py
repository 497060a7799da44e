"""Workers that only report: Locust's protocol on ZeroMQ sockets, two hundred of them in one process, no load at all.

    python -m benchmarks.simulated_workers --port 5557 --workers 200 --rate 100

Each connects, spawns what it is told, sends heartbeats every second and a report every three, with what a worker on
another machine ships: Locust's statistics, three seconds of histograms of each operation, and its files. Ends when
the master says so, or is gone.
"""

import argparse
import os
import time
from importlib import metadata
from typing import Any, Final

import msgpack
import numpy as np
import zmq

from records.clock import clock_name
from records.histogram import Histogram
from records.latency import LatencyRecorder
from records.offered import Offered

HEARTBEAT_EVERY_S: Final = 1.0
REPORT_EVERY_S: Final = 3.0
MASTER_GONE_S: Final = 15.0
OPERATIONS: Final = ("envelope echo", "kv append", "kv get")
MEDIAN_NS: Final = 2_000_000
PROBES_A_SECOND: Final = 20


class Worker:
    """One simulated worker on its own socket."""

    def __init__(self, context: zmq.Context[Any], host: str, port: int, number: int, rate: float) -> None:
        self.identity = f"simulated-{os.getpid()}-{number}"
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 500)
        self.socket.setsockopt(zmq.IDENTITY, self.identity.encode())
        self.socket.connect(f"tcp://{host}:{port}")
        self.is_running = self.has_ended = False
        self.reports = self.requests = 0
        self.heard_at = time.monotonic()
        self._rate = rate
        self._users: dict[str, int] = {}
        self._random = np.random.default_rng(number)
        self._recorder = LatencyRecorder()
        self._written: dict[str, int] = {}
        # Spread over the second and over the three: two hundred machines are not in step.
        now = time.monotonic()
        self._next_heartbeat = now + number % 97 / 97 * HEARTBEAT_EVERY_S
        self._next_report = now + number % 89 / 89 * REPORT_EVERY_S
        self._reported_ns = time.monotonic_ns()
        self.send("client_ready", metadata.version("locust"))

    def send(self, kind: str, data: Any) -> None:
        self.socket.send(msgpack.dumps((kind, data, self.identity)))

    def receive(self) -> None:
        """Everything that has come."""
        while True:
            try:
                kind, data, _ = msgpack.loads(self.socket.recv(zmq.NOBLOCK), strict_map_key=False)
            except zmq.Again:
                return
            self.heard_at = time.monotonic()
            if kind == "spawn":
                self._spawn(data["user_classes_count"])
            elif kind == "swarmproof_clock":
                answer = {"now_ns": time.monotonic_ns(), "clock": clock_name(), "process": self.identity}
                self.send(kind, {"asked_ns": data["asked_ns"], **answer})
            elif kind in ("stop", "quit"):
                self.is_running = False
                self._users = {}
                self.report()
                self.send("client_stopped" if kind == "stop" else "quit", None)
                self.has_ended = kind == "quit"

    def _spawn(self, users: dict[str, int]) -> None:
        self.send("spawning", None)
        self._users = users
        if not self.is_running:
            self._reported_ns = time.monotonic_ns()
            self._written.clear()
            self.send("swarmproof_hello", {"is_remote": True})
        self.is_running = True
        self.send("spawning_complete", {"user_classes_count": users, "user_count": sum(users.values())})

    def tick(self, now: float) -> None:
        """What is due."""
        if now >= self._next_heartbeat:
            self._next_heartbeat += HEARTBEAT_EVERY_S
            state = "running" if self.is_running else "ready"
            self.send("heartbeat", {"state": state, "current_cpu_usage": 30.0, "current_memory_usage": 1 << 26})
        if now >= self._next_report:
            self._next_report += REPORT_EVERY_S
            self.report()

    def report(self) -> None:
        """What this worker would have done since its last report, in Locust's form and in ours."""
        until_ns = time.monotonic_ns()
        since_ns, self._reported_ns = self._reported_ns, until_ns
        counts = {name: int(self._rate / len(OPERATIONS) * (until_ns - since_ns) / 1e9) for name in OPERATIONS}
        entries = []
        for name, count in counts.items() if self.is_running else ():
            returns_ns = np.sort(self._random.integers(since_ns, until_ns, count))
            times_ns = (self._random.lognormal(0, 0.5, count) * MEDIAN_NS).astype(np.int64)
            calls_ns = returns_ns - times_ns
            self._recorder.record_runs(name, calls_ns, calls_ns, returns_ns, np.ones(count, dtype=np.int64))
            entries.append(_entry(name, times_ns / 1e6))
            self.requests += count
        delta = self._recorder.take()
        data = msgpack.dumps(delta)
        name = f"latency/{self.identity}.msgpack"
        offset = self._written.get(name, 0)
        self._written[name] = offset + len(data)
        lateness_us = self._random.integers(50, 900, round((until_ns - since_ns) / 1e9 * PROBES_A_SECOND))
        lag = Histogram.of(lateness_us).pack()
        ours = {
            "process": self.identity,
            "deltas": [delta],
            "files": [[name, offset, data]],
            "health": {"lag": lag, "unread": lag, "cpu_share": 0.3},
            "offered": Offered().take(),
        }
        report = {"stats": entries, "stats_total": _total(entries), "errors": {}, "swarmproof": ours}
        users = {"user_classes_count": self._users, "user_count": sum(self._users.values())}
        self.send("stats", {**report, **users})
        self.reports += 1


def _entry(name: str, times_ms: Any) -> dict[str, Any]:
    """Locust's StatsEntry as it is sent, with its own rounding of times."""
    rounded, counts = np.unique(np.rint(times_ms).astype(int), return_counts=True)
    now = time.time()
    return {
        "name": name,
        "method": "envelope",
        "last_request_timestamp": now,
        "start_time": now - REPORT_EVERY_S,
        "num_requests": len(times_ms),
        "num_none_requests": 0,
        "num_failures": 0,
        "total_response_time": float(times_ms.sum()),
        "max_response_time": float(times_ms.max(initial=0.0)),
        "min_response_time": float(times_ms.min(initial=1e9)),
        "total_content_length": 64 * len(times_ms),
        "response_times": dict(zip(rounded.tolist(), counts.tolist(), strict=True)),
        "num_reqs_per_sec": {int(now) - second: len(times_ms) // 3 for second in range(3)},
        "num_fail_per_sec": {},
    }


def _total(entries: list[dict[str, Any]]) -> dict[str, Any]:
    total = _entry("Aggregated", np.zeros(0))
    total["method"] = ""
    for entry in entries:
        for key in ("num_requests", "total_response_time", "total_content_length"):
            total[key] += entry[key]
        for key in ("response_times", "num_reqs_per_sec"):
            for value, count in entry[key].items():
                total[key][value] = total[key].get(value, 0) + count
        total["max_response_time"] = max(total["max_response_time"], entry["max_response_time"])
        total["min_response_time"] = min(total["min_response_time"], entry["min_response_time"])
    return total


def run(host: str, port: int, count: int, rate: float) -> tuple[int, int]:
    """Until all have been told to quit; how many reports were sent, and of how many requests."""
    context: zmq.Context[Any] = zmq.Context()
    workers = [Worker(context, host, port, number, rate) for number in range(count)]
    poller = zmq.Poller()
    of_socket = {worker.socket: worker for worker in workers}
    for worker in workers:
        poller.register(worker.socket, zmq.POLLIN)
    while any(not worker.has_ended for worker in workers):
        for socket, _ in poller.poll(10):
            of_socket[socket].receive()  # type: ignore[index]
        now = time.monotonic()
        for worker in workers:
            if not worker.has_ended:
                worker.tick(now)
        if max(worker.heard_at for worker in workers) < now - MASTER_GONE_S:
            break
    for worker in workers:
        worker.socket.close()
    context.term()
    return sum(worker.reports for worker in workers), sum(worker.requests for worker in workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second of each worker")
    arguments = parser.parse_args()
    reports, requests = run(arguments.host, arguments.port, arguments.workers, arguments.rate)
    print(f"{reports} reports of {requests} requests", flush=True)


if __name__ == "__main__":
    main()
