"""A tool-call server that breaks the rules of calls and streams: each misdeed is reported by name, none is missed."""

from collections import Counter
from pathlib import Path

import pytest

from records import violations
from records.violations import read_violations
from tests.dishonest import tools_server as misdeeds
from tests.dishonest.tools_server import ToolsServer
from tests.locustfiles.runs import LocustRun, run_locust

QUOTA = 4


def run(server: ToolsServer, directory: Path, depth: int, until: tuple[int, int] | None = None) -> LocustRun:
    """Three seconds, or until so many violations and failures."""
    host = f"ws://127.0.0.1:{server.port}"
    options = ("--host", host, "--timeout", "1", "--depth", str(depth))
    return run_locust("websocket_tools", directory, *options, users=6, seconds=30 if until else 3, until=until)


@pytest.mark.parametrize("depth", [1, 8])
def test_a_tool_servers_misdeeds_are_counted_under_their_names(tmp_path: Path, depth: int) -> None:
    with ToolsServer(misdeeds.ALL, quota=QUOTA, every=3) as server:
        # What is missing is a violation only in the end.
        result = run(server, tmp_path, depth, until=(16 * QUOTA, 13 * QUOTA))
    assert server.planted == dict.fromkeys(misdeeds.ALL, QUOTA), "the run was too short to plant all"
    found: Counter[tuple[str, str]] = Counter()
    for (kind, operation), number in read_violations(result.run)[0].items():
        found[kind, operation.replace("tools add", "tools echo")] += number
    unasked = "tools unasked reply"
    assert found == {
        (violations.PAYLOAD, "tools echo"): QUOTA,  # another call's result
        (violations.SHAPE, "tools echo"): QUOTA,  # both outputs and error
        (violations.MISSING, unasked): 3 * QUOTA,  # dropped, crossed, under another id
        (violations.CROSSED, unasked): 2 * QUOTA,  # a result and a chunk
        (violations.UNKNOWN_ID, unasked): 2 * QUOTA,  # that one, and a second hello_ack
        (violations.DUPLICATE, unasked): 2 * QUOTA,  # a second result, progress after the result
        (violations.PAYLOAD, "tools slow"): QUOTA,
        (violations.PAYLOAD, "tools stream"): 6 * QUOTA,
        (violations.PAYLOAD, "tools fail"): QUOTA,
    }
    assert result.exit_code == 1
    assert "Traceback" not in result.log


def test_its_honest_twin_gives_no_failure(tmp_path: Path) -> None:
    with ToolsServer() as server:
        result = run(server, tmp_path, depth=4)
    assert result.errors == {}
    assert result.violations == {}
    assert result.exit_code == 0
    assert min(result.requests(name) for name in ("echo", "add", "stream", "slow", "fail", "list_tools", "ping")) > 5
