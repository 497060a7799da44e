"""`integration-test --bad-clients`: hostile clients beside good ones, against honest and against careless servers."""

import re
import socket
import subprocess
import sys
import threading

import pytest

from protocols.hostile import HELD_OPEN, KINDS, PARTIAL_HEADER
from swarmproof.acceptance import integration_test as module
from swarmproof.acceptance.hostile_clients import HostileClients
from swarmproof.acceptance.integration_test import integration_test
from tests.processes import ROOT, ServerProcess
from tests.swarmproof.acceptance.liars import LyingServer, flip_byte, honest


def test_two_hundred_hostile_clients_attack_and_no_good_one_fails() -> None:
    lines: list[str] = []
    assert integration_test(None, bad_clients=200, say=lines.append), "\n".join(lines)
    assert lines[-1] == "good: 20/20 pass, bad: 200/200 handled, server healthy"
    assert "20 clients, 1000 frames, 0 failures" in lines
    for kind in KINDS:  # each was really tried
        assert any(re.match(rf"{kind} +\d+  ", line) for line in lines), kind


def test_the_option_alone_means_one_of_each_kind() -> None:
    command = [sys.executable, "-m", "swarmproof.cli", "integration-test", "--clients", "3", "--frames", "5"]
    done = subprocess.run(
        [*command, "--bad-clients"], capture_output=True, text=True, cwd=ROOT, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "good: 3/3 pass, bad: 8/8 handled, server healthy"


def test_a_server_without_timeouts_holds_silent_clients_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_ROOM_S", 0.5)
    lines: list[str] = []
    with LyingServer(honest) as server:
        assert not integration_test(
            server.port, clients=2, frames=5, bad_clients=3, idle_timeout_s=0.2, say=lines.append
        )
    bad = re.fullmatch(r"good: 2/2 pass, bad: (\d)/3 handled, server healthy", lines[-1])
    assert bad is not None, "\n".join(lines)
    assert int(bad[1]) < 3
    assert any(f"NOT HANDLED  {PARTIAL_HEADER}: {HELD_OPEN.how}" in line for line in lines)


def test_a_good_client_that_is_lied_to_under_attack_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_ROOM_S", 0.5)
    lines: list[str] = []
    with LyingServer(flip_byte) as server:
        assert not integration_test(
            server.port, clients=2, frames=10, bad_clients=1, idle_timeout_s=0.2, say=lines.append
        )
    assert lines[-1].startswith("good: 0/2 pass, bad: ")


def test_a_server_that_is_gone_after_the_attack_is_not_healthy() -> None:
    """Serves honestly until the first garbage, then dies of it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    died = threading.Event()

    def serve(connection: socket.socket) -> None:
        buffer = b""
        with connection:
            while not died.is_set():
                try:
                    data = connection.recv(65536)
                except OSError:
                    return
                if not data:
                    return
                buffer += data
                while len(buffer) >= 4:
                    size = int.from_bytes(buffer[:4], "big")
                    if size > 1000:
                        died.set()
                        listener.close()
                        return
                    if len(buffer) < 4 + size:
                        break
                    connection.sendall(buffer[: 4 + size])
                    buffer = buffer[4 + size :]

    def accept() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    lines: list[str] = []
    assert not integration_test(
        listener.getsockname()[1],
        clients=1,
        frames=5,
        bad_clients=4,
        idle_timeout_s=0.2,
        timeout_s=0.5,
        say=lines.append,
    )
    assert died.is_set()
    assert lines[-1].endswith("server NOT healthy")


@pytest.mark.parametrize(
    ("server", "protocol", "options"),
    [("f00d", "f00d", ()), ("websocket_echo", "websocket", ("--handshake-timeout", "1", "--ping-timeout", "1"))],
)
def test_the_other_reference_servers_handle_every_attack_too(
    server: str, protocol: str, options: tuple[str, ...]
) -> None:
    idle = ("--ping-interval", "1") if server == "websocket_echo" else ("--idle-timeout", "1")
    with ServerProcess(server, *idle, *options, "--write-timeout", "1") as running:
        clients = HostileClients(running.address, 24, patience_s=10, protocol=protocol)
        clients.start()
        clients.await_begun(10)
        results = clients.finish()
        assert [result.describe() for result in results if not result.handled] == []
        assert {kind for result in results for kind, _ in result.outcomes} == set(KINDS)
