"""Seed 003's table of integration tests, each under its own name, with the F00D client against a real device server.

The device is a process of its own (`servers.f00d`), and so is the client (`tests.users.f00d_probe`): locust must not
patch the test process. Timeouts are the seed's: 1.0 s to connect, 1.5 s for the acknowledgement.
"""

import json
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from protocols.f00d import HEADER_BYTES
from tests import performance
from tests.dishonest.tcp import MisbehavingServer, Peer
from tests.processes import ROOT, ServerProcess
from tests.servers.clients import http_json

DEADLINE_S = 60
METRICS_PORT = 19_400
Track = Callable[[list[float]], None]


@pytest.fixture
def unique_device_id() -> str:
    """No two tests share a device's metrics."""
    return f"TEST_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def unique_metrics_port() -> int:
    """The seed's fixed port; any (0) while another session on this machine has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", METRICS_PORT))
        except OSError:
            return 0
    return METRICS_PORT


@pytest.fixture
def performance_tracker(request: pytest.FixtureRequest) -> Track:
    """Happy-path tests hand their round trips over."""
    return request.config.stash[performance.SAMPLES].extend


@pytest.fixture
def device() -> Iterator[ServerProcess]:
    """The seed's MockTCPServer, as a real one: SUCCESS until a test switches it."""
    with ServerProcess("f00d", "--admin-port", "0") as server:
        yield server


def switch(device: ServerProcess, script: str) -> None:
    http_json(device.logged_address("admin_listening"), "POST", "/mode", {"script": script})


def received(device: ServerProcess, device_id: str) -> list[dict[str, Any]]:
    admin = device.logged_address("admin_listening")
    packets: list[dict[str, Any]] = http_json(admin, "GET", f"/packets?device_id={device_id}")["packets"]
    return packets


def command(port: int, device_id: str, toggles: int, attempts: int, *more: str) -> list[str]:
    numbers = map(str, (port, toggles, attempts))
    return [sys.executable, "-m", "tests.users.f00d_probe", *numbers, device_id, *more]


def toggle_device_with_retry(port: int, device_id: str, *, toggles: int = 1, max_attempts: int = 2) -> dict[str, Any]:
    """`outcomes` of the toggles, the metrics' `samples`, `happy_ms`."""
    arguments = command(port, device_id, toggles, max_attempts)
    ended = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE_S, check=False)
    assert ended.returncode == 0, ended.stderr
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def test_happy_path_toggle_success(device: ServerProcess, unique_device_id: str, performance_tracker: Track) -> None:
    """Successful toggle with immediate response."""
    result = toggle_device_with_retry(device.port, unique_device_id, toggles=4)
    assert result["outcomes"] == [True] * 4
    packets = received(device, unique_device_id)
    assert [packet["opcode"] for packet in packets] == ["toggle"] * 4
    assert len({packet["msg_id"] for packet in packets}) == 4
    assert result["samples"]["tcp_comm_packet_sent_total|success"] == 4
    assert result["samples"]["tcp_comm_packet_recv_total|success"] == 4
    assert result["samples"]["tcp_comm_packet_latency_seconds_count"] == 4
    assert len(result["happy_ms"]) == 4
    assert all(sample_ms > 0 for sample_ms in result["happy_ms"])
    performance_tracker(result["happy_ms"])


class Recorder(MisbehavingServer):
    """Keeps the raw bytes and acknowledges them."""

    bytes_seen = b""

    def on_data(self, peer: Peer) -> None:
        self.bytes_seen += bytes(peer.received)
        peer.received.clear()
        self.send(peer, b"ACK")


def test_packet_format_validation(unique_device_id: str, performance_tracker: Track) -> None:
    """Validates exact Phase 0 packet structure."""
    with Recorder() as recorder:
        result = toggle_device_with_retry(recorder.port, unique_device_id)
    assert result["outcomes"] == [True]
    packet = recorder.bytes_seen
    assert packet[:2] == b"\xf0\x0d"
    assert packet[2] == 1
    assert int.from_bytes(packet[3:7], "big") == len(packet) - HEADER_BYTES
    payload = json.loads(packet[HEADER_BYTES:])
    msg_id = payload["msg_id"]
    assert payload == {"opcode": "toggle", "device_id": unique_device_id, "msg_id": msg_id, "state": True}
    assert len(bytes.fromhex(msg_id)) == 8
    performance_tracker(result["happy_ms"])


def test_retry_intermittent_connection_failure(device: ServerProcess, unique_device_id: str) -> None:
    """Retry when first connection fails."""
    switch(device, "DISCONNECT,SUCCESS")
    result = toggle_device_with_retry(device.port, unique_device_id)
    assert result["outcomes"] == [True]
    assert len(received(device, unique_device_id)) == 1  # the first connection took no packet
    assert result["samples"]["tcp_comm_packet_retransmit_total|connection_failed"] == 1
    assert result["happy_ms"] == []  # a retry is no happy path


def test_retry_intermittent_timeout(device: ServerProcess, unique_device_id: str) -> None:
    """Retry when first attempt times out."""
    switch(device, "TIMEOUT,SUCCESS")
    result = toggle_device_with_retry(device.port, unique_device_id)
    assert result["outcomes"] == [True]
    packets = received(device, unique_device_id)
    assert [packet["mode"] for packet in packets] == ["TIMEOUT", "SUCCESS"]
    assert packets[0]["msg_id"] != packets[1]["msg_id"]  # a fresh id per attempt, as the original
    assert packets[1]["received_at"] - packets[0]["received_at"] >= 1.5 + 0.25  # the I/O timeout and the delay
    assert result["samples"]["tcp_comm_packet_retransmit_total|timeout"] == 1
    assert result["samples"]["tcp_comm_packet_recv_total|timeout"] == 1
    assert result["happy_ms"] == []


def test_all_attempts_timeout(device: ServerProcess, unique_device_id: str) -> None:
    """Failure when all attempts timeout."""
    switch(device, "TIMEOUT")
    result = toggle_device_with_retry(device.port, unique_device_id, max_attempts=2)
    assert result["outcomes"] == [False]
    assert len(received(device, unique_device_id)) == 2
    assert result["samples"]["tcp_comm_packet_recv_total|timeout"] == 2
    assert result["samples"]["tcp_comm_packet_retransmit_total|timeout"] == 1
    assert result["samples"]["tcp_comm_packet_latency_seconds_count"] == 0
    assert result["happy_ms"] == []


def test_connection_refused(unique_device_id: str) -> None:
    """Failure when no server is listening."""
    with socket.socket() as bound:  # bound and not listening: nobody else can take the port
        bound.bind(("127.0.0.1", 0))
        result = toggle_device_with_retry(bound.getsockname()[1], unique_device_id)
    assert result["outcomes"] == [False]
    assert result["samples"]["tcp_comm_packet_sent_total|error"] == 2
    assert result["samples"]["tcp_comm_packet_sent_total|success"] == 0
    assert result["samples"]["tcp_comm_packet_retransmit_total|connection_failed"] == 1
    assert result["happy_ms"] == []


def test_connection_closed_during_recv(device: ServerProcess, unique_device_id: str) -> None:
    """Failure when server closes connection."""
    switch(device, "DISCONNECT")
    result = toggle_device_with_retry(device.port, unique_device_id)
    assert result["outcomes"] == [False]
    assert result["samples"]["tcp_comm_packet_retransmit_total|connection_failed"] == 1
    assert result["samples"]["tcp_comm_packet_recv_total|success"] == 0
    assert result["happy_ms"] == []


class Closing(MisbehavingServer):
    """Takes the packet, then closes."""

    def on_data(self, peer: Peer) -> None:
        self.requests += 1
        self.close(peer)


def test_connection_closed_after_the_packet_was_taken(unique_device_id: str) -> None:
    with Closing() as server:
        result = toggle_device_with_retry(server.port, unique_device_id)
        assert server.requests == 2
    assert result["outcomes"] == [False]
    assert result["samples"]["tcp_comm_packet_retransmit_total|connection_failed"] == 1


def test_metrics_endpoint_accessible(
    device: ServerProcess, unique_device_id: str, unique_metrics_port: int, performance_tracker: Track
) -> None:
    """Validates Prometheus metrics endpoint."""
    process = subprocess.Popen(
        command(device.port, unique_device_id, 3, 2, str(unique_metrics_port)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().removeprefix("metrics at "))
            assert port == unique_metrics_port or not unique_metrics_port
            result = json.loads(process.stdout.readline())
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=15) as reply:
                assert reply.status == 200
                text = reply.read().decode()
            families = {family.name: family for family in text_string_to_metric_families(text)}
        finally:
            process.kill()
    assert result["outcomes"] == [True] * 3
    values = {
        (sample.name, sample.labels.get("outcome", "")): sample.value
        for family in families.values()
        for sample in family.samples
        if sample.labels["device_id"] == unique_device_id
    }
    assert values["tcp_comm_packet_sent_total", "success"] == 3
    assert values["tcp_comm_packet_recv_total", "success"] == 3
    assert values["tcp_comm_packet_latency_seconds_count", ""] == 3
    bounds = [
        sample.labels["le"]
        for sample in families["tcp_comm_packet_latency_seconds"].samples
        if sample.name.endswith("_bucket") and sample.labels["device_id"] == unique_device_id
    ]
    assert bounds == ["0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.0", "5.0", "+Inf"]
    performance_tracker(result["happy_ms"])
