"""How long the judge takes: `python -m tests.judge.speed [--operations 1000000] [--keys 100] [--clients 100]`.

Writes a true history to a file, then measures reading and checking it apart, and the memory of the process.
"""

import argparse
import heapq
import random
import resource
import tempfile
import time
from pathlib import Path

import msgpack

from records.operations import COMPLETE, FORMAT_VERSION, INVOKE, MAGIC, read_operations
from swarmproof.judge.history import read_history
from swarmproof.judge.linearizability import check


def write_history(folder: Path, operations: int, *, keys: int, clients: int, unknown: float, appends: bool) -> None:
    """A true history: each client in a closed loop, each operation takes effect at its middle."""
    rng = random.Random(1)
    packer = msgpack.Packer()
    values: list[tuple[str | None, int | None]] = [(None, None)] * keys
    now = [rng.randrange(1_000_000) for _ in range(clients)]
    heap = [(at, client) for client, at in enumerate(now)]
    heapq.heapify(heap)
    effects: list[tuple[int, int, tuple]] = []
    with (folder / "worker-1.msgpack").open("wb") as file:
        file.write(packer.pack([MAGIC, FORMAT_VERSION, "worker-1", 0, 0]))

        def settle(until: int) -> None:
            while effects and effects[0][0] <= until:
                _, number, (op, key, back, lost) = heapq.heappop(effects)
                value, version = values[key]
                out = ok = None
                if op == "get":
                    out = value
                else:
                    new = f"v{number};"
                    if op == "append":
                        new = (value or "") + new
                    ok = True if op == "cas" else None
                    version = number
                    values[key] = (new, version)
                expect = value if op == "cas" else None
                written = f"v{number};" if op != "get" else None
                call = back - 1_000_000
                file.write(packer.pack([INVOKE, number, number % clients, op, f"k{key}", written, expect, 0, 1, call]))
                if not lost:
                    file.write(packer.pack([COMPLETE, number, "ok", back, out, ok, version, 1, 1, ""]))

        for number in range(1, operations + 1):
            at, client = heapq.heappop(heap)
            settle(at)
            took = 1_000_000
            op = rng.choice(("append", "append", "get")) if appends else rng.choice(("put", "get", "get", "cas"))
            lost = rng.random() < unknown
            effect = at + took // 2 + rng.randrange(-400_000, 400_000)
            heapq.heappush(effects, (effect, number, (op, rng.randrange(keys), at + took, lost)))
            heapq.heappush(heap, (at + took + rng.randrange(200_000), client))
        settle(1 << 62)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--unknown", type=float, default=0.002)
    parser.add_argument("--appends", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_history(
            Path(folder),
            options.operations,
            keys=options.keys,
            clients=options.clients,
            unknown=options.unknown,
            appends=options.appends,
        )
        before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        started = time.process_time()
        history = read_history(read_operations(Path(folder)))
        read = time.process_time()
        result = check(history)
        done = time.process_time()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer = "linearizable" if not result.findings and not result.unknown else "NOT LINEARIZABLE"
    print(
        f"{len(history):,} operations, {options.keys} keys, {options.clients} clients: read {read - started:.2f} s, "
        f"check {done - read:.2f} s, together {done - started:.2f} s; peak {peak_mb:.0f} MB "
        f"(of which before {before_mb:.0f}); {answer}"
    )


if __name__ == "__main__":
    main()
