"""`swarmproof proxy` as a command."""

import re
import socket
import subprocess
import sys
import time

import pytest

from tests.processes import ROOT, Process
from tests.swarmproof.faults.proxy.conftest import EchoServer, receive

COMMAND = [sys.executable, "-m", "swarmproof.cli", "proxy"]


def test_it_stands_between_a_client_and_a_server(echo: EchoServer) -> None:
    upstream = f"127.0.0.1:{echo.address[1]}"
    process = Process([*COMMAND, "--listen", "127.0.0.1:0", "--upstream", upstream, "--toxic", "latency=60ms±10ms"])
    try:
        line = process.read_line()
        found = re.fullmatch(rf"proxy listening on 127\.0\.0\.1:(\d+) for {upstream}, latency=60ms±10ms", line)
        assert found, line
        with socket.create_connection(("127.0.0.1", int(found[1]))) as sock:
            began = time.monotonic()
            sock.sendall(b"hello")
            assert receive(sock, 5) == b"hello"
            assert time.monotonic() - began >= 0.05
    finally:
        code = process.stop()
        process.close()
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--listen", "127.0.0.1:0", "--upstream", "nowhere"], "--upstream nowhere is not an address"),
        (["--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1", "--toxic", "poison"], "there is no toxic 'poison'"),
    ],
)
def test_a_mistake_is_a_sentence(arguments: list[str], sentence: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_a_sentence(echo: EchoServer) -> None:
    address = f"127.0.0.1:{echo.address[1]}"
    done = subprocess.run(
        [*COMMAND, "--listen", address, "--upstream", "127.0.0.1:1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert f"cannot listen on {address}: " in done.stderr
