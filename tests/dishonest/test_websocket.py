"""WebSocket servers that break a rule of echo or RPC: each kind is reported by name, and none is missed."""

from pathlib import Path

import pytest

from records import violations
from tests.dishonest import websocket_server as misdeeds
from tests.dishonest.websocket_server import EchoServer, RpcServer
from tests.locustfiles.runs import LocustRun, run_locust

Mode = tuple[str, ...]

MISSING_TEXT = "missing reply: nothing came within the timeout"
QUOTA = 10


def run(
    scenario: str,
    server: EchoServer | RpcServer,
    directory: Path,
    mode: Mode,
    *options: str,
    until: tuple[int, int] | None = None,
) -> LocustRun:
    """Until so many violations and failures; the first are the fewer where something is missing till the end."""
    command = ("--host", f"ws://127.0.0.1:{server.port}", "--timeout", "0.5", *mode, *options)
    return run_locust(scenario, directory, *command, users=6, seconds=30, until=until)


@pytest.mark.parametrize("depth", [1, 8])
def test_an_echo_servers_misdeeds_are_counted_under_their_names(tmp_path: Path, mode: Mode, depth: int) -> None:
    kinds = (misdeeds.FLIP, misdeeds.TWICE, misdeeds.OTHER_TYPE, misdeeds.DROP)
    with EchoServer(kinds, quota=QUOTA) as server:
        result = run(
            "websocket_echo",
            server,
            tmp_path,
            mode,
            "--depth",
            str(depth),
            "--message",
            "text",
            until=(3 * QUOTA, 3 * QUOTA),
        )
    assert server.is_done
    assert result.violations == {
        violations.PAYLOAD: QUOTA,
        violations.DUPLICATE: QUOTA,
        violations.TYPE: QUOTA,
        violations.MISSING: QUOTA,
    }
    assert result.errors == {
        violations.PAYLOAD: QUOTA,
        violations.DUPLICATE: QUOTA,
        violations.TYPE: QUOTA,
        MISSING_TEXT: QUOTA,
    }
    assert result.exit_code == 1


def test_ends_of_a_websocket_are_told_apart(tmp_path: Path, mode: Mode) -> None:
    kinds = (misdeeds.CLOSE_FRAME, misdeeds.HALF_FRAME, misdeeds.MASKED, misdeeds.STUTTER)
    with EchoServer(kinds, quota=QUOTA) as server:
        result = run("websocket_echo", server, tmp_path, mode, until=(2 * QUOTA, 4 * QUOTA))
    assert server.is_done
    assert result.errors == {
        "websocket closed by server with code 1011": QUOTA,
        "websocket closed by server with code 1006": QUOTA,
        "malformed reply: websocket protocol violation": 2 * QUOTA,
    }
    assert result.violations == {violations.SHAPE: 2 * QUOTA}
    assert "Traceback" not in result.log


@pytest.mark.parametrize("depth", [1, 8])
def test_an_rpc_servers_misdeeds_are_counted_under_their_names(tmp_path: Path, mode: Mode, depth: int) -> None:
    kinds = (misdeeds.ANOTHER_RESULT, misdeeds.TWICE, misdeeds.BOTH, misdeeds.NEITHER, misdeeds.DROP)
    with RpcServer(kinds, quota=QUOTA) as server:
        result = run("websocket_rpc", server, tmp_path, mode, "--depth", str(depth), until=(4 * QUOTA, 4 * QUOTA))
    assert server.is_done
    assert result.violations == {
        violations.PAYLOAD: QUOTA,
        violations.DUPLICATE: QUOTA,
        violations.SHAPE: 2 * QUOTA,
        violations.MISSING: QUOTA,
    }
    assert result.errors == {
        violations.PAYLOAD: QUOTA,
        violations.DUPLICATE: QUOTA,
        "malformed reply: reply has both result and error": QUOTA,
        "malformed reply: reply lacks a member": QUOTA,
        MISSING_TEXT: QUOTA,
    }


def test_rpc_replies_without_a_usable_id_are_reported(tmp_path: Path, mode: Mode) -> None:
    kinds = (misdeeds.NOT_JSON, misdeeds.OTHER_ID, misdeeds.NO_ERROR)
    with RpcServer(kinds, quota=QUOTA, every=7) as server:
        result = run("websocket_rpc", server, tmp_path, mode, until=(3 * QUOTA, 3 * QUOTA))
    assert server.is_done
    assert result.errors == {
        "malformed reply: reply is not JSON": QUOTA,
        violations.UNKNOWN_ID: QUOTA,
        MISSING_TEXT: QUOTA,
        violations.PAYLOAD: QUOTA,
    }


@pytest.mark.parametrize("depth", [4])
def test_honest_twins_give_no_failure(tmp_path: Path, mode: Mode, depth: int) -> None:
    for scenario, honest in (("websocket_echo", EchoServer), ("websocket_rpc", RpcServer)):
        with honest() as server:
            options = ("--depth", str(depth), "-t", "2s", "--timeout", "10")
            result = run(scenario, server, tmp_path / scenario, mode, *options)
        assert result.errors == {}
        assert result.violations == {}
        assert result.exit_code == 0
        assert sum(row["num_requests"] for row in result.table) > 200
