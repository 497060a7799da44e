"""Seed 002, "Metrics Integration": what the server counted against what the clients saw, within 5 %."""

import threading
import time
from pathlib import Path

import pytest

from tests.locustfiles.runs import run_locust
from tests.processes import ServerProcess, wait_until
from tests.servers.clients import http_json, http_request, metric
from tests.servers.tool_clients import TOKEN, ToolClient, code_of, text_of
from tests.servers.websocket_clients import TEXT, RawWebSocket, frame

TOKEN_ENV = {"SWARMPROOF_TOKEN": TOKEN}
NAME = "websocket_tools"
CALLS = ("echo", "add", "slow", "stream", "fail")
RESETS = 40


def compare(columns: dict[str, tuple[float, float]]) -> None:
    """Print server and clients side by side; each pair must agree within 5 %."""
    print(f"{'':24}{'server':>12}{'clients':>12}")
    for name, (server, clients) in columns.items():
        print(f"{name:24}{server:12g}{clients:12g}")
    for name, (server, clients) in columns.items():
        assert abs(server - clients) <= 0.05 * max(server, clients), name


def test_metrics_accuracy_under_load_with_failures(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    with ServerProcess(NAME, "--no-limits", env=TOKEN_ENV) as server:
        wrong = threading.Thread(target=lambda: [ToolClient(server.address, "abc", "wrong").close() for _ in range(40)])
        wrong.start()
        host = f"ws://{server.host}:{server.port}"
        result = run_locust(NAME, tmp_path, "--host", host, "--token-file", str(token_file), "--depth", "2")
        wrong.join()
        text = http_request(server.address, "GET", "/metrics")[1]

    def counted(name: str) -> float:
        return metric(text, f"{NAME}_{name}")

    calls = sum(result.requests(name) for name in CALLS)
    others = result.requests("list_tools")
    streams, slow = result.requests("stream"), result.requests("slow")
    hellos = result.requests("connect") + 40
    compare(
        {
            "connections": (counted("handshakes_total"), hellos),
            "failed hellos": (counted("connections_failed_total"), 40),
            "calls": (counted("calls_total"), calls),
            "failed calls": (counted("messages_failed_total"), result.requests("fail")),
            "messages received": (counted("messages_total"), calls + others + hellos),
            # Five chunks and their end, two progress messages: as the scenario asks for them.
            "messages sent": (counted("messages_sent_total"), calls + others + hellos + 6 * streams + 2 * slow),
            "latency samples": (counted("call_seconds_count"), calls),
        }
    )
    assert (result.errors, result.violations) == ({}, {})


@pytest.mark.parametrize(
    ("name", "scenario"),
    [("websocket_echo", "websocket_echo"), ("websocket_load", "websocket_echo"), ("websocket_rpc", "websocket_rpc")],
)
def test_echo_rpc_and_load_servers_count_what_clients_saw_while_connections_are_reset(
    tmp_path: Path, name: str, scenario: str
) -> None:
    message = frame(TEXT, b'{"id":"1","method":"echo","params":"x","method_type":"Call"}')

    def reset_connections() -> None:
        for _ in range(RESETS):
            client = RawWebSocket(server.address)
            client.send(message)
            client.next_frame()  # it was read and counted
            client.send(message[:5])
            client.reset()

    with ServerProcess(name, "--metrics-port", "0") as server:
        resetting = threading.Thread(target=reset_connections)
        resetting.start()
        result = run_locust(scenario, tmp_path, "--host", f"ws://{server.host}:{server.port}", "--depth", "2")
        resetting.join()

        def text() -> str:
            return http_request(server.logged_address("metrics_listening"), "GET", "/metrics")[1]

        def counted(what: str) -> float:
            return metric(text(), f"{name}_{what}")

        lost = 'connections_closed_total{reason="reset inside a message"}'
        wait_until(lambda: counted(lost) >= RESETS, "the last reset to be counted")
        answered = sum(row["num_requests"] for row in result.table if row["name"] != "connect")
        compare(
            {
                "connections": (counted("handshakes_total"), result.requests("connect") + RESETS),
                "resets": (counted(lost), RESETS),
                "messages received": (counted("messages_total"), answered + RESETS),
                "messages sent": (counted("replies_total"), answered + RESETS),
            }
        )
    assert (result.errors, result.violations) == ({}, {})


def test_latency_measurement_accuracy() -> None:
    with ServerProcess(NAME, "--no-limits", env=TOKEN_ENV) as server, ToolClient(server.address) as client:
        started_s = time.monotonic()
        for number in range(5):
            client.call(f"r{number}", "slow", ms=600, text=str(number))
        for _ in range(5):
            text_of(client.hear())
        seen_s = time.monotonic() - started_s
        text = http_request(server.address, "GET", "/metrics")[1]
        mean_s = metric(text, f"{NAME}_call_seconds_sum") / metric(text, f"{NAME}_call_seconds_count")
    assert 0.6 <= mean_s <= seen_s, "never less than it took, never more than a client waited"
    compare({"latency in s": (mean_s, seen_s)})


def test_deduplication_tracking_and_client_isolation() -> None:
    with ServerProcess(NAME, "--no-limits", "--metrics-port", "0", env=TOKEN_ENV) as server:
        one, two = ToolClient(server.address, "one"), ToolClient(server.address, "two")
        with one, two:
            for _ in range(10):
                one.result("same", "add", a=1, b=1)
            for number in range(7):
                two.result(f"own-{number}", "add", a=1, b=number)
            two.call("in-flight", "slow", ms=300, text="x")
            assert code_of(two.result("twin", "slow", ms=300, text="x")) == "OVER_CAPACITY"
            clients = http_json(server.logged_address("metrics_listening"), "GET", "/clients")
            text = http_request(server.address, "GET", "/metrics")[1]
    # Nine replays and one twin; each connection has its own count: hello and calls.
    assert metric(text, f"{NAME}_messages_deduplicated_total") == 10
    assert sorted(client["messages"] for client in clients if client["messages"]) == [1 + 7 + 2, 1 + 10]
