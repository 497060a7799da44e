"""A counterexample as a picture: one bar per operation from call to return, and the fault as a line.

Plain SVG: it prints, it scales, and its colours are the page's.
"""

from html import escape
from typing import Any

from swarmproof.report.wording import operation_line

_WIDTH = 900
_ROW = 46
_TOP = 34
_LEFT = 12
_RIGHT = 12
#: A bar is never thinner than this, however short the operation was beside the others.
_MIN_BAR = 5
#: The width of a character of a label.
_CHAR = 7.85
#: Characters of a value in a label; the table below the picture has more.
_VALUE_CHARS = 24


def timeline(example: dict[str, Any]) -> str:
    """The SVG, or "" when there is nothing to draw."""
    operations = [
        operation
        for operation in example.get("operations") or []
        if isinstance(operation, dict) and isinstance(operation.get("call_s"), int | float)
    ]
    if not operations:
        return ""
    times = [operation["call_s"] for operation in operations]
    times += [op["return_s"] for op in operations if isinstance(op.get("return_s"), int | float)]
    fault = example.get("fault") or {}
    fault_s = fault.get("at_s")
    spread = max(times) - min(times)
    near = isinstance(fault_s, int | float) and min(times) - spread <= fault_s <= max(times) + spread
    if near and isinstance(fault_s, int | float):
        times.append(fault_s)
    scale = _Scale(times)
    height = _TOP + _ROW * len(operations) + 8
    parts = [
        f'<svg class="timeline" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="The operations of the counterexample on a time axis">'
    ]
    parts += scale.axis(height)
    if near and isinstance(fault_s, int | float):
        x = scale.x(fault_s)
        label = escape(f"{fault.get('kind', 'fault')} {fault.get('chosen', '')}".strip())
        anchor = "end" if x > _WIDTH * 0.7 else "start"
        parts.append(f'<line class="fault" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{height - 4}"/>')
        shift = -5 if anchor == "end" else 5
        parts.append(
            f'<text class="faulttext" x="{x + shift:.1f}" y="{height - 6}" text-anchor="{anchor}">{label}</text>'
        )
    for number, operation in enumerate(operations):
        parts += _bar(scale, number, operation)
    parts.append("</svg>")
    return "".join(parts)


class _Scale:
    """Seconds to pixels. Long idle stretches are squeezed: what counts is the order, and what overlaps."""

    def __init__(self, times: list[float]) -> None:
        self.times = sorted(set(times))
        total = max(self.times[-1] - self.times[0], 1e-6)
        # Each gap gets half of its width by its length, and half evenly, so that a millisecond beside a
        # minute can still be seen.
        gaps = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        room = _WIDTH - _LEFT - _RIGHT
        self.places = [float(_LEFT)]
        for gap in gaps:
            self.places.append(self.places[-1] + room * (0.4 * gap / total + 0.6 / len(gaps)))

    def x(self, at_s: float) -> float:
        return self.places[self.times.index(at_s)] if at_s in self.times else self.places[-1]

    def axis(self, height: int) -> list[str]:
        parts: list[str] = []
        last_label = -100.0
        for at_s, place in zip(self.times, self.places, strict=True):
            parts.append(f'<line class="tick" x1="{place:.1f}" x2="{place:.1f}" y1="20" y2="{height - 4}"/>')
            if place - last_label >= 66:
                anchor = "end" if place > _WIDTH - 60 else "start"
                parts.append(f'<text class="time" x="{place:.1f}" y="14" text-anchor="{anchor}">{at_s:.3f} s</text>')
                last_label = place
        return parts


def _bar(scale: _Scale, number: int, operation: dict[str, Any]) -> list[str]:
    top = _TOP + _ROW * number
    start = scale.x(operation["call_s"])
    answered = isinstance(operation.get("return_s"), int | float)
    end = scale.x(operation["return_s"]) if answered else _WIDTH - _RIGHT
    is_read = operation.get("op") == "get" or operation.get("ok") is False
    kind = ("read" if is_read else "write") + ("" if answered else " open")
    node = f" at {operation['node']}" if operation.get("node") else ""
    text = f"{operation_line(operation, _VALUE_CHARS)}   client {operation.get('client')}{node}"
    text += "" if answered else " …"
    anchor, x = ("end", min(end, _WIDTH - _RIGHT)) if start > _WIDTH * 0.55 else ("start", start)
    if anchor == "start" and start + _CHAR * len(text) > _WIDTH - _RIGHT:
        anchor, x = "end", float(_WIDTH - _RIGHT)
    width = max(end - start, _MIN_BAR)
    return [
        f'<rect class="{kind}" x="{start:.1f}" y="{top + 18}" width="{width:.1f}" height="14" rx="3"/>',
        f'<text class="op" x="{x:.1f}" y="{top + 12}" text-anchor="{anchor}">{escape(text)}</text>',
    ]
