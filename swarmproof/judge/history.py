"""A history as columns: one numpy array per field, values replaced by numbers.

A million operations as Python objects cost a gigabyte and half a minute; as columns they cost a hundred
megabytes, and every rule of the zone algorithm becomes a sort or a prefix maximum over arrays.

Each distinct ``(key, value)`` pair gets a *node*: the version of the key that was made by the write of that value.
A key's node for the value None stands for "absent, as it was at first". A delete has no value; the node that it
makes (its tombstone) is found in ``tombstones``.
"""

import gc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from records.operations import FAIL, INFO, OK, HistoryError, Operation

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Value = str | bytes | None

GET = 0
PUT = 1
CAS = 2
APPEND = 3
DELETE = 4
#: A cas whose precondition failed: it wrote nothing and tells what it saw, so it is judged as a read.
FAILED_CAS = 5

KIND_OF_OP = {"get": GET, "put": PUT, "cas": CAS, "append": APPEND, "delete": DELETE}
OP_OF_KIND = ("get", "put", "cas", "append", "delete", "cas")

STATUS_OK = 0
STATUS_FAIL = 1
STATUS_INFO = 2
_STATUS = {OK: STATUS_OK, FAIL: STATUS_FAIL, INFO: STATUS_INFO}
STATUS_NAMES = (OK, FAIL, INFO)

#: No node: the operation wrote or saw nothing that can be named.
NONE = -1
#: The return time of an operation that was never answered.
NEVER = int(np.iinfo(np.int64).max)
#: A reply that names no version.
NO_VERSION = -1


def as_text(value: bytes) -> str | bytes:
    """Text where the bytes are UTF-8. Some stores know no difference (etcd keeps bytes), so it is none here."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def joined(before: str | bytes, part: str | bytes) -> str | bytes:
    """What an append makes of a value. Parts that are no text can make one together."""
    if isinstance(before, str) and isinstance(part, str):
        return before + part
    return as_text(as_bytes(before) + as_bytes(part))


@dataclass(slots=True)
class History:
    """Columns over all operations (``len(history)`` rows), and the table of nodes.

    ``wrote``   node of the written value (put, append, cas), NONE for get and delete
    ``before``  node seen: the value read (get, failed cas) or demanded (successful or unanswered cas)
    ``version`` the server's version of the key in the reply, NO_VERSION where it told none
    ``refused_matches`` rows of failed cas that told of seeing the very value that they demanded
    ``node_key``, ``values``, ``initial``: per node its key and value; per key its node for "absent"
    """

    keys: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    node_key: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    initial: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    id: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    client: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    server: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    key: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    kind: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    status: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    call: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    ret: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    wrote: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    before: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    version: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    stale: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))
    final: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))
    refused_matches: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.id)

    @property
    def is_write(self) -> Bools:
        """Rows that write when they take effect (a failed cas does not)."""
        result: Bools = (self.kind >= PUT) & (self.kind <= DELETE)
        return result

    @property
    def is_acknowledged_write(self) -> Bools:
        result: Bools = self.is_write & (self.status == STATUS_OK)
        return result

    @property
    def is_read(self) -> Bools:
        """Answered reads that linearizability speaks of: gets and failed cas, without stale gets."""
        read = ((self.kind == GET) & ~self.stale) | (self.kind == FAILED_CAS)
        result: Bools = read & (self.status == STATUS_OK) & (self.before != NONE)
        return result

    def rows_of_keys(self) -> list[Ints]:
        """Per key the rows of its operations, ascending."""
        order = np.argsort(self.key, kind="stable")
        bounds = np.searchsorted(self.key[order], np.arange(len(self.keys) + 1))
        return [order[bounds[number] : bounds[number + 1]] for number in range(len(self.keys))]


def read_history(operations: Iterable[Operation], *, widen_ns: Mapping[str, int] | None = None) -> History:
    """Gather operations into columns. ``widen_ns``: by process, how wrong its clock may be; the intervals of its
    operations are widened by so much on both sides.

    The garbage collector rests meanwhile: nothing here is cyclic, and its passes over a million live
    strings would double the time. Errors: HistoryError for what is no operation at all.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _read(operations, widen_ns or {})
    except OverflowError as error:
        raise HistoryError("the history holds a number of more than 64 bits") from error
    except (KeyError, TypeError, ValueError) as error:
        raise HistoryError(f"the history holds an operation of an unknown kind: {error}") from error
    finally:
        if was_enabled:
            gc.enable()


def _read(operations: Iterable[Operation], widen_ns: Mapping[str, int]) -> History:
    keys: list[str] = []
    key_numbers: dict[str, int] = {}
    tables: list[dict[Value, int]] = []  # per key: value -> node
    values: list[Value] = []
    node_key: list[int] = []
    initial: list[int] = []
    rows: list[tuple[Any, ...]] = []
    chunks: list[NDArray[np.int64]] = []
    refused_matches: list[int] = []

    for operation in operations:
        key_text = operation.key
        key = key_numbers.get(key_text, NONE)
        if key < 0:
            key = key_numbers[key_text] = len(keys)
            keys.append(key_text)
            tables.append({None: len(values)})
            initial.append(len(values))
            node_key.append(key)
            values.append(None)
        table = tables[key]
        kind = KIND_OF_OP[operation.op]
        status = _STATUS[operation.status]
        wrote = before = NONE
        if kind == GET:
            if status == STATUS_OK:
                seen = operation.out
                if type(seen) is bytes:
                    seen = as_text(seen)
                before = table.get(seen, NONE)
                if before < 0:
                    before = table[seen] = len(values)
                    node_key.append(key)
                    values.append(seen)
        elif kind != DELETE:
            if kind == CAS:
                expect = operation.expect
                if status == STATUS_OK and operation.ok is False:
                    kind = FAILED_CAS
                    if operation.out == expect:
                        refused_matches.append(len(chunks) * _CHUNK_ROWS + len(rows))
                    expect = operation.out
                if type(expect) is bytes:
                    expect = as_text(expect)
                before = table.get(expect, NONE)
                if before < 0:
                    before = table[expect] = len(values)
                    node_key.append(key)
                    values.append(expect)
            if kind != FAILED_CAS:
                value = operation.value
                if type(value) is bytes:
                    value = as_text(value)
                wrote = table.get(value, NONE)
                if wrote < 0:
                    wrote = table[value] = len(values)
                    node_key.append(key)
                    values.append(value)
        return_ns = operation.return_ns
        wrong_ns = widen_ns.get(operation.process, 0) if widen_ns else 0
        version = operation.version
        server = operation.node
        rows.append(
            (
                operation.id,
                operation.client,
                NONE if server is None else server,
                key,
                kind,
                status,
                operation.call_ns - wrong_ns,
                NEVER if return_ns is None or status == STATUS_INFO else return_ns + wrong_ns,
                wrote,
                before,
                NO_VERSION if version is None else version,
                operation.stale,
                operation.final,
            )
        )
        if len(rows) == _CHUNK_ROWS:
            chunks.append(np.array(rows, dtype=np.int64))
            rows.clear()
    if rows:
        chunks.append(np.array(rows, dtype=np.int64))
    table_of_rows = np.concatenate(chunks) if chunks else np.zeros((0, len(_COLUMNS)), np.int64)
    column: list[Any] = [np.ascontiguousarray(table_of_rows[:, number]) for number in range(len(_COLUMNS))]
    column[11:] = [flags.astype(np.bool_) for flags in column[11:]]
    history = History(
        keys,
        values,
        np.array(node_key, dtype=np.int64),
        np.array(initial, dtype=np.int64),
        *column,
    )
    history.refused_matches = np.array(refused_matches, dtype=np.int64)
    return history


#: The columns of one gathered row, in the order of History's fields.
_COLUMNS = (
    "id", "client", "server", "key", "kind", "status", "call", "ret", "wrote", "before", "version", "stale", "final",
)  # fmt: skip

#: Rows gathered as Python tuples before they become an array: large enough to be cheap, small enough to stay flat.
_CHUNK_ROWS = 65_536
