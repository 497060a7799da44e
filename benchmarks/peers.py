"""What a round trip costs other load tools: the same targets, the same twenty connections, 64 bytes, one at a time.

    python -m benchmarks.peers                    all of them beside the engine, about ten minutes
    python -m benchmarks.peers --short            shorter, about four minutes
    python -m benchmarks.peers --only tsung
    python -m benchmarks.peers --lie              targets that answer wrongly now and then: who notices
    python -m benchmarks.peers --artillery DIR    an npm folder with Artillery in it (else it is installed)

Each tool runs twice, with few and with many round trips; the difference of processor time (getrusage of all its
processes) divided by the difference of round trips leaves out starting and warming up. What was not answered as it
should be is counted by the tool itself, and a run with failures is no figure. A tool that is not installed is skipped,
with the command that installs it. The floor (`benchmarks.client`: bare gevent sockets) is measured beside each row,
for a shared machine is never the same for long; ratios are of what costs were in units of it.

For `benchmarks.compare`: `rows(ports, seconds)` gives a `Row` for each tool; `ports` maps kinds of targets (`TARGETS`)
to the ports where they listen on 127.0.0.1.
"""

import argparse
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
PLANS: Final = Path(__file__).with_name("peer_plans")
USERS: Final = 20
PAYLOAD_BYTES: Final = 64
RUN_WITHIN_S: Final = 600
ARTILLERY: Final = "artillery@2.0.21"
#: Kind of target -> the module that is it, with its arguments.
TARGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "echo": ("benchmarks.targets.fast", "echo"),
    "websocket_echo": ("benchmarks.targets.fast", "websocket_echo"),
    "http": ("benchmarks.targets.http",),
    "lying echo": ("benchmarks.targets.lying", "echo"),
    "lying websocket_echo": ("benchmarks.targets.lying", "websocket_echo"),
}
HONEST: Final = ("echo", "websocket_echo", "http")


class Row(NamedTuple):
    """`cpu_us`: the client's processor time for a round trip; None when there is no figure, and `why` says so."""

    name: str
    checks: str
    is_checked: bool
    cpu_us: float | None
    why: str = ""
    floor_us: float | None = None

    @property
    def floors(self) -> float | None:
        """The cost as a multiple of the floor measured beside it."""
        return self.cpu_us / self.floor_us if self.cpu_us and self.floor_us else None


class Ran(NamedTuple):
    """`cpu_s`: of all processes of the tool."""

    cpu_s: float
    round_trips: int
    failures: int


class Place(NamedTuple):
    """Where a tool works: a folder of its own, and the target's port."""

    folder: Path
    port: int


#: Runs a tool for so many round trips of each user (wrk: so many seconds).
Run = Callable[[Place, int], Ran]


@dataclass(frozen=True)
class Peer:
    """`few`: round trips of each user in the short run; `per_s`: about how many more fit into a second."""

    name: str
    target: str
    checks: str
    run: Run
    few: int
    per_s: float
    is_checked: bool = True
    missing: Callable[[], str] = lambda: ""


def _timed(command: Sequence[str], folder: Path, **environment: str) -> tuple[float, str]:
    """Processor time and output of a command and all its children. Errors: RuntimeError."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=RUN_WITHIN_S,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(
            f"{Path(command[0]).name} ended with {done.returncode}: {(done.stderr or done.stdout)[-300:]}"
        )
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return cpu_s, done.stdout + done.stderr


def _plan(place: Place, name: str, rounds: int) -> Path:
    text = (PLANS / name).read_text(encoding="utf-8")
    filled = Template(text).substitute(port=place.port, users=USERS, rounds=rounds, payload="a" * PAYLOAD_BYTES)
    path = place.folder / name
    path.write_text(filled, encoding="utf-8")
    return path


def _last_number(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


# -- the tools ----------------------------------------------------------------------------------------------------


def wrk(place: Place, rounds: int) -> Ran:
    """`rounds` is seconds: it has no other measure."""
    url = f"http://127.0.0.1:{place.port}/"
    cpu_s, text = _timed(["wrk", "-t1", f"-c{USERS}", f"-d{rounds}s", url], place.folder)
    failures = _last_number(r"Non-2xx or 3xx responses: (\d+)", text) + ("Socket errors" in text)
    return Ran(cpu_s, _last_number(r"(\d+) requests in", text), failures)


def jmeter(place: Place, rounds: int) -> Ran:
    jars = [_JMETER / "bin" / "ApacheJMeter.jar", *sorted((_JMETER / "lib" / "ext").glob("*.jar")), _BEANSHELL]
    settings = {
        "jmeter.home": _JMETER,
        "users": USERS,
        "rounds": rounds,
        "port": place.port,
        "payload": "ab" * PAYLOAD_BYTES,
    }
    command = ["java", "-cp", ":".join(map(str, jars)), *(f"-D{name}={value}" for name, value in settings.items())]
    cpu_s, text = _timed([*command, "bsh.Interpreter", str(PLANS / "jmeter.bsh")], place.folder)
    failures = _last_number(r"summary =.*Err:\s*(\d+)", text)
    return Ran(cpu_s, _last_number(r"summary =\s*(\d+) in", text) - failures, failures)


_JMETER = Path("/usr/share/jmeter")
_BEANSHELL = Path("/usr/share/java/bsh.jar")


def tsung(plan: str) -> Run:
    def run(place: Place, rounds: int) -> Ran:
        log = place.folder / f"log-{rounds}"
        command = ["tsung", "-f", str(_plan(place, plan, rounds)), "-l", str(log), "-I", "127.0.0.1", "start"]
        epmd_port = str(_free_port())  # Erlang leaves this daemon behind: ours has a port of its own, and is ended
        try:
            cpu_s, _ = _timed(command, place.folder, ERL_EPMD_PORT=epmd_port)
        finally:
            subprocess.run(["epmd", "-port", epmd_port, "-kill"], capture_output=True, check=False)
        (path,) = log.glob("*/tsung.log")
        text = path.read_text(encoding="utf-8")
        matched = _last_number(r"stats: match \d+ (\d+)", text)
        failures = _last_number(r"stats: nomatch \d+ (\d+)", text) + _last_number(r"stats: error\S+ \d+ (\d+)", text)
        return Ran(cpu_s, matched, failures)

    return run


def artillery(folder: Path) -> Run:
    def run(place: Place, rounds: int) -> Ran:
        program = str(folder / "node_modules" / ".bin" / "artillery")
        report = place.folder / "report.json"
        command = [program, "run", "--quiet", "--output", str(report), str(_plan(place, "artillery.yml", rounds))]
        cpu_s, _ = _timed(command, place.folder, ARTILLERY_DISABLE_TELEMETRY="true")
        counters = json.loads(report.read_text(encoding="utf-8"))["aggregate"]["counters"]
        failures = sum(number for name, number in counters.items() if name == "vusers.failed" or "error" in name)
        return Ran(cpu_s, counters.get("websocket.messages_received", 0), failures)

    return run


def stock(row: str) -> Run:
    """Stock Locust measures itself, in the same way as our own rows do; `rounds` is seconds."""

    def run(place: Place, rounds: int) -> Ran:
        figures = locust(row, place.port, rounds)
        count = round(figures["rate"] * rounds)
        return Ran(figures["cpu_us"] * count / 1e6, count, figures["failures"])

    return run


def locust(row: str, port: int, seconds: float, *options: str) -> dict[str, Any]:
    """A row of `benchmarks.client`."""
    command = [sys.executable, "-m", "benchmarks.client", row, str(port), "--seconds", str(seconds), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_WITHIN_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{row} ended with {done.returncode}: {done.stderr.strip().rpartition(chr(10))[2][-300:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _lacks(package: str, *needed: str | Path) -> Callable[[], str]:
    def missing() -> str:
        absent = [str(name) for name in needed if not (Path(name).exists() if "/" in str(name) else shutil.which(name))]
        return f"no {', '.join(absent)}; apt-get install --no-install-recommends {package}" if absent else ""

    return missing


@contextmanager
def artillery_folder(given: str) -> Iterator[tuple[Path, str]]:
    """A folder with Artillery in it, and "" or why there is none."""
    if given:
        found = (Path(given) / "node_modules" / ".bin" / "artillery").exists()
        yield Path(given).resolve(), "" if found else f"no Artillery in {given}; npm install {ARTILLERY} there"
        return
    with tempfile.TemporaryDirectory(prefix="artillery-") as folder:
        if shutil.which("npm") is None:
            yield Path(folder), "no npm; apt-get install npm"
            return
        # Without scripts: those of one of its packages download browsers.
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder, ARTILLERY]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=RUN_WITHIN_S, check=False)
        yield Path(folder), f"npm install {ARTILLERY} failed: {done.stderr.strip()[-200:]}" if done.returncode else ""


def peers(artillery_in: Path, artillery_lacks: str = "") -> list[Peer]:
    return [
        Peer("stock Locust, raw socket", "echo", "id, payload", stock("stock_tcp"), 0, 1.0),
        Peer("stock Locust, websocket-client", "websocket_echo", "payload", stock("stock_websocket"), 0, 1.0),
        Peer(
            "JMeter, framed TCP",
            "echo",
            "id, payload",
            jmeter,
            3_000,
            2_000.0,
            missing=_lacks("jmeter jmeter-tcp", "java", _JMETER / "lib" / "ext" / "ApacheJMeter_tcp.jar", _BEANSHELL),
        ),
        Peer(
            "Tsung, TCP",
            "echo",
            "id, payload",
            tsung("tsung_tcp.xml"),
            500,
            500.0,
            missing=_lacks("tsung", "tsung", "epmd"),
        ),
        Peer(
            "Tsung, WebSocket",
            "websocket_echo",
            "id, payload",
            tsung("tsung_websocket.xml"),
            500,
            500.0,
            missing=_lacks("tsung", "tsung", "epmd"),
        ),
        Peer(
            "Artillery, WebSocket",
            "websocket_echo",
            "id, payload",
            artillery(artillery_in),
            100,
            600.0,
            missing=lambda: artillery_lacks,
        ),
        Peer(
            "wrk, HTTP (reference)",
            "http",
            "status",
            wrk,
            1,
            1.0,
            is_checked=False,
            missing=_lacks("wrk", "wrk"),
        ),
    ]


def measure(peer: Peer, port: int, seconds: float) -> Row:
    """Few, then many; the difference."""

    def without(why: str) -> Row:
        return Row(peer.name, peer.checks, peer.is_checked, None, why)

    if why := peer.missing():
        return without(f"skipped: {why}")
    more = max(1, round(seconds * peer.per_s))
    nothing = Ran(0.0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        place = Place(Path(folder), port)
        try:
            few = peer.run(place, peer.few) if peer.few else nothing
            many = peer.run(place, peer.few + more)
        except (RuntimeError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            return without(f"failed: {error}")
    count = many.round_trips - few.round_trips
    if many.failures or few.failures or count <= 0:
        return without(f"no figure: {many.round_trips} round trips, {many.failures} failures")
    cpu_us = (many.cpu_s - few.cpu_s) / count * 1e6
    return Row(peer.name, peer.checks, peer.is_checked, cpu_us, floor_us=floor_us())


def rows(
    ports: Mapping[str, int], seconds: float, *, artillery: str = "", only: str = "", repetitions: int = 1
) -> list[Row]:
    """A row for each tool whose name contains `only`. `ports`: of running `TARGETS`."""
    found = []
    with ExitStack() as stack:
        folder, lacks = Path(), ""
        if only.lower() in "artillery, websocket":
            folder, lacks = stack.enter_context(artillery_folder(artillery))
        for peer in peers(folder, lacks):
            if only.lower() in peer.name.lower() and peer.target in ports:
                print(f"  {peer.name}", file=sys.stderr, flush=True)
                found.append(_median([measure(peer, ports[peer.target], seconds) for _ in range(repetitions)]))
    return found


def _median(repeated: Sequence[Row]) -> Row:
    """The one in the middle, by its multiple of the floor; a failure if there was one."""
    failed = [row for row in repeated if row.cpu_us is None]
    return failed[0] if failed else sorted(repeated, key=lambda row: row.floors or 0.0)[len(repeated) // 2]


def floor_us(seconds: float = 2.0) -> float:
    """What a round trip costs bare gevent sockets, now."""
    with targets(("echo",)) as ports:
        return float(locust("floor", ports["echo"], seconds)["cpu_us"])


@contextmanager
def targets(kinds: Sequence[str] = HONEST) -> Iterator[dict[str, int]]:
    """Running targets: kind -> port."""
    with ExitStack() as stack:
        ports = {}
        for kind in kinds:
            command = [sys.executable, "-m", *TARGETS.get(kind, ("benchmarks.targets.fast", kind))]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            ports[kind] = int(process.stdout.readline().split()[-1])
        yield ports


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# -- beside the engine ----------------------------------------------------------------------------------------------

#: Our dearest rows: one request at a time. (client of benchmarks.client, target)
ENGINE: Final = (
    ("envelope", "echo", "id, version, type, timestamp, payload"),
    ("f00d", "f00d", "msg_id of the acknowledgement"),
    ("websocket_echo", "websocket_echo", "id, type, payload"),
    ("websocket_rpc", "websocket_rpc", "id, shape, result"),
)
AT_LEAST: Final = 2.0


def engine_rows(seconds: float, repetitions: int = 1) -> list[Row]:
    return [_median([_engine_row(*row, seconds) for _ in range(repetitions)]) for row in ENGINE]


def _engine_row(client: str, kind: str, checks: str, seconds: float) -> Row:
    print(f"  engine, {client}", file=sys.stderr, flush=True)
    with targets((kind,)) as ports:
        figures = locust(client, ports[kind], seconds, "--engine")
    name = f"swarmproof engine, {client}"
    return Row(name, checks, True, figures["cpu_us"], floor_us=floor_us())


def table(found: Sequence[Row]) -> str:
    lines = ["| tool | client CPU us each | x floor | /s and core | checks |", "|---|---|---|---|---|"]
    for row in found:
        if row.cpu_us is None:
            lines.append(f"| {row.name} | | | | {row.why} |")
        else:
            per_core = f"{1e6 / row.cpu_us:,.0f}"
            lines.append(f"| {row.name} | {row.cpu_us:.1f} | {row.floors or 0:.2f} | {per_core} | {row.checks} |")
    return "\n".join(lines)


def claim(ours: Sequence[Row], theirs: Sequence[Row]) -> str:
    """The dearest of ours beside the cheapest of theirs that checks what it gets."""
    checked = [row for row in theirs if row.is_checked and row.floors]
    measured = [row for row in ours if row.floors]
    if not checked or not measured:
        return "nothing to compare"
    dearest = max(measured, key=lambda row: row.floors or 0.0)
    cheapest = min(checked, key=lambda row: row.floors or 0.0)
    ratio = (cheapest.floors or 0.0) / (dearest.floors or 1.0)
    verdict = "ok" if ratio >= AT_LEAST else "MISSED"
    return (
        f"{cheapest.name} costs {ratio:.1f} times what {dearest.name} does: "
        f"the dearest engine row against the cheapest peer that checks; at least {AT_LEAST:g} is wanted: {verdict}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="three seconds each instead of ten")
    parser.add_argument("--only", default="", help="tools whose name contains this")
    parser.add_argument("--artillery", default="", metavar="DIR", help="an npm folder with Artillery in it")
    parser.add_argument("--lie", action="store_true", help="who notices wrong answers")
    arguments = parser.parse_args()
    if arguments.lie:
        notice(arguments.artillery, arguments.only)
        return
    seconds, repetitions = (3.0, 1) if arguments.short else (10.0, 3)
    with targets() as ports:
        theirs = rows(ports, seconds, artillery=arguments.artillery, only=arguments.only, repetitions=repetitions)
    ours = engine_rows(seconds, repetitions)
    print(f"load average {os.getloadavg()[0]:.1f} at the end\n")
    print(table([*ours, *theirs]))
    print(f"\n{claim(ours, theirs)}")


def notice(artillery: str, only: str) -> None:
    """Each tool against a target that lies: those that are said to check must fail."""
    with targets(("lying echo", "lying websocket_echo")) as ports:
        lying = {"echo": ports["lying echo"], "websocket_echo": ports["lying websocket_echo"]}
        for row in rows(lying, 1.0, artillery=artillery, only=only):
            print(f"{row.name}: {'did NOT notice' if row.cpu_us is not None else row.why}")


if __name__ == "__main__":
    main()
