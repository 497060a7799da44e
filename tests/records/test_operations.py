"""What was sent is in the history, whatever became of its process; foreign histories are read strictly."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.operations import (
    FAIL,
    INFO,
    MAX_LINE_BYTES,
    OK,
    HistoryError,
    Operation,
    OperationLog,
    from_json,
    read_jsonl,
    read_operations,
    to_json,
    write_jsonl,
)
from records.run_directory import RunDirectory


def test_an_operation_comes_back_as_it_was_recorded(tmp_path: Path) -> None:
    log = OperationLog(tmp_path / "a.msgpack", "worker-1")
    identity = log.invoke(7, "cas", "k", "new", "old", node=2, call_ns=10)
    log.complete(identity, OK, return_ns=20, ok=False, out="other", version=5, node=3, attempts=2)
    log.close()
    (operation,) = read_operations(tmp_path)
    assert operation == Operation(
        id=identity,
        client=7,
        op="cas",
        key="k",
        value="new",
        expect="old",
        out="other",
        ok=False,
        call_ns=10,
        return_ns=20,
        status=OK,
        version=5,
        node=3,
        attempts=2,
        process="worker-1",
    )


def test_bytes_stay_bytes_and_text_stays_text(tmp_path: Path) -> None:
    log = OperationLog(tmp_path / "a.msgpack", "p")
    log.complete(log.invoke(1, "put", "k", b"\x00\xff"), OK)
    log.complete(log.invoke(1, "get", "k"), OK, out="text")
    log.close()
    put, get = read_operations(tmp_path)
    assert put.value == b"\x00\xff"
    assert get.out == "text"


def test_an_unanswered_operation_is_info_without_a_return(tmp_path: Path) -> None:
    log = OperationLog(tmp_path / "a.msgpack", "p")
    log.invoke(1, "put", "k", "v")
    (operation,) = read_operations(tmp_path)
    assert (operation.status, operation.return_ns) == (INFO, None)
    log.close()


def test_an_operation_is_on_file_before_invoke_returns_even_if_the_process_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from records.operations import OperationLog\n"
        "log = OperationLog(Path(sys.argv[1]), 'victim')\n"
        "for n in range(5): log.invoke(1, 'append', 'k', f'{n},')\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "victim.msgpack")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert [operation.value for operation in read_operations(tmp_path)] == ["0,", "1,", "2,", "3,", "4,"]


def test_a_file_cut_anywhere_gives_a_prefix_of_the_history(tmp_path: Path) -> None:
    path = tmp_path / "a.msgpack"
    log = OperationLog(path, "p")
    for number in range(3):
        log.complete(log.invoke(1, "put", "k", str(number)), OK)
    log.close()
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        values = [operation.value for operation in read_operations(tmp_path)]
        assert values == ["0", "1", "2"][: len(values)]


def test_a_damaged_file_is_named_with_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "a.msgpack"
    log = OperationLog(path, "p")
    log.complete(log.invoke(1, "put", "k", "v"), OK)
    log.close()
    path.write_bytes(path.read_bytes() + b"\x93\x09\x09\x09")
    with pytest.raises(HistoryError, match=r"a\.msgpack: damaged at byte \d+"):
        list(read_operations(tmp_path))


INVOKED = [0, 1, 7, "put", "k", "v", None, 0, None, 10]
COMPLETED = [1, 1, "ok", 20, None, None, 3, 1, 1, ""]


def _changed(record: list[object], place: int, value: object) -> list[object]:
    return [*record[:place], value, *record[place + 1 :]]


@pytest.mark.parametrize(
    "records",
    [
        *([_changed(INVOKED, place, value), COMPLETED] for place, value in [
            (1, "1"), (2, 1.5), (2, -1), (3, "swap"), (4, b"k"), (4, ["k"]), (5, 7), (5, ["v"]), (6, {}), (7, None),
            (8, "n1"), (9, -10), (9, 1 << 63), (9, None),
        ]),
        *([INVOKED, _changed(COMPLETED, place, value)] for place, value in [
            (1, 2), (2, "fine"), (3, 9), (3, None), (3, "20"), (4, 4), (5, 1), (6, "new"), (6, 2.5), (6, -1),
            (7, "n1"),
        ]),
        [INVOKED, INVOKED],
        [COMPLETED],
        [INVOKED, COMPLETED[:5]],
        [[]],
        [7],
    ],
    ids=repr,
)  # fmt: skip
def test_a_record_that_is_no_operation_is_refused_with_file_and_place(tmp_path: Path, records: list[object]) -> None:
    header = msgpack.packb(["swarmproof-operations", 1, "p", 0, 0])
    (tmp_path / "a.msgpack").write_bytes(header + b"".join(map(msgpack.packb, records)))
    with pytest.raises(HistoryError, match=r"a\.msgpack: damaged at byte \d+: ."):
        list(read_operations(tmp_path))


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.msgpack").mkdir()
    with pytest.raises(HistoryError, match=r"a\.msgpack: cannot be read: Is a directory"):
        list(read_operations(tmp_path))
    with pytest.raises(HistoryError, match="cannot be read: No such file"):
        list(read_jsonl(tmp_path / "b.jsonl"))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.msgpack").write_bytes(b"\x93\x01\x02\x03")
    with pytest.raises(HistoryError, match="not a swarmproof history"):
        list(read_operations(tmp_path))


def test_ids_of_two_processes_do_not_meet(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "x")
    for name in ("a", "b"):
        log = OperationLog(run.operations_dir / f"{name}.msgpack", name)
        log.complete(log.invoke(1, "get", "k"), OK, out=None)
        log.close()
    assert len({operation.id for operation in read_operations(run)}) == 2


operations = st.builds(
    Operation,
    id=st.integers(0, 2**60),
    client=st.integers(0, 2**63 - 1),
    op=st.sampled_from(["put", "append"]),
    key=st.text(max_size=5),
    value=st.text(max_size=5) | st.binary(max_size=5),
    call_ns=st.integers(0, 1000),
    return_ns=st.integers(1000, 2000),
    status=st.sampled_from([OK, FAIL]),
    version=st.none() | st.integers(0, 100),
    node=st.none() | st.integers(1, 5),
    final=st.booleans(),
    stale=st.booleans(),
)


@given(operations)
def test_the_export_format_gives_back_what_was_written(operation: Operation) -> None:
    assert from_json(json.loads(json.dumps(to_json(operation)))) == operation


def test_the_export_has_the_documented_lines() -> None:
    file = io.StringIO()
    put = Operation(1, 0, "put", "k", "v1", call_ns=10, return_ns=20, status=OK)
    get = Operation(2, 1, "get", "k", out=None, call_ns=10, return_ns=20, status=OK)
    assert write_jsonl([put, get], file) == 2
    assert file.getvalue().splitlines() == [
        '{"id":1,"client":0,"op":"put","key":"k","value":"v1","call":10,"return":20,"status":"ok"}',
        '{"id":2,"client":1,"op":"get","key":"k","out":null,"call":10,"return":20,"status":"ok"}',
    ]


GOOD = {"id": 1, "client": 0, "op": "get", "key": "k", "out": None, "call": 1, "return": 2, "status": "ok"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"op": "frob"}, "op must be one of"),
        ({"status": "fine"}, "status must be one of"),
        ({"key": 3}, "key must be a text"),
        ({"call": -1}, "call must be a whole number"),
        ({"call": 1.5}, "call must be a whole number"),
        ({"call": True}, "call must be a whole number"),
        ({"return": 0}, "return is before call"),
        ({"return": None}, "needs a return time"),
        ({"op": "put"}, "put needs a value"),
        ({"op": "cas", "value": "v"}, "cas needs expect"),
        ({"op": "cas", "value": "v", "status": "info"}, "cas needs expect"),
        ({"op": "cas", "value": "v", "expect": None}, "ok cas needs ok"),
        ({"out": [1]}, "a value must be"),
        ({"client": "a"}, "client must be a whole number"),
        ({"call": 1 << 63, "return": 1 << 63}, "call must be a whole number"),
        ({"version": -7}, "version must be a whole number"),
        ({"final": "no"}, "final must be true or false"),
        ({"out": {"hex": "0g"}}, "hexadecimal"),
        ({"key": "\ud800"}, "surrogates"),
        ({"op": None, "unsalvaged_workers": ["w"]}, "op must be one of"),
    ],
)
def test_a_bad_line_is_refused_with_file_and_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD | {"id": 2} | change) + "\n")
    with pytest.raises(HistoryError, match=rf"history\.jsonl:2: .*{message}"):
        list(read_jsonl(path))


def test_what_is_missing_is_told_once_all_is_read(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps(GOOD) + '\n{"unsalvaged_workers":["b","c"]}\n')
    history = read_jsonl(path)
    assert len(list(history)) == len(list(history)) == 1
    assert history.unsalvaged_workers == ["b", "c"]


CAS = {"id": 1, "client": 0, "op": "cas", "key": "k", "expect": "a", "value": "b", "call": 1, "return": 2}


@pytest.mark.parametrize("lacking", ["expect", "out"])
def test_what_a_foreign_cas_does_not_tell_is_not_taken_for_absent(tmp_path: Path, lacking: str) -> None:
    """Read as null, it would convict a store of what nobody said."""
    failed = CAS | {"ok": False, "out": "c", "status": "ok"}
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps(failed) + "\n")
    assert [(op.expect, op.out) for op in read_jsonl(path)] == [("a", "c")]
    path.write_text(json.dumps({name: value for name, value in failed.items() if name != lacking}) + "\n")
    with pytest.raises(HistoryError, match=rf"history\.jsonl:1: .*cas .*needs {lacking}"):
        list(read_jsonl(path))


def test_a_cas_that_succeeded_or_was_not_answered_needs_no_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    lines = [CAS | {"ok": True, "status": "ok"}, CAS | {"id": 2, "status": "info"}, CAS | {"id": 3, "status": "fail"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [op.out for op in read_jsonl(path)] == [None] * 3


@pytest.mark.parametrize(
    "line",
    ['{"unsalvaged_workers":"b"}', '{"unsalvaged_workers":[1]}', "{", "[]", "[" * 10_000, "\ufffd", json.dumps(GOOD)],
)
def test_garbage_and_repeated_ids_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + line + "\n")
    with pytest.raises(HistoryError, match=r"history\.jsonl:2: "):
        list(read_jsonl(path))


def test_an_endless_line_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with path.open("wb") as file:
        file.truncate(MAX_LINE_BYTES * 1000)  # sparse: a line of a gigabyte
    with pytest.raises(HistoryError, match="line is longer than"):
        list(read_jsonl(path))
