"""An envelope server that breaks a rule now and then: each kind is reported by name, and none is missed."""

from pathlib import Path

import pytest

from records import violations
from tests.dishonest import envelope_server as server_kinds
from tests.dishonest.envelope_server import EnvelopeServer
from tests.locustfiles.runs import LocustRun, run_locust

Mode = tuple[str, ...]

MISSING_TEXT = "missing reply: nothing came within the timeout"
QUOTA = 10


def run(
    server: EnvelopeServer, directory: Path, *options: str, users: int = 4, until: tuple[int, int] | None = None
) -> LocustRun:
    """Two seconds, or until so many violations and failures."""
    # The timeout is long against a busy machine and short against the run.
    command = ("--host", f"tcp://127.0.0.1:{server.port}", "--timeout", "0.5", *options)
    return run_locust("envelope", directory, *command, users=users, seconds=30 if until else 2, until=until)


# Each misdeed with the violation that it is recorded as. The last two also leave their own request without a reply.
NAMES = {
    server_kinds.FLIP: violations.PAYLOAD,
    server_kinds.TWICE: violations.DUPLICATE,
    server_kinds.VERSION: violations.VERSION,
    server_kinds.TYPE: violations.TYPE,
    server_kinds.TIMESTAMP: violations.TIMESTAMP,
    server_kinds.DROP: violations.MISSING,
    server_kinds.UNKNOWN_ID: violations.UNKNOWN_ID,
    server_kinds.CROSS: violations.CROSSED,
}


# Violations and failures: a duplicate is no request's failure, and what is missing is a violation only in the end.
WHEN_DONE = (7 * QUOTA, 7 * QUOTA)


@pytest.mark.parametrize("depth", [1, 8])
def test_every_misdeed_is_counted_under_its_name(tmp_path: Path, depth: int) -> None:
    with EnvelopeServer(tuple(NAMES), quota=QUOTA) as server:
        result = run(server, tmp_path, "--depth", str(depth), users=8, until=WHEN_DONE)
    assert server.planted == dict.fromkeys(NAMES, QUOTA), "the run was too short to plant all"
    recorded = dict.fromkeys(NAMES.values(), QUOTA) | {violations.MISSING: 3 * QUOTA}
    assert result.violations == recorded
    del recorded[violations.MISSING]
    assert result.errors == recorded | {MISSING_TEXT: 3 * QUOTA}
    assert result.exit_code == 1


def test_swapped_ids_of_pipelined_replies_are_two_payload_mismatches(tmp_path: Path, mode: Mode) -> None:
    with EnvelopeServer((server_kinds.SWAP,), quota=QUOTA) as server:
        result = run(server, tmp_path, *mode, "--depth", "16", until=(2 * QUOTA, 2 * QUOTA))
    assert server.is_done
    assert result.violations == {violations.PAYLOAD: 2 * QUOTA}
    assert result.errors == {violations.PAYLOAD: 2 * QUOTA}


def test_a_close_inside_a_frame_is_told_from_a_plain_close(tmp_path: Path) -> None:
    with EnvelopeServer((server_kinds.CLOSE_MID_FRAME,), quota=QUOTA) as server:
        result = run(server, tmp_path)
    assert server.is_done
    assert result.errors == {"connection closed inside a reply": QUOTA}
    assert result.exit_code == 1
    assert "Traceback" not in result.log


def test_an_unreadable_stream_is_one_malformed_reply_each_and_the_users_reconnect(tmp_path: Path) -> None:
    with EnvelopeServer((server_kinds.OVERSIZE, server_kinds.STUTTER), quota=QUOTA) as server:
        result = run(server, tmp_path)
    assert server.is_done
    assert result.violations == {violations.SHAPE: 2 * QUOTA}
    assert result.errors == {
        "malformed reply: frame too large": QUOTA,
        "malformed reply: envelope payload too large": QUOTA,  # two headers, one inside the other
    }
    assert result.requests("echo") > 1000


@pytest.mark.parametrize("depth", [1, 8])
def test_an_honest_twin_gives_no_failure(tmp_path: Path, mode: Mode, depth: int) -> None:
    with EnvelopeServer() as server:
        result = run(server, tmp_path, *mode, "--depth", str(depth), "--timeout", "10")
    assert result.requests("echo") > 1000
    assert result.errors == {}
    assert result.violations == {}
    assert result.exit_code == 0
