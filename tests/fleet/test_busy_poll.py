"""`--busy-poll`: the loop does not sleep while there is load, and what that costs is not taken for work."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent import get_hub
from locust import runners

from records.run_directory import RUN_JSON, RunDirectory
from swarmproof.fleet.busy_poll import BusyPoll
from swarmproof.fleet.health import CPU_SHARE_LIMIT, HealthProbe
from tests.processes import ROOT

SCENARIO = Path(__file__).with_name("clockwork.py")
#: A loop that sleeps goes round some times for its timers only.
HARDLY_EVER = 20


@pytest.fixture
def busy_poll() -> Iterator[BusyPoll]:
    found = BusyPoll()
    yield found
    found.stop()


def rounds_of_a_sleep() -> int:
    loop = get_hub().loop
    before: int = loop.iteration
    gevent.sleep(0.2)
    return int(loop.iteration) - before


def test_the_loop_goes_round_while_it_is_on_and_sleeps_before_and_after(busy_poll: BusyPoll) -> None:
    assert rounds_of_a_sleep() < HARDLY_EVER
    for _ in range(2):
        busy_poll.start()
        busy_poll.start()
        assert rounds_of_a_sleep() > 10 * HARDLY_EVER
        busy_poll.stop()
        busy_poll.stop()
        assert rounds_of_a_sleep() < HARDLY_EVER


def test_waiting_is_no_work_and_work_is(busy_poll: BusyPoll) -> None:
    probe = HealthProbe(busy_poll.idle_ns)
    busy_poll.start()
    probe.start()
    before_s = time.process_time()
    while time.process_time() < before_s + 0.5:
        gevent.sleep(0.01)
    waiting = probe.take()["cpu_share"]
    end_s = time.process_time() + 0.5
    while time.process_time() < end_s:
        begin_s = time.process_time()
        while time.process_time() < begin_s + 0.005:
            pass
        gevent.sleep(0)
    working = probe.take()["cpu_share"]
    probe.stop()
    assert waiting < 0.3 * working


def test_locust_does_not_warn_of_the_cpu_that_it_takes(busy_poll: BusyPoll) -> None:
    before = runners.CPU_WARNING_THRESHOLD
    busy_poll.start()
    assert before < 100 < runners.CPU_WARNING_THRESHOLD
    busy_poll.stop()
    assert before == runners.CPU_WARNING_THRESHOLD


@pytest.mark.parametrize("workers", [0, 2])
def test_a_generator_that_busy_polls_is_not_at_its_limit(tmp_path: Path, workers: int) -> None:
    """Workers learn it from the master, and two of them share a processor where there is one only."""
    command = [sys.executable, "-m", "locust", "-f", str(SCENARIO), "--headless", "--only-summary", "--busy-poll"]
    command += ["-u", "4", "-r", "4", "-t", "4s", "--run-dir", str(tmp_path / "run")]
    if workers:
        port = str(free_port())
        command += ["--processes", str(workers), "--master-bind-port", port, "--master-port", port]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    load = RunDirectory.open(tmp_path / "run").read_json(RUN_JSON)["load"]
    assert load["generator_cpu_share"] < CPU_SHARE_LIMIT
    assert load["generator_advice"] == ""
    assert "CPU usage" not in done.stdout + done.stderr


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
