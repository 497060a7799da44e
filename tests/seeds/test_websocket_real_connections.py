"""Seed 002, "Real WebSocket Connections": the user that load tests run, against the tool-call server."""

from pathlib import Path

import pytest

from tests.locustfiles.runs import run_locust
from tests.processes import ServerProcess, wait_until
from tests.servers.clients import http_request, metric
from tests.servers.test_websocket_kinds import make_certificate
from tests.servers.tool_clients import TOKEN, ToolClient, text_of

TOKEN_ENV = {"SWARMPROOF_TOKEN": TOKEN}
OPERATIONS = ("echo", "add", "stream", "slow", "fail", "list_tools", "ping")

RECONNECTING = """
from locust import constant, task
from swarmproof.fleet import extension
from users.websocket_tools import WebSocketToolsUser

class Reconnecting(WebSocketToolsUser):
    wait_time = constant(0)

    @task
    def come_and_go(self):
        self.client.echo(self.random_text())
        self.client.reconnect()
"""


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return str(path)


def test_connection_establishment_with_authentication(tmp_path: Path, token_file: str) -> None:
    with ServerProcess("websocket_tools", "--no-limits", env=TOKEN_ENV) as server:
        host = f"ws://{server.host}:{server.port}"
        good = run_locust("websocket_tools", tmp_path / "good", "--host", host, "--token-file", token_file, seconds=1)
        bad = run_locust("websocket_tools", tmp_path / "bad", "--host", host, "--connect-deadline", "0.2", seconds=1)
    assert good.exit_code == 0
    assert good.errors == {}
    assert good.requests("connect") == 4
    assert bad.errors.keys() == {"opening handshake failed: hello refused"}
    assert TOKEN not in good.log


@pytest.mark.parametrize("depth", ["1", "16"])
def test_messages_sent_and_received_without_corruption(tmp_path: Path, token_file: str, depth: str) -> None:
    with ServerProcess("websocket_tools", "--no-limits", env=TOKEN_ENV) as server:
        host = f"ws://{server.host}:{server.port}"
        options = ("--host", host, "--token-file", token_file, "--depth", depth, "--payload-bytes", "500")
        result = run_locust("websocket_tools", tmp_path, *options, seconds=2)
    assert (result.exit_code, result.errors, result.violations) == (0, {}, {})
    assert all(result.requests(operation) for operation in OPERATIONS), result.table


def test_reconnection_after_disconnect(tmp_path: Path, token_file: str) -> None:
    scenario = tmp_path / "reconnecting.py"
    scenario.write_text(RECONNECTING)
    with ServerProcess("websocket_tools", "--no-limits", env=TOKEN_ENV) as server:
        host = f"ws://{server.host}:{server.port}"
        result = run_locust(str(scenario), tmp_path, "--host", host, "--token-file", token_file, seconds=2)
        text = http_request(server.address, "GET", "/metrics")[1]
    assert (result.errors, result.violations) == ({}, {})
    assert result.requests("connect") > 8
    reconnections = metric(text, "websocket_tools_reconnections_total")
    assert abs(reconnections - (result.requests("connect") - 4)) <= 4, "the same session each time"


def test_teardown_leaves_nothing_behind(tmp_path: Path) -> None:
    with ServerProcess("websocket_tools", "--no-limits", env=TOKEN_ENV) as server:
        for number in range(20):
            with ToolClient(server.address, f"session-{number}") as client:
                assert text_of(client.result("r", "add", a=number, b=1)) == str(number + 1)
                client.call("left", "slow", ms=60_000, text=str(number))

        def clean() -> bool:
            text = http_request(server.address, "GET", "/metrics")[1]
            return metric(text, "websocket_tools_messages_queued") == 0

        wait_until(clean, "calls of those who left to be cancelled")


def test_wss_end_to_end_on_a_test_ca(tmp_path: Path, token_file: str) -> None:
    ca, chain = make_certificate(tmp_path)
    with ServerProcess("websocket_tools", "--no-limits", "--certificate", str(chain), env=TOKEN_ENV) as server:
        host = f"wss://localhost:{server.port}"
        options = ("--host", host, "--token-file", token_file)
        good = run_locust(
            "websocket_tools", tmp_path / "good", *options, "--tls-ca", str(ca), "--depth", "4", seconds=2
        )
        bad = run_locust("websocket_tools", tmp_path / "bad", *options, "--connect-deadline", "0.2", seconds=1)
    assert (good.exit_code, good.errors, good.violations) == (0, {}, {})
    assert all(good.requests(operation) for operation in OPERATIONS)
    assert all("TLS certificate refused" in error for error in bad.errors)
    assert bad.errors
