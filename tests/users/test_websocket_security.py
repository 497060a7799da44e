"""A refusal is a failure under its reason; what is let through against the rules is a violation."""

import json
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection

from records.violations import PAYLOAD
from tests.locustfiles.runs import run_locust
from tests.processes import ServerProcess
from tests.users.in_process import in_process
from tests.users.test_websocket_peers import echo, serving
from users.websocket_security import OTHER_REASON, WebSocketSecurityUser, refusal_in


def refuse(reason: str) -> str:
    return json.dumps({"error": {"reason": reason}}, separators=(",", ":"))


def test_forbidden_text_that_is_let_through_is_a_violation() -> None:
    with serving(echo) as host, in_process(WebSocketSecurityUser, host) as (user, told):
        assert user.client.text()
        assert not user.client.forbidden()
        assert told.bad == {("forbidden text", PAYLOAD): 1}


def test_refusals_fail_under_their_reason() -> None:
    def handler(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(refuse("rate limit exceeded"))
        connection.recv()
        connection.send(refuse("you in particular"))
        connection.recv()
        connection.send(refuse("forbidden content"))
        connection.recv()
        connection.send("something else altogether")
        connection.recv()

    with serving(handler) as host, in_process(WebSocketSecurityUser, host) as (user, told):
        assert user.client.text() is None
        assert user.client.binary() is None
        assert user.client.forbidden()
        assert user.client.text() is None
        assert told.bad == {
            ("echo text", "rate limit exceeded"): 1,
            ("echo binary", OTHER_REASON): 1,
            ("echo text", PAYLOAD): 1,
        }


@pytest.mark.parametrize(
    "text", ["", "{", '{"error"', '{"error":1}', '{"error":{"reason":1}}', '{"error":' + " " * 1000]
)
def test_what_is_no_refusal(text: str) -> None:
    assert refusal_in(text) == ""
    assert refusal_in(refuse("forbidden content").encode()) == "", "refusals are text"


@pytest.mark.parametrize("engine", [(), ("--engine",)])
def test_the_scenario_at_the_default_limits_is_refused_and_sees_no_lie(tmp_path: Path, engine: tuple[str, ...]) -> None:
    with ServerProcess("websocket_security", "--max-refusals", "1000000") as server:
        host = f"ws://127.0.0.1:{server.port}"
        result = run_locust("websocket_security", tmp_path, "--host", host, "--depth", "2", *engine, seconds=2)
    assert result.errors.keys() == {"rate limit exceeded"}
    assert result.violations == {}


def test_the_scenario_without_the_rate_limit_is_clean(tmp_path: Path) -> None:
    limits = ("--requests-per-minute", "600000", "--burst", "1000000", "--max-refusals", "1000000")
    with ServerProcess("websocket_security", *limits) as server:
        host = f"ws://127.0.0.1:{server.port}"
        result = run_locust("websocket_security", tmp_path, "--host", host, "--depth", "2", seconds=2)
    assert (result.exit_code, result.errors, result.violations) == (0, {}, {})
    assert result.requests("forbidden text") > 5
