"""What a master tells Prometheus is what its run leaves on disk, and promtool has nothing to say about it."""

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from records.breakers import BreakerLog
from records.faults import FaultRecord, append_fault
from records.histogram import Histogram
from records.latency import LatencyStore
from records.leadership import Leader, append_leader
from records.offered import Offered
from records.run_directory import VERDICT_JSON, RunDirectory
from records.violations import read_violations
from swarmproof.fleet.health import Health
from swarmproof.fleet.metrics import BUCKETS_S, RunCollector, _buckets
from tests.components import require
from tests.end_to_end.test_prometheus import check_metrics, prometheus, query, unused_port
from tests.fleet.test_extension import free_port
from tests.processes import ROOT, Process, wait_until
from tests.servers.clients import http_request

SCENARIO = Path(__file__).with_name("clockwork.py")
USERS, TICKS = 4, 25

GUARDED = """\
from locust import events
from tests.fleet.clockwork import ClockworkUser
@events.init.add_listener
def on_init(environment, **_):
    environment.web_ui.app.config["SECRET_KEY"] = "k"
    environment.web_ui.login_manager.user_loader(lambda name: None)
"""


@contextmanager
def fleet(folder: Path, *options: str, workers: int = 2, **environment: str) -> Iterator[tuple[Process, RunDirectory]]:
    """A master and workers, and the run directory that they will write into."""
    run, port = RunDirectory(folder / "run"), str(free_port())
    locust = [sys.executable, "-m", "locust", "-f", str(SCENARIO), "--only-summary"]
    processes = [
        Process(
            [
                *(*locust, "--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port),
                *("--expect-workers", str(workers), "--enable-rebalancing", "--run-dir", str(run.path), *options),
            ],
            env=environment,
        )
    ]
    processes += [Process([*locust, "--worker", "--master-port", port], env=environment) for _ in range(workers)]
    try:
        yield processes[0], run
    finally:
        for process in processes:
            process.close()


def values_of(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    return values_of(text).get((name, frozenset(labels.items())))


def write_what_a_supervisor_writes(run: RunDirectory) -> None:
    append_fault(run, FaultRecord(1, "kill", "leader", took_effect=True, effect_ns=5, healed_ns=9))
    append_fault(run, FaultRecord(2, "pause", "follower", took_effect=True, effect_ns=5))
    append_fault(run, FaultRecord(3, "kill", "leader", error="there was no leader"))
    append_leader(run, Leader(1, "raft", "n1", 1))
    append_leader(run, Leader(5, "raft", None, 1))
    append_leader(run, Leader(7, "raft", "n3", 2))


def write_what_breakers_of_two_workers_write(run: RunDirectory) -> None:
    one, other = BreakerLog(run, "worker-a-1"), BreakerLog(run, "worker-b-1")
    one.changed("h:1", "closed", "open", "connection refused", 0)
    other.changed("h:1", "closed", "open", "reset", 0)
    one.changed("h:1", "open", "half-open", "60 s are over", 7)
    one.changed("h:1", "half-open", "closed", "2 calls succeeded", 7)
    other.refused("h:1", "open", 4)
    for log in (one, other):
        log.close()


#: What the metrics say of that.
BREAKERS = {
    'swarmproof_circuit_breaker_state{address="h:1",state="closed"}': 1,
    'swarmproof_circuit_breaker_state{state="open"}': 1,
    'swarmproof_circuit_breaker_state{state="half_open"}': 0,
    "swarmproof_circuit_breaker_opens_total": 2,
    "swarmproof_circuit_breaker_half_opens_total": 1,
    "swarmproof_circuit_breaker_closes_total": 1,
    "swarmproof_circuit_breaker_refused_total": 11,
}


def test_a_real_prometheus_scrapes_the_totals_of_the_whole_fleet(tmp_path: Path) -> None:
    require("prometheus")
    options = ("--headless", "-u", str(USERS), "-r", "100", "-t", "120s", "--metrics-port", str(unused_port()))
    environment = {"CLOCKWORK_TICKS": str(TICKS), "CLOCKWORK_VIOLATES": "1"}
    with fleet(tmp_path, *options, **environment) as (master, run):
        line = master.wait_for_log("metrics at http://127.0.0.1:", 60)
        door = ("127.0.0.1", int(re.search(r":(\d+)/metrics", line)[1]))  # type: ignore[index]
        total = {"operation": "clock tick", "outcome": "ok"}

        def scraped() -> str:
            return http_request(door, "GET", "/metrics")[1]

        wait_until(lambda: value(scraped(), "swarmproof_requests_total", **total) == USERS * TICKS, "all reports", 60)
        write_what_a_supervisor_writes(run)
        write_what_breakers_of_two_workers_write(run)
        text = scraped()
        check_metrics(text)
        assert http_request(door, "GET", "/")[0] == 404
        with prometheus(tmp_path, {"master": door}) as address:
            wait_until(
                lambda: query(address, 'swarmproof_requests_total{outcome="ok"}') == USERS * TICKS, "a scrape", 60
            )
            store = LatencyStore.load(run)
            summary = store.summary("clock tick")
            violated = sum(read_violations(run)[0].values())
            for expression, expected in {
                "sum(swarmproof_requests_total)": summary.count,
                "swarmproof_response_time_seconds_count": summary.count,
                'swarmproof_response_time_seconds_bucket{le="+Inf"}': summary.count,
                "swarmproof_response_time_seconds_sum": store.histogram("clock tick").sum_us / 1e6,
                'swarmproof_response_time_quantile_seconds{quantile="0.5"}': summary.p50_us / 1e6,
                'swarmproof_response_time_quantile_seconds{quantile="0.9999"}': summary.p9999_us / 1e6,
                "swarmproof_users": USERS,
                "sum(swarmproof_workers)": 2,
                "swarmproof_workers_lost_total": 0,
                "sum(swarmproof_violations_total)": violated,
                "sum(swarmproof_errors_total)": violated,
                "sum(swarmproof_arrivals_total)": 0,
                'swarmproof_faults_total{kind="kill",effect="seen"}': 1,
                'swarmproof_faults_total{kind="kill",effect="none"}': 1,
                "swarmproof_faults_active": 1,
                'swarmproof_cluster_leader{node="n3"}': 1,
                'swarmproof_cluster_leader{node="n1"}': 0,
                "swarmproof_cluster_term": 2,
                "swarmproof_cluster_elections_total": 2,
                'swarmproof_verdict{verdict="pending"}': 1,
                **BREAKERS,
            }.items():
                assert query(address, expression) == pytest.approx(expected), expression
        run.write_json(VERDICT_JSON, {"verdict": "invalid"})
        text = scraped()
        assert value(text, "swarmproof_verdict", verdict="invalid") == 1
        assert value(text, "swarmproof_verdict", verdict="pending") == 0
        assert violated == USERS * TICKS
        master.signal(signal.SIGTERM)
        master.wait(60)


def test_a_worker_that_hangs_is_counted_as_lost(tmp_path: Path) -> None:
    port = free_port()
    with fleet(tmp_path, "--headless", "-u", "2", "-t", "60s", "--metrics-port", str(port)) as (master, run):
        door = ("127.0.0.1", port)
        master.wait_for_log("metrics at", 60)
        wait_until(lambda: len(list(run.latency_dir.glob("*"))) == 2, "both workers to record", 60)
        victim = int(next(run.latency_dir.glob("*")).stem.rpartition("-")[2])
        os.kill(victim, signal.SIGSTOP)

        def lost() -> bool:
            return value(http_request(door, "GET", "/metrics")[1], "swarmproof_workers_lost_total") == 1.0

        wait_until(lost, "the hanging worker to be missed", 60)
        text = http_request(door, "GET", "/metrics")[1]
        assert value(text, "swarmproof_workers", state="missing") == 1
        os.kill(victim, signal.SIGCONT)
        master.signal(signal.SIGTERM)
        master.wait(60)


@pytest.mark.parametrize("base", ["", "/load"])
def test_the_web_ui_has_the_metrics_at_its_own_path(tmp_path: Path, base: str) -> None:
    port = free_port()
    options = ["--web-host", "127.0.0.1", "--web-port", str(port), *(["--web-base-path", base] if base else [])]
    locust = Process([sys.executable, "-m", "locust", "-f", str(SCENARIO), *options], env={"HOME": str(tmp_path)})
    try:
        locust.wait_for_log("Starting web interface", 60)

        def answer() -> Any:
            try:
                return http_request(("127.0.0.1", port), "GET", f"{base}/metrics")
            except OSError:
                return None

        status, text = wait_until(answer, "the web UI to answer", 60)
        assert status == 200
        assert value(text, "swarmproof_users") == 0
    finally:
        locust.close()


def test_a_login_also_guards_the_metrics(tmp_path: Path) -> None:
    scenario = tmp_path / "guarded.py"
    scenario.write_text(GUARDED)
    port = free_port()
    options = ("--web-host", "127.0.0.1", "--web-port", str(port), "--web-login")
    locust = Process([sys.executable, "-m", "locust", "-f", str(scenario), *options], env={"PYTHONPATH": str(ROOT)})
    try:

        def answer() -> Any:
            try:
                return http_request(("127.0.0.1", port), "GET", "/metrics")
            except OSError:
                return None

        status, text = wait_until(answer, "the web UI to answer", 60)
        assert status in (302, 401)
        assert "swarmproof_users" not in text
    finally:
        locust.close()


def test_a_port_that_is_taken_is_one_sentence_and_the_run_goes_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ("--headless", "-u", "1", "-t", "1s", "--run-dir", str(tmp_path / "run"), "--metrics-port", port)
        locust = Process([sys.executable, "-m", "locust", "-f", str(SCENARIO), *options])
        try:
            assert locust.wait(60) == 0
            assert f"cannot serve metrics at 127.0.0.1:{port}" in locust.log()
            assert "Traceback" not in locust.log()
        finally:
            locust.close()


def test_buckets_are_cumulative_and_end_with_all() -> None:
    values_us = np.array([50, 100, 101, 900, 1_000, 40_000, 2_000_000, 50_000_000])
    buckets = dict(_buckets(Histogram.of(values_us)))
    assert len(buckets) == len(BUCKETS_S) + 1
    assert buckets["0.0001"] == 2  # 50 and 100 us
    assert buckets["0.001"] == 5
    assert buckets["0.05"] == 6
    assert buckets["2.5"] == 7
    assert buckets["10"] == 7
    assert buckets["+Inf"] == len(values_us)
    assert list(buckets.values()) == sorted(buckets.values())


def test_circuit_breakers_of_all_processes_are_added_up_and_followed(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "x")
    environment = SimpleNamespace(runner=None)
    of: Any = SimpleNamespace(
        environment=environment, run=run, store=LatencyStore(), health=Health(), offered=Offered(), lost_workers=set()
    )
    registry = CollectorRegistry()
    registry.register(RunCollector(of))
    name = "swarmproof_circuit_breaker_state"
    assert name in generate_latest(registry).decode(), "it is told of, before there is any"
    assert value(generate_latest(registry).decode(), name, address="h:1", state="open") is None
    write_what_breakers_of_two_workers_write(run)
    text = generate_latest(registry).decode()
    assert [value(text, name, address="h:1", state=state) for state in ("closed", "open", "half_open")] == [1, 1, 0]
    assert value(text, "swarmproof_circuit_breaker_opens_total", address="h:1") == 2
    assert value(text, "swarmproof_circuit_breaker_refused_total", address="h:1") == 11
    later = BreakerLog(run, "worker-b-1")
    later.changed("h:1", "open", "half-open", "60 s are over", 5)
    later.close()
    text = generate_latest(registry).decode()
    assert [value(text, name, address="h:1", state=state) for state in ("closed", "open", "half_open")] == [1, 0, 1]
    assert value(text, "swarmproof_circuit_breaker_refused_total", address="h:1") == 12


def test_an_empty_histogram_has_empty_buckets() -> None:
    assert set(dict(_buckets(Histogram())).values()) == {0.0}
