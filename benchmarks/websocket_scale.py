"""The parts of `benchmarks.websocket` that are about many connections and long times."""

import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from benchmarks.websocket import ROOT, SERVERS, Bounds, Peer, Server, last_line, text_for

#: Descriptors beside the connections: files, listeners, pipes.
SPARE_DESCRIPTORS = 200
#: Connections of one source address: the kernel has 28,000 ports for it, and leaves those in TIME_WAIT alone.
CONNECTIONS_OF_AN_ADDRESS = 5_000
RECONNECT_EVERY = 20
START_DEADLINE_S = 600.0


def measure_flat(bounds: Bounds, short: bool) -> None:
    seconds, warm_up_s = (20, 5) if short else (600, 60)
    print(f"flat: all servers at once, {seconds} s of messages, a new connection every {RECONNECT_EVERY} messages")
    servers = [Server(name, *options) for name, options in SERVERS.items()]
    try:
        peers: dict[str, Peer] = {}
        counts = dict.fromkeys(SERVERS, 0)
        first_mb: dict[str, float] = {}
        peak_mb = dict.fromkeys(SERVERS, 0.0)
        start_s = looked_s = time.monotonic()
        while time.monotonic() - start_s < seconds:
            for server in servers:
                name = server.name
                if counts[name] % RECONNECT_EVERY == 0:
                    if name in peers:
                        peers[name].sock.close()
                    peers[name] = Peer(server.address)
                    peers[name].greet(name)
                counts[name] += 1
                peers[name].exchange([text_for(name, counts[name])])
            if time.monotonic() - looked_s > 1:
                looked_s = time.monotonic()
                for server in servers:
                    memory_mb = server.memory_mb()
                    if looked_s - start_s > warm_up_s:
                        first_mb.setdefault(server.name, memory_mb)
                    peak_mb[server.name] = max(peak_mb[server.name], memory_mb)
            time.sleep(0.001)
        for name in SERVERS:
            grown_mb = peak_mb[name] - first_mb[name]
            print(f"  {name:22}{counts[name]:9,} messages{first_mb[name]:8.1f} MB, at most {grown_mb:+.1f} MB later")
        bounds.say("largest growth after warming up", max(peak_mb[n] - first_mb[n] for n in SERVERS), 2, "MB")
        bounds.say("largest server", max(peak_mb.values()), 50, "MB")
    finally:
        for server in servers:
            server.__exit__()


def measure_idle(bounds: Bounds, short: bool) -> None:
    users = 1_000 if short else 10_000
    # No pings: on a starved machine they would end connections, and what is weighed is idle ones.
    with Server("websocket_load", "--ping-interval", "3600") as server, tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "locust", "-f", str(ROOT / "benchmarks" / "idle_users.py"), "--headless"]
        command += [
            "-u",
            str(users),
            "-r",
            "200",
            "--only-summary",
            "--timeout",
            "300",
            "--run-dir",
            f"{directory}/run",
        ]
        command += ["--host", f"ws://{server.address[0]}:{server.address[1]}/", "--connect-deadline", "60"]
        with open(f"{directory}/log", "wb") as log:
            worker = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
            try:
                deadline_s = time.monotonic() + START_DEADLINE_S
                line: dict[str, Any] = {}
                while answered(line) < users and worker.poll() is None and time.monotonic() < deadline_s:
                    time.sleep(0.5)
                    line = last_line(Path(directory, "run", "progress.jsonl"))
                if answered(line) < users:
                    raise SystemExit(f"not all connected: {line}\n{Path(directory, 'log').read_text()[-2000:]}")
                worker_mb, server_mb = psutil.Process(worker.pid).memory_info().rss / 1e6, server.memory_mb()
            finally:
                worker.terminate()
                worker.wait()
    failed = f" ({line['failed']} attempts failed)" if line["failed"] else ""
    print(f"idle: {users:,} connected users{failed}: worker {worker_mb:,.0f} MB, server {server_mb:,.0f} MB")
    bounds.say("both together", worker_mb + server_mb, 2_000, "MB")


def answered(line: dict[str, Any]) -> int:
    """How many echoes came back, by a line of progress: one for each user."""
    echoes = line.get("operations", {}).get("websocket echo text", {"count": 0, "failed": 0})
    return int(echoes["count"] - echoes["failed"])


def measure_load(bounds: Bounds, short: bool) -> None:
    connections = 2_000 if short else 20_000
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    workers = -(-connections // max(1, most_files - SPARE_DESCRIPTORS))
    if workers > 1:
        workers *= 2  # the kernel does not spread evenly
        print(f"load: {most_files:,} descriptors are all that a process may have here: {workers} workers")
    with Server("websocket_load", "--workers", str(workers), "--ping-interval", "3600") as server:
        context = multiprocessing.get_context("spawn")
        holders = []
        start_s = time.monotonic()
        for number, first in enumerate(range(0, connections, CONNECTIONS_OF_AN_ADDRESS)):
            ours, theirs = context.Pipe()
            count = min(CONNECTIONS_OF_AN_ADDRESS, connections - first)
            holder = context.Process(target=hold, args=(server.address, count, f"127.0.0.{2 + number}", theirs))
            holder.start()
            holders.append((holder, ours))
        try:
            opened = sum(said(pipe) for _, pipe in holders)
            open_s = time.monotonic() - start_s
            memory_mb = server.memory_mb()
            start_s = time.monotonic()
            for _, pipe in holders:
                pipe.send("echo")
            echoed = sum(said(pipe) for _, pipe in holders)
            echo_s = time.monotonic() - start_s
        finally:
            for holder, _ in holders:
                holder.terminate()
                holder.join()
    print(
        f"load: {opened:,} connections from {len(holders)} addresses in {open_s:.1f} s, "
        f"{echoed:,} echoes by all of them in {echo_s:.1f} s, server {memory_mb:,.0f} MB"
    )
    bounds.say("connections open at once that were answered", echoed, connections, "", at_least=True)


def hold(address: tuple[str, int], count: int, source: str, pipe: Connection) -> None:
    """Open and keep `count` connections; when told to, one echo on each."""
    peers = [Peer(address, source) for _ in range(count)]
    pipe.send(len(peers))
    pipe.recv()
    for number, peer in enumerate(peers):
        peer.exchange([f"{number:064d}"])
    pipe.send(len(peers))
    pipe.recv()


def said(pipe: Connection) -> int:
    if not pipe.poll(START_DEADLINE_S):
        raise SystemExit("a process of connections says nothing")
    number: int = pipe.recv()
    return number
