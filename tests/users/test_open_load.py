"""Open load in real runs: the schedule is kept however slow the server is, and every arrival is accounted for."""

import itertools
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from records.latency import LatencyStore
from records.progress import ProgressReader
from records.run_directory import RunDirectory
from swarmproof.generator import generator_lines
from swarmproof.judge import judge
from tests.dishonest.envelope_server import EnvelopeServer, pack
from tests.dishonest.tcp import Peer
from tests.locustfiles.runs import LocustRun, run_locust
from tests.processes import ROOT, Process, ServerProcess, wait_until

PROTOCOLS = {"f00d": "f00d", "websocket_echo": "ws", "websocket_rpc": "ws", "raft": "kv"}
RATE_PER_S = 100


class SlowServer(EnvelopeServer):
    """Takes half a second over every message, one after the other."""

    def on_data(self, peer: Peer) -> None:
        for message in self._messages(peer):
            time.sleep(0.5)
            self.send(peer, pack(message))


@pytest.fixture(scope="module")
def envelope() -> Iterator[str]:
    with ServerProcess("envelope") as server:
        yield f"tcp://127.0.0.1:{server.port}"


def load_of(run: RunDirectory) -> dict[str, Any]:
    load: dict[str, Any] = run.read_json("run.json")["load"]
    return load


def ended(run: RunDirectory) -> int:
    """Requests that ended, well or not, or were stopped: connecting is none."""
    store = LatencyStore.load(run)
    return sum(sum(store.outcomes(name)) for name in store.operations() if not name.endswith(" connect"))


def assert_everything_is_accounted_for(result: LocustRun, at_least_s: float) -> None:
    """No less than so many seconds of the schedule, which begins half a second after the start, or when all agree."""
    assert result.exit_code == 0, result.log
    load = load_of(result.run)
    assert load["rate"] == str(RATE_PER_S)
    assert load["issued"] == ended(result.run)
    offered = load["issued"] + load["dropped"] + load["unissued"]
    assert offered >= RATE_PER_S * at_least_s
    assert load["dropped"] == 0
    assert "DROPPED" not in result.log


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--depth", "8", "--arrivals", "poisson"),
        ("--stop-timeout", "5"),
        ("--processes", "2"),
    ],
)
def test_a_rate_is_kept_and_every_arrival_is_one_request(
    tmp_path: Path, envelope: str, options: tuple[str, ...]
) -> None:
    result = run_locust("envelope", tmp_path, "--host", envelope, "--rate", str(RATE_PER_S), *options, seconds=5)
    assert_everything_is_accounted_for(result, 1 if "--processes" in options else 4)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_keeps_the_rate(tmp_path: Path, name: str) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(ServerProcess(name))
        host = f"{PROTOCOLS[name]}://127.0.0.1:{server.port}"
        scenario = "raft_kv" if name == "raft" else name
        result = run_locust(scenario, tmp_path, "--host", host, "--rate", str(RATE_PER_S), seconds=3)
    assert_everything_is_accounted_for(result, 2)
    assert result.errors == {}


def test_a_slow_server_is_measured_from_when_requests_were_due(tmp_path: Path) -> None:
    with SlowServer() as server:
        host = f"tcp://127.0.0.1:{server.port}"
        result = run_locust("envelope", tmp_path, "--host", host, "--rate", "10", users=1, seconds=6)
    store = LatencyStore.load(result.run)
    response, service = store.summary("envelope echo"), store.summary("envelope echo", "service")
    assert service.max_us >= 500_000
    # Ten a second, two served: after five seconds the wait alone is longer than four answers take.
    assert response.max_us > 2_000_000
    assert response.max_us > service.p50_us + 1_000_000


def test_what_no_user_can_issue_in_time_is_dropped_counted_and_told(tmp_path: Path) -> None:
    with SlowServer() as server:
        host = f"tcp://127.0.0.1:{server.port}"
        options = ("--host", host, "--rate", "50", "--max-lateness", "0.3")
        result = run_locust("envelope", tmp_path, *options, users=1, seconds=5)
    load = load_of(result.run)
    assert load["dropped"] > load["issued"] > 0
    assert load["issued"] == ended(result.run)
    assert f"{load['dropped']} of " in result.log
    assert "arrivals were DROPPED" in result.log
    last = ProgressReader(result.run).read_new()[-1]
    assert 0 < last["dropped"] <= load["dropped"]
    verdict = judge(result.run, write=False).check("generator")
    assert verdict.verdict == "unknown"
    assert f"dropped {load['dropped']} arrivals" in verdict.reason


def test_a_wrong_rate_is_one_sentence_and_no_run(tmp_path: Path) -> None:
    result = run_locust("envelope", tmp_path, "--rate", "fast")
    assert result.exit_code == 2
    assert "'fast' is not a rate; write it such as 2000/s" in result.log
    assert "Traceback" not in result.log


def test_the_share_of_a_worker_that_died_is_taken_over_by_the_others(tmp_path: Path, envelope: str) -> None:
    scenario = str(ROOT / "locustfiles" / "envelope.py")
    locust = [sys.executable, "-m", "locust", "-f", scenario]
    run = RunDirectory(tmp_path / "run")
    port = str(free_port())
    with ExitStack() as stack:
        command = [*locust, "--master", "--master-bind-port", port, "--expect-workers", "2", "--enable-rebalancing"]
        command += ["--headless", "-u", "4", "-r", "100", "-t", "120s", "--only-summary", "--host", envelope]
        master = Process([*command, "--rate", str(RATE_PER_S), "--run-dir", str(run.path)])
        stack.callback(master.close)
        workers = [Process([*locust, "--worker", "--master-port", port]) for _ in range(2)]
        for worker in workers:
            stack.callback(worker.close)
        progress = ProgressReader(run)
        lines: list[dict[str, Any]] = []

        def issued_more_than(number: int) -> bool:
            lines.extend(progress.read_new())
            return bool(lines) and lines[-1].get("issued", 0) > number

        def rate_from_now_on() -> float:
            """Over three reports of everybody, once a new sharing is in force: told 1 s ahead, reported in 3 s."""
            settled_s = lines[-1]["elapsed_s"] + 5

            def steps() -> list[tuple[float, int]]:
                lines.extend(progress.read_new())
                late = [(line["elapsed_s"], line["issued"]) for line in lines if line["elapsed_s"] > settled_s]
                return [now for before, now in itertools.pairwise(late) if now[1] > before[1]]

            wait_until(lambda: steps() and steps()[-1][0] - steps()[0][0] > 6, "three reports of the new sharing", 60)
            (first_s, first), (last_s, last) = steps()[0], steps()[-1]
            return (last - first) / (last_s - first_s)

        wait_until(lambda: issued_more_than(RATE_PER_S), "a hundred requests of two workers", 60)
        os.kill(workers[0].pid, signal.SIGKILL)
        wait_until(lambda: "shared by 1 workers now (2 before)" in master.log(), "one worker to have all", 60)
        assert rate_from_now_on() == pytest.approx(RATE_PER_S, rel=0.2), "the survivor has to carry all of it"
        assert lines[-1]["users"] == 4
        assert lines[-1]["lost_workers"] == 1
        joined = Process([*locust, "--worker", "--master-port", port])
        stack.callback(joined.close)
        wait_until(lambda: "shared by 2 workers now (1 before)" in master.log(), "the new worker to have a share", 60)
        assert rate_from_now_on() == pytest.approx(RATE_PER_S, rel=0.2), "together no more and no less"
        os.kill(master.pid, signal.SIGTERM)
        assert master.wait(60) in (0, 1), master.log()
    assert lines[-1]["dropped"] == 0
    load = load_of(run)
    # Half of the rate, from its last report (every 3 s) until it was missed (after some 3 s) and shared anew (1 s).
    assert 0 < load["lost_arrivals_about"] < RATE_PER_S / 2 * 30
    assert f"about {load['lost_arrivals_about']} arrivals are in no count" in "\n".join(generator_lines(load))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
