"""The WebSocket echo server, by two third-party clients and by frames that no library would send."""

import contextlib
import signal
import socket
import threading
import zlib

import psutil
import pytest
import websocket as websocket_client
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.processes import ServerProcess, wait_until
from tests.servers.clients import RawClient, http_request, metric
from tests.servers.websocket_attacks import BAD_HANDSHAKES, VIOLATIONS
from tests.servers.websocket_clients import (
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    RawWebSocket,
    frame,
    request,
)

ATTACKED = ["websocket_echo"]


def url(server: ServerProcess) -> str:
    return f"ws://{server.host}:{server.port}/"


def client(server: ServerProcess, **options: object) -> ClientConnection:
    options = {"compression": None, "open_timeout": 15, "close_timeout": 15, **options}
    return connect(url(server), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "message",
    ["Hello, WebSocket!", "", "žluťoučký kůň 🐎", "x" * 70_000, b"\x00\x01\x02\x03\x04", b"", b"\xff" * 200_000],
)
def test_message_comes_back_as_it_went(attacked: ServerProcess, message: str | bytes) -> None:
    with client(attacked) as connection:
        connection.send(message)
        assert connection.recv(15) == message


@pytest.mark.parametrize("message", ["Hello, WebSocket!", b"\x00\x01\x02\x03\x04"])
def test_websocket_client_is_served_too(attacked: ServerProcess, message: str | bytes) -> None:
    connection = websocket_client.create_connection(url(attacked), timeout=15)
    try:
        binary = isinstance(message, bytes)
        connection.send(message, websocket_client.ABNF.OPCODE_BINARY if binary else websocket_client.ABNF.OPCODE_TEXT)
        opcode, data = connection.recv_data()
        assert opcode == (BINARY if binary else TEXT)
        assert data == (message.encode() if isinstance(message, str) else message)
        connection.ping("are you there?")
        assert connection.recv_data_frame(control_frame=True)[1].data == b"are you there?"
    finally:
        connection.close()


def test_pipelined_messages_come_back_in_order(attacked: ServerProcess) -> None:
    with client(attacked) as connection:
        for number in range(1000):
            connection.send(f"message_{number}")
        assert [connection.recv(15) for _ in range(1000)] == [f"message_{number}" for number in range(1000)]


def test_fragments_come_back_as_one_message(attacked: ServerProcess) -> None:
    with client(attacked) as connection:
        connection.send(["one ", "message ", "in ", "parts"])
        assert connection.recv(15) == "one message in parts"
        connection.send([b"\x00", b"", b"\x01"])
        assert connection.recv(15) == b"\x00\x01"


def test_ping_between_fragments_is_answered_at_once(attacked: ServerProcess) -> None:
    with RawWebSocket(attacked.address) as raw:
        raw.send(frame(TEXT, b"be", fin=False) + frame(PING, b"?") + frame(CONTINUATION, b"tween"))
        assert raw.next_frame() == (PONG, b"?")
        assert raw.next_frame() == (TEXT, b"between")


def test_frames_may_come_byte_by_byte(attacked: ServerProcess) -> None:
    with RawWebSocket(attacked.address) as raw:
        for byte in frame(TEXT, b"slow") + frame(BINARY, b"slower"):
            raw.send(bytes([byte]))
        assert raw.next_frame() == (TEXT, b"slow")
        assert raw.next_frame() == (BINARY, b"slower")


def test_message_in_one_piece_with_a_close_frame_is_answered_first(attacked: ServerProcess) -> None:
    with RawWebSocket(attacked.address) as raw:
        raw.send(frame(TEXT, b"one") + frame(BINARY, b"two") + frame(CLOSE, b"\x03\xe8"))
        assert raw.next_frame() == (TEXT, b"one")
        assert raw.next_frame() == (BINARY, b"two")
        assert raw.close_code() == 1000


def test_closing_handshake_echoes_the_code(attacked: ServerProcess) -> None:
    with RawWebSocket(attacked.address) as raw:
        raw.send(frame(CLOSE, b"\x03\xe8bye"))
        assert raw.close_code() == 1000
        assert raw.receive_until_closed() == b""


@pytest.mark.parametrize("what", VIOLATIONS)
def test_violation_closes_with_its_code_and_others_are_served(attacked: ServerProcess, what: str) -> None:
    data, code = VIOLATIONS[what]
    with RawWebSocket(attacked.address) as good, RawWebSocket(attacked.address) as bad:
        bad.send(frame(TEXT, b"well-formed so far") + data)
        assert bad.next_frame() == (TEXT, b"well-formed so far")
        assert bad.close_code() == code
        assert bad.closed_by_server()
        good.send(frame(TEXT, b"unmoved"))
        assert good.next_frame() == (TEXT, b"unmoved")


@pytest.mark.parametrize("what", BAD_HANDSHAKES)
def test_bad_handshake_is_answered_by_http_and_closed(attacked: ServerProcess, what: str) -> None:
    data, status = BAD_HANDSHAKES[what]
    with RawClient(attacked.address) as raw:
        with contextlib.suppress(OSError):
            raw.send(data)
        response = raw.receive_until_closed()
        assert response.startswith(f"HTTP/1.1 {status} ".encode()), response


def test_endless_handshake_head_is_closed_and_not_kept(attacked: ServerProcess) -> None:
    with RawClient(attacked.address) as raw, contextlib.suppress(OSError):
        raw.send(b"GET / HTTP/1.1\r\n")
        for _ in range(3000):
            raw.send(b"X-Padding: " + b"x" * 1000 + b"\r\n")
        assert raw.closed_by_server()


def test_frames_sent_along_with_the_handshake_are_answered(attacked: ServerProcess) -> None:
    with RawClient(attacked.address) as raw:
        raw.send(request() + frame(TEXT, b"eager"))
        received = b""
        while not received.endswith(b"\x81\x05eager"):
            received += raw.receive_exactly(1)


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=300), opened=st.booleans())
def test_garbage_never_ends_the_server(attacked: ServerProcess, data: bytes, opened: bool) -> None:
    with contextlib.suppress(OSError):
        raw = RawWebSocket(attacked.address) if opened else RawClient(attacked.address)
        with raw:
            raw.send(data)
            raw.half_close()
            assert raw.closed_by_server()
    assert attacked.running
    assert "internal_error" not in attacked.log()


def test_half_a_frame_then_reset_is_one_log_line() -> None:
    with ServerProcess("websocket_echo") as server:
        raw = RawWebSocket(server.address)
        raw.send(frame(TEXT, b"x" * 5000)[:2500])
        raw.reset()
        server.wait_for_log("WARNING connection_closed")
        assert 'reason="reset inside a message"' in server.log()


def test_health_is_plain_http(attacked: ServerProcess) -> None:
    assert http_request(attacked.address, "GET", "/health") == (200, "ok\n")
    with client(attacked) as connection:  # and no path is lost to it
        connection.send("still a websocket")
        assert connection.recv(15) == "still a websocket"


def test_max_message_bytes_is_an_option() -> None:
    with ServerProcess("websocket_echo", "--max-message-bytes", "100") as server, client(server) as connection:
        connection.send("x" * 100)
        assert connection.recv(15) == "x" * 100
        connection.send("x" * 101)
        with pytest.raises(ConnectionClosedError) as closed:
            connection.recv(15)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def test_slow_handshake_is_closed() -> None:
    with ServerProcess("websocket_echo", "--handshake-timeout", "0.3") as server:
        with RawClient(server.address) as silent, RawClient(server.address) as half:
            half.send(request()[:50])
            assert silent.receive_until_closed() == b""
            assert half.closed_by_server()
        wait_until(lambda: server.log().count('reason="handshake timeout"') == 2, "two handshake timeouts")


def test_quiet_client_that_answers_pings_stays_and_one_that_does_not_is_closed() -> None:
    with ServerProcess("websocket_echo", "--ping-interval", "0.2", "--ping-timeout", "0.4") as server:
        with client(server, ping_interval=None) as alive, RawWebSocket(server.address) as dead:
            assert dead.next_frame() == (PING, b"")
            assert dead.close_code() == 1011
            assert dead.closed_by_server()
            alive.send("here")
            assert alive.recv(15) == "here"
        server.wait_for_log('reason="ping timeout"')


def test_sigterm_closes_with_1001_and_waits_for_the_answer() -> None:
    with ServerProcess("websocket_echo") as server:
        with client(server) as connection:
            connection.send("before")
            assert connection.recv(15) == "before"
            server.signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosedOK) as closed:
                connection.recv(15)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
        assert server.wait() == 0


def test_sigterm_does_not_wait_for_ever_for_a_client_that_ignores_it() -> None:
    with ServerProcess("websocket_echo") as server, RawWebSocket(server.address) as rude:
        server.signal(signal.SIGTERM)
        assert rude.close_code() == 1001
        assert server.wait() == 0


def test_client_beyond_capacity_gets_503() -> None:
    with ServerProcess("websocket_echo", "--max-clients", "1") as server, client(server) as first:
        with pytest.raises(InvalidStatus) as refused:
            client(server)
        assert refused.value.response.status_code == 503
        with RawClient(server.address) as silent:
            assert silent.receive_until_closed() == b""  # who asks for nothing is not answered
        first.send("served")
        assert first.recv(15) == "served"


def test_compression_is_off_unless_asked_for_and_works_when_it_is() -> None:
    message = "compressible " * 5000
    with ServerProcess("websocket_echo") as server, client(server, compression="deflate") as connection:
        assert connection.protocol.extensions == []
        connection.send(message)
        assert connection.recv(15) == message
    with ServerProcess("websocket_echo", "--compression") as server:
        connection = client(server, compression="deflate")
        with connection:
            assert [extension.name for extension in connection.protocol.extensions] == ["permessage-deflate"]
            connection.send(message)
            assert connection.recv(15) == message


def test_compression_bomb_is_closed_with_1009_and_takes_little_memory() -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (compressor.compress(b"\0" * 64_000_000) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    headers = {**HANDSHAKE, "Sec-WebSocket-Extensions": "permessage-deflate"}
    with ServerProcess("websocket_echo", "--compression") as server:
        before = psutil.Process(server.pid).memory_info().rss
        with RawWebSocket(server.address, headers) as raw:
            raw.send(frame(BINARY, bomb, reserved=0b100))
            assert raw.close_code() == 1009
        # Many messages just below the limit, each inflating a thousand times, in one go.
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)

        def inflating() -> bytes:
            data = compressor.compress(b"\0" * 1_000_000) + compressor.flush(zlib.Z_SYNC_FLUSH)
            return frame(BINARY, data[:-4], reserved=0b100)

        with RawWebSocket(server.address, headers) as raw:
            raw.send(b"".join(inflating() for _ in range(60)))
            for _ in range(60):
                opcode, _data = raw.next_frame() or (None, b"")
                assert opcode == BINARY
        assert psutil.Process(server.pid).memory_info().rss - before < 60 * 2**20


def test_origin_and_subprotocol_are_checked_when_configured() -> None:
    options = ["--allow-origin", "https://good.example", "--subprotocol", "echo.v1"]
    with ServerProcess("websocket_echo", *options) as server:
        good = {"origin": "https://good.example", "subprotocols": [Subprotocol("echo.v1")]}
        with client(server, **good) as connection:
            assert connection.subprotocol == "echo.v1"
        with pytest.raises(InvalidStatus) as refused:
            client(server, **{**good, "origin": "https://evil.example"})
        assert refused.value.response.status_code == 403


def test_client_that_never_reads_is_closed_and_others_are_served() -> None:
    with ServerProcess("websocket_echo", "--write-timeout", "0.3") as server, client(server) as good:
        with RawWebSocket(server.address) as deaf:
            deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sock.settimeout(0.2)
            data = frame(BINARY, b"x" * 100_000)

            def shut_out() -> bool:
                good.send("fine")
                assert good.recv(15) == "fine"
                try:
                    deaf.send(data)
                except TimeoutError:
                    return False
                except OSError:
                    return True
                return False

            wait_until(shut_out, "the server giving up on one who never reads")
        server.wait_for_log('reason="write timeout"')


def test_metrics_equal_what_the_clients_did() -> None:
    with ServerProcess("websocket_echo", "--metrics-port", "0") as server:
        address = server.logged_address("metrics_listening")
        for _ in range(3):
            with client(server) as connection:
                connection.send("x")
                connection.recv(15)
        with RawWebSocket(server.address) as bad:
            bad.send(frame(TEXT, b"\xff"))
            assert bad.close_code() == 1007
        sample = 'websocket_echo_connections_closed_total{reason="websocket text is not UTF-8"}'
        wait_until(lambda: metric(http_request(address, "GET", "/metrics")[1], sample) == 1, "the violation counted")
        text = http_request(address, "GET", "/metrics")[1]
        assert metric(text, "websocket_echo_handshakes_total") == 4
        assert metric(text, "websocket_echo_messages_total") == 3
        assert metric(text, "websocket_echo_replies_total") == 3
        assert metric(text, "websocket_echo_connections_total") == 4


def test_many_connections_at_once_and_none_left_behind() -> None:
    with ServerProcess("websocket_echo") as server:
        process = psutil.Process(server.pid)

        def round_of(number: int) -> int:
            clients = [RawWebSocket(server.address) for _ in range(number)]
            for raw in clients:
                raw.send(frame(TEXT, b"x"))
            assert all(raw.next_frame() == (TEXT, b"x") for raw in clients)
            for raw in clients:
                raw.close()
            wait_until(lambda: process.num_fds() < 30, "all connections closed")
            return process.memory_info().rss

        before = round_of(200)
        for _ in range(4):
            after = round_of(200)
        assert after - before < 3 * 2**20


def test_good_clients_see_no_failure_beside_hostile_ones() -> None:
    with ServerProcess("websocket_echo", "--handshake-timeout", "0.5") as server:
        stop = threading.Event()

        def attack(data: bytes, opened: bool) -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    raw = RawWebSocket(server.address) if opened else RawClient(server.address)
                    raw.send(data)
                    raw.sock.settimeout(0.05)
                    with contextlib.suppress(TimeoutError):
                        raw.receive()
                    raw.reset()

        attacks = [(data, True) for data, _ in VIOLATIONS.values()] + [
            (data, False) for data, _ in BAD_HANDSHAKES.values()
        ]
        threads = [threading.Thread(target=attack, args=each) for each in attacks]
        for thread in threads:
            thread.start()
        try:
            with contextlib.ExitStack() as stack:
                good = [stack.enter_context(client(server)) for _ in range(5)]
                for number in range(60):
                    for connection in good:
                        connection.send(f"frame-{number}")
                    assert [connection.recv(15) for connection in good] == [f"frame-{number}"] * 5
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert "internal_error" not in server.log()
