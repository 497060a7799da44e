"""Are the percentiles true? Runs against a server whose delays are known, and the truth beside what was measured.

    python -m benchmarks.accuracy                      all cases, a quarter of an hour
    python -m benchmarks.accuracy --short              the same cases shorter, about eight minutes
    python -m benchmarks.accuracy --only frozen
    python -m benchmarks.accuracy --output table.md    the table also into a file

*Truth* is computed: from the delays that the server was told to make, the freeze that it was told to have, the
schedule of the load, and what a bare blocking socket needs for a round trip to that server here (measured first).
*Server* is what the server itself noted that it did (and the same round trip): where that is off the truth, the machine
was busy, and no load generator can do better. *Stock* is what Locust alone reports for the same server: in open load
its users are paced by `constant_throughput`. A figure is right within 1 % or 50 us.

Ours are the response time, from when a request was due, and the *service time*, from when it went: the same truth, for
nobody waits for a place here (there are lanes enough for the freeze). Where they differ the request went late, by this
process or the machine.

The server has a processor to itself if there are two or more, on which it never sleeps (`benchmarks.cores`). How late
the machine wakes a process that sleeps, and what a bare loop reads that never does (`benchmarks.bare_loop`), is told
first: nobody who runs here can measure less.

Little's law, users = rate x mean(response + think time), is checked in closed load: within 2 %.
"""

import argparse
import json
import math
import os
import platform
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.bare_loop import FRAME, response_times_ns
from benchmarks.cores import ALL_BUT_LAST, LAST, are_several, on_cores
from benchmarks.targets.delays import draw_ns, exact_timers
from records.latency import RESPONSE, SERVICE, LatencyStore
from records.run_directory import RUN_JSON, RunDirectory
from users.kernel_times import kernel_times

ROOT = Path(__file__).resolve().parent.parent
USERS = Path(__file__).with_name("accuracy_users.py")
PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
WITHIN_SHARE, WITHIN_US = 0.01, 50.0
LITTLE_WITHIN = 0.02
RATE_PER_S = 1000
CLOSED_USERS = 20
RUN_DEADLINE_S = 180.0
TRANSPORT_ROUNDS = 1000
SLEEPS = 8000
BARE_S, BARE_SHORT_S = 60.0, 20.0
US_PER_NS, NS_PER_S = 1e-3, 1_000_000_000

Values = NDArray[np.float64]


class Case(NamedTuple):
    """`depth`: so many lanes that nobody waits for one. `freeze_s`: once, a third into the run; 0 = never."""

    name: str
    delays: str
    is_open: bool
    seconds: float
    workers: int = 1
    freeze_s: float = 0.0
    think_s: float = 0.0
    depth: int = 1


class Outcome(NamedTuple):
    """All in microseconds by percent; `stock` is empty when it was left out."""

    truth: dict[float, float]
    server: dict[float, float]
    ours: dict[float, float]
    service: dict[float, float]
    stock: dict[float, float]
    requests: int
    facts: dict[str, Any]
    little: str


def cases(*, short: bool) -> Iterator[Case]:
    long_s, short_s = (20.0, 8.0) if short else (60.0, 20.0)
    frozen_s = long_s / 30  # two seconds in sixty
    for workers in (1, 2):
        lanes = math.ceil(RATE_PER_S * frozen_s / CLOSED_USERS * 1.2)
        yield Case("1 ms, frozen once", "constant:1", True, long_s, workers, frozen_s, depth=lanes)
        yield Case("1 ms, frozen once", "constant:1", False, long_s, workers, frozen_s, think_s=0.019)
        for name, delays, think_s in (
            ("constant 20 ms", "constant:20", 0.01),
            ("uniform 10 to 30 ms", "uniform:10:30", 0.0),
            ("exponential, mean 20 ms", "exponential:20", 0.0),
            ("98 % 15 ms, 2 % 200 ms", "two:15:200:0.02", 0.01),
        ):
            yield Case(name, delays, True, short_s, workers, depth=20)
            yield Case(name, delays, False, short_s, workers, think_s=think_s)


def apart_s(case: Case) -> float:
    """How long after one another the users of a worker begin: spread evenly over the cycle of each."""
    cycle_s = (
        CLOSED_USERS / RATE_PER_S if case.is_open else case.think_s + float(draw_ns(case.delays).mean()) / NS_PER_S
    )
    return cycle_s * case.workers / CLOSED_USERS


def percentiles(values_us: Values) -> dict[float, float]:
    """As HdrHistogram defines them: the least value that so many percent do not exceed."""
    ordered = np.sort(values_us)
    return {p: float(ordered[max(0, math.ceil(p / 100 * len(ordered)) - 1)]) for p in PERCENTS}


@contextmanager
def constant_delay(delay_ms: int) -> Iterator[tuple[str, int]]:
    """Host and port of a server that takes so long for everything, for a client in this process."""
    case = Case("", f"constant:{delay_ms}", is_open=False, seconds=0)
    with (
        tempfile.TemporaryDirectory() as folder,
        delay_server(case, Path(folder) / "log.npy") as address,
        on_cores(ALL_BUT_LAST),
    ):
        host, port = address.removeprefix("tcp://").split(":")
        yield host, int(port)


def transport_us(*, by_kernel: bool) -> float:
    """What a round trip takes beyond the delay, the median: loopback, the server's own work, and this process's waking
    up, unless the kernel is asked when the reply came."""
    with constant_delay(1) as address, socket.create_connection(address) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        timed = kernel_times(sock, by_kernel)
        times_us = []
        for _ in range(TRANSPORT_ROUNDS):
            begin_ns = time.monotonic_ns()
            sock.sendall(FRAME)
            if timed is None:
                sock.recv(len(FRAME), socket.MSG_WAITALL)
                times_us.append((time.monotonic_ns() - begin_ns) * US_PER_NS)
            else:
                timed.recv(len(FRAME))
                times_us.append((timed.came_ns - begin_ns) * US_PER_NS)
    return float(np.median(times_us)) - 1000.0


def sleep_lateness_us() -> dict[float, float]:
    """How late this machine wakes a process that sleeps and does nothing else."""
    lates_us = []
    exact_timers()
    with on_cores(ALL_BUT_LAST):
        due_ns = time.monotonic_ns()
        for _ in range(SLEEPS):
            due_ns = max(due_ns, time.monotonic_ns()) + 1_000_000
            select.select([], [], [], max(0, due_ns - time.monotonic_ns()) / NS_PER_S)
            lates_us.append((time.monotonic_ns() - due_ns) * US_PER_NS)
    exact_timers(exact=False)
    return percentiles(np.array(lates_us))


def bare_loop_us(seconds: float) -> dict[float, float]:
    """What a loop reads of a constant 20 ms that never sleeps and does nothing but send and read, at our rate."""
    with constant_delay(20) as (host, port):
        return percentiles(np.array(response_times_ns(host, port, RATE_PER_S, seconds)) * US_PER_NS)


def true_us(case: Case, chosen_us: Values, count: int) -> Values:
    """The response times of `count` requests, had the machine taken no time at all."""
    if not case.freeze_s:
        return chosen_us
    delay_us = float(chosen_us[0])
    if not case.is_open:  # each user meets the freeze with one request, somewhere within its cycle
        cycle_us = case.think_s * 1e6 + delay_us
        place_us = np.arange(CLOSED_USERS) / CLOSED_USERS * cycle_us
        inside = place_us <= case.freeze_s * 1e6
        return np.concatenate([np.full(count - CLOSED_USERS, delay_us), case.freeze_s * 1e6 - place_us * inside])
    due_us = np.arange(count) * 1e6 / RATE_PER_S
    begin_us = case.seconds / 3 * 1e6
    end_us = begin_us + case.freeze_s * 1e6
    read_us = np.where((due_us >= begin_us) & (due_us < end_us), end_us, due_us)
    answered_us = read_us + delay_us
    answered_us = np.where((answered_us >= begin_us) & (answered_us < end_us), end_us, answered_us)
    return answered_us - due_us


@contextmanager
def delay_server(case: Case, log: Path) -> Iterator[str]:
    """Its address, for Locust's --host."""
    command = [sys.executable, "-m", "benchmarks.targets.delays", "--delays", case.delays, "--log", str(log)]
    if case.freeze_s:
        command += ["--freeze", f"{case.seconds / 3}:{case.freeze_s}"]
    if are_several():
        command += ["--awake"]
    with on_cores(LAST):
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield "tcp://" + server.stdout.readline().split()[-1]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(RUN_DEADLINE_S)


def locust(case: Case, host: str, *arguments: str, **environment: str) -> None:
    command = [sys.executable, "-m", "locust", "-f", str(USERS), "--headless", "--only-summary", "--host", host]
    command += ["-u", str(CLOSED_USERS), "-r", str(CLOSED_USERS), "-t", f"{case.seconds:.0f}s", "--stop-timeout", "10"]
    command += arguments
    if case.workers > 1:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        command += ["--processes", str(case.workers), "--master-bind-port", port, "--master-port", port]
    environment |= {"ACCURACY_THINK_S": str(case.think_s), "ACCURACY_APART_S": str(apart_s(case))}
    with on_cores(ALL_BUT_LAST):
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=case.seconds + RUN_DEADLINE_S,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def measure(case: Case, directory: Path, transport: float, *options: str, with_stock: bool) -> Outcome:
    """`options`: more of Locust's command line, for our users."""
    log = directory / "delays.npy"
    options += ("--run-dir", str(directory / "run"))
    if case.is_open:
        options += ("--rate", str(RATE_PER_S), "--depth", str(case.depth), "--timeout", "60")
    with delay_server(case, log) as host:
        locust(case, host, *options)
    run = RunDirectory.open(directory / "run")
    store = LatencyStore.load(run)
    name = "envelope echo"
    rows = np.load(log)
    count = store.summary(name).count
    server_us = (rows[:, 2] - rows[:, 0]) * US_PER_NS + transport
    truth_us = true_us(case, rows[:, 1] * US_PER_NS, count) + transport
    response, service = store.histogram(name, RESPONSE), store.histogram(name, SERVICE)
    return Outcome(
        percentiles(truth_us),
        percentiles(server_us),
        dict(zip(PERCENTS, response.percentiles_us(PERCENTS), strict=True)),
        dict(zip(PERCENTS, service.percentiles_us(PERCENTS), strict=True)),
        stock(case, directory) if with_stock else {},
        count,
        run.read_json(RUN_JSON)["load"],
        "" if case.is_open else little(case, store, name),
    )


def stock(case: Case, directory: Path) -> dict[float, float]:
    """What Locust's own table says."""
    path = directory / "stock"
    per_user = RATE_PER_S / CLOSED_USERS if case.is_open else 0
    environment = {"ACCURACY_USER": "stock", "ACCURACY_PER_USER_S": str(per_user)}
    with delay_server(case, directory / "stock.npy") as host:
        locust(case, host, "--json-file", str(path), **environment)
    (row,) = json.loads(path.with_suffix(".json").read_text())
    times = {float(time_ms) * 1000: number for time_ms, number in row["response_times"].items()}
    values = np.repeat(list(times), list(times.values()))
    return percentiles(values)


def little(case: Case, store: LatencyStore, name: str) -> str:
    """The law, over the seconds in which all users were there."""
    seconds = store.seconds(name)[1:-1]
    begin, end = seconds[0], seconds[-1]
    summary = store.summary(name, RESPONSE, begin, end)
    users = summary.rate * (summary.mean_us / 1e6 + case.think_s)
    verdict = "holds" if abs(users / CLOSED_USERS - 1) <= LITTLE_WITHIN else "DOES NOT HOLD"
    return (
        f"Little's law {verdict}: {summary.rate:.1f}/s x ({summary.mean_us / 1000:.3f} ms + "
        f"{case.think_s * 1000:g} ms) = {users:.2f} of {CLOSED_USERS} users"
    )


def is_right(measured_us: float, true_value_us: float, case: Case) -> bool:
    allowed_us = max(WITHIN_US, WITHIN_SHARE * true_value_us)
    if case.freeze_s and not case.is_open and true_value_us > case.freeze_s * 1e6 / 2:
        allowed_us += case.think_s * 1e6  # where in its cycle the freeze met a user is nobody's choice
    return abs(measured_us - true_value_us) <= allowed_us


def show(case: Case, outcome: Outcome) -> None:
    """Print a case."""
    kind = f"open, {RATE_PER_S}/s" if case.is_open else f"closed, {CLOSED_USERS} users"
    plural = "s" if case.workers > 1 else ""
    frozen = f" for {case.freeze_s:.2g} s in {case.seconds:g}" if case.freeze_s else ""
    print(f"\n{case.name}{frozen}; {kind}, {case.workers} worker{plural}; {outcome.requests} requests")
    print("           truth      ours       off    service    server     stock")
    for percent in PERCENTS:
        truth, ours = outcome.truth[percent], outcome.ours[percent]
        right = is_right(ours, truth, case)
        mark = (
            ""
            if right
            else "  off"
            + ("" if is_right(outcome.server[percent], truth, case) or case.freeze_s else ", as the server was")
        )
        print(
            f"p{percent:<6g}{_ms(truth)}{_ms(ours)}{(ours - truth) / truth:>9.2%} {_ms(outcome.service[percent])}"
            f"{_ms(outcome.server[percent])}{_ms(outcome.stock.get(percent, math.nan))}{mark}"
        )
    if outcome.facts.get("dropped"):
        print(f"dropped: {outcome.facts['dropped']}")
    if outcome.little:
        print(outcome.little)


def count_right(case: Case, measured: dict[float, float], truth: dict[float, float]) -> int:
    """How many percentiles are right."""
    return sum(is_right(measured[percent], truth[percent], case) for percent in PERCENTS)


def _ms(value_us: float) -> str:
    return f"{value_us / 1000:>10.3f}"


def table(results: Sequence[tuple[Case, Outcome]]) -> str:
    """Markdown: a few lines for each case; figures that are off the truth in bold.

    The server's line is left out where it froze: it notes what it did since it read a request, which it did not then.
    """
    lines = ["| delays | load | | " + " | ".join(f"p{percent:g}" for percent in PERCENTS) + " |"]
    lines.append("|---|---|---|" + "---|" * len(PERCENTS))
    for case, outcome in results:
        frozen = f" for {case.freeze_s:.2g} s in {case.seconds:g}" if case.freeze_s else ""
        kind = f"open, {RATE_PER_S}/s" if case.is_open else f"closed, {CLOSED_USERS} users"
        plural = "s" if case.workers > 1 else ""
        head = [f"{case.name}{frozen}", f"{kind}, {case.workers} worker{plural}"]
        rows = [("truth", outcome.truth)]
        rows += [] if case.freeze_s else [("the server", outcome.server)]
        rows += [("swarmproof", outcome.ours), ("its service time", outcome.service)]
        rows += [("stock Locust", outcome.stock)] if outcome.stock else []
        for who, figures in rows:
            cells = [_cell(figures[percent], outcome.truth[percent], case) for percent in PERCENTS]
            lines.append(f"| {' | '.join([*head, who, *cells])} |")
            head = ["", ""]
    return "\n".join(lines)


def _cell(value_us: float, truth_us: float, case: Case) -> str:
    text = f"{value_us / 1000:.3f}"
    return text if is_right(value_us, truth_us, case) else f"**{text}**"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", "--quick", action="store_true", help="shorter runs")
    parser.add_argument("--output", default="", metavar="FILE", help="write the table as Markdown into this file")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--kind", choices=["open", "closed"], help="only open or only closed load")
    parser.add_argument("--workers", type=int, help="only with so many workers")
    parser.add_argument("--without-stock", action="store_true", help="leave stock Locust out: half the time")
    parser.add_argument("--engine", action="store_true", help="our users in the engine")
    parser.add_argument("--busy-poll", action="store_true", help="our processes never sleep")
    parser.add_argument("--receive-times", default="auto", choices=["auto", "kernel", "process"], help="as Locust's")
    arguments = parser.parse_args()
    machine = f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    machine += f", load average {os.getloadavg()[0]:.1f} at the start"
    machine += "; users in the engine" if arguments.engine else ""
    machine += "; --busy-poll" if arguments.busy_poll else ""
    machine += f"; --receive-times {arguments.receive_times}" if arguments.receive_times != "auto" else ""
    chosen = ["--engine"] * arguments.engine + ["--busy-poll"] * arguments.busy_poll
    chosen += ["--receive-times", arguments.receive_times]
    print(machine)
    transport = transport_us(by_kernel=arguments.receive_times != "process")
    print(f"a bare socket's round trip takes {transport:.0f} us beyond the delay")
    late = ", ".join(f"p{percent:g} {late_us:.0f}" for percent, late_us in sleep_lateness_us().items())
    late = f"a process that sleeps a millisecond at a time wakes late by ({late}) us"
    print(late)
    bare = ", ".join(
        f"p{percent:g} {time_us / 1000:.3f}"
        for percent, time_us in bare_loop_us(BARE_SHORT_S if arguments.short else BARE_S).items()
    )
    bare = f"a bare loop that never sleeps reads ({bare}) ms of a constant 20 ms at {RATE_PER_S}/s"
    print(bare)
    print("all times in ms; right is within 1 % or 50 us of the truth")
    results: list[tuple[Case, Outcome]] = []
    for case in cases(short=arguments.short):
        if arguments.only not in case.name or arguments.workers not in (None, case.workers):
            continue
        if arguments.kind not in (None, "open" if case.is_open else "closed"):
            continue
        with tempfile.TemporaryDirectory(prefix="accuracy-") as directory:
            results.append(
                (case, measure(case, Path(directory), transport, *chosen, with_stock=not arguments.without_stock))
            )
            show(*results[-1])
        sys.stdout.flush()
    right = sum(count_right(case, outcome.ours, outcome.truth) for case, outcome in results)
    served = sum(count_right(case, outcome.service, outcome.truth) for case, outcome in results)
    found = (
        f"{right} of {len(results) * len(PERCENTS)} percentiles of response times within 1 % or 50 us of the truth, "
        f"{served} of service times; load average {os.getloadavg()[0]:.1f} at the end"
    )
    machine += f"; a bare socket's round trip takes {transport:.0f} us beyond the delay; {late}; {bare}"
    text = f"{machine}. All in ms; bold is off the truth by more than 1 % and 50 us.\n\n{table(results)}\n\n{found}\n"
    print(f"\n{text}")
    if arguments.output:
        Path(arguments.output).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
