"""The history: one record of every key-value operation that was sent, whatever became of it.

An operation is written twice: ``invoke`` before its first byte is sent, ``complete`` when its outcome is known.
The first is in the file before ``invoke`` returns, so an operation whose process was killed is still in the
history, with the status ``info`` (outcome unknown). On disk each process has one msgpack stream of arrays:

    ["swarmproof-operations", 1, process, monotonic_ns, time_ns]
    [0, id, client, op, key, value, expect, flags, node, call_ns]
    [1, id, status, return_ns, out, ok, version, node, attempts, error]

The export format is JSON lines (shared with other tools): see ``write_jsonl``.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import msgpack

from records.clocks import read_clocks
from records.run_directory import RunDirectory

MAGIC = "swarmproof-operations"
FORMAT_VERSION = 1
INVOKE = 0
COMPLETE = 1

FLAG_STALE = 1
FLAG_FINAL = 2

OK = "ok"
FAIL = "fail"
INFO = "info"
STATUSES = (OK, FAIL, INFO)
OPS = ("put", "get", "cas", "append", "delete")

#: The name of the only line of the export format that is no operation.
GAP = "unsalvaged_workers"

#: Completions are buffered up to this many bytes: losing one only widens an interval, never falsifies it.
COMPLETION_BUFFER_BYTES = 64 * 1024

#: One line of a foreign history may not be longer: a line is one operation, with a value of at most 64 KiB.
MAX_LINE_BYTES = 1 << 20

#: Ids and times are kept in 64 bits.
_MAX_INTEGER = (1 << 63) - 1

_VALUE_TYPES = (str, type(None), bytes)
_ABRIDGED_CHARS = 200

#: Room for this many operations of one process in the reader's global ids.
_IDS_PER_PROCESS = 1 << 40


class HistoryError(Exception):
    """A history that cannot be read; the text names file and place."""


@dataclass(slots=True)
class Operation:
    """One operation. Times in ns on one monotonic clock; ``return_ns`` is None while unanswered."""

    id: int
    client: int
    op: str
    key: str
    value: str | bytes | None = None
    expect: str | bytes | None = None
    out: str | bytes | None = None
    ok: bool | None = None
    call_ns: int = 0
    return_ns: int | None = None
    status: str = INFO
    version: int | None = None
    node: int | None = None
    attempts: int = 1
    final: bool = False
    stale: bool = False
    error: str = ""
    process: str = ""


class OperationLog:
    """Writer of one process's history file. Not shared between processes."""

    def __init__(self, path: Path, process: str) -> None:
        self._packer = msgpack.Packer(autoreset=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._buffer = bytearray()
        self._next_id = 1
        header = [MAGIC, FORMAT_VERSION, process, time.monotonic_ns(), time.time_ns()]
        self._write(self._packer.pack(header))

    def invoke(
        self,
        client: int,
        op: str,
        key: str,
        value: str | bytes | None = None,
        expect: str | bytes | None = None,
        *,
        node: int | None = None,
        stale: bool = False,
        final: bool = False,
        call_ns: int | None = None,
    ) -> int:
        """Record that an operation is about to be sent; it is in the file when this returns. Gives its id."""
        identity = self._next_id
        self._next_id = identity + 1
        flags = (FLAG_STALE if stale else 0) | (FLAG_FINAL if final else 0)
        if call_ns is None:
            call_ns = time.monotonic_ns()
        self._buffer += self._packer.pack([INVOKE, identity, client, op, key, value, expect, flags, node, call_ns])
        self.flush()
        return identity

    def complete(
        self,
        identity: int,
        status: str,
        *,
        return_ns: int | None = None,
        out: str | bytes | None = None,
        ok: bool | None = None,
        version: int | None = None,
        node: int | None = None,
        attempts: int = 1,
        error: str = "",
    ) -> None:
        """Record the outcome: ``ok``, ``fail`` (surely not applied) or ``info`` (unknown)."""
        if return_ns is None:
            return_ns = time.monotonic_ns()
        self._buffer += self._packer.pack(
            [COMPLETE, identity, status, return_ns, out, ok, version, node, attempts, error]
        )
        if len(self._buffer) >= COMPLETION_BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            self._write(data)

    def close(self) -> None:
        if self._fd >= 0:
            self.flush()
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]


def read_operations(source: RunDirectory | Path) -> Iterator[Operation]:
    """Every operation of a run, in no particular order; the unanswered ones last in their process.

    Times of a whole run (not of a bare folder) are on its master's clock, whosever they were (`records.clocks`).
    A file cut off in the middle of its last record (its writer was killed) is read up to there. Errors:
    HistoryError with file and offset for anything else.
    """
    folder = source.operations_dir if isinstance(source, RunDirectory) else Path(source)
    clocks = read_clocks(source) if isinstance(source, RunDirectory) else {}
    for number, path in enumerate(sorted(folder.glob("*.msgpack"))):
        offset_ns = clocks[path.stem].offset_ns if path.stem in clocks else 0
        for operation in _read_file(path, number * _IDS_PER_PROCESS):
            if offset_ns:
                operation.call_ns -= offset_ns
                operation.return_ns = None if operation.return_ns is None else operation.return_ns - offset_ns
            yield operation


def _read_file(path: Path, first_id: int) -> Iterator[Operation]:
    open_operations: dict[int, Operation] = {}
    with _opened(path) as file:
        unpacker = msgpack.Unpacker(file, raw=False, strict_map_key=False, max_buffer_size=1 << 26)
        try:
            process = _read_header(path, unpacker)
            for record in unpacker:
                if record[0] == INVOKE:
                    _, identity, client, op, key, value, expect, flags, node, call_ns = record
                    if (
                        (identity | client | call_ns | flags) >> 63  # all from 0 to 2^63 - 1
                        or (node is not None and node >> 63)
                        or type(key) is not str
                        or op not in OPS
                        or type(value) not in _VALUE_TYPES
                        or type(expect) not in _VALUE_TYPES
                        or identity in open_operations
                    ):
                        raise ValueError(f"no call of an operation: {_abridged(record)}")
                    open_operations[identity] = Operation(
                        id=first_id + identity,
                        client=client,
                        op=op,
                        key=key,
                        value=value,
                        expect=expect,
                        call_ns=call_ns,
                        node=node,
                        stale=bool(flags & FLAG_STALE),
                        final=bool(flags & FLAG_FINAL),
                        process=process,
                    )
                elif record[0] == COMPLETE:
                    _, identity, status, return_ns, out, ok, version, node, attempts, error = record
                    operation = open_operations.pop(identity)
                    if (
                        return_ns >> 63
                        or (return_ns < operation.call_ns and status != INFO)
                        or status not in STATUSES
                        or type(out) not in _VALUE_TYPES
                        or (ok is not None and type(ok) is not bool)
                        or (version is not None and version >> 63)
                        or (node is not None and node >> 63)
                    ):
                        raise ValueError(f"no outcome of an operation: {_abridged(record)}")
                    operation.status = status
                    operation.return_ns = return_ns if status != INFO else None
                    operation.out, operation.ok, operation.version = out, ok, version
                    operation.node = node if node is not None else operation.node
                    operation.attempts, operation.error = attempts, error
                    yield operation
                else:
                    raise ValueError("unknown kind of record")
        except msgpack.OutOfData:
            pass
        except KeyError as error:
            raise HistoryError(f"{path}: damaged at byte {unpacker.tell()}: nothing called {error} was open") from error
        except TypeError as error:
            raise HistoryError(f"{path}: damaged at byte {unpacker.tell()}: a field of the wrong type") from error
        except (ValueError, IndexError, msgpack.UnpackException) as error:
            raise HistoryError(f"{path}: damaged at byte {unpacker.tell()}: {error}") from error
    yield from open_operations.values()


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise HistoryError(f"{path}: cannot be read: {error.strerror}") from error


def _abridged(record: Any) -> str:
    """A record that is none, for a sentence about it."""
    text = ascii(record)
    return text if len(text) <= _ABRIDGED_CHARS else text[:_ABRIDGED_CHARS] + "..."


def _read_header(path: Path, unpacker: msgpack.Unpacker) -> str:
    header = next(unpacker, None)
    if header is None:
        return path.stem
    if not isinstance(header, list) or len(header) < 3 or header[0] != MAGIC:
        raise ValueError("not a swarmproof history")
    if header[1] != FORMAT_VERSION:
        raise ValueError(f"format {header[1]}, this version reads {FORMAT_VERSION}")
    return str(header[2])


def write_jsonl(operations: Iterable[Operation], file: IO[str]) -> int:
    """Write the export format, one operation a line; gives how many. Bytes values become ``{"hex": ...}``."""
    count = 0
    for operation in operations:
        file.write(json.dumps(to_json(operation), ensure_ascii=False, separators=(",", ":")) + "\n")
        count += 1
    return count


def write_gap(workers: Sequence[str], file: IO[str]) -> None:
    """Write that the history lacks the last operations of these workers: nothing they may explain convicts a store."""
    file.write(json.dumps({GAP: list(workers)}, ensure_ascii=False, separators=(",", ":")) + "\n")


def to_json(operation: Operation) -> dict[str, Any]:
    """One operation as the export format has it: only the fields that mean something for its kind."""
    line: dict[str, Any] = {
        "id": operation.id,
        "client": operation.client,
        "op": operation.op,
        "key": operation.key,
    }
    if operation.op == "cas":
        line["expect"] = _value_to_json(operation.expect)
    if operation.op in ("put", "cas", "append"):
        line["value"] = _value_to_json(operation.value)
    if operation.op == "cas" and operation.status == OK:
        line["ok"] = operation.ok
    if operation.status == OK and (operation.op == "get" or operation.ok is False):
        line["out"] = _value_to_json(operation.out)
    line["call"] = operation.call_ns
    if operation.return_ns is not None:
        line["return"] = operation.return_ns
    line["status"] = operation.status
    for name in ("version", "node"):
        if getattr(operation, name) is not None:
            line[name] = getattr(operation, name)
    for name in ("final", "stale"):
        if getattr(operation, name):
            line[name] = True
    return line


class JsonLines(Iterable[Operation]):
    """The operations of a file in the export format; once it has been read, also what it says is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: Workers whose last operations are in no history (see `write_gap`).
        self.unsalvaged_workers: list[str] = []

    def __iter__(self) -> Iterator[Operation]:
        self.unsalvaged_workers.clear()
        return _read_lines(self._path, self.unsalvaged_workers)


def read_jsonl(path: Path) -> JsonLines:
    """Read the export format, also another tool's. Errors, while reading: HistoryError with file and line."""
    return JsonLines(path)


def _read_lines(path: Path, unsalvaged: list[str]) -> Iterator[Operation]:
    seen: set[int] = set()
    with _opened(path) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise HistoryError(f"{path}:{number}: the line is longer than {MAX_LINE_BYTES} bytes")
            if not line.strip():
                continue
            try:
                parsed = _parse(line)
                if isinstance(parsed, dict) and GAP in parsed and "op" not in parsed:
                    unsalvaged += _gap_from_json(parsed[GAP])
                    continue
                operation = from_json(parsed)
                if b"\\u" in line:
                    _check_texts(operation)
            except (ValueError, RecursionError) as error:
                raise HistoryError(f"{path}:{number}: {error}") from error
            if operation.id in seen:
                raise HistoryError(f"{path}:{number}: id {operation.id} was used before")
            seen.add(operation.id)
            yield operation


def _gap_from_json(workers: Any) -> list[str]:
    if not isinstance(workers, list) or not all(isinstance(worker, str) for worker in workers):
        raise ValueError(f"{GAP} must be a list of names")
    return workers


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error


def _check_texts(operation: Operation) -> None:
    """Half of a surrogate pair is JSON, but no text: it could not even be printed."""
    for text in (operation.key, operation.value, operation.expect, operation.out):
        if isinstance(text, str):
            text.encode()  # a UnicodeEncodeError is a ValueError


def from_json(line: Any) -> Operation:
    """One operation from a parsed line of the export format. Errors: ValueError with one sentence."""
    if not isinstance(line, dict):
        raise ValueError("a line must be one JSON object")
    op, status = line.get("op"), line.get("status")
    if op not in OPS:
        raise ValueError(f"op must be one of {', '.join(OPS)}, not {op!r}")
    if status not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(STATUSES)}, not {status!r}")
    if not isinstance(line.get("key"), str):
        raise ValueError("key must be a text")
    if op in ("put", "append", "cas") and "value" not in line:
        raise ValueError(f"{op} needs a value")
    if op == "cas" and "expect" not in line:
        raise ValueError("cas needs expect (null for an absent key)")
    if op == "get" and status == OK and "out" not in line:
        raise ValueError("an ok get needs out (null for an absent key)")
    call_ns = _integer(line, "call")
    return_ns = _integer(line, "return") if line.get("return") is not None else None
    if status == OK and return_ns is None:
        raise ValueError("an ok operation needs a return time")
    if return_ns is not None and return_ns < call_ns:
        raise ValueError("return is before call")
    ok = line.get("ok")
    if op == "cas" and status == OK and not isinstance(ok, bool):
        raise ValueError("an ok cas needs ok: true or false")
    if op == "cas" and status == OK and ok is False and "out" not in line:
        raise ValueError("a cas that failed (ok false) needs out, what it saw (null for an absent key)")
    return Operation(
        id=_integer(line, "id"),
        client=_integer(line, "client"),
        op=op,
        key=line["key"],
        value=_value_from_json(line.get("value")),
        expect=_value_from_json(line.get("expect")),
        out=_value_from_json(line.get("out")),
        ok=ok,
        call_ns=call_ns,
        return_ns=return_ns if status != INFO else None,
        status=status,
        version=_integer(line, "version") if line.get("version") is not None else None,
        node=_integer(line, "node") if line.get("node") is not None else None,
        final=_flag(line, "final"),
        stale=_flag(line, "stale"),
    )


def _integer(line: dict[str, Any], name: str) -> int:
    value = line.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_INTEGER:
        raise ValueError(f"{name} must be a whole number from 0 to 2^63 - 1")
    return value


def _flag(line: dict[str, Any], name: str) -> bool:
    value = line.get(name)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false")
    return bool(value)


def _value_to_json(value: str | bytes | None) -> Any:
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def _value_from_json(value: Any) -> str | bytes | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and set(value) == {"hex"} and isinstance(value["hex"], str):
        return bytes.fromhex(value["hex"])
    if isinstance(value, int | float):
        return json.dumps(value)
    raise ValueError('a value must be a text, a number, null or {"hex": ...}')
