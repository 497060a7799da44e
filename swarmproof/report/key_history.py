"""The counterexample's key as a picture: every operation on it around the contradiction, and its zones above them.

A zone belongs to one written value and all that follows from it (docs/verdicts.md): from the first answer that shows
it in place to the last question that still needs it. Two *forward* zones that overlap, or a *backward* zone inside a
forward one, cannot be put in any order. Zones are worked out here from the history alone, by the judge's own code.
"""

from dataclasses import dataclass
from html import escape
from typing import Any, Final

import numpy as np

from records.operations import HistoryError, Operation, read_operations
from swarmproof.judge.history import NEVER, NONE, History, Value, read_history
from swarmproof.judge.lineage import Lineage
from swarmproof.judge.linearizability import Limits, check
from swarmproof.report.contents import BROKEN, Contents

#: Around the counterexample, on both sides: as much as it lasts, and no less than this.
_LEAST_MARGIN_S: Final = 0.05
#: What a picture can show; of more, those nearest to the counterexample.
_MAX_OPERATIONS: Final = 160
_MAX_ZONES: Final = 12
#: For a key that needs the general search nobody waits here: its zones are told by the lineage alone.
_LIMITS: Final = Limits(key_time_s=0.5, total_time_s=0.5)

_WIDTH: Final = 900
_LEFT: Final = 12
_LANE: Final = 9
_ZONE: Final = 17
_TOP: Final = 24
_VALUE_CHARS: Final = 18
#: Pixels that a bar has at least, and that are between two in one lane.
_MIN_BAR: Final = 2.0
_GAP: Final = 2.0


@dataclass(frozen=True, slots=True)
class Zone:
    """Of one written value: from `low_s` to `high_s`; None: from before the run, or to its end."""

    value: str
    low_s: float | None
    high_s: float
    forward: bool
    blamed: bool

    @property
    def span(self) -> tuple[float, float]:
        low_s = self.low_s if self.low_s is not None else float("-inf")
        return min(low_s, self.high_s), max(low_s, self.high_s)


def key_history(contents: Contents, example: dict[str, Any]) -> str:
    """The picture as SVG with a legend, or "" when the history cannot be read or holds nothing of this key."""
    shown = [op for op in example.get("operations") or [] if isinstance(op, dict) and _is_time(op.get("call_s"))]
    if not shown or not isinstance(example.get("key"), str):
        return ""
    try:
        operations = [op for op in read_operations(contents.run) if op.key == example["key"]]
        blamed = {(op.get("id"), op.get("client")) for op in shown}
        zones = zones_of(contents, operations, blamed)
    except (HistoryError, *BROKEN):
        return ""
    calls = [op["call_s"] for op in shown]
    times = calls + [op["return_s"] for op in shown if _is_time(op.get("return_s"))]
    margin_s = max(_LEAST_MARGIN_S, 0.15 * (max(times) - min(times)))
    begin_s, end_s = min(times) - margin_s, max(times) + margin_s
    near = [op for op in operations if _overlaps(contents, op, begin_s, end_s)]
    if not near:
        return ""
    left_out = len(near) - _MAX_OPERATIONS
    if left_out > 0:
        near = _nearest(near, blamed)
    return _draw(contents, near, zones=zones, blamed=blamed, stretch=(begin_s, end_s), left_out=max(0, left_out))


def zones_of(contents: Contents, operations: list[Operation], blamed: set[tuple[Any, Any]]) -> list[Zone]:
    """The zones of one key, those of the blamed operations first. Errors: HistoryError."""
    history = read_history(operations)
    lineage = check(history, _LIMITS).lineage
    rows, roots = _placed(history, lineage)
    found: list[Zone] = []
    for root in np.unique(roots).tolist():
        members = rows[roots == root]
        first_ns = int(history.ret[members].min())
        last_ns = int(history.call[members].max())
        at_first = root in history.initial
        low_s = None if at_first else contents.elapsed_s(first_ns)
        hit = any((int(history.id[row]), int(history.client[row])) in blamed for row in members.tolist())
        if first_ns == NEVER and not at_first:
            continue  # a write that nobody answered and nobody saw
        forward = at_first or first_ns < last_ns
        found.append(Zone(_short(lineage.values[root]), low_s, contents.elapsed_s(last_ns), forward, hit))
    return sorted(found, key=lambda zone: (not zone.blamed, zone.span))


def _placed(history: History, lineage: Lineage) -> tuple[Any, Any]:
    """Rows of all operations that name a version, and the root of each one's group."""
    wrote = np.flatnonzero(lineage.writes & (lineage.wrote != NONE))
    wrote = wrote[lineage.live[lineage.wrote[wrote]]]
    read = np.flatnonzero(lineage.reads)
    rows = np.concatenate((wrote, read))
    nodes = np.concatenate((lineage.wrote[wrote], lineage.before[read]))
    return rows, lineage.root[nodes]


def _short(value: Value) -> str:
    if value is None:
        return "absent"
    text = value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")
    return text if len(text) <= _VALUE_CHARS else "…" + text[1 - _VALUE_CHARS :]


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _overlaps(contents: Contents, op: Operation, begin_s: float, end_s: float) -> bool:
    returned_s = contents.elapsed_s(op.return_ns) if op.return_ns is not None else float("inf")
    return contents.elapsed_s(op.call_ns) <= end_s and returned_s >= begin_s


def _nearest(operations: list[Operation], blamed: set[tuple[Any, Any]]) -> list[Operation]:
    """The blamed ones and those nearest in time to any of them."""
    centres = [op.call_ns for op in operations if (op.id, op.client) in blamed] or [operations[0].call_ns]
    operations = sorted(operations, key=lambda op: min(abs(op.call_ns - centre) for centre in centres))
    return operations[:_MAX_OPERATIONS]


def _draw(
    contents: Contents,
    operations: list[Operation],
    *,
    zones: list[Zone],
    blamed: set[tuple[Any, Any]],
    stretch: tuple[float, float],
    left_out: int,
) -> str:
    begin_s, end_s = stretch
    room = _WIDTH - 2 * _LEFT

    def x(at_s: float) -> float:
        return _LEFT + room * (min(max(at_s, begin_s), end_s) - begin_s) / (end_s - begin_s)

    touching = [zone for zone in zones if zone.span[0] <= end_s and zone.span[1] >= begin_s][:_MAX_ZONES]
    parts = _axis(begin_s, end_s, x)
    top = _TOP
    for zone in touching:
        parts += _zone(zone, x, top)
        top += _ZONE
    top += 6
    lanes: list[float] = []
    for op in sorted(operations, key=lambda op: op.call_ns):
        start = x(contents.elapsed_s(op.call_ns))
        end = x(contents.elapsed_s(op.return_ns)) if op.return_ns is not None else float(_WIDTH - _LEFT)
        width = max(end - start, _MIN_BAR)
        lane = next((number for number, free in enumerate(lanes) if free <= start), len(lanes))
        lanes[lane : lane + 1] = [start + width + _GAP]
        parts.append(_bar(op, start, top + _LANE * lane, width, hit=(op.id, op.client) in blamed))
    height = top + _LANE * max(1, len(lanes)) + 4
    return (
        f'<figure><svg class="timeline" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="All operations on the key around the contradiction, and the zones of its values">'
        f"{''.join(parts)}</svg><figcaption>{_legend(touching, len(operations), left_out)}</figcaption></figure>"
    )


def _axis(begin_s: float, end_s: float, x: Any) -> list[str]:
    parts = []
    for part in range(5):
        at_s = begin_s + (end_s - begin_s) * part / 4
        anchor = ("start", "middle", "middle", "middle", "end")[part]
        parts.append(f'<text class="time" x="{x(at_s):.1f}" y="14" text-anchor="{anchor}">{at_s:.3f} s</text>')
    return parts


def _zone(zone: Zone, x: Any, top: float) -> list[str]:
    low, high = zone.span
    start, end = x(low), x(high)
    kind = ("forward" if zone.forward else "backward") + (" blamed" if zone.blamed else "")
    width = max(end - start, _MIN_BAR)
    anchor, at = ("end", start - 4) if start > _WIDTH * 0.6 else ("start", end + 4)
    if end > _WIDTH * 0.7 and start <= _WIDTH * 0.6:
        anchor, at = ("end", start - 4) if start > _WIDTH * 0.35 else ("start", start + 4)
    label = escape(f"{zone.value} · {'forward' if zone.forward else 'backward'}")
    return [
        f'<rect class="zone {kind}" x="{start:.1f}" y="{top}" width="{width:.1f}" height="{_ZONE - 4}" rx="2"/>',
        f'<text class="zonetext" x="{at:.1f}" y="{top + 10}" text-anchor="{anchor}">{label}</text>',
    ]


def _bar(op: Operation, start: float, top: float, width: float, *, hit: bool) -> str:
    is_read = op.op == "get" or op.ok is False
    kind = ("read" if is_read else "write") + ("" if op.return_ns is not None else " open") + ("" if hit else " other")
    value = _short(op.out if is_read else op.value)
    title = escape(f"{op.op} {value} by client {op.client}, {op.status}")
    return (
        f'<rect class="{kind}" x="{start:.1f}" y="{top}" width="{width:.1f}" height="{_LANE - 2}" rx="1.5">'
        f"<title>{title}</title></rect>"
    )


def _legend(zones: list[Zone], operations: int, left_out: int) -> str:
    words = [
        f"All {operations} operations on this key around the contradiction: writes "
        '<span class="key write"></span>, reads <span class="key read"></span>, those of the counterexample solid'
        + (f"; {left_out} farther away are not drawn" if left_out else "")
        + "."
    ]
    if zones:
        words.append(
            "Above them the zone of each value: from the first answer that shows it in place to the last question "
            "that still needs it. No order exists where two forward zones overlap, or a backward one lies inside a "
            "forward one."
        )
    return " ".join(words)
