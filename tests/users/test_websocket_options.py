"""Options of the WebSocket users: how large messages may be, compression, keepalive."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.server import StreamServer
from websockets.sync.server import ServerConnection

from protocols.websocket import WebSocketServer
from tests.locustfiles.runs import run_locust
from tests.processes import ServerProcess
from tests.users.in_process import Told, in_process
from tests.users.test_websocket_peers import answer_tool_calls, echo, serving
from users.engine.stream import FIRST_TRIAL_REPLIES
from users.websocket_echo import WebSocketEchoUser
from users.websocket_keepalive import Keepalive, interval_text, parse_interval_s
from users.websocket_tools import WebSocketToolsUser

DEADLINE_S = 30.0


# --- sizes


def test_a_tools_user_takes_what_the_dialect_allows() -> None:
    text = "x" * 3_000_000
    with serving(answer_tool_calls, max_size=None) as host:
        with in_process(WebSocketToolsUser, host) as (user, told):
            assert user.client.echo(text) == text
            assert not told.bad
        with in_process(WebSocketToolsUser, host, max_message_bytes=1_000_000) as (user, told):
            assert user.client.echo(text) is None
            assert told.bad == {("echo", "malformed reply: websocket message too big"): 1}


def test_payloads_may_be_as_large_as_messages() -> None:
    with (
        serving(echo, max_size=None) as host,
        in_process(WebSocketEchoUser, host, payload_bytes=3_000_000, max_message_bytes=4_000_000) as (user, told),
    ):
        assert len(user.client.text() or "") == 3_000_000
        assert len(user.client.binary() or b"") == 3_000_000
        assert not told.bad


@pytest.mark.parametrize(
    ("user_class", "given", "sentence"),
    [
        (WebSocketEchoUser, {"payload_bytes": 1_048_577}, "1048577 is more than 1048576, which a message"),
        (WebSocketEchoUser, {"payload_bytes": 40_000_000, "max_message_bytes": 2**30}, "between 0 and 33554432"),
        (WebSocketToolsUser, {"payload_bytes": 10_485_760}, "10485760 is more than 10484736"),
        (WebSocketToolsUser, {"keepalive": "often"}, "--keepalive: 'often' is not a time such as 10s or 500ms"),
    ],
)
def test_values_that_cannot_be_are_told_in_a_sentence(
    user_class: type[Any], given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AssertionError, match=sentence), in_process(user_class, "ws://127.0.0.1:9", **given):
        pass


# --- compression


def test_compression_is_agreed_upon_and_used() -> None:
    spoken: list[tuple[bool, int]] = []

    def handler(connection: ServerConnection) -> None:
        spoken.append((bool(connection.protocol.extensions), len(connection.recv())))

    with serving(handler, compression="deflate") as host:
        for compression in (True, False):
            with in_process(WebSocketToolsUser, host, compression=compression, connect_deadline=0.1) as (user, _):
                user.client.connect()
    assert {extensions for extensions, _ in spoken} == {True, False}
    with (
        serving(echo, compression="deflate") as host,
        in_process(WebSocketEchoUser, host, compression=True, payload_bytes=5_000) as (user, told),
    ):
        for _ in range(5):
            assert user.client.text()
            assert user.client.binary()
        assert user.client.connection.session._ws.compressed
        wire = user.client.connection.session.frame("a" * 100_000)
        assert len(wire) < 1_000
        assert not told.bad


def test_a_server_without_compression_is_spoken_to_without(caplog: pytest.LogCaptureFixture) -> None:
    with serving(echo) as host, in_process(WebSocketEchoUser, host, compression=True) as (user, told):
        assert user.client.text()
        user.client.close()
        assert user.client.text()
        assert not told.bad
    assert caplog.text.count("does not speak permessage-deflate") == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("websocket_echo", ("--engine",)),
        ("websocket_rpc", ("--engine", "--dialect", "jsonrpc")),
        ("websocket_tools", ("--payload-bytes", "2000")),
    ],
)
def test_compressed_load_is_clean_end_to_end(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    limits = ("--no-limits",) if name == "websocket_tools" else ()
    with ServerProcess(name, "--compression", *limits) as server:
        host = f"ws://127.0.0.1:{server.port}"
        result = run_locust(
            name, tmp_path, "--host", host, "--compression", "--depth", "4", "--keepalive", "100ms", *options, seconds=2
        )
    assert (result.exit_code, result.errors, result.violations) == (0, {}, {})
    assert result.requests("echo" if name != "websocket_echo" else "echo binary") > 100
    pings = sum(row["num_requests"] for row in result.table if (row["method"], row["name"]) == ("websocket", "ping"))
    assert pings > 4, "four users, ten pings a second each"


# --- keepalive


def wait_for_pings(told: Told, count: int) -> None:
    with gevent.Timeout(DEADLINE_S):
        while sum(told.good.values()) + sum(told.bad.values()) < count:
            gevent.sleep(0.01)


def test_intervals() -> None:
    assert [parse_interval_s(text) for text in ("", "10s", "10", "250ms", "1m")] == [0, 10, 10, 0.25, 60]
    assert interval_text(" 10s ") == "10s"


@pytest.mark.parametrize("user_class", [WebSocketEchoUser, WebSocketToolsUser])
def test_pongs_are_measured_apart_from_requests(user_class: type[Any]) -> None:
    handler = answer_tool_calls if user_class is WebSocketToolsUser else echo
    with serving(handler) as host, in_process(user_class, host) as (user, told):
        user.client.connect()
        keepalive = Keepalive(user.client, 0.01)
        keepalive.start()
        wait_for_pings(told, 6)
        keepalive.stop()
        assert told.good["ping"] >= 5
        assert not told.bad
        assert user.client.connection.in_flight == 0


@contextmanager
def pongless(answers: bytes | None) -> Iterator[str]:
    """A server that shakes hands and answers what comes then with these bytes and its end; None: not at all."""

    def handle(sock: Any, _: Any) -> None:
        websocket = WebSocketServer()
        websocket.receive_data(sock.recv(65_536))
        sock.sendall(b"".join(websocket.data_to_send()))
        while sock.recv(65_536) and answers is None:
            pass
        sock.sendall(answers or b"")

    server = StreamServer(("127.0.0.1", 0), handle)
    server.start()
    try:
        yield f"ws://127.0.0.1:{server.server_port}"
    finally:
        server.stop(timeout=0.1)


def test_the_engines_stream_goes_on_between_pongs(tmp_path: Path) -> None:
    with ServerProcess("websocket_echo") as server:
        host = f"ws://127.0.0.1:{server.port}"
        result = run_locust(
            "websocket_echo", tmp_path, "--host", host, "--engine", "--depth", "4", "--keepalive", "50ms", seconds=2
        )
    assert (result.exit_code, result.errors, result.violations) == (0, {}, {})
    assert result.requests("ping") > 20


def test_a_trial_after_a_pong_comes_as_early_as_the_first() -> None:
    with in_process(WebSocketEchoUser, "ws://127.0.0.1:9", engine=True) as (user, _):
        exchange: Any = user.exchange
        exchange._is_streaming = True
        exchange.settle_down()
        assert exchange._next_trial == 2 * FIRST_TRIAL_REPLIES
        exchange.was_disturbed_by_us()
        assert exchange._next_trial == FIRST_TRIAL_REPLIES


def test_a_connection_without_pongs_is_dropped() -> None:
    with pongless(None) as host, in_process(WebSocketEchoUser, host, timeout=0.1) as (user, told):
        user.client.connect()
        keepalive = Keepalive(user.client, 0.01)
        keepalive.start()
        wait_for_pings(told, 2)
        keepalive.stop()
        assert told.bad == {("ping", "missing reply: nothing came within the timeout"): 1}
        assert not user.client.connection.is_open


def test_a_connection_that_ends_under_a_ping_fails_it() -> None:
    with pongless(b"\x88\x02\x03\xf3") as host, in_process(WebSocketEchoUser, host) as (user, told):
        user.client.connect()
        Keepalive(user.client, 1)._ping(user.client.connection)
        assert told.bad == {("ping", "websocket closed by server with code 1011"): 1}


def test_leaving_under_a_ping_is_no_failure() -> None:
    with pongless(None) as host, in_process(WebSocketEchoUser, host) as (user, told):
        user.client.connect()
        pinging = gevent.spawn(Keepalive(user.client, 1)._ping, user.client.connection)
        gevent.sleep(0)
        user.client.close()
        pinging.join(DEADLINE_S)
        assert told.good == {"connect": 1}
        assert not told.bad
