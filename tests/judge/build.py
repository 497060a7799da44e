"""Short words for operations in tests: ``put("a", 1, 2)`` was called at 1 and returned at 2."""

from itertools import count
from typing import Any

from records.operations import Operation

_ids = count(1)


def _op(name: str, call: int, back: int | None, **fields: Any) -> Operation:
    fields.setdefault("key", "k")
    fields.setdefault("client", 1)
    status = fields.pop("status", "ok" if back is not None else "info")
    return Operation(id=next(_ids), op=name, call_ns=call, return_ns=back, status=status, **fields)


def put(value: Any, call: int, back: int | None = None, **fields: Any) -> Operation:
    return _op("put", call, back, value=value, **fields)


def get(out: Any, call: int, back: int | None = None, **fields: Any) -> Operation:
    return _op("get", call, back, out=out, **fields)


def append(value: Any, call: int, back: int | None = None, **fields: Any) -> Operation:
    return _op("append", call, back, value=value, **fields)


def delete(call: int, back: int | None = None, **fields: Any) -> Operation:
    return _op("delete", call, back, **fields)


def cas(expect: Any, value: Any, call: int, back: int | None = None, **fields: Any) -> Operation:
    fields.setdefault("ok", True if back is not None else None)
    return _op("cas", call, back, expect=expect, value=value, **fields)


def failed_cas(expect: Any, value: Any, saw: Any, call: int, back: int, **fields: Any) -> Operation:
    return cas(expect, value, call, back, ok=False, out=saw, **fields)
