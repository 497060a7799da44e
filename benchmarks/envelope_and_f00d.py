"""What the envelope and the device server stand: twenty users, pipelined round trips, devices, attacks.

    python -m benchmarks.envelope_and_f00d [--short] [--only steady,pipelined,devices,hostile]

    steady       twenty Locust users for a minute: the server's memory, latency, time to connect
    pipelined    envelope round trips for each second of the server's CPU, 64 in flight on each of four connections
    devices      F00D devices connected at once, each acknowledged twice (10,000; --short: 5,000)
    hostile      20 good clients while 200 hostile ones attack: `swarmproof integration-test --bad-clients 200`

Round trips are counted against the CPU time of the server, so that the figure is that of one core also on a machine
that is busy with something else. Exit code 1 when a bound was missed.
"""

import argparse
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from benchmarks.websocket import ROOT, Bounds, Server
from protocols.envelope import EnvelopeCodec
from protocols.f00d import Packet, encode_packet, new_msg_id
from records.latency import LatencyStore
from records.run_directory import RunDirectory

DEADLINE_S = 60.0
CONNECTIONS = 4
IN_FLIGHT = 64
PAYLOAD = b"client-1-frame-1".ljust(64, b".")


def measure_steady(bounds: Bounds, short: bool) -> None:
    seconds = 10 if short else 60
    with Server("envelope") as server, tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder) / "run")
        before_mb = server.memory_mb()
        command = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "envelope.py"), "--headless"]
        command += ["--only-summary", "-u", "20", "-r", "20", "-t", f"{seconds}s", "--run-dir", str(run.path)]
        command += ["--host", "tcp://{}:{}".format(*server.address)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
        grown_mb = server.memory_mb() - before_mb
        store = LatencyStore.load(run)
    echo, connect = store.summary("envelope echo"), store.summary("envelope connect")
    print(
        f"steady: {echo.count:,} echoes in {seconds} s, {echo.failed} failed, mean {echo.mean_us / 1e3:.2f} ms, "
        f"p99 {echo.p99_us / 1e3:.2f} ms; connected in {connect.mean_us / 1e3:.2f} ms; server {grown_mb:+.1f} MB"
    )
    bounds.say("runs that ended with a failure", done.returncode, 1, "")
    bounds.say("growth of the server's memory", grown_mb, 50, "MB")
    bounds.say("mean latency", echo.mean_us / 1e3, 5, "ms")
    bounds.say("mean time to connect", connect.mean_us / 1e3, 10, "ms")


def measure_pipelined(bounds: Bounds, short: bool) -> None:
    seconds = 3.0 if short else 15.0
    for codec in ("binary", "msgpack"):
        encoder = EnvelopeCodec(codec=codec)  # type: ignore[arg-type]
        batch = b"".join(encoder.encode(number, PAYLOAD) for number in range(1, IN_FLIGHT + 1))
        with Server("envelope", "--max-clients", "100") as server:
            socks = [socket.create_connection(server.address, DEADLINE_S) for _ in range(CONNECTIONS)]
            count = 0
            cpu_s, start_s = server.cpu_s(), time.perf_counter()
            while (took_s := time.perf_counter() - start_s) < seconds:
                for sock in socks:
                    sock.sendall(batch)
                for sock in socks:
                    if receive(sock, len(batch)) != batch:
                        raise SystemExit("an echo was not what was sent")
                    count += IN_FLIGHT
            used_s = server.cpu_s() - cpu_s
            for sock in socks:
                sock.close()
        print(f"pipelined {codec}: {count / took_s:,.0f}/s, {used_s / count * 1e6:.2f} us of the server's CPU each")
        if codec == "binary":
            bounds.say("round trips for each second of the server's core", count / used_s, 100_000, "", at_least=True)


def receive(sock: socket.socket, size_bytes: int) -> bytes:
    data = bytearray()
    while len(data) < size_bytes:
        piece = sock.recv(size_bytes - len(data))
        if not piece:
            raise SystemExit("the server closed the connection")
        data += piece
    return bytes(data)


def measure_devices(bounds: Bounds, short: bool) -> None:
    devices, rounds = (5_000 if short else 10_000), 2
    ids = Random(5)
    with Server("f00d") as server:
        before_mb, start_s = server.memory_mb(), time.monotonic()
        socks = [socket.create_connection(server.address, DEADLINE_S) for _ in range(devices)]
        open_s, start_s, cpu_s = time.monotonic() - start_s, time.monotonic(), server.cpu_s()
        acknowledged = 0
        for turn in range(rounds):
            for number, sock in enumerate(socks):
                sock.sendall(encode_packet(Packet("toggle", f"device-{number}", new_msg_id(ids), turn == 0)))
            acknowledged += acknowledgements(socks)
        took_s, used_s, memory_mb = time.monotonic() - start_s, server.cpu_s() - cpu_s, server.memory_mb()
        for sock in socks:
            sock.close()
    print(
        f"devices: {devices:,} connected in {open_s:.1f} s, {acknowledged:,} packets acknowledged in {took_s:.1f} s "
        f"({used_s / acknowledged * 1e6:.0f} us of CPU each), {(memory_mb - before_mb) * 1e3 / devices:.1f} KB a device"
    )
    bounds.say("packets acknowledged", acknowledged, rounds * devices, "", at_least=True)


def acknowledgements(socks: list[socket.socket]) -> int:
    """How many of them were sent exactly `ACK`."""
    came = 0
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            selector.register(sock, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(DEADLINE_S)
            if not ready:
                break
            for key, _ in ready:
                sock = key.fileobj  # type: ignore[assignment]  # all are sockets
                came += sock.recv(16) == b"ACK"
                selector.unregister(sock)
    return came


def measure_hostile(bounds: Bounds, short: bool) -> None:
    command = [sys.executable, "-m", "swarmproof.cli", "integration-test", "--clients", "20"]
    command += ["--frames", "50" if short else "500", "--bad-clients", "200"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    last = done.stdout.strip().splitlines()[-2:]
    print("hostile: " + " | ".join(last))
    failures = 0 if done.returncode == 0 and "0 failures" in done.stdout else 1
    bounds.say("runs with a failure of a good client, or an attack not handled", failures, 1, "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="smaller numbers, in about a minute")
    parser.add_argument("--only", default="", metavar="PARTS", help="some of the parts, with commas between them")
    arguments = parser.parse_args()
    parts = {
        "steady": measure_steady,
        "pipelined": measure_pipelined,
        "devices": measure_devices,
        "hostile": measure_hostile,
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
    main()
