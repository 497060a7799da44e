"""What a checked round trip costs the client, beside what it costs others.

    python -m benchmarks.compare                    the table, a quarter of an hour
    python -m benchmarks.compare --quick            fewer repetitions, a few minutes
    python -m benchmarks.compare --only envelope    rows whose name contains this
    python -m benchmarks.compare --scale            cost and memory at 20 ... 10,000 connections, a bare loop's too
    python -m benchmarks.compare --recording        what recording costs of the envelope figure
    python -m benchmarks.compare --graphs DIR       cost against connections and payload, as SVG files and as tables
    python -m benchmarks.compare --peers            other load tools too (benchmarks.peers), and how far behind they are

Each row is measured in a process of its own against a target of its own that does little else than answer. The
*floor* (bare gevent sockets: no codec, no check, no record) is measured beside every row, in turn, because a shared
machine is never the same for long: a repetition's figure is the row's CPU per round trip divided by the floor's
next to it, and what is printed is the median of the repetitions.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import graphs, peers
from benchmarks.cores import FIRST, LAST, on_cores

# A starved machine takes long to start a Python process.
START_WITHIN_S = 60
RUN_WITHIN_S = 300


class Row(NamedTuple):
    """`bar`: the most that it may cost, as a multiple of the floor (or of `of`, another row)."""

    name: str
    client: str
    target: str
    checks: str
    engine: bool = True
    depth: int = 1
    users: int = 20
    bar: float | None = None
    of: str = ""
    payload_bytes: int = 64
    recorded: bool = True


_ENVELOPE = "id, version, type, timestamp, payload"
_F00D = "msg_id of the acknowledgement"
_ECHO = "id, type, payload"
_RPC = "id, shape, result (of echo)"


def _pair(
    name: str, client: str, target: str, checks: str, bars: tuple[float | None, float | None], *, engine: bool = True
) -> list[Row]:
    how = "engine" if engine else "scripted"
    return [
        Row(f"{name} {how}, depth {depth}", client, target, checks, engine, depth, bar=bar)
        for depth, bar in zip((1, 16), bars, strict=True)
    ]


ROWS = [
    *_pair("envelope", "envelope", "echo", _ENVELOPE, (2.0, 0.75), engine=False),
    *_pair("envelope", "envelope", "echo", _ENVELOPE, (0.8, 0.25)),
    *_pair("F00D framed", "f00d", "f00d", _F00D, (1.0, 0.4)),
    *_pair("F00D raw", "f00d_raw", "f00d_raw", "ACK, by order", (1.0, 0.4)),
    *_pair("WebSocket echo", "websocket_echo", "websocket_echo", _ECHO, (0.95, 0.35)),
    *_pair("WebSocket RPC", "websocket_rpc", "websocket_rpc", _RPC, (1.1, 0.5)),
    *_pair("F00D framed", "f00d", "f00d", _F00D, (None, None), engine=False),
    *_pair("WebSocket echo", "websocket_echo", "websocket_echo", _ECHO, (None, None), engine=False),
    *_pair("WebSocket RPC", "websocket_rpc", "websocket_rpc", _RPC, (None, None), engine=False),
    Row("stock Locust, raw socket", "stock_tcp", "echo", "id, payload", engine=False),
    Row("stock Locust, websocket-client", "stock_websocket", "websocket_echo", "payload", engine=False),
]
SCALE = [
    *(
        Row(
            f"bare epoll loop, {users:,} connections",
            "bare_loop",
            "echo",
            "nothing",
            engine=False,
            users=users,
            of="bare epoll loop, 20 connections",
        )
        for users in (20, 1_000, 5_000, 10_000)
    ),
    *(
        Row(
            f"{name} engine, depth {depth}, {users:,} connections",
            client,
            target,
            checks,
            depth=depth,
            users=users,
            bar={1000: 1.15, 5000: 1.6}.get(users),
            of=f"{name} engine, depth {depth}, 20 connections",
        )
        for name, client, target, checks in (
            ("envelope", "envelope", "echo", _ENVELOPE),
            ("F00D framed", "f00d", "f00d", _F00D),
            ("WebSocket echo", "websocket_echo", "websocket_echo", _ECHO),
            ("WebSocket RPC", "websocket_rpc", "websocket_rpc", _RPC),
        )
        for depth in (1, 16)
        for users in (20, 1_000, 5_000, *((10_000,) if client == "envelope" and depth == 1 else ()))
    ),
]
RECORDING = [
    Row(
        f"envelope {how}, depth {depth}{'' if recorded else ', unrecorded'}",
        "envelope",
        "echo",
        _ENVELOPE,
        how == "engine",
        depth,
        bar=1.25 if recorded else None,
        of=f"envelope {how}, depth {depth}, unrecorded" if recorded else "",
        recorded=recorded,
    )
    for how in ("engine", "scripted")
    for depth in (1, 16)
    for recorded in (False, True)
]
#: For the graphs: (name, client, target, engine), over these connections and these payloads.
DRAWN = (
    ("envelope engine", "envelope", "echo", True),
    ("envelope scripted", "envelope", "echo", False),
    ("WebSocket echo engine", "websocket_echo", "websocket_echo", True),
)
DRAWN_CONNECTIONS = (20, 100, 1_000, 5_000, 10_000)
DRAWN_PAYLOADS = (64, 256, 1_024, 4_096, 16_384, 65_536)


@contextmanager
def target(kind: str) -> Iterator[int]:
    """A running target; its port."""
    with on_cores(LAST):
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.targets.fast", kind], stdout=subprocess.PIPE, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise SystemExit(f"the target {kind} did not start")
        yield int(line.split()[-1])
    finally:
        process.kill()
        process.wait()


def run_client(arguments: list[str]) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.client", *arguments]
    with on_cores(FIRST):
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_WITHIN_S, check=False)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def measure(row: Row, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row and the floor beside it."""
    with target("echo") as port:
        floor = run_client(["floor", str(port), "--seconds", f"{seconds}"])
    with target(row.target) as port:
        arguments = [row.client, str(port), "--users", str(row.users), "--depth", str(row.depth)]
        arguments += ["--options", json.dumps({"payload_bytes": row.payload_bytes})]
        arguments += (["--engine"] if row.engine else []) + ([] if row.recorded else ["--unrecorded"])
        result = run_client([*arguments, "--seconds", f"{seconds}"])
    if result["failures"]:
        print(f"  {row.name}: {result['failures']} failures", file=sys.stderr)
    return result, floor


def draw_graphs(directory: Path, only: str, repetitions: int, seconds: float) -> None:
    """Measure and draw the cost against connections and against the payload; print the same as tables."""
    for file, title, x_name, values, field in (
        ("cost-connections.svg", "Cost of a round trip, depth 1, 64 bytes", "connections", DRAWN_CONNECTIONS, "users"),
        ("cost-payload.svg", "Cost of a round trip, depth 1, 20 connections", "bytes", DRAWN_PAYLOADS, "payload_bytes"),
    ):
        lines = []
        for name, client, kind, engine in DRAWN:
            if only not in name.lower():
                continue
            line = graphs.Line(name, [])
            for value in values:
                print(f"  {name}, {value:,} {x_name}", file=sys.stderr, flush=True)
                row = Row(name, client, kind, "", engine)._replace(**{field: value})
                pairs = [measure(row, seconds) for _ in range(repetitions)]
                ratio = statistics.median(result["cpu_us"] / floor["cpu_us"] for result, floor in pairs)
                line.points.append((value, round(ratio, 3)))
            lines.append(line)
        graphs.draw(directory / file, title, x_name, "CPU as a multiple of the floor (20 connections, 64 bytes)", lines)
        print(f"\n| {x_name} | {' | '.join(line.name for line in lines)} |\n{'|---' * (len(lines) + 1)}|")
        for number, value in enumerate(values):
            print(f"| {value:,} | {' | '.join(f'{line.points[number][1]:.2f}' for line in lines)} |", flush=True)


def versions() -> str:
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("locust", "gevent", "greenlet", "orjson"))
    return (
        f"{platform.system()} {platform.release()}, {len(models)} x {models[0] if models else platform.machine()}; "
        f"Python {platform.python_version()}, {packages}; load average {os.getloadavg()[0]:.1f} at the start"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--recording", action="store_true")
    parser.add_argument("--graphs", type=Path, metavar="DIR")
    parser.add_argument("--repetitions", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--peers", action="store_true", help="measure other load tools besides")
    parser.add_argument(
        "--artillery", default="", metavar="DIR", help="with --peers: an npm folder with Artillery in it"
    )
    parser.add_argument("--json", default="", help="also write the figures to this file")
    arguments = parser.parse_args()
    table = SCALE if arguments.scale else RECORDING if arguments.recording else ROWS
    rows = [row for row in table if arguments.only.lower() in row.name.lower()]
    repetitions = arguments.repetitions or (3 if arguments.quick else 5)
    seconds = arguments.seconds or (2.0 if arguments.quick else 4.0)
    print(versions(), flush=True)
    if arguments.graphs:
        draw_graphs(arguments.graphs, arguments.only.lower(), repetitions, seconds)
        return
    samples: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {row.name: [] for row in rows}
    for number in range(repetitions):
        for row in rows:
            print(f"  {number + 1}/{repetitions} {row.name}", file=sys.stderr, flush=True)
            samples[row.name].append(measure(row, seconds))
    floors = [floor["cpu_us"] for pairs in samples.values() for _, floor in pairs]
    print(f"floor: {statistics.median(floors):.1f} us ({min(floors):.1f} to {max(floors):.1f})\n")
    print("| row | us each | /s | x floor | bar | worst hub lag | longest turn | MiB | checks |")
    print("|---" * 9 + "|")
    figures: dict[str, float] = {}
    for row in rows:
        print(_line(row, samples[row.name], figures))
    if arguments.peers:
        with peers.targets() as ports:
            theirs = peers.rows(ports, 2 * seconds, artillery=arguments.artillery, repetitions=repetitions)
        print(f"\n{peers.table(theirs)}\n\n{peers.claim(_engine_rows(rows, samples, figures), theirs)}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(samples, file)


def _engine_rows(
    rows: list[Row], samples: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]], figures: dict[str, float]
) -> list[peers.Row]:
    """Ours, as the peers' table has them."""
    found = []
    for row in rows:
        if row.engine and row.name in figures:
            cpu_us = statistics.median(result["cpu_us"] for result, _ in samples[row.name])
            found.append(peers.Row(row.name, row.checks, True, cpu_us, floor_us=cpu_us / figures[row.name]))
    return found


def _line(row: Row, pairs: list[tuple[dict[str, Any], dict[str, Any]]], figures: dict[str, float]) -> str:
    ratio = statistics.median(result["cpu_us"] / floor["cpu_us"] for result, floor in pairs)
    figures[row.name] = ratio
    median = {key: statistics.median(result[key] for result, _ in pairs) for key in ("cpu_us", "rate", "peak_mib")}
    lag_ms = max(result["lag_ms"] for result, _ in pairs)
    turn_ms = max(result["turn_ms"] for result, _ in pairs)
    bar = ""
    measured = ratio / figures[row.of] if row.of in figures else ratio
    if row.bar is not None:
        verdict = "ok" if measured <= row.bar else "MISSED"
        bar = f"{measured:.2f} of {row.bar} {f'x {row.of}' if row.of else ''} {verdict}".replace("  ", " ")
    elif row.of:
        bar = f"{measured:.2f} x {row.of}"
    return (
        f"| {row.name} | {median['cpu_us']:.2f} | {median['rate']:,.0f} | {ratio:.2f} | {bar} "
        f"| {lag_ms:.0f} ms | {turn_ms:.1f} ms | {median['peak_mib']:.0f} | {row.checks} |"
    )


if __name__ == "__main__":
    main()
