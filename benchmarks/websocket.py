"""What the WebSocket servers cost: establishment, round trips, CPU and memory for each message, idle connections.

    python -m benchmarks.websocket [--messages 100000] [--depth 16] [--idle 2000]

One blocking client in this process speaks to each server in turn on loopback. CPU of both sides is measured, so that
the figures stand for themselves on a machine that is busy with something else.
"""

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import time

import psutil

from protocols.rpc import encode_request
from protocols.tool_call import encode_call, encode_hello
from protocols.websocket import Opened, Text, WebSocketClient

DEADLINE_S = 30.0
ESTABLISHMENTS = 100


class Peer:
    """One connection of our sans-I/O client."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.client = WebSocketClient(f"ws://{address[0]}:{address[1]}/")
        self.sock = socket.create_connection(address, timeout=DEADLINE_S)
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


def text_for(name: str, number: int) -> str:
    if name == "websocket_rpc":
        return encode_request(number, "echo", {"text": "x" * 40})
    if name == "websocket_tools":
        return encode_call(f"r{number}", "echo", {"text": "x" * 40})
    return f"{number:064d}"


def measure(name: str, options: list[str], messages: int, depth: int, idle: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", f"servers.{name}", "--port", "0", "--log-level", "error", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"listening on (\S+):(\d+)", process.stdout.readline())
        if found is None:
            raise SystemExit(f"{name} did not start")
        address = (found[1], int(found[2]))
        server = psutil.Process(process.pid)
        opened_ms = []
        for _ in range(ESTABLISHMENTS):
            start_s = time.perf_counter()
            peer = Peer(address)
            opened_ms.append((time.perf_counter() - start_s) * 1000)
            peer.sock.close()
        peer = Peer(address)
        if name == "websocket_tools":
            peer.exchange([encode_hello("benchmark", "")])
        round_trips_ms = []
        for number in range(1000):
            start_s = time.perf_counter()
            peer.exchange([text_for(name, number)])
            round_trips_ms.append((time.perf_counter() - start_s) * 1000)
        cpu_s, own_cpu_s, start_s = sum(server.cpu_times()[:2]), time.process_time(), time.perf_counter()
        for first in range(1000, 1000 + messages, depth):
            peer.exchange([text_for(name, number) for number in range(first, first + depth)])
        took_s = time.perf_counter() - start_s
        cpu_us = (sum(server.cpu_times()[:2]) - cpu_s) / messages * 1e6
        own_us = (time.process_time() - own_cpu_s) / messages * 1e6
        memory_mb = server.memory_info().rss / 1e6
        idlers = [Peer(address) for _ in range(idle)]
        idle_mb = server.memory_info().rss / 1e6
        for idler in idlers:
            idler.sock.close()
        print(
            f"{name:22}{statistics.median(opened_ms):10.2f}{statistics.median(round_trips_ms):10.3f}"
            f"{messages / took_s:12,.0f}{cpu_us:10.1f}{own_us:10.1f}{memory_mb:9.0f}"
            f"{(idle_mb - memory_mb) * 1000 / max(idle, 1):11.1f}",
            flush=True,
        )
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--depth", type=int, default=16, help="messages in flight on the one connection")
    parser.add_argument("--idle", type=int, default=2000, help="idle connections to weigh")
    arguments = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(
        f"{'':22}{'open ms':>10}{'trip ms':>10}{'messages/s':>12}{'srv us':>10}{'cli us':>10}{'MB':>9}{'KB/idle':>11}"
    )
    for name, options in (
        ("websocket_echo", []),
        ("websocket_load", []),
        ("websocket_security", ["--burst", "1000000000"]),
        ("websocket_rpc", []),
        ("websocket_tools", ["--no-limits", "--hello-timeout", "3600"]),
    ):
        measure(name, options, arguments.messages, arguments.depth, arguments.idle)


if __name__ == "__main__":
    main()
