"""The command: ``python -m tests.raft_simulator --seed N`` replays one seed; ``--seeds COUNT --jobs 2`` soaks.

Exit code 0: every promise held. 1: a promise was broken; the first failing seed's transcript and its replay command are
printed. 2: bad arguments.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator

from tests.raft_simulator.cluster import Seams, replay, simulate
from tests.raft_simulator.logged_disk import LoggedDisk
from tests.raft_simulator.mutants import MUTANTS
from tests.raft_simulator.profile import profile_of
from tests.raft_simulator.violation import Violation

# How much of a transcript is read with pleasure; the whole of it comes with --full.
TRANSCRIPT_LINES = 120
# Seeds in one piece of work for a process: enough to hide the cost of handing it over.
CHUNK_SEEDS = 25


def seams_of(mutant: str | None, seed: int) -> Seams:
    """Every second seed keeps its data in the real durable log."""
    if mutant:
        return MUTANTS[mutant].seams
    return Seams(disk=LoggedDisk) if seed % 2 else Seams()


def play(seed: int, mutant: str | None = None) -> tuple[int, int, int, str]:
    """(seed, events, operations, what was broken or "")."""
    seams = seams_of(mutant, seed)
    try:
        cluster = simulate(seed, seams=seams)
    except Violation as violation:
        return seed, 0, 0, str(violation)
    return seed, cluster.steps, len(cluster.history), ""


def show(seed: int, mutant: str | None, full: bool) -> int:
    transcript, violation = replay(seed, seams=seams_of(mutant, seed))
    shown = transcript if full else transcript[-TRANSCRIPT_LINES:]
    print(f"seed {seed}: {profile_of(seed)}")
    if len(shown) < len(transcript):
        print(f"... {len(transcript) - len(shown)} earlier lines, shown with --full")
    print("\n".join(shown))
    if violation is None:
        print(f"seed {seed}: every promise held")
        return 0
    print(f"seed {seed} broke {violation}")
    print(f"replay: {replay_command(seed, mutant)}")
    return 1


def replay_command(seed: int, mutant: str | None = None) -> str:
    return f"python -m tests.raft_simulator --seed {seed}" + (f" --mutant {mutant!r}" if mutant else "")


def soak(first: int, count: int, jobs: int, mutant: str | None) -> int:
    """Play seeds first..first+count-1 in ``jobs`` processes, with a line of progress."""
    began = time.monotonic()
    events = operations = 0
    broken: list[tuple[int, str]] = []
    for done, (seed, seed_events, seed_operations, problem) in enumerate(_results(first, count, jobs, mutant), 1):
        events += seed_events
        operations += seed_operations
        if problem:
            broken.append((seed, problem))
            print(f"\rseed {seed} broke {problem.splitlines()[0]}", flush=True)
        if done % CHUNK_SEEDS == 0 or done == count:
            _progress(done, count, time.monotonic() - began, events, len(broken))
    print(
        f"\n{count} seeds, {operations} operations, {events} events in {time.monotonic() - began:.0f} s,"
        f" {len(broken)} broken"
    )
    if broken:
        print(f"first: {min(broken)[1]}\nreplay: {replay_command(min(broken)[0], mutant)}")
    return 1 if broken else 0


def _results(first: int, count: int, jobs: int, mutant: str | None) -> Iterator[tuple[int, int, int, str]]:
    seeds = range(first, first + count)
    if jobs == 1:
        for seed in seeds:
            yield play(seed, mutant)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_Play(mutant), seeds, chunksize=CHUNK_SEEDS)


class _Play:
    """A picklable ``play`` for the pool."""

    def __init__(self, mutant: str | None) -> None:
        self.mutant = mutant

    def __call__(self, seed: int) -> tuple[int, int, int, str]:
        return play(seed, self.mutant)


def _progress(done: int, count: int, elapsed_s: float, events: int, broken: int) -> None:
    width = 30
    filled = width * done // count
    left_s = elapsed_s / done * (count - done)
    bar = "#" * filled + "." * (width - filled)
    print(
        f"\r[{bar}] {done}/{count} seeds, {done / elapsed_s:.0f}/s, {events / 1e6:.1f} M events, {broken} broken,"
        f" {left_s:.0f} s left ",
        end="" if sys.stdout.isatty() else "\n",
        flush=True,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.raft_simulator", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this seed and print its transcript")
    parser.add_argument("--full", action="store_true", help="print the whole transcript")
    parser.add_argument("--seeds", type=int, default=300, help="how many seeds to play (default 300)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="play with this fault built in")
    arguments = parser.parse_args(argv)
    if arguments.seeds < 1 or arguments.jobs < 1:
        parser.error("--seeds and --jobs must be at least 1")
    if arguments.seed is not None:
        return show(arguments.seed, arguments.mutant, arguments.full)
    return soak(arguments.first, arguments.seeds, arguments.jobs, arguments.mutant)
