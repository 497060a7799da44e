"""In engine mode every misdeed of the dishonest servers is counted as often, and named, as by scripted users."""

from pathlib import Path

import pytest

from records import violations
from tests.dishonest import envelope_server, f00d_device, websocket_server
from tests.dishonest.envelope_server import EnvelopeServer
from tests.dishonest.f00d_device import Device, FramedDevice
from tests.dishonest.tcp import MisbehavingServer
from tests.dishonest.websocket_server import EchoServer, RpcServer
from tests.locustfiles.runs import LocustRun, run_locust

MISSING_TEXT = "missing reply: nothing came within the timeout"
QUOTA = 10


def run(scenario: str, server: MisbehavingServer, directory: Path, *options: str) -> LocustRun:
    scheme = "ws" if scenario.startswith("websocket") else "tcp"
    timeout = () if scenario == "f00d" else ("--timeout", "0.5")
    host = f"{scheme}://127.0.0.1:{server.port}"
    return run_locust(scenario, directory, "--engine", "--host", host, *timeout, *options, seconds=6)


@pytest.mark.parametrize("depth", [1, 8])
@pytest.mark.parametrize(
    ("misdeed", "recorded", "failure"),
    [
        (envelope_server.FLIP, [violations.PAYLOAD], [violations.PAYLOAD]),
        (envelope_server.TWICE, [violations.DUPLICATE], [violations.DUPLICATE]),
        (envelope_server.VERSION, [violations.VERSION], [violations.VERSION]),
        (envelope_server.TYPE, [violations.TYPE], [violations.TYPE]),
        (envelope_server.DROP, [violations.MISSING], [MISSING_TEXT]),
        (envelope_server.TIMESTAMP, [violations.TIMESTAMP], [violations.TIMESTAMP]),
        (
            envelope_server.UNKNOWN_ID,
            [violations.UNKNOWN_ID, violations.MISSING],
            [violations.UNKNOWN_ID, MISSING_TEXT],
        ),
        (envelope_server.CROSS, [violations.CROSSED, violations.MISSING], [violations.CROSSED, MISSING_TEXT]),
    ],
)
def test_every_misdeed_of_an_envelope_server_is_counted_under_its_name(
    tmp_path: Path, misdeed: str, recorded: list[str], failure: list[str], depth: int
) -> None:
    with EnvelopeServer((misdeed,), quota=QUOTA) as server:
        result = run("envelope", server, tmp_path, "--depth", str(depth))
    assert server.planted == {misdeed: QUOTA}, "the run was too short to plant all"
    assert result.violations == dict.fromkeys(recorded, QUOTA)
    assert result.errors == dict.fromkeys(failure, QUOTA)
    assert result.exit_code == 1


def test_swapped_ids_of_pipelined_replies_are_two_payload_mismatches(tmp_path: Path) -> None:
    with EnvelopeServer((envelope_server.SWAP,), quota=QUOTA) as server:
        result = run("envelope", server, tmp_path, "--depth", "16")
    assert server.is_done
    assert result.violations == {violations.PAYLOAD: 2 * QUOTA}
    assert result.errors == {violations.PAYLOAD: 2 * QUOTA}


def test_broken_streams_are_told_apart_and_the_users_reconnect(tmp_path: Path) -> None:
    kinds = (envelope_server.CLOSE_MID_FRAME, envelope_server.OVERSIZE)
    with EnvelopeServer(kinds, quota=QUOTA) as server:
        result = run("envelope", server, tmp_path)
    assert server.is_done
    assert result.violations == {violations.SHAPE: QUOTA}
    assert result.errors == {"connection closed inside a reply": QUOTA, "malformed reply: frame too large": QUOTA}
    assert result.requests("echo") > 1000
    assert "Traceback" not in result.log


@pytest.mark.parametrize("depth", [1, 8])
def test_an_honest_envelope_server_gives_no_failure(tmp_path: Path, depth: int) -> None:
    with EnvelopeServer() as server:
        result = run("envelope", server, tmp_path, "--depth", str(depth))
    assert result.requests("echo") > 1000
    assert result.errors == {}
    assert result.violations == {}
    assert result.exit_code == 0


@pytest.mark.parametrize("depth", [1, 8])
def test_an_echo_servers_misdeeds_are_counted_under_their_names(tmp_path: Path, depth: int) -> None:
    kinds = (
        websocket_server.FLIP,
        websocket_server.TWICE,
        websocket_server.OTHER_TYPE,
        websocket_server.DROP,
    )
    with EchoServer(kinds, quota=QUOTA) as server:
        result = run("websocket_echo", server, tmp_path, "--depth", str(depth), "--message", "text")
    assert server.is_done
    kinds_found = (violations.PAYLOAD, violations.DUPLICATE, violations.TYPE)
    assert result.violations == dict.fromkeys((*kinds_found, violations.MISSING), QUOTA)
    assert result.errors == dict.fromkeys((*kinds_found, MISSING_TEXT), QUOTA)


def test_ends_of_a_websocket_are_told_apart(tmp_path: Path) -> None:
    kinds = (websocket_server.CLOSE_FRAME, websocket_server.HALF_FRAME, websocket_server.MASKED)
    with EchoServer(kinds, quota=QUOTA) as server:
        result = run("websocket_echo", server, tmp_path)
    assert server.is_done
    assert result.errors == {
        "websocket closed by server with code 1011": QUOTA,
        "websocket closed by server with code 1006": QUOTA,
        "malformed reply: websocket protocol violation": QUOTA,
    }
    assert result.violations == {violations.SHAPE: QUOTA}


@pytest.mark.parametrize("depth", [1, 8])
def test_an_rpc_servers_misdeeds_are_counted_under_their_names(tmp_path: Path, depth: int) -> None:
    kinds = (
        websocket_server.ANOTHER_RESULT,
        websocket_server.TWICE,
        websocket_server.BOTH,
        websocket_server.NEITHER,
        websocket_server.DROP,
    )
    with RpcServer(kinds, quota=QUOTA) as server:
        result = run("websocket_rpc", server, tmp_path, "--depth", str(depth))
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


def test_rpc_replies_without_a_usable_id_are_reported(tmp_path: Path) -> None:
    kinds = (websocket_server.NOT_JSON, websocket_server.OTHER_ID, websocket_server.NO_ERROR)
    with RpcServer(kinds, quota=QUOTA, every=7) as server:
        result = run("websocket_rpc", server, tmp_path)
    assert server.is_done
    assert result.errors == {
        "malformed reply: reply is not JSON": QUOTA,
        violations.UNKNOWN_ID: QUOTA,
        MISSING_TEXT: QUOTA,
        violations.PAYLOAD: QUOTA,
    }


def test_framed_acknowledgements_of_other_packets_are_counted(tmp_path: Path) -> None:
    kinds = (f00d_device.NEVER_SENT, f00d_device.ANOTHERS, f00d_device.TWICE)
    with FramedDevice(kinds, quota=8) as device:
        reuse = ("--ack", "framed", "--f00d-connections", "reuse")
        result = run("f00d", device, tmp_path, *reuse, "--depth", "4")
    assert device.is_done
    expected = {violations.ACK: 8, violations.CROSSED: 8, violations.DUPLICATE: 8}
    assert result.violations == expected
    assert result.errors == expected


def test_raw_acknowledgements_that_are_wrong_or_double_are_counted(tmp_path: Path) -> None:
    with Device((f00d_device.NAK, f00d_device.TWICE), quota=8) as device:
        result = run("f00d", device, tmp_path, "--f00d-connections", "reuse")
    assert device.is_done
    assert result.violations == {violations.ACK: 16}
    assert result.errors == {violations.ACK: 16}


def test_silence_and_a_closed_connection_are_tried_again(tmp_path: Path) -> None:
    with Device((f00d_device.SILENT, f00d_device.DISCONNECT, f00d_device.HALF), quota=2) as device:
        result = run("f00d", device, tmp_path, "--f00d-connections", "reuse", "-t", "8s")
    assert device.is_done
    assert result.errors == {}, "the second attempt was answered"
    assert result.exit_code == 0


def test_without_a_second_attempt_they_are_failures_by_name(tmp_path: Path) -> None:
    with Device((f00d_device.SILENT, f00d_device.DISCONNECT, f00d_device.HALF), quota=2) as device:
        result = run("f00d", device, tmp_path, "--f00d-connections", "reuse", "--attempts", "1", "-t", "8s")
    assert device.is_done
    assert result.errors == {
        MISSING_TEXT: 2,
        "connection closed by server": 2,
        "connection closed inside a reply": 2,
    }


@pytest.mark.parametrize("depth", [1, 8])
def test_honest_twins_give_no_failure(tmp_path: Path, depth: int) -> None:
    twins: list[tuple[str, type[MisbehavingServer], tuple[str, ...]]] = [
        ("websocket_echo", EchoServer, ()),
        ("websocket_rpc", RpcServer, ()),
        ("f00d", FramedDevice, ("--ack", "framed", "--f00d-connections", "reuse")),
        ("f00d", Device, ("--f00d-connections", "reuse")),
    ]
    for number, (scenario, honest, options) in enumerate(twins):
        with honest() as server:
            depth_options = ("--depth", str(depth), "-t", "3s")
            result = run(scenario, server, tmp_path / str(number), *options, *depth_options)
        assert result.errors == {}
        assert result.violations == {}
        assert result.exit_code == 0
        assert sum(row["num_requests"] for row in result.table) > 200
