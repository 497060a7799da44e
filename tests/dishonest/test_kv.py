"""A key-value server that breaks the protocol, and one that has bad weather: the difference must be told.

Whatever happens, the history may only say `ok` and `fail` where that is certain.
"""

from collections import Counter
from pathlib import Path

from records import violations
from records.operations import Operation, read_operations
from tests.dishonest import kv_server as misdeeds
from tests.dishonest.kv_server import KvServer
from tests.locustfiles.runs import LocustRun, run_locust

QUOTA = 8


def run(
    directory: Path, *servers: KvServer, options: tuple[str, ...] = (), seconds: float = 6, violated: int = 0
) -> LocustRun:
    """So long, or until so many violations."""
    host = "kv://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
    until = (violated, 0) if violated else None
    return run_locust("raft_kv", directory, "--host", host, *options, seconds=30 if until else seconds, until=until)


def history(result: LocustRun) -> list[Operation]:
    return list(read_operations(result.run))


def statuses(result: LocustRun) -> Counter[str]:
    """Outcomes of the operations that ended before the run did."""
    return Counter(operation.status for operation in history(result) if operation.return_ns or operation.error)


def test_replies_that_break_the_protocol_are_counted_by_name(tmp_path: Path) -> None:
    kinds = (misdeeds.TWICE, misdeeds.WRONG_RESULT, misdeeds.GARBAGE, misdeeds.VERSION)
    with KvServer(kinds, quota=QUOTA) as server:
        result = run(tmp_path, server, options=("--depth", "2"), violated=4 * QUOTA)
    assert server.is_done
    assert result.violations == {
        violations.DUPLICATE: QUOTA,
        violations.TYPE: QUOTA,
        violations.SHAPE: 2 * QUOTA,
    }
    assert result.errors[violations.DUPLICATE] == QUOTA
    assert result.errors[violations.TYPE] == QUOTA
    assert result.errors["malformed reply: malformed reply"] + result.errors["malformed reply"] == QUOTA
    assert result.errors["malformed reply: wrong version"] == QUOTA
    assert result.exit_code == 1


def test_an_unknown_id_is_reported_and_its_operation_is_tried_again(tmp_path: Path) -> None:
    with KvServer((misdeeds.UNKNOWN_ID,), quota=4) as server:
        result = run(tmp_path, server, violated=4)
    assert server.is_done
    assert result.violations == {violations.UNKNOWN_ID: 4}
    assert statuses(result).keys() == {"ok"}


def test_bad_weather_is_no_failure_because_retries_keep_their_sequence_number(tmp_path: Path) -> None:
    kinds = (misdeeds.DROP, misdeeds.CLOSE, misdeeds.NOT_LEADER, misdeeds.BUSY, misdeeds.UNKNOWN)
    with KvServer(kinds, quota=3) as server:
        result = run(tmp_path, server)
    assert server.is_done
    assert result.errors == {}
    assert result.violations == {}
    assert result.exit_code == 0
    assert len(server.applied) == len(set(server.applied)), "an operation was applied twice"
    retries = sum(operation.attempts - 1 for operation in history(result))
    assert retries == 3 * len(kinds)
    assert statuses(result).keys() == {"ok"}


def test_operations_end_as_unknown_when_nothing_tells_their_outcome(tmp_path: Path) -> None:
    with KvServer((misdeeds.UNKNOWN,), every=1, quota=1_000_000) as server:
        result = run(tmp_path, server, options=("--timeout", "0.5"), seconds=3)
    assert statuses(result).keys() == {"info"}
    assert result.errors.keys() == {"outcome unknown: the leader lost its leadership"}
    assert result.violations == {}


def test_operations_end_as_failed_when_every_attempt_was_refused(tmp_path: Path) -> None:
    with KvServer((misdeeds.NOT_LEADER,), every=1, quota=1_000_000) as server:
        result = run(tmp_path, server, options=("--timeout", "0.5"), seconds=3)
    assert statuses(result).keys() == {"fail"}
    assert result.errors.keys() == {"no leader was found in time"}


def test_a_bad_request_is_a_failure_at_once(tmp_path: Path) -> None:
    with KvServer((misdeeds.BAD_REQUEST,), quota=QUOTA) as server:
        result = run(tmp_path, server, seconds=4)
    assert server.is_done
    assert statuses(result)["fail"] == QUOTA
    assert result.errors == {"no": QUOTA}


def test_writes_follow_the_hint_to_the_leader_and_reads_are_spread(tmp_path: Path) -> None:
    with KvServer(node=1) as leader, KvServer(node=2) as follower:
        follower.hint = (1, f"127.0.0.1:{leader.port}")
        follower.values = leader.values  # a follower that is always up to date
        follower.versions = leader.versions
        result = run(tmp_path, leader, follower, seconds=3)
    assert result.errors == {}
    assert not follower.applied
    nodes = Counter(operation.node for operation in history(result) if operation.op == "get")
    assert nodes[1] > 10
    assert nodes[2] > 10


def test_the_history_holds_what_was_under_way_at_the_end_as_unknown(tmp_path: Path) -> None:
    with KvServer((misdeeds.DROP,), every=1, quota=1_000_000) as server:
        result = run(tmp_path, server, options=("--timeout", "30"))
    operations = history(result)
    assert operations
    assert {operation.status for operation in operations} == {"info"}
    assert result.errors == {}, "what was under way when its user stopped is neither success nor failure"
