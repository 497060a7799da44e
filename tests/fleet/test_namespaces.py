"""A fleet on seven hosts with their own addresses, disks and clocks; one worker's cable is pulled and put back.

Network namespaces need root: skipped with the reason elsewhere, and required in CI.
"""

import json
import re
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest

from records.clocks import read_clocks
from records.latency import LatencyStore
from records.operations import read_operations
from records.progress import ProgressReader
from records.run_directory import RUN_JSON, RunDirectory
from swarmproof.judge import judge
from tests.fleet.network import Network, ip, require_namespaces
from tests.processes import Process, wait_until

PYTHON = sys.executable
NODES = (1, 2, 3)
#: Two machines that were started at different times.
CLOCKS_S = {"worker1": 5_000, "worker2": 90_000}
MASTER_PORT, METRICS_PORT = 5557, 9646
RUN_TIME_S = 26

SCENARIO = """\
import os
from locust import constant, task
from locustfiles.raft_kv import RaftKv
from swarmproof.fleet import extension
from users.envelope import EnvelopeUser
class Store(RaftKv):
    host = os.environ["STORE"]
    weight = 3  # so many that each worker has some
    wait_time = constant(0.02)
class Echo(EnvelopeUser):
    host = os.environ["ECHO"]
    wait_time = constant(0.02)
    @task
    def echo(self):
        self.client.echo(self.random_payload())
RaftKv.abstract = True
"""


def start_raft(network: Network, folder: Path) -> str:
    secret = folder / "secret"
    secret.write_text(secrets.token_hex(32))
    secret.chmod(0o600)
    addresses = {node: network.host(f"raft{node}").address for node in NODES}
    peers = ",".join(f"{node}={address}:9100" for node, address in addresses.items())
    clients = ",".join(f"{node}={address}:9000" for node, address in addresses.items())
    for node, address in addresses.items():
        command = [PYTHON, "-m", "servers.raft", "--id", str(node), "--host", address, "--port", "9000"]
        command += ["--peer-port", "9100", "--peers", peers, "--clients", clients, "--cluster-id", "hosts"]
        command += ["--secret-file", str(secret), "--data-dir", str(folder / f"n{node}")]
        process = network.host(f"raft{node}").start(command)
        assert process.read_line() == f"raft listening on {address}:9000"
    return "kv://" + ",".join(f"{address}:9000" for address in addresses.values())


class Fleet:
    """Master and two workers, each on a host of its own."""

    def __init__(self, network: Network, folder: Path, *options: str) -> None:
        self.network = network
        self.run = RunDirectory(folder / "master" / "run")
        self.lines: list[dict[str, Any]] = []
        self._progress = ProgressReader(self.run)
        (folder / "master").mkdir()
        scenario = folder / "scenario.py"
        scenario.write_text(SCENARIO)
        store = start_raft(network, folder)
        address = network.host("servers").address
        echo = network.host("servers").start([PYTHON, "-m", "servers.envelope", "--host", address, "--port", "9000"])
        assert echo.read_line() == f"envelope listening on {address}:9000"
        environment = ["env", f"STORE={store}", f"ECHO=tcp://{address}:9000"]
        locust = [*environment, PYTHON, "-m", "locust", "-f", str(scenario)]
        master = network.host("master")
        self.master: Process = master.start(
            [
                *(*locust, "--master", "--master-bind-host", master.address, "--expect-workers", "2"),
                *("--enable-rebalancing", "--headless", "--only-summary", "-u", "8", "-r", "8"),
                *("--run-dir", str(self.run.path), "--metrics-host", master.address),
                *("--metrics-port", str(METRICS_PORT), *options),
            ]
        )
        self.workers = {
            # The master's folder is empty there: nobody shares a disk with it.
            name: network.host(name).start(
                [*locust, "--worker", "--master-host", master.address], clock_s=clock_s, own_disk=folder / "master"
            )
            for name, clock_s in CLOCKS_S.items()
        }

    def progress(self) -> dict[str, Any]:
        self.lines += self._progress.read_new()
        return self.lines[-1] if self.lines else {}

    def wait(self, what: str, **values: int) -> dict[str, Any]:
        def matches() -> dict[str, Any] | None:
            line = self.progress()
            assert self.master.running, "the master has ended"
            return line if line and all(line.get(key) == value for key, value in values.items()) else None

        try:
            return wait_until(matches, what, 60) or {}
        except AssertionError as error:
            raise AssertionError(f"{error}\nmaster:\n{self.master.log_tail()}") from None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    require_namespaces()
    return tmp_path


def test_a_worker_host_that_is_cut_off_and_healed_loses_nothing(folder: Path) -> None:
    names = [*(f"raft{node}" for node in NODES), "servers", "master", *CLOCKS_S]
    with Network(*names) as network:
        fleet = Fleet(network, folder, "-t", f"{RUN_TIME_S}s")
        fleet.wait("all users", users=8, workers=2, lost_workers=0)
        wait_until(lambda: len(read_clocks(fleet.run)) == 2, "both clocks to be measured", 30)
        network.host("worker2").cut()
        fleet.wait("the worker to be missed, and its users moved", workers=1, lost_workers=1, users=8)
        network.host("worker2").heal()
        back = fleet.wait("the worker to be back", workers=2, lost_workers=0, users=8)
        scrape = [
            "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=9).read().decode())"
        ]
        url = f"http://{network.host('master').address}:{METRICS_PORT}/metrics"
        scraper = network.host("servers").start([PYTHON, "-c", *scrape, url])
        metrics = scraper.popen.communicate(timeout=30)[0].decode()
        states = dict(re.findall(r'^swarmproof_workers\{state="(\w+)"\} (\S+)$', metrics, re.MULTILINE))
        assert float(states.pop("missing")) == 0
        assert sum(map(float, states.values())) == len(CLOCKS_S)
        assert fleet.master.wait(90) in (0, 1), fleet.master.log_tail()
        for name, worker in fleet.workers.items():
            worker.wait(30)
            assert "Traceback" not in worker.log(), f"{name}: {worker.log_tail()}"
        assert "Traceback" not in fleet.master.log(), fleet.master.log_tail()
    assert network.leftovers() == []

    run = fleet.run
    load = json.loads(run.file(RUN_JSON).read_text())["load"]
    assert load["lost_workers"] == load["unsalvaged_workers"] == []
    assert len(load["returned_workers"]) == 1
    clocks = sorted(read_clocks(run).values(), key=lambda clock: clock.offset_ns)
    for clock, ahead_s in zip(clocks, CLOCKS_S.values(), strict=True):
        assert abs(clock.offset_ns - ahead_s * 1e9) <= clock.error_ns
        assert clock.error_ns < 100_000_000
        assert not clock.shared
    assert {round(clock["offset_s"]) for clock in load["clocks"].values()} == set(CLOCKS_S.values())

    # Both workers' files are whole, and on the master's clock.
    operations = list(read_operations(run))
    start_ns, end_ns = load["start_ns"], load["end_ns"]
    assert len({operation.process for operation in operations}) == 2
    calls_ns = [operation.call_ns for operation in operations]
    assert start_ns <= min(calls_ns)
    assert max(calls_ns) <= end_ns + 2e9  # the workers are told to quit when the run has ended
    store = LatencyStore.load(run)
    assert store.summary("envelope echo").count > back["operations"]["envelope echo"]["count"]
    ended = sum(operation.status == "ok" for operation in operations)
    counted = sum(store.outcomes(name)[0] for name in store.operations() if name.startswith("kv "))
    assert ended <= counted <= ended + store.outcomes("kv connect")[0]

    verdict = judge(run)
    assert verdict.check("linearizability").verdict == "valid", verdict.to_json()
    assert verdict.check("protocol").verdict == "valid", verdict.to_json()
    assert "workers were lost" not in verdict.check("generator").reason


def test_whatever_fails_no_namespace_and_no_process_is_left(folder: Path) -> None:
    network = Network("a", "b")

    def fail_within() -> None:
        with network:
            network.host("a").start(["sh", "-c", "sleep 300 & sleep 300"])
            wait_until(lambda: len(network.host("a").pids()) >= 2, "both sleepers")
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail_within()
    assert not network.host("a").processes[0].running
    assert network.leftovers() == []
    assert network.switch not in ip("netns", "list")
