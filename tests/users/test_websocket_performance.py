"""Messages that nobody answers, and the count of them that must agree."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from records.violations import PAYLOAD, SHAPE
from tests.locustfiles.runs import run_locust
from tests.processes import ServerProcess
from tests.servers.clients import http_request, metric
from tests.users.in_process import in_process
from tests.users.test_websocket_peers import serving
from users.websocket_performance import Counts, WebSocketPerformanceUser, read_counts


def counting(tell: Callable[[dict[str, int]], Any]) -> Callable[[ServerConnection], None]:
    """A server that counts, and answers what `tell` makes of its counts."""

    def handler(connection: ServerConnection) -> None:
        text = binary = 0
        for message in connection:
            if message == "metrics":
                rates = {"messages_per_second": 1.5, "messages_last_second": 0}
                counts = {"total_messages": text + binary, "text_messages": text, "binary_messages": binary}
                connection.send(json.dumps(tell(counts | rates)))
            elif isinstance(message, str):
                text += 1
            else:
                binary += 1

    return handler


def test_sent_messages_are_counted() -> None:
    with serving(counting(lambda counts: counts)) as host, in_process(WebSocketPerformanceUser, host) as (user, told):
        assert user.client.metrics() == Counts(0, 0, 0)
        for _ in range(10):
            user.send()
        assert user.client.metrics() == Counts(10, 5, 5)
        user.client.close()
        user.send()
        assert user.client.metrics() == Counts(1, 1, 0), "counted anew on the next connection"
        assert told.good == {"connect": 2, "send text": 6, "send binary": 5, "metrics": 3}
        assert not told.bad


@pytest.mark.parametrize(
    ("tell", "failure"),
    [
        (lambda counts: counts | {"total_messages": counts["total_messages"] // 2}, PAYLOAD),  # not the sum
        (lambda counts: counts | {"total_messages": 3, "text_messages": 3, "binary_messages": 0}, PAYLOAD),  # lost
        (lambda counts: counts | {"messages_per_second": "many"}, f"{SHAPE}: no counters"),
        (lambda counts: [counts], f"{SHAPE}: no counters"),
    ],
)
def test_counts_that_do_not_agree_are_violations(tell: Callable[[dict[str, int]], Any], failure: str) -> None:
    with serving(counting(tell)) as host, in_process(WebSocketPerformanceUser, host) as (user, told):
        user.client.metrics()
        for _ in range(10):
            user.send()
        assert user.client.metrics() is None
        assert told.bad["metrics", failure] >= 1


def test_alone_more_than_was_sent_is_a_violation() -> None:
    def generous(counts: dict[str, int]) -> dict[str, int]:
        return counts | {"total_messages": 2 * counts["total_messages"], "text_messages": 2 * counts["text_messages"]}

    for alone in (False, True):
        with (
            serving(counting(generous)) as host,
            in_process(WebSocketPerformanceUser, host, alone=alone, message="text") as (user, told),
        ):
            assert user.client.metrics() == Counts(0, 0, 0)
            user.send()
            assert (user.client.metrics() is None) == alone
            assert told.bad == ({("metrics", PAYLOAD): 1} if alone else {})


def test_what_is_no_answer_of_the_server() -> None:
    for payload in (b"{}", "{", "[]", "{}", '{"total_messages":-1}'):
        assert read_counts(payload) is None


def test_the_scenario_agrees_with_the_server_under_load(tmp_path: Path) -> None:
    with ServerProcess("websocket_performance") as server:
        host = f"ws://127.0.0.1:{server.port}"
        result = run_locust("websocket_performance", tmp_path, "--host", host, "--depth", "2", "--alone", seconds=2)
        text = http_request(server.address, "GET", "/metrics")[1]
    assert (result.exit_code, result.errors, result.violations) == (0, {}, {})
    sent = result.requests("send text") + result.requests("send binary")
    print(f"counted {metric(text, 'total_messages'):g}, sent {sent}")
    assert sent > 100
    assert metric(text, "total_messages") == pytest.approx(sent, rel=0.05)
    assert result.requests("metrics") >= 8
