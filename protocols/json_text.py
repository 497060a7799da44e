"""JSON in and out, exact and bounded, for every protocol here that speaks it.

orjson does the work; three things that it leaves open are closed here, each with a check that costs some tens
of nanoseconds when there is nothing to find:

- Depth. It reads 1,024 levels and writes 254: what was read could not be sent back. Both ends stop at
  MAX_DEPTH, long before any recursion limit.
- Numbers. An integer beyond 64 bits silently becomes a float: an id or an echo would come back altered.
  Such texts are read again, exactly. (One beyond the range of a double is refused by orjson itself, so no
  integer has more than 309 digits and Python's limit on converting them is never met.)
- NaN. It is written as `null`: a payload would differ from what was meant. It is refused.

Invalid UTF-8, lone surrogates, NaN in the text, a byte order mark: refused by orjson as RFC 8259 has it.
"""

import json
from typing import Final

import orjson

# Deeper than any message of ours, well within what orjson can write (254) even when the value is wrapped in
# a reply, and within Python's recursion limit for the exact path.
MAX_DEPTH: Final = 128

# Each level takes two brackets: a text this short cannot be too deep.
_SHALLOW_BYTES = 2 * MAX_DEPTH
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
# All digits look alike after this table, so that one substring search finds a long run of them.
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")
# The shortest decimal integer that may lie beyond 64 bits (-2**63 has 19 digits).
_LONG_NUMBER = b"0" * 19


class BadJson(ValueError):
    """A text that is not JSON within the limits above, or a value that cannot be written as such."""


def load_json(text: str | bytes) -> object:
    """The value of a JSON text: dict, list, str, int, float, bool or None. Raises BadJson only."""
    try:
        data = text.encode() if isinstance(text, str) else text
        value: object = orjson.loads(data)
    except ValueError as error:  # JSONDecodeError and UnicodeEncodeError are ValueErrors
        raise BadJson(str(error)) from None
    if len(data) > _SHALLOW_BYTES and _too_deep(value, data):
        raise BadJson(_TOO_DEEP)
    if data.translate(_DIGITS_ALIKE).find(_LONG_NUMBER) >= 0:
        value = json.loads(data)
    return value


def dump_json(value: object, nulls: int = 0) -> bytes:
    """`value` as compact UTF-8 JSON. Raises BadJson for what JSON cannot carry (NaN, bytes, depth, ...).

    `nulls`: how many of the nulls that will be written are known to be meant; more of them cost a second look
    for NaN.
    """
    try:
        data = orjson.dumps(value)
    except TypeError as error:
        problem = str(error)
        if "64-bit" not in problem:
            raise BadJson(_TOO_DEEP if "Recursion" in problem else problem) from None
        return _dump_exactly(value)
    if data.count(b"null") > nulls:
        _dump_exactly(value)
    if len(data) > _SHALLOW_BYTES and _too_deep(value, data):
        raise BadJson(_TOO_DEEP)
    return data


def _dump_exactly(value: object) -> bytes:
    """What orjson refuses but JSON allows (integers beyond 64 bits), without what it lets pass (NaN)."""
    if _deeper_than(value, MAX_DEPTH):
        raise BadJson(_TOO_DEEP)
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise BadJson(str(error)) from None


def _too_deep(value: object, data: bytes) -> bool:
    """Whether `value`, whose text is `data`, nests deeper than MAX_DEPTH; few texts have the brackets for it."""
    return data.count(b"[") + data.count(b"{") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH)


def _deeper_than(value: object, limit: int) -> bool:
    """Whether containers nest deeper than `limit`: level by level, without recursion."""
    level: list[object] = [value]
    for _ in range(limit):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list | tuple):
                inner.extend(item)
        if not inner:
            return False
        level = inner
    return any(isinstance(item, dict | list | tuple) for item in level)
