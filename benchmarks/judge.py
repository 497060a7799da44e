"""How long the judge takes, and how much memory, from 10^4 to 10^6 operations.

    python -m benchmarks.judge            # the whole table, three minutes
    python -m benchmarks.judge --short    # up to 10^5 operations

Each row is a true history (puts, gets and cas, or appends and gets; each client in a closed loop) in a file, read and
checked by a process of its own on one core. Times are of its CPU, so that a busy machine does not blur them. The
last column divides them by n log n: where it stays the same, the cost grows as n log n. Exit code 1 when a row is
above its bound.
"""

import argparse
import heapq
import itertools
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgpack

from records.operations import (
    COMPLETE,
    FORMAT_VERSION,
    INVOKE,
    MAGIC,
    Operation,
    read_jsonl,
    read_operations,
    write_jsonl,
)
from swarmproof.judge.history import read_history
from swarmproof.judge.linearizability import check

_REPLY_NS: Final = 1_000_000  # each operation takes so long; its effect is somewhere in it
_JSONL: Final = "history.jsonl"


@dataclass(frozen=True)
class Row:
    """One history. `within_s` and `within_mb` bound reading and checking together; None: only shown."""

    operations: int
    keys: int = 100
    clients: int = 100
    unknown: float = 0.002
    kind: str = "registers"
    jsonl: bool = False
    within_s: float | None = None
    within_mb: float | None = None


ROWS: Final = (
    Row(10_000),
    Row(30_000),
    Row(100_000, within_s=1.0),
    Row(300_000),
    Row(1_000_000, within_s=6.0, within_mb=1000.0),
    Row(20_000, keys=1, clients=20, within_s=0.5),
    Row(20_000, keys=1, clients=500, unknown=0.05),
    Row(100_000, kind="appends", keys=1000),
    Row(100_000, kind="deletes", keys=100, unknown=0.05),
    Row(1_000_000, kind="appends", keys=5000, within_mb=1000.0),
    Row(1_000_000, jsonl=True, within_mb=1000.0),
)
SHORT: Final = 100_000

_OPS: Final = {
    "registers": ("put", "get", "get", "cas"),
    "appends": ("append", "append", "get"),
    "deletes": ("put", "get", "get", "cas", "delete"),
}


def true_history(row: Row, seed: int = 1) -> Iterator[list[Any]]:
    """What a correct store would have answered, as the records of an operations file."""
    rng = random.Random(seed)
    values: list[tuple[str | None, int | None]] = [(None, None)] * row.keys
    clients = [(rng.randrange(_REPLY_NS), client) for client in range(row.clients)]
    heapq.heapify(clients)
    effects: list[tuple[int, int, tuple[str, int, int, int, bool]]] = []
    indices = itertools.count(1)

    def settle(until_ns: int) -> Iterator[list[Any]]:
        while effects and effects[0][0] <= until_ns:
            _, number, (op, key, client, back_ns, lost) = heapq.heappop(effects)
            value, version = values[key]
            written = None if op in ("get", "delete") else f"v{number};"
            call_ns = back_ns - _REPLY_NS
            expect = value if op == "cas" else None
            yield [INVOKE, number, client, op, f"k{key}", written, expect, 0, 1, call_ns]
            if op != "get":
                version = next(indices)
                values[key] = ((value or "") + (written or "") if op == "append" else written, version)
            if not lost:
                out, ok = (value if op == "get" else None), (True if op == "cas" else None)
                yield [COMPLETE, number, "ok", back_ns, out, ok, version, 1, 1, ""]

    for number in range(1, row.operations + 1):
        at_ns, client = heapq.heappop(clients)
        yield from settle(at_ns)
        back_ns = at_ns + _REPLY_NS
        operation = rng.choice(_OPS[row.kind]), rng.randrange(row.keys), client, back_ns, rng.random() < row.unknown
        heapq.heappush(effects, (at_ns + rng.randrange(_REPLY_NS // 10, _REPLY_NS * 9 // 10), number, operation))
        heapq.heappush(clients, (back_ns + rng.randrange(_REPLY_NS // 5), client))
    yield from settle(1 << 62)


def write_history(folder: Path, row: Row) -> None:
    packer = msgpack.Packer()
    with (folder / "worker-1.msgpack").open("wb") as file:
        file.write(packer.pack([MAGIC, FORMAT_VERSION, "worker-1", 0, 0]))
        for record in true_history(row):
            file.write(packer.pack(record))
    if row.jsonl:
        with (folder / _JSONL).open("w", encoding="utf-8") as lines:
            write_jsonl(read_operations(folder), lines)


def judge_one(folder: Path) -> dict[str, Any]:
    """Read and check the history in `folder`, in this process."""
    before_mb = _peak_mb()
    lines = folder / _JSONL
    operations: Iterable[Operation] = read_jsonl(lines) if lines.exists() else read_operations(folder)
    started = time.process_time()
    history = read_history(operations)
    read = time.process_time()
    result = check(history)
    return {
        "operations": len(history),
        "read_s": read - started,
        "check_s": time.process_time() - read,
        "peak_mb": _peak_mb(),
        "before_mb": before_mb,
        "answer": "not linearizable" if result.findings else "unknown" if result.unknown else "linearizable",
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(row: Row) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        write_history(Path(folder), row)
        command = [sys.executable, "-m", "benchmarks.judge", "--one", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures


def holds(row: Row, figures: dict[str, Any]) -> bool:
    if figures["answer"] != "linearizable" or figures["operations"] != row.operations:
        return False
    in_time = row.within_s is None or figures["read_s"] + figures["check_s"] <= row.within_s
    return in_time and (row.within_mb is None or figures["peak_mb"] <= row.within_mb)


def line_of(row: Row, figures: dict[str, Any]) -> str:
    together_s = figures["read_s"] + figures["check_s"]
    per_step_ns = together_s * 1e9 / (row.operations * math.log2(row.operations))
    bounds = [f"{row.within_s:g} s"] if row.within_s is not None else []
    bounds += [f"{row.within_mb:g} MB"] if row.within_mb is not None else []
    cells = (
        f"{row.operations:,}" + (" (JSON lines)" if row.jsonl else ""),
        row.kind,
        f"{row.keys:,}",
        f"{row.clients:,}",
        f"{row.unknown:.1%}",
        f"{figures['read_s']:.2f} s",
        f"{figures['check_s']:.2f} s",
        f"{together_s:.2f} s",
        f"{figures['peak_mb']:.0f} MB",
        f"{per_step_ns:.0f} ns",
        ", ".join(bounds) or "-",
        "yes" if holds(row, figures) else f"NO ({figures['answer']})",
    )
    return f"| {' | '.join(cells)} |"


COLUMNS: Final = (
    "operations",
    "kind",
    "keys",
    "clients",
    "unknown",
    "read",
    "check",
    "together",
    "peak memory",
    "per n log2 n",
    "bound",
    "holds",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help=f"only up to {SHORT:,} operations")
    parser.add_argument("--one", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(judge_one(options.one)))
        return 0
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    all_hold = True
    for row in ROWS:
        if options.short and row.operations > SHORT:
            continue
        figures = measure(row)
        all_hold &= holds(row, figures)
        print(line_of(row, figures), flush=True)
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
