"""The WebSocket RPC server in both dialects."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import websocket as websocket_client
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from tests.processes import ServerProcess

ATTACKED = ["websocket_rpc"]


@pytest.fixture
def connection(attacked: ServerProcess) -> Iterator[ClientConnection]:
    with connect(f"ws://{attacked.host}:{attacked.port}/", open_timeout=15, close_timeout=15) as client:
        yield client


def ask(connection: ClientConnection, message: object) -> Any:
    connection.send(message if isinstance(message, str) else json.dumps(message))
    reply = connection.recv(15)
    assert isinstance(reply, str)
    return json.loads(reply)


def call(connection: ClientConnection, method: str, params: object, id: object = 1) -> Any:
    return ask(connection, {"id": id, "method": method, "params": params, "method_type": "Call"})


def strict(connection: ClientConnection, method: str, params: object, id: object = 1) -> Any:
    return ask(connection, {"jsonrpc": "2.0", "id": id, "method": method, "params": params})


@pytest.mark.parametrize("params", [{"message": "Hello, RPC!"}, [1, 2.5, "x", None, True], None, "text", 2**70])
def test_echo_gives_the_params_back_with_error_null(connection: ClientConnection, params: object) -> None:
    assert call(connection, "echo", params, "a-1") == {"id": "a-1", "result": params, "error": None}


def test_add_adds(connection: ClientConnection) -> None:
    assert call(connection, "add", {"a": 5, "b": 3}) == {"id": 1, "result": {"result": 8}, "error": None}
    assert strict(connection, "add", {"a": -5, "b": 3}, 7) == {"jsonrpc": "2.0", "id": 7, "result": {"result": -2}}


@pytest.mark.parametrize(
    "params",
    [None, [], {}, {"a": 1}, {"a": 1, "b": "2"}, {"a": 1.5, "b": 2}, {"a": True, "b": 2}, {"a": 2**63, "b": 1}],
)
def test_add_with_other_params_is_32603_in_the_first_dialect_and_32602_in_the_second(
    connection: ClientConnection, params: object
) -> None:
    reply = call(connection, "add", params)
    assert reply["result"] is None
    assert reply["error"] == {"code": -32603, "message": "Invalid parameters"}
    if params is not None:
        reply = strict(connection, "add", params)
        assert reply["error"]["code"] == -32602
        assert "result" not in reply


def test_get_time_is_the_time_in_seconds(connection: ClientConnection) -> None:
    timestamp = call(connection, "get_time", None)["result"]["timestamp"]
    assert isinstance(timestamp, int)
    assert abs(timestamp - time.time()) < 60


def test_error_test_fails_and_the_connection_stays(connection: ClientConnection) -> None:
    assert call(connection, "error_test", None)["error"] == {"code": -32603, "message": "Test error"}
    assert strict(connection, "error_test", {})["error"]["message"] == "Test error"
    assert call(connection, "echo", 1)["result"] == 1


def test_unknown_method_is_32601(connection: ClientConnection) -> None:
    assert call(connection, "nothing", None) == {
        "id": 1,
        "result": None,
        "error": {"code": -32601, "message": "Method not found"},
    }
    assert strict(connection, "nothing", {})["error"]["code"] == -32601


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("not json", -32700),
        ("[" * 100_000 + "]" * 100_000, -32700),
        ('{"jsonrpc":"2.0","id":1,"method":"echo","params":[1e99999]}', -32700),
        ("1", -32600),
        ("[]", -32600),
        ('{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        ('{"jsonrpc":"1.0","id":1,"method":"echo"}', -32600),
        ('{"jsonrpc":"2.0","id":{},"method":"echo"}', -32600),
    ],
)
def test_what_is_no_request_gets_its_code_and_the_connection_stays(
    connection: ClientConnection, text: str, code: int
) -> None:
    reply = ask(connection, text)
    assert reply["error"]["code"] == code
    assert reply["jsonrpc"] == "2.0"
    assert call(connection, "echo", "still here")["result"] == "still here"


def test_batch_is_answered_as_a_batch_without_its_notifications(connection: ClientConnection) -> None:
    replies = ask(
        connection,
        [
            {"jsonrpc": "2.0", "id": 1, "method": "add", "params": {"a": 1, "b": 2}},
            {"jsonrpc": "2.0", "method": "echo", "params": [1]},
            {"jsonrpc": "2.0", "id": "x", "method": "nothing"},
            7,
        ],
    )
    assert {reply["id"]: reply.get("result", reply.get("error", {}).get("code")) for reply in replies} == {
        1: {"result": 3},
        "x": -32601,
        None: -32600,
    }


def test_notification_gets_no_answer(connection: ClientConnection) -> None:
    connection.send('{"jsonrpc":"2.0","method":"echo","params":[1]}')
    assert call(connection, "echo", "next", 99)["id"] == 99


def test_binary_message_is_closed_with_1003(connection: ClientConnection) -> None:
    connection.send(b'{"id":1,"method":"echo","params":1}')
    with pytest.raises(ConnectionClosedError) as closed:
        connection.recv(15)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003


def test_pipelined_calls_are_all_answered(connection: ClientConnection) -> None:
    for number in range(500):
        connection.send(json.dumps({"id": number, "method": "echo", "params": number, "method_type": "Call"}))
    replies = [json.loads(connection.recv(15)) for _ in range(500)]
    assert [(reply["id"], reply["result"]) for reply in replies] == [(n, n) for n in range(500)]


def test_websocket_client_is_served_too(attacked: ServerProcess) -> None:
    client = websocket_client.create_connection(f"ws://{attacked.host}:{attacked.port}/", timeout=15)
    try:
        client.send('{"id":1,"method":"add","params":{"a":2,"b":3},"method_type":"Call"}')
        assert json.loads(client.recv()) == {"id": 1, "result": {"result": 5}, "error": None}
    finally:
        client.close()
