"""Comparisons and trends as pages: tables and plain SVG, no script; small enough to be sent by mail."""

import math
from collections.abc import Sequence
from html import escape
from string import Template
from typing import Final

from records.latency import RESPONSE
from swarmproof.report.comparing import HONESTY, Comparison
from swarmproof.report.contents import Contents
from swarmproof.report.page import STATIC_PAGE, STYLE
from swarmproof.report.series import curve_of
from swarmproof.report.several_text import pair_rows, spread_of, trend_row
from swarmproof.report.trend_of_runs import RunRow, Trend
from swarmproof.report.wording import duration, encodable

_WIDTH: Final = 900
_HEIGHT: Final = 230
_LEFT: Final = 62
_RIGHT: Final = 14
_TOP: Final = 14
_BOTTOM: Final = 26
_NINES: Final = ((1, "0"), (2, "p50"), (10, "p90"), (100, "p99"), (1_000, "p99.9"), (10_000, "p99.99"))
_CLASS: Final = {"valid": "valid", "invalid": "invalid", "unknown": "unknown"}


def comparison_page(found: Comparison, a: Contents, b: Contents) -> str:
    """The page of `compare --html`."""
    sections = [_sides(found), _curves(found, a, b), _pairs(found), _recovery(found), _checks(found), _different(found)]
    title = f"{found.a['name']} and {found.b['name']}"
    return _page(title, f"<header><h1 class='small'>Two runs compared</h1></header>{''.join(sections)}")


def trend_page(trend: Trend) -> str:
    """The page of `report RUN...`."""
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in trend.sentences)
    body = (
        f"<header><h1 class='small'>{len(trend.runs)} runs</h1><ul class='lead'>{sentences}</ul></header>"
        f"{_trend_charts(trend.runs)}{_trend_table(trend.runs)}"
    )
    return _page(f"{len(trend.runs)} runs", body)


def _page(title: str, body: str) -> str:
    return encodable(Template(STATIC_PAGE).substitute(title=escape(title), style=STYLE, body=body))


# -- a comparison ----------------------------------------------------------------------------------------------------


def _sides(found: Comparison) -> str:
    rows = "".join(
        f"<tr><th>{label}</th><td><b class='{_CLASS.get(str(run['verdict']), 'none')}'>"
        f"{escape(str(run['verdict']).upper())}</b></td><td>{escape(str(run['title']))}<br><small>"
        f"{escape(str(run['path']))}</small></td><td>seed {escape(str(run['seed']))}</td></tr>"
        for label, run in (("A", found.a), ("B", found.b))
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    return f"<section><table>{rows}</table>" + (f"<ul class='notes'>{notes}</ul>" if notes else "") + "</section>"


def _curves(found: Comparison, a: Contents, b: Contents) -> str:
    """The percentile curves of each operation, A and B in one picture."""
    pictures = []
    for pair in found.operations:
        name = None if pair.operation == "all" else pair.operation
        curves = [curve_of(contents.latency.histogram(name, RESPONSE)) for contents in (a, b)]
        if all(pair.count):
            pictures.append((pair.operation, percentile_picture(curves)))
    if not pictures:
        return ""
    pictures.reverse()  # all together first
    items = "".join(f"<h3>{escape(name)}</h3>{picture}" for name, picture in pictures[:1])
    rest = "".join(f"<h3>{escape(name)}</h3>{picture}" for name, picture in reversed(pictures[1:]))
    rest = f"<details><summary>Each operation</summary>{rest}</details>" if rest else ""
    legend = "<p class='soft'><span class='key write'></span> A <span class='key read'></span> B; response time</p>"
    return f"<section><h2>Percentiles</h2>{legend}{items}{rest}</section>"


def percentile_picture(curves: Sequence[dict[str, list[float]]]) -> str:
    """Curves over an axis of nines, both logarithmic; the first in the colour of A, the second in that of B."""
    xs = [value for curve in curves for value in curve["x"]]
    ys = [max(value, 0.001) for curve in curves for value in curve["ms"]]
    if not xs:
        return ""
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)) + 1e-9)
    high = max(high, low + 1)
    most = math.log10(max(*xs, 10.0))

    def point(x: float, ms: float) -> tuple[float, float]:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log10(x) / most
        up = (math.log10(max(ms, 0.001)) - low) / (high - low)
        return across, _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * up

    parts = []
    for decade in range(low, high + 1):
        _, y = point(1, 10.0**decade)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{duration(10.0**decade * 1000)}</text>')
    for nines, label in _NINES:
        if math.log10(nines) <= most:
            x, _ = point(nines, 1)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
            parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{label}</text>')
    for side, curve in zip(("a", "b"), curves, strict=True):
        points = " ".join(
            f"{x:.1f},{y:.1f}" for x, y in (point(*pair) for pair in zip(curve["x"], curve["ms"], strict=True))
        )
        parts.append(f'<polyline class="{side}" points="{points}"/>')
    return _svg("Percentile curves", parts)


def _pairs(found: Comparison) -> str:
    rows = "".join(
        f"<tr class='{'first' if row[0] else ''}'>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for pair in found.operations
        for row in pair_rows(pair)
    )
    if not rows:
        return ""
    return (
        "<section><h2>Operations</h2><div class='scroll'><table class='numbers'><thead><tr><th>operation<th>figure<th>A"
        f"<th>B<th>B / A<th>B is</tr></thead>{rows}</table></div><p class='soft'>{escape(HONESTY)}.</p></section>"
    )


def _recovery(found: Comparison) -> str:
    rows = [[str(entry["words"]), spread_of(entry["a"]), spread_of(entry["b"])] for entry in found.recovery]
    return _section("Recovery (min / median / max, number of faults)", ["figure", "A", "B"], rows)


def _checks(found: Comparison) -> str:
    rows = [[row["check"], _told(row, "a"), _told(row, "b")] for row in found.checks]
    return _section("Verdicts", ["check", "A", "B"], rows)


def _told(row: dict[str, str], side: str) -> str:
    reason = row.get(f"reason_{side}")
    return f"{row[side]}: {reason}" if reason else row[side]


def _different(found: Comparison) -> str:
    rows = [[entry.what, entry.a, entry.b] for entry in found.differences]
    if not rows:
        return "<section><h2>What was different</h2><p>Plan, seed, versions and host are the same.</p></section>"
    return _section("What was different", ["what", "A", "B"], rows)


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    heads = "".join(f"<th>{escape(word)}" for word in head)
    return (
        f"<section><h2>{escape(title)}</h2><div class='scroll'><table><thead><tr>{heads}</tr></thead>{body}</table>"
        "</div></section>"
    )


# -- a trend ---------------------------------------------------------------------------------------------------------


def _trend_table(rows: Sequence[RunRow]) -> str:
    head = ["started", "plan", "verdict", "count", "failed", "rate/s", "p50", "p99", "p99.9", "first ack", "run"]
    notes = "".join(f"<li>{escape(row.name)}: {escape(note)}</li>" for row in rows for note in row.notes)
    return _section("Runs", head, [trend_row(row) for row in rows]) + (
        f"<ul class='notes'>{notes}</ul>" if notes else ""
    )


def _trend_charts(rows: Sequence[RunRow]) -> str:
    """Each figure over the runs, oldest first; the colour of a dot is the verdict."""
    figures: list[tuple[str, list[float | None]]] = [
        ("Rate, per second", [row.rate if row.count else None for row in rows]),
        ("p99 response time, ms", [row.p99_us / 1000 if row.count else None for row in rows]),
        ("First acknowledged write after a fault, s", [row.first_ack_s for row in rows]),
    ]
    drawn = "".join(
        f"<h3>{escape(title)}</h3>{_over_runs(rows, values)}"
        for title, values in figures
        if sum(value is not None for value in values) > 1
    )
    return f"<section><h2>Trend</h2>{drawn}</section>" if drawn else ""


def _over_runs(rows: Sequence[RunRow], values: Sequence[float | None]) -> str:
    height = 130
    most = max(value for value in values if value is not None) or 1.0
    room = _WIDTH - _LEFT - _RIGHT

    def point(place: int, value: float) -> tuple[float, float]:
        across = _LEFT + room * (place + 0.5) / len(values)
        return across, height - 18 - (height - 18 - _TOP) * value / most

    parts = []
    for value in (0.0, most):
        _, y = point(0, value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (point(*pair) for pair in known))
    parts.append(f'<polyline class="b" points="{line}"/>')
    for place, value in known:
        x, y = point(place, value)
        title = escape(f"{rows[place].name}: {value:.4g}, {rows[place].verdict}")
        kind = _CLASS.get(rows[place].verdict, "none")
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{title}</title></circle>')
    return _svg("The figure over the runs", parts, height)


def _svg(label: str, parts: Sequence[str], height: int = _HEIGHT) -> str:
    return (
        f'<svg class="plain" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )
