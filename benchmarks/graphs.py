"""Graphs of the engine's cost, as small SVG files: against the number of connections, and against the payload.

    python -m benchmarks.compare --graphs docs/images

Lines are drawn here and not by a plotting library: an SVG of two kilobytes is read, compared and kept in a repository
like any other text.
"""

import math
from html import escape
from pathlib import Path
from typing import NamedTuple

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 164, 52, 48
# Told apart also by those who see no difference between red and green.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
TICKS_UP = 5


class Line(NamedTuple):
    """A series: points of (x, y), x ascending and above 0."""

    name: str
    points: list[tuple[float, float]]


def draw(path: Path, title: str, x_name: str, y_name: str, lines: list[Line]) -> None:
    """Write the graph; the x axis is logarithmic, the y axis begins at 0."""
    xs = sorted({x for line in lines for x, _ in line.points})
    highest = _round_up(max(y for line in lines for _, y in line.points))
    span = math.log(xs[-1] / xs[0]) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * math.log(x / xs[0]) / span
        return across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / highest

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 20, title, 'font-size="14"'),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_name, 'text-anchor="middle"'),
        _text(LEFT, TOP - 8, y_name, 'fill="#555"'),
    ]
    for tick in range(TICKS_UP + 1):
        value = highest * tick / TICKS_UP
        _, y = place(xs[0], value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{value:g}", 'text-anchor="end"'))
    parts += [_text(place(x, 0)[0], HEIGHT - BOTTOM + 16, _short(x), 'text-anchor="middle"') for x in xs]
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        places = [place(x, y) for x, y in line.points]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(_text(WIDTH - RIGHT + 12, TOP + 8 + 18 * number, line.name, f'fill="{colour}"'))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(text)}</text>'


def _short(value: float) -> str:
    """1,000 as "1k", 1,024 as "1 Ki"."""
    if value >= 1024 and value % 1024 == 0:
        return f"{value / 1024:g} Ki"
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _round_up(value: float) -> float:
    """To a number whose fifths are round."""
    magnitude = 10.0 ** math.floor(math.log10(value))
    return next(step * magnitude for step in (1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10) if step * magnitude >= value)
