"""The zones that the picture of a counterexample's key shows."""

from pathlib import Path

from records.operations import Operation, OperationLog
from records.run_directory import RunDirectory
from swarmproof.report.contents import read_contents
from swarmproof.report.key_history import key_history, zones_of

S = 10**9


def operation(number: int, op: str, value: str | None, call_s: float, return_s: float | None) -> Operation:
    made = Operation(number, 1, op, "k", call_ns=int(call_s * S))
    made.return_ns = int(return_s * S) if return_s is not None else None
    made.status = "ok" if return_s is not None else "info"
    made.value, made.out = (None, value) if op == "get" else (value, None)
    return made


def run_with(tmp_path: Path, operations: list[Operation]) -> RunDirectory:
    run = RunDirectory.create(tmp_path, "zones")
    run.write_json("run.json", {"name": "zones", "start_ns": 0, "end_ns": 1})
    log = OperationLog(run.operations_dir / "a.msgpack", "a")
    for one in operations:
        number = log.invoke(one.client, one.op, one.key, one.value, call_ns=one.call_ns)
        if one.return_ns is not None:
            log.complete(number, "ok", return_ns=one.return_ns, out=one.out)
    log.close()
    return run


# put a; put b; read of a after b was acknowledged: a stale read.
STALE = [
    operation(1, "put", "a", 1.0, 1.1),
    operation(2, "put", "b", 2.0, 2.1),
    operation(3, "get", "a", 3.0, 3.1),
    operation(4, "put", "never seen", 3.0, None),
]


def test_a_value_is_in_place_from_its_first_answer_to_its_last_question(tmp_path: Path) -> None:
    contents = read_contents(run_with(tmp_path, STALE))
    zones = {zone.value: zone for zone in zones_of(contents, STALE, {(3, 1)})}
    assert set(zones) == {"a", "b"}, "a write that nobody answered or saw has no zone"
    assert (zones["a"].low_s, zones["a"].high_s, zones["a"].forward, zones["a"].blamed) == (1.1, 3.0, True, True)
    assert (zones["b"].span, zones["b"].forward, zones["b"].blamed) == ((2.0, 2.1), False, False)


def test_a_backward_zone_inside_a_forward_one_is_drawn_so(tmp_path: Path) -> None:
    run = run_with(tmp_path, STALE)
    operations = [{"id": 3, "client": 1, "op": "get", "key": "k", "out": "a", "call_s": 3.0, "return_s": 3.1}]
    operations += [{"id": 2, "client": 1, "op": "put", "key": "k", "value": "b", "call_s": 2.0, "return_s": 2.1}]
    picture = key_history(read_contents(run), {"key": "k", "operations": operations})
    assert picture.count('class="zone forward') == 1
    assert picture.count('class="zone backward') == 1
    assert "a · forward" in picture
    assert "<script" not in picture


def test_a_history_that_is_gone_or_broken_gives_no_picture(tmp_path: Path) -> None:
    run = run_with(tmp_path, STALE)
    example = {"key": "k", "operations": [{"id": 3, "client": 1, "call_s": 3.0}]}
    assert key_history(read_contents(run), example)
    (run.operations_dir / "a.msgpack").write_bytes(b"\xc1noise" * 10)
    assert key_history(read_contents(run), example) == ""
    odd = {"key": "k", "operations": [{"call_s": "x"}]}
    for bad in ({}, {"key": 3}, {"key": "k", "operations": [3]}, odd):
        assert key_history(read_contents(run), bad) == ""
