"""Every scenario with plain Locust against the reference servers, and what users get for their mistakes."""

import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.locustfiles.runs import run_locust
from tests.processes import ROOT, Process, ServerProcess, wait_until

SERVERS = ("envelope", "f00d", "websocket_echo", "websocket_rpc", "raft")
SCHEMES = {"envelope": "tcp", "f00d": "f00d", "websocket_echo": "ws", "websocket_rpc": "ws", "raft_kv": "kv"}
OPERATIONS = {
    "envelope": ["echo"],
    "f00d": ["toggle"],
    "websocket_echo": ["echo text", "echo binary"],
    "websocket_rpc": ["echo", "add", "get_time", "error_test"],
    "raft_kv": ["append", "get", "put", "cas"],
}


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, str]]:
    """One reference server of each kind, for the whole module."""
    with ExitStack() as stack:
        ports = {name: stack.enter_context(ServerProcess(name)).port for name in SERVERS}
        ports["raft_kv"] = ports["raft"]
        yield {name: f"{scheme}://127.0.0.1:{ports[name]}" for name, scheme in SCHEMES.items()}


@pytest.mark.parametrize(
    ("scenario", "options"),
    [
        ("envelope", ()),
        ("envelope", ("--depth", "16", "--codec", "msgpack", "--payload-bytes", "1000")),
        ("envelope", ("--depth", "4", "--stop-timeout", "5")),
        ("f00d", ()),
        ("f00d", ("--f00d-connections", "reuse", "--depth", "4")),
        ("websocket_echo", ()),
        ("websocket_echo", ("--depth", "8", "--payload-bytes", "4")),
        ("websocket_rpc", ()),
        ("websocket_rpc", ("--depth", "8", "--dialect", "jsonrpc")),
        ("raft_kv", ()),
        ("raft_kv", ("--depth", "4", "--stale-reads", "20", "--keys", "8")),
    ],
)
def test_a_scenario_runs_clean_against_its_reference_server(
    tmp_path: Path, hosts: dict[str, str], scenario: str, options: tuple[str, ...]
) -> None:
    result = run_locust(scenario, tmp_path, "--host", hosts[scenario], *options)
    assert result.exit_code == 0, result.log
    assert result.errors == {}
    assert result.violations == {}
    for name in OPERATIONS[scenario]:
        assert result.requests(name) > 0, name
    assert "Traceback" not in result.log


def mixed_options(hosts: dict[str, str]) -> list[str]:
    names = {"envelope": "envelope", "f00d": "f00d", "echo": "websocket_echo", "rpc": "websocket_rpc", "kv": "raft_kv"}
    return [option for name, host in names.items() for option in (f"--{name}-host", hosts[host])]


@pytest.mark.parametrize("processes", [1, 2])
def test_the_mixed_scenario_loads_all_five_at_once(tmp_path: Path, hosts: dict[str, str], processes: int) -> None:
    options = mixed_options(hosts) + (["--processes", str(processes)] if processes > 1 else [])
    result = run_locust("mixed", tmp_path, *options, users=20, seconds=3)
    assert result.exit_code == 0, result.log
    assert result.errors == {}
    for names in OPERATIONS.values():
        assert all(result.requests(name) > 0 for name in names)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("scenario", SCHEMES)
def test_a_host_that_refuses_is_a_failure_in_words_and_an_exit_code(tmp_path: Path, scenario: str) -> None:
    host = f"{SCHEMES[scenario]}://127.0.0.1:{unused_port()}"
    result = run_locust(scenario, tmp_path, "--host", host)
    assert result.exit_code == 1
    assert result.errors.keys() == {"connection refused: nothing listens at the host's port"}
    assert "Traceback" not in result.log


@pytest.mark.parametrize(
    ("scenario", "host", "sentence"),
    [
        ("envelope", "ws://127.0.0.1:9000", "Echo needs a host that starts with tcp://, not 'ws://127.0.0.1:9000'"),
        ("websocket_rpc", "127.0.0.1:8082", "host '127.0.0.1:8082' must start with one of"),
        ("raft_kv", "kv://127.0.0.1", "lacks a port in '127.0.0.1'"),
    ],
)
def test_a_host_that_cannot_work_ends_the_run_with_one_sentence(
    tmp_path: Path, scenario: str, host: str, sentence: str
) -> None:
    result = run_locust(scenario, tmp_path, "--host", host)
    assert result.exit_code == 1
    assert sentence in result.log
    assert "Traceback" not in result.log


def test_an_option_out_of_range_is_refused_with_its_range(tmp_path: Path) -> None:
    result = run_locust("envelope", tmp_path, "--depth", "0")
    assert result.exit_code == 2
    assert "argument --depth: 0 is not between 1 and 10000" in result.log


def test_master_and_workers_divide_the_users_and_workers_learn_the_options(
    tmp_path: Path, hosts: dict[str, str]
) -> None:
    port = unused_port()
    scenario = str(ROOT / "locustfiles" / "envelope.py")
    command = [sys.executable, "-m", "locust", "-f", scenario, "--worker", "--master-port", str(port)]
    workers = [Process(command) for _ in range(2)]
    try:
        master = ("--master", "--master-bind-port", str(port), "--expect-workers", "2", "--enable-rebalancing")
        options = ("--host", hosts["envelope"], "--payload-bytes", "321", *master)
        result = run_locust("envelope", tmp_path, *options, seconds=4)
        assert result.exit_code == 0, result.log
        assert result.errors == {}
        echo = next(row for row in result.table if row["name"] == "echo")
        assert echo["num_requests"] > 100
        assert echo["total_content_length"] == 321 * echo["num_requests"]
        for worker in workers:
            assert worker.wait() == 0
    finally:
        for worker in workers:
            worker.close()


def test_the_web_form_shows_the_scenarios_options(hosts: dict[str, str]) -> None:
    port = unused_port()
    scenario = str(ROOT / "locustfiles" / "envelope.py")
    command = [sys.executable, "-m", "locust", "-f", scenario, "--web-host", "127.0.0.1", "--web-port", str(port)]
    process = Process([*command, "--host", hosts["envelope"]])
    try:
        process.wait_for_log("Starting Locust")

        def page() -> str:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as reply:
                    text: str = reply.read().decode()
                    return text
            except OSError:
                return ""

        text = wait_until(page, "the web page")
        for name in ("payload_bytes", "depth", "codec", "timeout"):
            assert name in text
        assert "f00d_connections" not in text, "another protocol's option"
    finally:
        process.stop()
        process.close()
