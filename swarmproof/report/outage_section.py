"""Faults as the page tells them: one sentence each, a table of what they cost, and how the figures spread by kind."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from typing import Final

from records.faults import FaultRecord
from swarmproof.outages import SECONDS
from swarmproof.report.contents import Contents
from swarmproof.report.wording import count, duration, fault_line

#: Columns of outages.csv that the table shows: name, heading, unit.
_TABLE: Final = (
    ("detection_s", "first error or silence", "s"),
    ("new_leader_s", "new leader", "s"),
    ("first_ack_s", "first acknowledged write", "s"),
    ("back_to_baseline_s", "back to the baseline", "s"),
    ("worst_client_gap_s", "longest gap of a client", "s"),
    ("failed", "failed", ""),
    ("unknown", "unknown", ""),
    ("delayed", "delayed", ""),
    ("lost_operations", "operations not done", ""),
    ("p99_before_us", "p99 before", "us"),
    ("p99_during_us", "p99 during", "us"),
    ("p99_after_us", "p99 after", "us"),
)
#: Of figures that come from whole seconds: what is timed is at most so long, a silence at least.
_BOUNDS: Final = {"detection_s": "≤ ", "back_to_baseline_s": "≤ ", "worst_client_gap_s": "≥ "}
#: Figures whose spread over the faults of a kind is drawn.
_SPREAD: Final = tuple((name, words) for name, words, unit in _TABLE if unit == "s")

_ROUNDED: Final = (
    " ≤ and ≥: of operations that are not written down one by one it is known what ended in each second; a gap is then "
    "the seconds in a row in which no client had a success."
)

_STRIP_WIDTH: Final = 320
_STRIP_HEIGHT: Final = 18
_STRIP_EDGE: Final = 5


def faults_section(contents: Contents) -> str:
    """All about the faults of a run, "" when there were none."""
    if not contents.faults:
        return ""
    items = "".join(
        f'<li class="{"" if fault.took_effect else "unknown"}">{escape(fault_line(fault, contents.fault_at_s(fault)))}'
        f"<br><small>asked for: {escape(fault.target)}{escape(f', {fault.why}' if fault.why else '')}"
        f"{escape(f'; seen: {fault.observed}' if fault.observed else '')}"
        f"{_healed(contents, fault)}</small></li>"
        for fault in contents.faults
    )
    return f"<section><h2>Faults</h2><ul class='faults'>{items}</ul>{_outages(contents)}{_spread(contents)}</section>"


def _healed(contents: Contents, fault: FaultRecord) -> str:
    if not fault.took_effect:
        return ""  # there was nothing to heal
    if fault.healed_ns is None:
        return "; not healed" + ("" if contents.verdict else " yet")
    return f"; healed at {contents.elapsed_s(fault.healed_ns):.1f} s"


def _outages(contents: Contents) -> str:
    """What each fault cost the clients; columns that no fault has are left out."""
    rows = contents.outages
    columns = [column for column in _TABLE if any(row.get(column[0]) for row in rows)]
    rounded = any(row.get("source") == SECONDS for row in rows)
    if not columns:
        return ""
    head = "<th>fault" + "".join(f"<th>{escape(words)}" for _, words, _ in columns)
    body = "".join(
        f"<tr><td>{escape(_fault_name(contents, row))}</td>"
        + "".join(f"<td>{escape(_cell(row, name, unit))}</td>" for name, _, unit in columns)
        + "</tr>"
        for row in rows
    )
    return (
        "<h3>What each of them cost</h3><div class='scroll'><table class='numbers wrap'>"
        f"<thead><tr>{head}</tr></thead>{body}</table></div>"
        "<p class='soft'>Seconds from the strike. Delayed: acknowledged, but only after more than 100 ms. Operations "
        "not done: what the rate before the strike would have done meanwhile. Percentiles: of 5 s before, of the "
        "fault, of 5 s after; a p99 only of a hundred and more. –: not known." + (_ROUNDED if rounded else "") + "</p>"
    )


def _fault_name(contents: Contents, row: dict[str, str]) -> str:
    """With the same moment as in the list of the faults."""
    at_s = next((contents.fault_at_s(fault) for fault in contents.faults if str(fault.id) == row.get("id")), None)
    if at_s is None:
        at_s = _number(row.get("elapsed_s", ""))
    return f"{row.get('kind', '?')} {row.get('chosen', '')}" + (f" at {at_s:.1f} s" if at_s is not None else "")


def _cell(row: dict[str, str], name: str, unit: str) -> str:
    value = _number(row.get(name, ""))
    if value is None:
        return "–"
    if unit == "us":
        return duration(value)
    return f"{_bound(row, name)}{value:.2f} s" if unit == "s" else count(round(value))


def _bound(row: dict[str, str], name: str) -> str:
    return _BOUNDS.get(name, "") if row.get("source") == SECONDS else ""


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if abs(value) < 1e15 else None


def _spread(contents: Contents) -> str:
    """Per kind of fault and figure: how many, min, median, max, and a dot for each fault."""
    gathered: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in contents.outages:
        for name, words in _SPREAD:
            value = _number(row.get(name, ""))
            if value is not None and value >= 0:
                bound = _bound(row, name).strip()  # what is rounded is not spread together with what is not
                gathered[row.get("kind", "?"), f"{words} ({bound})" if bound else words].append(value)
    values = {key: found for key, found in gathered.items() if len(found) > 1}  # one fault alone has no spread
    if not values:
        return ""
    longest = max(max(found) for found in values.values())
    rows = "".join(
        f"<tr><td>{escape(kind)}</td><td>{escape(words)}</td><td>{len(found)}</td><td>{min(found):.2f} s</td>"
        f"<td>{statistics.median(found):.2f} s</td><td>{max(found):.2f} s</td><td>{_strip(found, longest)}</td></tr>"
        for (kind, words), found in sorted(values.items())
    )
    return (
        "<h3>By kind of fault</h3><div class='scroll'><table class='spread'><thead><tr><th>kind<th>figure<th>faults"
        f"<th>min<th>median<th>max<th>0 to {longest:.2f} s</tr></thead>{rows}</table></div>"
    )


def _strip(values: Sequence[float], longest: float) -> str:
    """A dot for each value on a line from 0 to the longest of the table, a bar from the least to the most."""
    room = _STRIP_WIDTH - 2 * _STRIP_EDGE

    def x(value: float) -> float:
        return _STRIP_EDGE + room * value / (longest or 1.0)

    middle = _STRIP_HEIGHT / 2
    median = x(statistics.median(values))
    dots = "".join(f'<circle cx="{x(value):.1f}" cy="{middle}" r="3.5"/>' for value in values)
    return (
        f'<svg class="strip" viewBox="0 0 {_STRIP_WIDTH} {_STRIP_HEIGHT}" aria-hidden="true">'
        f'<line class="axis" x1="{_STRIP_EDGE}" x2="{_STRIP_WIDTH - _STRIP_EDGE}" y1="{middle}" y2="{middle}"/>'
        f'<line class="range" x1="{x(min(values)):.1f}" x2="{x(max(values)):.1f}" y1="{middle}" y2="{middle}"/>'
        f'<line class="median" x1="{median:.1f}" x2="{median:.1f}" y1="2" y2="{_STRIP_HEIGHT - 2}"/>{dots}</svg>'
    )
