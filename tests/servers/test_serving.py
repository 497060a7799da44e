"""A server process: one startup line, one sentence when it cannot start, a graceful end."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.processes import ROOT, Process, ServerProcess, wait_until
from tests.servers.clients import EnvelopeClient, RawClient

SERVERS = ["envelope", "f00d", "websocket_echo", "websocket_rpc"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_server_says_one_line_and_ends_with_0_on_a_signal(name: str, number: int) -> None:
    with ServerProcess(name) as server:
        assert server.startup_line == f"{name} listening on 127.0.0.1:{server.port}"
        RawClient(server.address).close()
        server.signal(number)
        assert server.wait() == 0
        assert server.popen.stdout is not None
        assert server.popen.stdout.read() == b""


@pytest.mark.parametrize("name", SERVERS)
def test_server_with_a_port_in_use_says_one_sentence_and_ends_with_3(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        done = run(f"servers.{name}", "--port", str(port))
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}: the port is already in use" in done.stderr


def test_server_with_a_host_of_another_machine_says_one_sentence_and_ends_with_3() -> None:
    done = run("servers.envelope", "--host", "192.0.2.1", "--port", "0")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "not an address of this machine" in done.stderr


@pytest.mark.parametrize("name", SERVERS)
def test_server_help_has_an_example_and_every_limit_has_its_default(name: str) -> None:
    done = run(f"servers.{name}", "--help")
    assert done.returncode == 0
    assert f"python -m servers.{name} --port" in done.stdout.split("example:")[1]
    assert "--max-clients" in done.stdout
    assert "(default: 5.0)" in " ".join(done.stdout.split())  # the write timeout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "65536"], "a port is a whole number from 0 to 65535"),
        (["--port", "http"], "a port is a whole number from 0 to 65535"),
        (["--idle-timeout", "0"], "give seconds above 0"),
        (["--idle-timeout", "nan"], "give seconds above 0"),
        (["--max-clients", "many"], "give a whole number from 1"),
        (["--max-frame-bytes", "-1"], "give a size in bytes"),
        (["--workers", "100000"], "at most 64"),
        (["--unheard-of"], "unrecognized arguments"),
    ],
)
def test_server_with_a_wrong_option_says_what_is_allowed(arguments: list[str], sentence: str) -> None:
    done = run("servers.envelope", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_server_on_ipv6_names_its_address_in_brackets() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with ServerProcess("envelope", "--host", "::1") as server:
        assert server.startup_line.startswith("envelope listening on [::1]:")
        with EnvelopeClient(server.address) as client:
            assert client.echo(1, b"hello").payload == b"hello"


def test_server_can_be_started_again_on_its_port_at_once() -> None:
    with ServerProcess("envelope") as first:
        port = first.port
        with EnvelopeClient(first.address) as client:  # leaves the server's side in TIME_WAIT
            client.echo(1, b"x")
            first.stop()
    with ServerProcess("envelope", port=port) as second, EnvelopeClient(second.address) as client:
        assert client.echo(2, b"y").payload == b"y"


def test_server_answers_what_it_received_before_it_ends() -> None:
    with ServerProcess("envelope", "--service-ms", "300") as server, EnvelopeClient(server.address) as client:
        client.send_envelope(7, b"under way")
        with EnvelopeClient(server.address) as other:  # its answer shows that the first request was read
            other.echo(1, b"x")
            client.send_envelope(8, b"also")
        server.signal(signal.SIGTERM)
        assert client.next_envelope().request_id == 7
        assert client.next_envelope().request_id == 8
        assert client.next_envelope() is None
        assert server.wait() == 0


def test_server_ends_though_a_client_never_closes() -> None:
    with ServerProcess("envelope") as server, RawClient(server.address) as client:
        client.send(b"\0\0")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_server_survives_the_loss_of_its_stdout() -> None:
    process = Process([sys.executable, "-m", "servers.envelope", "--port", "0"])
    try:
        assert process.popen.stdout is not None
        process.popen.stdout.close()  # nobody will ever read the startup line
        line = process.wait_for_log(" listening ")
        port = int(line.split("address=127.0.0.1:")[1].split()[0])
        with EnvelopeClient(("127.0.0.1", port)) as client:
            assert client.echo(1, b"x").payload == b"x"
        assert process.stop() == 0
    finally:
        process.close()


def test_server_out_of_file_descriptors_serves_again_when_there_are_some() -> None:
    code = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24));"
        "sys.argv = ['envelope', '--port', '0']; runpy.run_module('servers.envelope', run_name='__main__')"
    )
    process = Process([sys.executable, "-c", code])
    try:
        port = int(process.read_line().rsplit(":", 1)[1])
        clients = [RawClient(("127.0.0.1", port)) for _ in range(40)]
        process.wait_for_log("accept_paused")
        for client in clients:
            client.close()
        with EnvelopeClient(("127.0.0.1", port)) as client:
            assert client.echo(1, b"x").payload == b"x"
        assert process.stop() == 0
    finally:
        process.close()


def test_wait_until_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match="in vain for: the impossible"):
        wait_until(lambda: False, "the impossible", deadline_s=0.05)


def test_server_process_that_does_not_start_shows_its_log() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder, pytest.raises(AssertionError, match="already in use"):
        ServerProcess("envelope", port=holder.getsockname()[1])


def test_server_process_that_dies_fails_its_test() -> None:
    server = ServerProcess("envelope")
    os.kill(server.pid, signal.SIGKILL)
    server.popen.wait()
    with pytest.raises(AssertionError, match="died by itself"):
        server.__exit__(None, None, None)
