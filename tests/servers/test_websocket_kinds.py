"""The performance, load and security servers, each for what it is there for."""

import json
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.processes import ServerProcess, wait_until
from tests.servers.clients import RawClient, http_request, metric
from tests.servers.websocket_clients import TEXT, RawWebSocket, frame


def client(server: ServerProcess, **options: object) -> ClientConnection:
    options = {"compression": None, "open_timeout": 15, "close_timeout": 15, **options}
    return connect(f"ws://{server.host}:{server.port}/", **options)  # type: ignore[arg-type]


# --- performance


def test_performance_server_counts_messages_and_says_so_twice() -> None:
    with ServerProcess("websocket_performance") as server, client(server) as one, client(server) as two:
        for number in range(300):
            one.send(f"message_{number}")
            two.send(b"binary")
        two.send("metrics")
        two.recv(15)
        one.send("metrics")
        counted = json.loads(one.recv(15))
        assert counted["total_messages"] == 600
        assert (counted["text_messages"], counted["binary_messages"]) == (300, 300)
        assert counted["messages_per_second"] > 0
        status, text = http_request(server.address, "GET", "/metrics")
        assert status == 200
        assert metric(text, "total_messages") == 600
        assert metric(text, "messages_per_second") > 0


def test_rates_are_of_the_last_full_second_and_of_all_time() -> None:
    from servers.websocket_performance import MessageRate

    now = [100.0]
    rate = MessageRate(lambda: now[0])
    assert (rate.per_second(), rate.last_second()) == (0.0, 0)
    for tenth in range(20):
        now[0] = 100.0 + tenth / 10
        rate.count(binary=False)
    now[0] = 102.0
    assert rate.last_second() == 10
    assert rate.per_second() == 10.0
    now[0] = 110.0
    assert rate.last_second() == 0
    assert rate.per_second() == 2.0


# --- load


def test_load_server_bounds_what_slow_readers_hold() -> None:
    options = ("--max-pending-bytes", "2000000", "--max-held-bytes", "1000000", "--write-timeout", "30")
    with ServerProcess("websocket_load", *options) as server:
        slow = [RawWebSocket(server.address) for _ in range(4)]
        message = frame(TEXT, b"x" * 1_000_000)

        def held() -> float:
            return metric(http_request(server.address, "GET", "/metrics")[1], "websocket_load_held_bytes")

        for one in slow:
            one.sock.settimeout(1)
            one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # what waits, waits at the server
            try:
                for _ in range(12):
                    one.send(message)
            except TimeoutError:
                pass  # back-pressure has reached us: the server does not read on
        assert wait_until(lambda: held() > 1_000_000 and held(), "replies held for slow readers") <= 4 * 2_000_000
        with client(server) as good:
            good.send("echo?")
            with pytest.raises(ConnectionClosedError) as closed:
                good.recv(15)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013
        for one in slow:
            one.reset()
        wait_until(lambda: held() == 0, "the memory of slow readers to be given back")
        with client(server) as good:
            good.send("echo?")
            assert good.recv(15) == "echo?"


def test_load_server_takes_twenty_thousand_by_default() -> None:
    with ServerProcess("websocket_load") as server:
        connections = [RawWebSocket(server.address) for _ in range(300)]
        for connection in connections:
            connection.send(frame(TEXT, b"hello"))
        assert all(connection.next_frame() == (TEXT, b"hello") for connection in connections)
        for connection in connections:
            connection.close()
    from servers.websocket_load import MAX_CLIENTS

    assert MAX_CLIENTS == 20_000


# --- security


def test_flood_is_limited_to_the_burst_and_counted() -> None:
    with ServerProcess("websocket_security") as server, client(server) as one:
        for number in range(50):
            one.send(f"message {number}")
        answers = [one.recv(15) for _ in range(50)]
        passed = [answer for answer in answers if str(answer).startswith("message")]
        refused = [json.loads(answer)["error"] for answer in answers if not str(answer).startswith("message")]
        assert 10 <= len(passed) < 30, "the burst, and one a second"
        assert refused[0] == {"reason": "rate limit exceeded", "retry_after_secs": 1}
        with client(server) as again:
            again.send("after reconnecting")
            assert "rate limit exceeded" in str(again.recv(15)), "a client that reconnects is the same client"
        text = http_request(server.address, "GET", "/metrics")[1]
        assert metric(text, "websocket_security_refused_rate_limit_exceeded_total") == len(refused) + 1


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "JAVASCRIPT:x", "eval(1)", "exec('x')", "os.System('x')"]
)
def test_forbidden_content_is_refused_and_not_logged(text: str) -> None:
    with ServerProcess("websocket_security") as server, client(server) as one:
        one.send(text)
        assert json.loads(one.recv(15)) == {"error": {"reason": "forbidden content"}}
        one.send("innocent script evaluation")
        assert one.recv(15) == "innocent script evaluation"
        server.wait_for_log("request_refused")
        assert text not in server.log()


def test_client_that_goes_on_is_closed_with_1008() -> None:
    with ServerProcess("websocket_security", "--burst", "1", "--max-refusals", "5") as server, client(server) as one:
        for _ in range(20):
            one.send("x")
        for _ in range(6):
            one.recv(15)  # one echo, five refusals
        with pytest.raises(ConnectionClosedError) as closed:
            one.recv(15)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_cross_origin_is_refused() -> None:
    with ServerProcess("websocket_security", "--allow-origin", "https://app.example") as server:
        with client(server, origin=Origin("https://app.example")) as one:
            one.send("x")
            assert one.recv(15) == "x"
        for origin in (Origin("https://evil.example"), None):
            with pytest.raises(InvalidStatus, match="403"):
                client(server, origin=origin)


# --- TLS


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A test CA and a server certificate of it for localhost: (ca, certificate with key)."""
    ca, key, chain = directory / "ca.pem", directory / "ca.key", directory / "server.pem"

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=directory, timeout=60)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", str(key), "-out", str(ca), "-subj", "/CN=test CA", "-days", "2")
    openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    signed_by = ("-CA", str(ca), "-CAkey", str(key), "-CAcreateserial")
    openssl("x509", "-req", "-in", "server.csr", *signed_by, "-out", "server.crt", "-days", "2", "-extfile", "names")
    chain.write_text((directory / "server.crt").read_text() + (directory / "server.key").read_text())
    return ca, chain


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("ca"))


def test_wss_serves_with_a_certificate(certificate: tuple[Path, Path]) -> None:
    ca, chain = certificate
    trust = ssl.create_default_context(cafile=str(ca))
    with ServerProcess("websocket_security", "--certificate", str(chain), "--burst", "100") as server:
        for message in ("hello", "x" * 1_000_000, b"\x00" * 1_048_576, ""):
            with connect(f"wss://localhost:{server.port}/", ssl=trust, compression=None, max_size=None) as one:
                one.send(message)
                assert one.recv(15) == message
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(f"wss://localhost:{server.port}/")
        with RawClient(server.address) as plain:
            plain.send(b"GET / HTTP/1.1\r\n\r\n" * 2)
            assert plain.closed_by_server()
        with RawClient(server.address) as half:
            half.send(b"\x16\x03\x01\x02\x00\x01")
        with connect(f"wss://localhost:{server.port}/", ssl=trust, compression=None) as one:
            one.send("still serving")
            assert one.recv(15) == "still serving"


def test_slow_tls_reader_gets_everything(certificate: tuple[Path, Path]) -> None:
    ca, chain = certificate
    trust = ssl.create_default_context(cafile=str(ca))
    with (
        ServerProcess("websocket_echo", "--certificate", str(chain)) as server,
        connect(f"wss://localhost:{server.port}/", ssl=trust, compression=None, max_size=None) as one,
    ):
        sent = [str(number) * 100_000 for number in range(10)]
        for message in sent:
            one.send(message)
        time.sleep(0.2)  # the replies pile up meanwhile; nothing is awaited by this
        assert [one.recv(15) for _ in sent] == sent


def test_certificate_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(AssertionError, match="cannot use the certificate"):
        ServerProcess("websocket_echo", "--certificate", str(wrong))
