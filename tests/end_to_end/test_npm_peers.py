"""WebSocket clients and servers from npm (`ws`, `wscat`, `rpc-websockets`) talk to ours, in both roles."""

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

from protocols.websocket import Closed, Opened, Text, WebSocketClient
from tests.components import NPM_DIRECTORY, require_npm_peers
from tests.locustfiles.runs import run_locust
from tests.processes import Process, ServerProcess, wait_until
from tests.servers.clients import RawClient

DEADLINE_S = 60
WSCAT = str(NPM_DIRECTORY / "node_modules" / "wscat" / "bin" / "wscat")


@pytest.fixture(scope="module")
def node() -> str:
    return require_npm_peers()


def told(node: str, *arguments: str) -> dict[str, object]:
    """What a client of peers.js prints."""
    command = [node, str(NPM_DIRECTORY / "peers.js"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    parsed: dict[str, object] = json.loads(done.stdout)
    return parsed


class Peer(Process):
    """A server of peers.js, on `port`."""

    def __init__(self, node: str, *arguments: str) -> None:
        super().__init__([node, str(NPM_DIRECTORY / "peers.js"), *arguments])
        try:
            word, number = self.read_line().split()
            assert word == "listening"
            self.port = int(number)
        except BaseException:
            self.close()
            raise


@pytest.mark.parametrize("name", ["websocket_echo", "websocket_load"])
@pytest.mark.parametrize("compression", ["", "deflate"])
def test_ws_is_served_text_binary_fragments_pings_and_a_close(node: str, name: str, compression: str) -> None:
    options = ["--compression"] if compression else []
    with ServerProcess(name, *options) as server:
        answer = told(node, "ws-client", f"ws://127.0.0.1:{server.port}/", compression)
    assert answer["messages"] == [
        {"text": "Hello, WebSocket!"},
        {"binary": "0001020304"},
        {"text": ""},
        {"text": "grüße " * 20_000},
        {"text": "in three pieces"},
    ]
    assert answer["pong"] == "alive?"
    assert (answer["code"], answer["reason"]) == ("4321", "enough")
    assert bool(answer["extensions"]) == bool(compression)


class Wscat:
    """wscat with a keyboard: it ends when its standard input does."""

    def __init__(self, node: str, *arguments: str) -> None:
        command = [node, WSCAT, "--no-color", *arguments]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def type(self, line: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(line.encode() + b"\n")
        self.popen.stdin.flush()

    def end(self) -> str:
        """Wait for its own end; what it printed."""
        try:
            return self.popen.communicate(timeout=DEADLINE_S)[0].decode()
        finally:
            self.popen.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.kill()
        self.popen.communicate()


def test_wscat_is_served(node: str) -> None:
    with (
        ServerProcess("websocket_echo") as server,
        Wscat(node, "-c", f"ws://127.0.0.1:{server.port}/", "-x", "Hello from wscat", "-w", "1") as wscat,
    ):
        assert wscat.popen.stdout is not None
        assert wscat.popen.stdout.readline() == b"Hello from wscat\n"


def test_our_client_speaks_with_wscat_as_a_server(node: str) -> None:
    port = free_port()
    with Wscat(node, "-l", str(port)) as wscat, wait_until(lambda: connected(port), "wscat to listen") as raw:
        client = WebSocketClient(f"ws://127.0.0.1:{port}/")
        converse(raw, client, Opened)
        client.send_text("said to wscat")
        converse(raw, client)
        assert wscat.popen.stdout is not None
        assert b"said to wscat" in wscat.popen.stdout.readline()
        wscat.type("said by wscat")
        assert converse(raw, client, Text)[-1] == Text("said by wscat")
        client.send_close(1000)
        assert isinstance(converse(raw, client, Closed)[-1], Closed)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def connected(port: int) -> RawClient | None:
    try:
        return RawClient(("127.0.0.1", port))
    except OSError:
        return None


def converse(raw: RawClient, client: WebSocketClient, until: type | None = None) -> list[object]:
    """Send what the client has to say, and hear until an event of that kind."""
    events: list[object] = []
    while True:
        for data in client.data_to_send():
            raw.send(data)
        if until is None or any(isinstance(event, until) for event in events):
            return events
        events.extend(client.receive_data(raw.receive()))


def test_rpc_websockets_is_served_calls_errors_and_notifications(node: str) -> None:
    with ServerProcess("websocket_rpc") as server:
        answer = told(node, "rpc-client", f"ws://127.0.0.1:{server.port}/")
    assert answer["echo"] == {"message": "Hello, RPC!", "nested": [1, None, {"ä": True}]}
    assert answer["add"] == {"result": 8}
    assert isinstance(answer["time"], dict)
    assert abs(answer["time"]["timestamp"] - time.time()) < DEADLINE_S
    assert isinstance(answer["missing"], dict)
    assert answer["missing"]["code"] == -32601
    assert isinstance(answer["refused"], dict)
    assert answer["refused"]["code"] == -32602
    assert answer["many"] == [{"result": number + 1} for number in range(200)]


@pytest.mark.parametrize("engine", [(), ("--engine",)])
def test_our_echo_users_load_ws(node: str, engine: tuple[str, ...], tmp_path: Path) -> None:
    peer = Peer(node, "ws-server")
    try:
        host = f"ws://127.0.0.1:{peer.port}/"
        result = run_locust("websocket_echo", tmp_path, "--host", host, "--depth", "4", *engine, seconds=2)
    finally:
        peer.close()
    assert result.errors == {}
    assert result.violations == {}
    assert result.exit_code == 0
    assert sum(row["num_requests"] for row in result.table) > 100


@pytest.mark.parametrize("engine", [(), ("--engine",)])
def test_our_rpc_users_load_rpc_websockets(node: str, engine: tuple[str, ...], tmp_path: Path) -> None:
    peer = Peer(node, "rpc-server")
    try:
        options = ("--host", f"ws://127.0.0.1:{peer.port}/", "--dialect", "jsonrpc", "--depth", "4", *engine)
        result = run_locust("websocket_rpc", tmp_path, *options, seconds=2)
    finally:
        peer.close()
    assert result.errors == {}
    assert result.violations == {}
    assert result.exit_code == 0
    assert min(result.requests(name) for name in ("echo", "add", "get_time", "error_test")) > 0


@pytest.mark.parametrize("compression", ["", "deflate"])
def test_our_client_speaks_with_ws(node: str, compression: str) -> None:
    peer = Peer(node, "ws-server", compression)
    try:
        with RawClient(("127.0.0.1", peer.port)) as raw:
            client = WebSocketClient(f"ws://127.0.0.1:{peer.port}/", compression=bool(compression))
            converse(raw, client, Opened)
            client.send_text("Hello, ws! " * 1000)
            assert converse(raw, client, Text)[-1] == Text("Hello, ws! " * 1000)
            client.send_close(4000, "enough")
            assert converse(raw, client, Closed)[-1] == Closed(4000, "enough")
            assert client.error is None
    finally:
        peer.close()
