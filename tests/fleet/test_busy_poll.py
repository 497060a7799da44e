"""`--busy-poll`: the loop does not sleep while there is load, and what that costs is not taken for work."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gevent
import pytest
from gevent import get_hub
from locust import runners
from locust.env import Environment

from records.run_directory import RUN_JSON, RunDirectory
from swarmproof.fleet.busy_poll import BusyPoll
from swarmproof.fleet.health import CPU_SHARE_LIMIT, HealthProbe
from tests.processes import ROOT

SCENARIO = Path(__file__).with_name("clockwork.py")
#: A loop that sleeps goes round some times in a sleep, for its timers; this is what it needs a minute for.
MANY_ROUNDS = 1_000


@pytest.fixture(autouse=True)
def _threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locust's own, before each test and after."""
    monkeypatch.setattr(runners, "CPU_WARNING_THRESHOLD", runners.CPU_WARNING_THRESHOLD)


@pytest.fixture
def busy_poll() -> Iterator[BusyPoll]:
    found = BusyPoll(Environment())
    yield found
    found.stop()


def goes_round(within_s: float) -> bool:
    """Whether the loop does so many rounds; on a busy machine it lets others go first in each."""
    loop = get_hub().loop
    before, end_s = loop.iteration, time.monotonic() + within_s
    while loop.iteration < before + MANY_ROUNDS and time.monotonic() < end_s:
        gevent.sleep(0.2)
    return bool(loop.iteration >= before + MANY_ROUNDS)


def test_the_loop_goes_round_while_it_is_on_and_sleeps_before_and_after(busy_poll: BusyPoll) -> None:
    assert not goes_round(within_s=1)
    for _ in range(2):
        busy_poll.start()
        busy_poll.start()
        assert goes_round(within_s=60)
        busy_poll.stop()
        busy_poll.stop()
        assert not goes_round(within_s=1)


def test_what_is_done_shortly_before_the_loop_looks_is_work(busy_poll: BusyPoll) -> None:
    """Requests are sent by timers that go off there."""
    burnt_s = 0.0

    def burn() -> None:
        nonlocal burnt_s
        begin_s = time.thread_time()
        while time.thread_time() < begin_s + 0.001:
            pass
        burnt_s += time.thread_time() - begin_s

    watcher = get_hub().loop.prepare()
    busy_poll.start()
    gevent.sleep(0.01)
    begin_s, idle_ns = time.thread_time(), busy_poll.idle_ns()
    watcher.start(burn)
    while burnt_s < 0.2:
        gevent.sleep(0.001)
    watcher.close()
    spent_s, idle_s = time.thread_time() - begin_s, (busy_poll.idle_ns() - idle_ns) / 1e9
    assert spent_s - idle_s >= 0.9 * burnt_s


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


def test_locust_neither_warns_nor_tells_of_the_cpu_that_it_takes() -> None:
    environment = Environment()
    environment.runner = SimpleNamespace(current_cpu_usage=100.0)
    usage = environment.events.usage_monitor
    busy_poll = BusyPoll(environment)
    before = runners.CPU_WARNING_THRESHOLD
    busy_poll.start()
    assert before < 100 < runners.CPU_WARNING_THRESHOLD
    before_s = time.monotonic()
    while busy_poll.idle_ns() < 50_000_000:
        gevent.sleep(0.01)
    usage.fire(environment=environment, cpu_usage=100.0, memory_usage=1)
    assert environment.runner.current_cpu_usage < 100 - 4 / (time.monotonic() - before_s)
    busy_poll.stop()
    assert runners.CPU_WARNING_THRESHOLD > 100, "its next look is at the time before"
    usage.fire(environment=environment, cpu_usage=100.0, memory_usage=1)
    assert before == runners.CPU_WARNING_THRESHOLD
    usage.fire(environment=environment, cpu_usage=95.0, memory_usage=1)
    assert environment.runner.current_cpu_usage == 95.0


@pytest.mark.parametrize(("workers", "is_on"), [(0, True), (2, True), (2, False)])
def test_a_generator_that_busy_polls_is_not_at_its_limit(tmp_path: Path, workers: int, is_on: bool) -> None:
    """Workers learn it from the master. What it costs is told nowhere."""
    arguments = ["--headless", "-u", "4", "-r", "4", "-t", "4s", *(["--busy-poll"] if is_on else [])]
    if workers:
        port = str(free_port())
        arguments += ["--processes", str(workers), "--master-bind-port", port, "--master-port", port]
    polled_ns = polled_in_a_run(tmp_path, *arguments)
    load = RunDirectory.open(tmp_path / "run").read_json(RUN_JSON)["load"]
    assert load["generator_cpu_share"] < CPU_SHARE_LIMIT
    assert load["generator_advice"] == ""
    assert len([number for number in polled_ns["test_stop"] if number]) == (max(1, workers) if is_on else 0)


def test_it_ends_with_the_test(tmp_path: Path) -> None:
    test = ["-u", "4", "-r", "4", "-t", "2s", "--busy-poll"]
    polled_ns = polled_in_a_run(tmp_path, "--autostart", *test, "--autoquit", "5", "--web-port", str(free_port()))
    assert polled_ns["quit"] == polled_ns["test_stop"] > [0]


def polled_in_a_run(folder: Path, *arguments: str) -> dict[str, list[int]]:
    """What each process had spent on polling at the end of the test, and at its own."""
    command = [sys.executable, "-m", "locust", "-f", str(SCENARIO), "--only-summary", *arguments]
    command += ["--run-dir", str(folder / "run")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CLOCKWORK_WATCHES_ITS_CPU": "yes"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "CPU usage" not in said
    assert "cpu threshold" not in said
    found: dict[str, list[int]] = {"test_stop": [], "quit": []}
    for when, number in re.findall(r"polled at (\w+): (\d+)", said):
        found[when].append(int(number))
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
