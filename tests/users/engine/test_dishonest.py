"""In engine mode each misdeed of an envelope server, alone, is counted as often, and named, as by scripted users.

The other servers' misdeeds are in tests/dishonest, for both kinds of users.
"""

from pathlib import Path

import pytest

from records import violations
from tests.dishonest import envelope_server
from tests.dishonest.envelope_server import EnvelopeServer
from tests.locustfiles.runs import LocustRun, run_locust

MISSING_TEXT = "missing reply: nothing came within the timeout"
QUOTA = 10


def run(server: EnvelopeServer, directory: Path, *options: str, until: tuple[int, int]) -> LocustRun:
    """Until so many violations and failures."""
    command = ("--engine", "--host", f"tcp://127.0.0.1:{server.port}", "--timeout", "0.5", *options)
    return run_locust("envelope", directory, *command, seconds=30, until=until)


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
        # A duplicate is no request's failure; what is missing is a violation only in the end.
        at_once = QUOTA * sum(kind != violations.MISSING for kind in recorded)
        failing = 0 if misdeed == envelope_server.TWICE else QUOTA
        result = run(server, tmp_path, "--depth", str(depth), until=(at_once, failing))
    assert server.planted == {misdeed: QUOTA}, "the run was too short to plant all"
    assert result.violations == dict.fromkeys(recorded, QUOTA)
    assert result.errors == dict.fromkeys(failure, QUOTA)
    assert result.exit_code == 1


def test_broken_streams_are_told_apart_and_the_users_reconnect(tmp_path: Path) -> None:
    kinds = (envelope_server.CLOSE_MID_FRAME, envelope_server.OVERSIZE, envelope_server.STUTTER)
    with EnvelopeServer(kinds, quota=QUOTA) as server:
        result = run(server, tmp_path, until=(2 * QUOTA, 3 * QUOTA))
    assert server.is_done
    assert result.violations == {violations.SHAPE: 2 * QUOTA}
    assert result.errors == {
        "connection closed inside a reply": QUOTA,
        "malformed reply: frame too large": QUOTA,
        "malformed reply: envelope payload too large": QUOTA,  # two headers, one inside the other
    }
    assert result.requests("echo") > 1000
    assert "Traceback" not in result.log
