"""Seed 000 against the reference server, an honest stranger, and every kind of liar."""

import re
import socket

import pytest

from records.violations import DUPLICATE, LATE, MISSING, PAYLOAD, SHAPE, TYPE, UNKNOWN_ID, VERSION
from swarmproof.acceptance.envelope_client import NOT_CONNECTED, NOT_SENT, SERVER_ERROR, ClientResult
from swarmproof.acceptance.integration_test import attacked_summary, integration_test, run_clients, summary
from swarmproof.targets.errors import TargetError
from swarmproof.targets.ports import free_ports
from tests.processes import ServerProcess
from tests.swarmproof.acceptance.liars import (
    LIE_EVERY,
    Frame,
    Lie,
    LyingServer,
    OneConnection,
    another_type,
    another_version,
    answer_twice,
    drop,
    encode,
    flip_byte,
    honest,
    requests,
    say_error,
    swap_ids,
)

CLIENTS, FRAMES = 5, 50


@pytest.mark.parametrize("codec", ["binary", "msgpack"])
def test_twenty_clients_pass_against_the_reference_server(codec: str) -> None:
    lines: list[str] = []
    with ServerProcess("envelope") as server:
        assert integration_test(server.port, codec=codec, say=lines.append)  # type: ignore[arg-type]
    assert len(lines) == 21
    assert all(re.fullmatch(r"client +\d+  PASS  50/50 frames", line) for line in lines[:-1])
    assert lines[-1] == "20 clients, 1000 frames, 0 failures"


def test_without_a_port_it_starts_a_server_of_its_own_and_stops_it() -> None:
    lines: list[str] = []
    assert integration_test(None, clients=3, frames=4, say=lines.append)
    assert lines[-1] == "3 clients, 12 frames, 0 failures"
    port = int(lines[0].rsplit(" ", 1)[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_more_clients_than_the_server_usually_takes_all_pass() -> None:
    lines: list[str] = []
    assert integration_test(None, clients=120, frames=2, say=lines.append)
    assert lines[-1] == "120 clients, 240 frames, 0 failures"


def test_the_clients_are_connected_at_the_same_time() -> None:
    with LyingServer(honest, at_once=20) as server:
        results = run_clients("127.0.0.1", server.port, clients=20, frames=1)
    assert summary(results) == "20 clients, 20 frames, 0 failures"
    assert server.most_open == 20


def test_an_honest_stranger_has_no_failure() -> None:
    with LyingServer(honest) as server:
        results = run_clients("127.0.0.1", server.port, clients=CLIENTS, frames=FRAMES)
    assert summary(results) == f"{CLIENTS} clients, {CLIENTS * FRAMES} frames, 0 failures"
    assert server.lies == CLIENTS * FRAMES // LIE_EVERY


@pytest.mark.parametrize(
    ("lie", "name"),
    [
        (swap_ids, UNKNOWN_ID),
        (flip_byte, PAYLOAD),
        (answer_twice, DUPLICATE),
        (another_version, VERSION),
        (another_type, TYPE),
        (say_error, SERVER_ERROR),
    ],
)
def test_every_lie_is_counted_once_and_by_its_name(lie: Lie, name: str) -> None:
    with LyingServer(lie) as server:
        results = run_clients("127.0.0.1", server.port, clients=CLIENTS, frames=FRAMES)
    told = [failure for result in results for failure, _, _ in result.failures]
    assert told == [name] * server.lies
    assert all(result.describe().startswith(f"client {result.client:>3}  FAIL") for result in results)
    assert summary(results).endswith(f" {server.lies} failures")


def test_dropped_replies_are_missing_and_after_three_the_rest_is_not_sent() -> None:
    with LyingServer(drop) as server:
        (result,) = run_clients("127.0.0.1", server.port, clients=1, frames=50, timeout_s=0.3)
    names = [name for name, _, _ in result.failures]
    assert names == [MISSING] * 3 + [NOT_SENT] * 20
    assert [frame for name, frame, _ in result.failures if name == MISSING] == [10, 20, 30]
    assert result.passed == 27


def test_a_server_that_closes_fails_every_frame_that_is_left() -> None:
    with OneConnection(lambda _connection: None) as server:
        (result,) = run_clients("127.0.0.1", server.port, clients=1, frames=5)
    assert (result.passed, len(result.failures)) == (0, 5)
    assert "connection lost at frame 1" in result.describe()


def test_garbage_from_the_server_is_a_malformed_reply() -> None:
    def answer_garbage(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"\xff" * 64)
        connection.recv(65536)

    with OneConnection(answer_garbage) as server:
        (result,) = run_clients("127.0.0.1", server.port, clients=1, frames=2)
    assert result.failures[0][0] == SHAPE


@pytest.mark.parametrize(
    "farewell", [b"\xff" * 64, b"\x00", encode((1, 0, 7, 0, b"half of it"))[:-3]], ids=["garbage", "a byte", "half"]
)
def test_bytes_after_the_last_reply_that_are_no_reply_are_malformed(farewell: bytes) -> None:
    with LyingServer(honest, farewell=farewell) as server:
        (result,) = run_clients("127.0.0.1", server.port, clients=1, frames=2)
    assert (result.passed, [name for name, _, _ in result.failures]) == (2, [SHAPE])
    assert "after the last reply" in result.describe()


def test_garbage_that_comes_with_the_last_reply_is_malformed() -> None:
    def answer_too_much(connection: socket.socket) -> None:
        for frame in requests(connection):
            connection.sendall(encode(frame) + b"\xff" * 64)

    with OneConnection(answer_too_much) as server:
        (result,) = run_clients("127.0.0.1", server.port, clients=1, frames=1)
    assert (result.passed, [name for name, _, _ in result.failures]) == (1, [SHAPE])


def test_a_half_reply_at_the_end_of_a_connection_is_told() -> None:
    def answer_half(connection: socket.socket) -> None:
        connection.sendall(encode(next(requests(connection)))[:-3])

    with OneConnection(answer_half) as server:
        (result,) = run_clients("127.0.0.1", server.port, clients=1, frames=1)
    assert "connection lost at frame 1 (the server closed the connection inside a reply)" in result.describe()


@pytest.mark.parametrize("waits_for_a_frame", [True, False])
def test_a_server_that_is_full_is_told_by_its_own_words(waits_for_a_frame: bool) -> None:
    def refuse(connection: socket.socket) -> None:
        if waits_for_a_frame:
            next(requests(connection))
        connection.sendall(encode((1, 2, 0, 0, b"server at capacity")))

    with OneConnection(refuse) as server:
        (result,) = run_clients("127.0.0.1", server.port, clients=1, frames=3)
    assert result.failures == [
        (SERVER_ERROR, 1, "server at capacity"),
        (NOT_SENT, 2, "server at capacity"),
        (NOT_SENT, 3, "server at capacity"),
    ]


def test_the_reference_server_that_is_full_is_told_by_its_own_words() -> None:
    with (
        ServerProcess("envelope", "--max-clients", "1") as server,
        socket.create_connection(("127.0.0.1", server.port), 5) as first,
    ):
        first.sendall(encode((1, 0, 7, 0, b"x")))
        assert first.recv(4096)  # it has its place
        (result,) = run_clients("127.0.0.1", server.port, clients=1, frames=2)
    assert [(name, detail) for name, _, detail in result.failures] == [
        (SERVER_ERROR, "server at capacity"),
        (NOT_SENT, "server at capacity"),
    ]


@pytest.mark.parametrize("late", [2, 3], ids=["before another", "the last"])
def test_a_reply_after_the_time_to_wait_is_late_and_no_second_one(late: int) -> None:
    def hold_back(connection: socket.socket) -> None:
        held: Frame | None = None
        for number, frame in enumerate(requests(connection), start=1):
            if number == late:
                held = frame
            else:
                connection.sendall((encode(held) if held is not None else b"") + encode(frame))
                held = None
        if held is not None:
            connection.sendall(encode(held))

    with OneConnection(hold_back) as server:
        (result,) = run_clients("127.0.0.1", server.port, clients=1, frames=3, timeout_s=0.3)
    assert (result.passed, [(name, frame) for name, frame, _ in result.failures]) == (2, [(LATE, late)])


def test_a_client_that_did_not_come_to_its_end_has_not_passed() -> None:
    result = ClientResult(1, frames=50, passed=49)
    assert not result.ok
    assert result.describe() == "client   1  FAIL  49/50 frames: 1 of them without a result"
    assert summary([result]) == "1 clients, 50 frames, 1 failures"
    assert "good: 0/1 pass" in attacked_summary([result], [], healthy=True)


def test_one_liar_among_the_clients_fails_the_test() -> None:
    lines: list[str] = []
    with LyingServer(flip_byte) as server:
        assert not integration_test(server.port, clients=2, frames=LIE_EVERY, say=lines.append)
    assert lines[-1] == f"2 clients, {2 * LIE_EVERY} frames, 2 failures"


def test_a_port_where_nothing_listens_is_one_sentence() -> None:
    (port,) = free_ports(1)
    with pytest.raises(TargetError, match=rf"nothing accepts connections at 127\.0\.0\.1:{port}; start the server"):
        integration_test(port)


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_host_that_can_be_no_name_is_one_sentence(host: str) -> None:
    with pytest.raises(TargetError, match=rf"the address {re.escape(host)}:9000 has .*; give --host a name"):
        integration_test(9000, host=host)


def test_a_client_whose_host_can_be_no_name_cannot_connect() -> None:
    (result,) = run_clients("a..b", 9000, clients=1, frames=5)
    assert [name for name, _, _ in result.failures] == [NOT_CONNECTED]
    assert summary([result]) == "1 clients, 5 frames, 5 failures"
