"""The metrics of servers and users, as promtool and a real Prometheus see them: equal to what the clients counted."""

import json
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.components import require
from tests.locustfiles.runs import run_locust
from tests.processes import Process, ServerProcess, wait_until
from tests.servers.clients import EnvelopeClient, http_json, http_request

# Users that do a known number of toggles and then stay: their metrics settle while they can still be scraped.
COUNTED = """\
from locust import constant, task
from swarmproof.fleet import extension
from users import f00d_report
from users.f00d import F00DUser
class Counted(F00DUser):
    wait_time = constant(0)
    toggles = 0
    @task
    def switch(self):
        if self.toggles < 25:
            self.toggles += 1
            self.toggle()
        else:
            self.wait_time = constant(60)
            self.wait()
"""
USERS, TOGGLES = 4, 100


@contextmanager
def prometheus(directory: Path, targets: dict[str, tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """A Prometheus that scrapes each target (job: address) twice a second; its own address."""
    program = require("prometheus")
    jobs = [
        {"job_name": job, "static_configs": [{"targets": [f"{host}:{port}"]}]} for job, (host, port) in targets.items()
    ]
    config = directory / "prometheus.yml"  # JSON is YAML
    config.write_text(json.dumps({"global": {"scrape_interval": "500ms"}, "scrape_configs": jobs}))
    for _ in range(3):  # another program may take the port between the look and the bind
        port = unused_port()
        process = Process(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ]
        )
        try:
            wait_until(lambda: is_ready(port) or not process.running, "Prometheus to be ready", 60)  # noqa: B023
            if process.running:
                yield ("127.0.0.1", port)
                process.stop()
                return
        finally:
            process.close()
    pytest.fail("Prometheus found no port")


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def query(address: tuple[str, int], expression: str) -> float | None:
    """The value of an expression that gives one number; None when there is none yet."""
    path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    result = http_json(address, "GET", path)["data"]["result"]
    return float(result[0]["value"][1]) if result else None


def check_metrics(text: str) -> None:
    done = subprocess.run(
        [require("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("name", ["envelope", "f00d", "websocket_echo", "websocket_rpc", "raft"])
def test_promtool_has_nothing_to_say_about_a_servers_metrics(name: str) -> None:
    require("promtool")
    with ServerProcess(name, "--metrics-port", "0") as server:
        if name == "f00d":  # labels and histograms only exist once a device has spoken
            fields = {"opcode": "toggle", "device_id": "A", "msg_id": "0123456789abcdef", "state": True}
            body = json.dumps(fields).encode()
            with EnvelopeClient(server.address) as client:
                client.send(b"\xf0\x0d\x01" + len(body).to_bytes(4, "big") + body)
                assert client.receive() == b"ACK"
        status, text = http_request(server.logged_address("metrics_listening"), "GET", "/metrics")
        assert status == 200
        check_metrics(text)


@pytest.mark.parametrize("name", ["tools", "performance", "load", "security"])
def test_promtool_has_nothing_to_say_about_metrics_beside_a_websocket(name: str) -> None:
    require("promtool")
    with ServerProcess(f"websocket_{name}") as server:
        status, text = http_request(server.address, "GET", "/metrics")
        assert status == 200
        assert f"websocket_{name}_" in text
        check_metrics(text)


@pytest.mark.parametrize("name", ["envelope", "websocket_echo"])
def test_promtool_has_nothing_to_say_about_the_sums_of_all_workers(name: str) -> None:
    require("promtool")
    with ServerProcess(name, "--workers", "2", "--metrics-port", "0") as server:
        if name == "envelope":
            with EnvelopeClient(server.address) as client:
                assert client.echo(1, b"x").payload == b"x"
        status, text = http_request(server.logged_address("metrics_listening"), "GET", "/metrics")
        assert status == 200
        assert f"{name}_connections_active" in text
        check_metrics(text)


def test_promtool_finds_fault_with_metrics_that_have_one() -> None:
    with pytest.raises(AssertionError, match="no help text"):
        check_metrics("# TYPE things_total counter\nthings_total 1\n")


def test_prometheus_scrapes_what_users_and_device_counted(tmp_path: Path) -> None:
    require("prometheus")
    scenario = tmp_path / "counted.py"
    scenario.write_text(COUNTED)
    run_directory = tmp_path / "locust"
    run_directory.mkdir()
    users_port = unused_port()
    with ServerProcess("f00d", "--metrics-port", "0", "--admin-port", "0") as device:
        process = Process(
            [
                *(sys.executable, "-m", "locust", "-f", str(scenario), "--headless", "-u", str(USERS), "-r", "100"),
                *("-t", "120s", "--host", f"tcp://127.0.0.1:{device.port}", "--run-dir", str(run_directory / "run")),
                *("--f00d-metrics-port", str(users_port)),
            ]
        )
        try:
            process.wait_for_log("F00D metrics at http://127.0.0.1:", 60)
            admin = device.logged_address("admin_listening")
            wait_until(lambda: http_json(admin, "GET", "/counts")["received"] >= TOGGLES, "all toggles", 60)
            check_metrics(http_request(("127.0.0.1", users_port), "GET", "/metrics")[1])
            targets = {
                "device": device.logged_address("metrics_listening"),
                "users": ("127.0.0.1", users_port),
            }
            with prometheus(tmp_path, targets) as address:
                acknowledged = 'sum(tcp_comm_packet_recv_total{job="users",outcome="success"})'
                wait_until(lambda: query(address, acknowledged) == TOGGLES, "the users' scrape", 60)
                device_sent = 'sum(tcp_comm_packet_sent_total{job="device",outcome="success"})'
                wait_until(lambda: query(address, device_sent) == TOGGLES, "the device's scrape", 60)
                for expression, value in (
                    ('sum(tcp_comm_packet_sent_total{job="users",outcome="success"})', TOGGLES),
                    ('sum(tcp_comm_packet_latency_seconds_count{job="users"})', TOGGLES),
                    ('sum(tcp_comm_packet_recv_total{job="device",outcome="success"})', TOGGLES),
                    ('sum(f00d_connections_total{job="device"})', TOGGLES),  # one for each attempt
                    ('count(tcp_comm_packet_latency_seconds_count{job="users"})', USERS),
                    ('sum(tcp_comm_packet_sent_total{job="users",outcome="error"})', 0),
                    ('min(up{job=~"device|users"})', 1),
                ):
                    assert query(address, expression) == value, expression
            packets = http_json(admin, "GET", "/packets")
            assert packets["received"] == TOGGLES
            process.stop(60)
        finally:
            process.close()


def test_the_scenario_writes_the_performance_report_of_the_happy_path(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "performance-report.json"
    with ServerProcess("f00d", "--script", "DISCONNECT*2,SUCCESS") as device:
        host = f"tcp://127.0.0.1:{device.port}"
        result = run_locust("f00d", tmp_path, "--host", host, "--performance-report", str(path), users=2)
    assert result.exit_code == 0, result.log
    assert "PERFORMANCE REPORT - Round-Trip Command Latency" in result.log
    report = json.loads(path.read_text())
    toggles = result.requests("toggle")
    # The two attempts that were disconnected were repeated: those commands are no happy path.
    assert toggles - 2 <= report["metrics"]["sample_count"] <= toggles - 1
    assert report["warnings"] == []


def test_a_fleet_reports_the_round_trips_of_all_workers(tmp_path: Path) -> None:
    path = tmp_path / "performance-report.json"
    with ServerProcess("f00d") as device:
        options = ("--host", f"tcp://127.0.0.1:{device.port}", "--performance-report", str(path), "--processes", "2")
        result = run_locust("f00d", tmp_path, *options, users=4)
    assert result.exit_code == 0, result.log
    samples = json.loads(path.read_text())["metrics"]["sample_count"]
    assert 0.9 * result.requests("toggle") <= samples <= result.requests("toggle")
