"""What a link costs when nothing is wrong with it: throughput at 20 connections and added latency at one.

    python -m benchmarks.proxy [--seconds 3] [--rounds 5]

One envelope server, one client process, and `swarmproof proxy` in between or not: the same client measures both ways
in turn, in one run, and the medians of the rounds are compared. The limits: less than 30 % of the throughput, less
than 100 µs at the median. It ends with code 1 when one is missed.
"""

import argparse
import contextlib
import re
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from protocols.envelope import EnvelopeCodec
from protocols.frames import FrameDecoder

CONNECTIONS = 20
DEPTH = 8  # requests in flight on each connection, as in the load generator's pipelining
PAYLOAD = bytes(64)
MAX_COST = 0.30
MAX_ADDED_US = 100.0
LATENCY_SAMPLES = 3000
START_WITHIN_S = 30.0


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[int]:
    """Start `python -m ...`; the port that it says."""
    child = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        found = re.search(r"listening on \S+?:(\d+)", line)
        if found is None:
            raise SystemExit(f"{arguments[0]} did not start; it says: {line!r}")
        yield int(found[1])
    finally:
        child.terminate()
        child.wait(START_WITHIN_S)


def throughput(port: int, seconds: float) -> float:
    """Checked replies per second over CONNECTIONS connections, DEPTH requests in flight on each."""
    selector = selectors.DefaultSelector()
    for _ in range(CONNECTIONS):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        codec = EnvelopeCodec()
        selector.register(sock, selectors.EVENT_READ, codec)
        sock.sendall(b"".join(codec.encode(number, PAYLOAD) for number in range(DEPTH)))
    done = 0
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        for key, _ in selector.select(1.0):
            peer, codec = key.fileobj, key.data
            assert isinstance(peer, socket.socket)
            replies = codec.receive_data(peer.recv(65536))
            for reply in replies:
                assert reply.payload == PAYLOAD
            done += len(replies)
            peer.sendall(b"".join([codec.encode(reply.request_id + DEPTH, PAYLOAD) for reply in replies]))
    for key in list(selector.get_map().values()):
        key.fileobj.close()  # type: ignore[union-attr]
    return done / elapsed


def latency_us(port: int) -> float:
    """The median round trip of one request at a time."""
    request = EnvelopeCodec().encode(1, PAYLOAD)
    times = []
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(LATENCY_SAMPLES):
            decoder = FrameDecoder()
            began = time.perf_counter_ns()
            sock.sendall(request)
            while not decoder.receive_data(sock.recv(4096)):
                pass
            times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1000


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(argv)
    rates: tuple[list[float], list[float]] = ([], [])
    medians: tuple[list[float], list[float]] = ([], [])
    with (
        process("servers.envelope", "--port", "0") as direct,
        process("swarmproof.cli", "proxy", "--listen", "127.0.0.1:0", "--upstream", f"127.0.0.1:{direct}") as proxied,
    ):
        for round_number in range(given.rounds):
            # The order changes each round, so that a machine that slows down does not favour one of them.
            for way in (0, 1) if round_number % 2 == 0 else (1, 0):
                port = (direct, proxied)[way]
                rates[way].append(throughput(port, given.seconds))
                medians[way].append(latency_us(port))
    rate = [statistics.median(values) for values in rates]
    median_us = [statistics.median(values) for values in medians]
    cost = 1 - rate[1] / rate[0]
    added_us = median_us[1] - median_us[0]
    print(f"direct   {rate[0]:10.0f}/s   median {median_us[0]:6.1f} µs")
    print(f"proxied  {rate[1]:10.0f}/s   median {median_us[1]:6.1f} µs")
    print(f"cost of a link: {cost:.1%} of the throughput (limit {MAX_COST:.0%}), {added_us:+.1f} µs (limit 100 µs)")
    return 0 if cost < MAX_COST and added_us < MAX_ADDED_US else 1


if __name__ == "__main__":
    sys.exit(main())
