"""Seed 000 against the reference server, an honest stranger, and every kind of liar."""

import re
import socket

import pytest

from records.violations import DUPLICATE, MISSING, PAYLOAD, TYPE, UNKNOWN_ID, VERSION
from swarmproof.acceptance.envelope_client import NOT_SENT, SERVER_ERROR
from swarmproof.acceptance.integration_test import integration_test, run_clients, summary
from swarmproof.targets.errors import TargetError
from swarmproof.targets.ports import free_ports
from tests.processes import ServerProcess
from tests.swarmproof.acceptance.liars import (
    LIE_EVERY,
    Lie,
    LyingServer,
    another_type,
    another_version,
    answer_twice,
    drop,
    flip_byte,
    honest,
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
    with LyingServer(honest) as server:
        results = run_clients("127.0.0.1", server.port, clients=20, frames=1)
    assert summary(results) == "20 clients, 20 frames, 0 failures"


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
    with socket.create_server(("127.0.0.1", 0)) as listener:
        import threading

        def accept_and_close() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=accept_and_close)
        thread.start()
        (result,) = run_clients("127.0.0.1", listener.getsockname()[1], clients=1, frames=5)
        thread.join()
    assert (result.passed, len(result.failures)) == (0, 5)
    assert "connection lost at frame 1" in result.describe()


def test_garbage_from_the_server_is_a_malformed_reply() -> None:
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_garbage() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"\xff" * 64)
                connection.recv(65536)

        thread = threading.Thread(target=answer_garbage)
        thread.start()
        (result,) = run_clients("127.0.0.1", listener.getsockname()[1], clients=1, frames=2)
        thread.join()
    assert result.failures[0][0] == "malformed reply"


def test_one_liar_among_the_clients_fails_the_test() -> None:
    lines: list[str] = []
    with LyingServer(flip_byte) as server:
        assert not integration_test(server.port, clients=2, frames=LIE_EVERY, say=lines.append)
    assert lines[-1] == f"2 clients, {2 * LIE_EVERY} frames, 2 failures"


def test_a_port_where_nothing_listens_is_one_sentence() -> None:
    (port,) = free_ports(1)
    with pytest.raises(TargetError, match=rf"nothing accepts connections at 127\.0\.0\.1:{port}; start the server"):
        integration_test(port)
