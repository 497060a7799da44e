"""Penetration tests (seed 001) on every WebSocket server: the right answer, one line in the log, service for others."""

import contextlib
import json
import re
import time
import zlib
from collections.abc import Iterator

import psutil
import pytest

from tests.processes import ServerProcess, wait_until
from tests.servers.clients import RawClient, http_request, metric
from tests.servers.tool_clients import TOKEN
from tests.servers.websocket_attacks import BAD_HANDSHAKES, JSON_BOMBS, VIOLATIONS
from tests.servers.websocket_clients import (
    BINARY,
    CLOSE,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    RawWebSocket,
    frame,
    request,
)

OURS = "https://ours.example"
GOOD = {**HANDSHAKE, "Origin": OURS}
DEFLATE = {**GOOD, "Sec-WebSocket-Extensions": "permessage-deflate"}
SECRET = b"what-the-client-said"
HANDSHAKE_TIMEOUT_S = 2.0

SERVERS = {
    "websocket_echo": (),
    "websocket_rpc": (),
    "websocket_performance": (),
    "websocket_load": (),
    "websocket_security": ("--burst", "100000", "--requests-per-minute", "600000"),
    "websocket_tools": ("--no-limits", "--max-message-bytes", "1048576"),
}
COMMON = ("--allow-origin", OURS, "--compression", "--handshake-timeout", str(HANDSHAKE_TIMEOUT_S))
COMMON += ("--metrics-port", "0", "--max-clients", "1000")


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """One server for all attacks; whatever they do, it serves to the end, and no word of theirs is in its log."""
    environment = {"SWARMPROOF_TOKEN": TOKEN}
    with ServerProcess(request.param, *COMMON, *SERVERS[request.param], env=environment) as process:
        yield process
        assert SECRET.decode() not in process.log()
        assert "internal_error" not in process.log()
        assert "Traceback" not in process.log()


@pytest.fixture
def good(server: ServerProcess) -> Iterator[RawWebSocket]:
    """Somebody else, who must be served before and after."""
    with RawWebSocket(server.address, GOOD) as client:
        assert is_served(client)
        yield client
        assert is_served(client)
    assert server.running


def is_served(client: RawWebSocket) -> bool:
    client.send(frame(PING, b"still there?"))
    return client.next_frame() == (PONG, b"still there?")


def lines_about(server: ServerProcess, client: RawClient, since: int) -> list[str]:
    """The log's lines about this client, from the place `since` on: before, somebody else may have had its port."""
    peer = ":".join(map(str, client.sock.getsockname()))
    return [line for line in server.log()[since:].splitlines() if f"peer={peer} " in f"{line} "]


def counted(server: ServerProcess, reason: str) -> float:
    text = http_request(server.logged_address("metrics_listening"), "GET", "/metrics")[1]
    return metric(text, f'{server.name}_connections_closed_total{{reason="{reason}"}}')


@pytest.mark.parametrize("what", VIOLATIONS)
def test_wrong_frame_gets_its_code_one_line_and_one_count(server: ServerProcess, good: RawWebSocket, what: str) -> None:
    data, code = VIOLATIONS[what]
    since = len(server.log())
    with RawWebSocket(server.address, GOOD) as bad:
        bad.send(data.replace(b"x" * 100, (SECRET * 5)[:100]))
        assert bad.close_code() == code
        assert bad.closed_by_server()
        (line,) = wait_until(lambda: lines_about(server, bad, since), "the log line")
        reason = re.search(r'reason="?([^"=]+)"?(?: |$)', line)
        assert reason is not None, line
        assert " WARNING connection_closed " in line
    wait_until(lambda: counted(server, reason[1]) >= 1, "the count: it is made when the connection is gone")


@pytest.mark.parametrize("what", BAD_HANDSHAKES)
def test_bad_handshake_is_answered_by_http(server: ServerProcess, good: RawWebSocket, what: str) -> None:
    data, status = BAD_HANDSHAKES[what]
    with RawClient(server.address) as raw:
        with contextlib.suppress(OSError):
            raw.send(data)
        assert raw.receive_until_closed().startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{OURS}.evil.example", f"{OURS}:8443", ""])
def test_cross_origin_is_refused(server: ServerProcess, good: RawWebSocket, origin: str) -> None:
    with RawClient(server.address) as raw:
        raw.send(request({**HANDSHAKE, "Origin": origin}))
        assert raw.receive_until_closed().startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 "))


@pytest.mark.parametrize(
    "header",
    [
        "Sec-WebSocket-Protocol: chat\r\nX-Injected: yes",
        "Sec-WebSocket-Protocol: chat\nX-Injected: yes",
        "Sec-WebSocket-Protocol: chat\rX-Injected: yes",
        "Sec-WebSocket-Extensions: x\x00y; X-Injected: yes",
        "X-Folded: one\r\n X-Injected: yes",
        "X-Injected : yes",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nX-Injected: yes",
    ],
)
def test_injected_headers_come_back_in_no_answer_and_no_log(
    server: ServerProcess, good: RawWebSocket, header: str
) -> None:
    with RawClient(server.address) as raw:
        raw.send(request(GOOD)[:-2] + header.encode() + b"\r\n\r\n")
        raw.half_close()
        answer = raw.receive_until_closed()
    assert b"Injected" not in answer
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert "Injected" not in server.log()
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in server.log().splitlines()), "no line of theirs"


def test_slow_handshakes_are_given_up(server: ServerProcess, good: RawWebSocket) -> None:
    data = request(GOOD)
    with RawClient(server.address) as dripping, RawClient(server.address) as silent, RawClient(server.address) as half:
        half.send(data[:50])
        end_s = time.monotonic() + 15 * HANDSHAKE_TIMEOUT_S
        sent = 0
        with contextlib.suppress(OSError):
            while sent < len(data) - 1 and time.monotonic() < end_s:
                dripping.send(data[sent : sent + 1])
                sent += 1
                time.sleep(HANDSHAKE_TIMEOUT_S / 20)
        assert sent < len(data) - 1, "a byte now and then keeps no place"
        for client in (silent, half, dripping):
            assert client.closed_by_server()
    wait_until(lambda: counted(server, "handshake timeout") >= 3, "three handshake timeouts")


def test_half_frames_are_no_messages(server: ServerProcess, good: RawWebSocket) -> None:
    whole = frame(TEXT, SECRET * 10)
    for end in (1, 2, 3, 7, 8, len(whole) - 1):
        with RawWebSocket(server.address, GOOD) as bad:
            bad.send(whole[:end])
            bad.half_close()
            assert bad.closed_by_server()
        bad = RawWebSocket(server.address, GOOD)
        bad.send(whole[:end])
        bad.reset()
    wait_until(lambda: counted(server, "reset inside a message") >= 6, "the resets")
    wait_until(lambda: counted(server, "closed inside a message") >= 6, "the ends")


def test_flood_of_pings_is_answered_and_nobody_else_waits_long(server: ServerProcess, good: RawWebSocket) -> None:
    with RawWebSocket(server.address, GOOD) as flooding:
        for start in range(0, 5_000, 500):
            flooding.send(b"".join(frame(PING, b"%d" % n) for n in range(start, start + 500)))
            assert is_served(good)
        for number in range(5_000):
            assert flooding.next_frame() == (PONG, b"%d" % number)


def test_flood_without_reading_is_bounded(server: ServerProcess, good: RawWebSocket) -> None:
    before = psutil.Process(server.pid).memory_info().rss
    with RawWebSocket(server.address, GOOD) as deaf:
        deaf.sock.settimeout(0.3)
        pings = b"".join(frame(PING, b"x" * 125) for _ in range(5_000))
        with contextlib.suppress(OSError):
            for _ in range(40):  # 26 MB
                deaf.send(pings)
        assert is_served(good)
        assert psutil.Process(server.pid).memory_info().rss - before < 24 * 2**20


def test_storm_of_closes_and_resets_leaves_nobody_behind(server: ServerProcess, good: RawWebSocket) -> None:
    clients = [RawWebSocket(server.address, GOOD) for _ in range(150)]
    for number, client in enumerate(clients):
        if number % 3 == 0:
            client.send(frame(CLOSE, b"\x03\xe8") * 50)
        elif number % 3 == 1:
            client.reset()
        else:
            client.send(frame(TEXT, b"x" * 100)[:50])
            client.close()
    for client in clients[::3]:
        assert client.close_code() == 1000
        client.close()
    door = server.logged_address("metrics_listening")
    active = f"{server.name}_connections_active"
    wait_until(lambda: metric(http_request(door, "GET", "/metrics")[1], active) == 1, "only the good one to be left")


def test_compression_bomb_gets_1009_and_little_memory(server: ServerProcess, good: RawWebSocket) -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (compressor.compress(b"\0" * 64_000_000) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    before = psutil.Process(server.pid).memory_info().rss
    with RawWebSocket(server.address, DEFLATE) as bad:
        bad.send(frame(BINARY, bomb, reserved=0b100))
        assert bad.close_code() == 1009
    with RawWebSocket(server.address, DEFLATE) as bad:
        bad.send(frame(BINARY, b"\xff\xfe not deflate", reserved=0b100))
        assert bad.close_code() in (1002, 1007)
    assert psutil.Process(server.pid).memory_info().rss - before < 24 * 2**20


@pytest.mark.parametrize("what", JSON_BOMBS)
def test_json_bomb_is_an_error_and_no_exception(server: ServerProcess, good: RawWebSocket, what: str) -> None:
    with RawWebSocket(server.address, GOOD) as client:
        if server.name == "websocket_tools":
            client.send(frame(TEXT, json.dumps({"op": "hello", "session_id": "bombs", "token": TOKEN}).encode()))
            assert client.next_frame() is not None
        client.send(frame(TEXT, JSON_BOMBS[what].encode()))
        code: object = None
        if server.name in ("websocket_rpc", "websocket_tools"):
            _, answer = client.next_frame() or (CLOSE, b"{}")
            code = json.loads(answer)["error"]["code"]
        due = {"websocket_rpc": (-32700, -32600), "websocket_tools": ("INVALID_REQUEST",)}
        assert code in due.get(server.name, (None,))
        client.send(frame(PING, b"and now?"))
        while (received := client.next_frame()) not in (None, (PONG, b"and now?")):
            assert server.name not in ("websocket_rpc", "websocket_tools"), "one answer and no more"
        assert received is not None, "the connection stays"
