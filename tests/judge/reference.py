"""An exhaustive checker: tries every order. Exponential, tiny, and meant to be obviously right.

The state of a key is its value and, while it is absent, which delete made it so. A reply of "absent" that names a
version saw the delete of that version; a version that no acknowledged delete has belongs to one of the deletes
without a name, always the same one for the same version.
"""

from collections.abc import Iterable
from dataclasses import replace

from records.operations import Operation

NEVER = float("inf")


def is_linearizable(operations: Iterable[Operation]) -> bool:
    keys: dict[str, list[Operation]] = {}
    for operation in operations:
        if operation.status == "fail" or (operation.op == "get" and operation.stale):
            continue
        if operation.op == "get" and operation.status == "info":
            continue
        if operation.op == "cas" and operation.ok is False and operation.out == operation.expect:
            return False
        keys.setdefault(operation.key, []).append(_in_bytes(operation))
    return all(_one_key(history) for history in keys.values())


def _in_bytes(operation: Operation) -> Operation:
    """Text is its UTF-8."""
    names = ("value", "expect", "out")
    told = {name: getattr(operation, name) for name in names}
    return replace(operation, **{name: one.encode() for name, one in told.items() if isinstance(one, str)})


def _return(operation: Operation) -> float:
    return operation.return_ns if operation.status == "ok" and operation.return_ns is not None else NEVER


def _one_key(history: list[Operation]) -> bool:
    deletes = [op for op in history if op.op == "delete"]
    named = {op.version for op in deletes if op.status == "ok" and op.version}
    nameless = [op for op in deletes if not (op.status == "ok" and op.version)]
    asked = {op.version for op in history if op.status == "ok" and op.version and op.out is None and _tells_value(op)}
    strangers = asked - named
    free = strangers if len(strangers) <= len(nameless) else set()
    return _place(history, None, None, {}, (named | free, free))


def _tells_value(op: Operation) -> bool:
    return op.op == "get" or (op.op == "cas" and op.ok is False)


def _place(rest, value, tomb, given, labels) -> bool:
    """Can the operations in ``rest`` follow on a state? ``tomb``: the label of the delete that made it absent.
    ``given``: labels that deletes without a name have turned out to carry."""
    if all(op.status == "info" for op in rest):
        return True
    for op in rest:
        if any(_return(other) < op.call_ns for other in rest if other is not op):
            continue
        left = [other for other in rest if other is not op]
        for after, after_tomb, after_given in _effects(op, value, tomb, given, labels):
            if _place(left, after, after_tomb, after_given, labels):
                return True
        if op.status == "info" and _place(left, value, tomb, given, labels):
            return True
    return False


def _effects(op, value, tomb, given, labels):
    """The states that ``op`` can lead to; none when its reply is impossible here."""
    same = (value, tomb, given)
    known, free = labels
    if op.op == "put":
        return [(op.value, None, given)]
    if op.op == "append":
        return [(op.value if value is None else value + op.value, None, given)]
    if _tells_value(op):
        if op.out != value:
            return []
        if value is None and op.version in known and op.version != tomb:
            return []
        return [same]
    if op.op == "cas":
        return [(op.value, None, given)] if op.expect == value else []
    label = op.version if op.status == "ok" and op.version else None
    if label is not None:
        if label in given:
            return [same] if value is None and tomb == label else []
        return [(None, label, {**given, label: True})]
    return [(None, stranger, {**given, stranger: True}) for stranger in free if stranger not in given] + [
        (None, "nameless", given)
    ]
