"""Random small histories: true ones (a register is simulated), and ones in which something was changed."""

import random
from dataclasses import replace

from records.operations import Operation

FLAVOURS = ("register", "cas", "versioned deletes", "plain deletes", "appends", "mixed appends", "reused values", "all")

_OPS = {
    "register": ["put", "put", "get", "get", "get", "cas"],
    "cas": ["cas", "cas", "cas", "get", "put"],
    "versioned deletes": ["put", "delete", "delete", "get", "get", "cas"],
    "plain deletes": ["put", "delete", "get", "get", "cas"],
    "appends": ["append", "append", "get", "get"],
    "mixed appends": ["append", "append", "get", "get", "put", "cas"],
    "reused values": ["put", "put", "get", "get", "cas", "append"],
    "all": ["put", "get", "get", "cas", "append", "delete"],
}


class Shape:
    """How large a history is. Defaults keep the exhaustive reference quick."""

    def __init__(self, operations: int = 6, keys: int = 1, horizon: int = 14) -> None:
        self.operations = operations
        self.keys = keys
        self.horizon = horizon


def random_history(rng: random.Random, flavour: str, shape: Shape | None = None) -> list[Operation]:
    """A history of ``flavour``: four times in five a true one with up to four changes, else a true one."""
    shape = shape or Shape()
    history = true_history(rng, flavour, shape)
    if rng.random() < 0.8:
        for _ in range(rng.randint(1, 4)):
            history = change(rng, history, flavour)
    if rng.random() < 0.15:
        in_bytes(rng, history)
    rng.shuffle(history)
    return history


def in_bytes(rng: random.Random, history: list[Operation]) -> None:
    """Put some values down as bytes: at random the same ones, or all as others, which only together may be text."""
    others = rng.random() < 0.5
    for op in history:
        for name in ("value", "expect", "out"):
            value = getattr(op, name)
            if value is not None and others:
                setattr(op, name, value.encode().replace(b"0,", b"0\xc3").replace(b"1,", b"\xa91,"))
            elif value is not None and rng.random() < 0.5:
                setattr(op, name, value.encode())


def true_history(rng: random.Random, flavour: str, shape: Shape) -> list[Operation]:
    """What a correct store might have answered: each operation takes effect at one moment of its interval."""
    points = []
    for number in range(rng.randint(2, shape.operations)):
        call = rng.randrange(shape.horizon)
        back = call + rng.randrange(1 + shape.horizon // 2)
        op = Operation(
            id=number + 1,
            client=number,
            op=rng.choice(_OPS[flavour]),
            key=f"k{rng.randrange(shape.keys)}",
            call_ns=call,
            return_ns=back,
            status=rng.choices(["ok", "info", "fail"], [12, 3, 1])[0],
        )
        op.stale = op.op == "get" and rng.random() < 0.03
        late = op.status == "info" and rng.random() < 0.5  # a timed-out write may land much later
        points.append((rng.uniform(call, back + (20 if late else 0)), number, op))
    state: dict[str, tuple[str | None, int | None]] = {}
    written: list[str] = []
    history = []
    for moment, index, op in sorted(points, key=lambda point: point[:2]):
        del moment
        history.append(_apply(rng, flavour, op, state=state, written=written, version=index + 100 * (len(history) + 1)))
    return history


def _apply(rng, flavour, op, *, state, written, version):
    value, named = state.get(op.key, (None, None))
    token = f"{len(written)}," if flavour != "reused values" else f"{rng.randrange(2)},"
    if rng.random() < 0.04:
        token = ""
    if op.op in ("put", "append", "cas"):
        op.value = token
        written.append(token)
    if op.op == "cas":
        op.expect = value if rng.random() < 0.7 else rng.choice([None, *written])
    never = op.status == "fail" or (op.status == "info" and rng.random() < 0.4)
    if op.op == "get":
        op.out, op.version = value, named
    elif op.op == "cas" and op.expect != value:
        op.ok, op.out, op.version = False, value, named
    elif not never:
        after = None if op.op == "delete" else op.value
        if op.op == "append":
            after = (value or "") + op.value
        op.ok = True if op.op == "cas" else None
        op.version = version
        state[op.key] = (after, version)
    if op.status != "ok":
        op.out = op.ok = op.version = op.return_ns = None
    if flavour == "plain deletes" or (flavour == "all" and rng.random() < 0.3):
        op.version = None
    return op


def change(rng: random.Random, history: list[Operation], flavour: str) -> list[Operation]:
    """The history with one thing altered: what was read, when, or what became of an operation."""
    history = [replace(op) for op in history]
    op = rng.choice(history)
    values = [other.value for other in history if other.value is not None]
    reads = [other for other in history if other.op == "get" and other.status == "ok"]
    what = rng.choice([0, 0, 0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 6, 7])
    if what <= 2 and reads:
        read = rng.choice(reads)
        lists = ["".join(rng.sample(values, rng.randint(1, len(values))))] if values else []
        read.out = rng.choice([None, "", "phantom,", *values, *(other.out for other in reads), *lists])
        if read.out is not None:
            read.version = None
        elif rng.random() < 0.7:
            read.version = rng.choice([None, 7, *(other.version for other in history)])
    elif what == 3:
        shift = rng.randint(-6, 6)
        op.call_ns = max(0, op.call_ns + shift)
        if op.return_ns is not None:
            op.return_ns = max(op.call_ns, op.return_ns + shift)
    elif what == 4 and op.return_ns is not None:
        op.return_ns = rng.randint(op.call_ns, op.call_ns + 4)
    elif what == 5 and op.op != "get":
        op.status, op.return_ns, op.ok, op.out, op.version = rng.choice(["info", "fail"]), None, None, None, None
    elif what == 6 and op.op == "cas" and values:
        op.expect = rng.choice([None, *values])
        if op.status == "ok":
            op.ok = True
    elif what == 7 and op.op == "cas" and op.status == "ok":
        op.ok, op.out = False, rng.choice([op.expect, op.out, *values])
    return history
