"""Our WebSocket users against servers made with the `websockets` library, each in a thread, over real sockets."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.server import ServerConnection, serve

from tests.users.in_process import in_process
from users.websocket_echo import WebSocketEchoUser
from users.websocket_rpc import WebSocketRpcUser
from users.websocket_tools import WebSocketToolsUser


@contextmanager
def serving(handler: Callable[[ServerConnection], None], **options: Any) -> Iterator[str]:
    """`handler(connection)` in a thread for each connection; gives the address."""
    options = {"compression": None, **options}
    with serve(handler, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        finally:
            server.shutdown()
            thread.join()


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


def echo_in_fragments(connection: ServerConnection) -> None:
    """Pings first, then each message in three pieces."""
    for message in connection:
        connection.ping(b"are you there?")
        third = len(message) // 3
        connection.send([message[:third], message[third : 2 * third], message[2 * third :]])


def answer_rpc(connection: ServerConnection) -> None:
    for message in connection:
        asked = json.loads(message)
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
        if asked["method"] == "add":
            reply["result"] = {"result": asked["params"]["a"] + asked["params"]["b"]}
        elif asked["method"] == "error_test":
            reply["error"] = {"code": -32603, "message": "Test error"}
        else:
            reply["result"] = asked["params"]
        connection.send(json.dumps(reply))


def answer_tool_calls(connection: ServerConnection) -> None:
    hello = json.loads(connection.recv())
    connection.send(json.dumps({"op": "hello_ack", "ok": True, "session_id": hello["session_id"]}))
    for message in connection:
        asked = json.loads(message)
        request_id = asked["request_id"]
        if asked["name"] == "stream":
            for number in range(asked["arguments"]["chunks"]):
                chunk = f"{number}:{asked['arguments']['text']}"
                connection.send(json.dumps({"op": "stream_chunk", "request_id": request_id, "chunk": chunk}))
            connection.send(json.dumps({"op": "stream_complete", "request_id": request_id}))
            text = str(asked["arguments"]["chunks"])
        else:
            text = asked["arguments"]["text"]
        outputs = [{"type": "text", "text": text}]
        connection.send(json.dumps({"op": "call_tool_res", "request_id": request_id, "ok": True, "outputs": outputs}))


def test_echo_users_speak_with_it() -> None:
    for handler in (echo, echo_in_fragments):
        with serving(handler) as host, in_process(WebSocketEchoUser, host, payload_bytes=3000) as (user, told):
            for _ in range(20):
                assert user.client.text()
                assert user.client.binary()
            assert told.good == {"connect": 1, "echo text": 20, "echo binary": 20}
            assert not told.bad


def test_rpc_users_speak_with_it() -> None:
    with serving(answer_rpc) as host, in_process(WebSocketRpcUser, host, dialect="jsonrpc") as (user, told):
        assert user.client.echo({"message": "grüße"}) == {"message": "grüße"}
        assert user.client.add(2, 3) == 5
        assert user.client.error_test() == -32603
        assert told.good == {"connect": 1, "echo": 1, "add": 1, "error_test": 1}
        assert not told.bad


def test_tool_users_speak_with_it_and_reconnect() -> None:
    with serving(answer_tool_calls) as host, in_process(WebSocketToolsUser, host) as (user, told):
        assert user.client.echo("hello") == "hello"
        user.client.reconnect()
        assert user.client.stream(4, "part") == "4"
        assert user.client.ping()
        assert told.good == {"connect": 2, "echo": 1, "stream": 1, "ping": 1}
        assert not told.bad
