"""The zoo's table, for a terminal and for a document."""

import re
from collections.abc import Sequence

from rich.table import Table

from swarmproof.judge.verdict import grouped
from swarmproof.zoo.catalogue import CATALOGUE
from swarmproof.zoo.healthy import Tally
from swarmproof.zoo.run import Row

_LONG_VALUE = re.compile(r"…[0-9a-f,]{10,}([0-9a-f]{6},?)(?=\")")
_COLUMNS = ("bug", "caught", "by", "twin flagged", "what the judge said")


def listing() -> Table:
    """Every exhibit with what is expected of it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("bug", "target", "must be", "by", "what it does"):
        table.add_column(column, no_wrap=True)
    for exhibit in CATALOGUE.values():
        checks = " or ".join(exhibit.checks)
        table.add_row(exhibit.name, exhibit.scenario.target, exhibit.verdict, checks, exhibit.title)
    return table


def results(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        table.add_column(column, no_wrap=column != _COLUMNS[-1])
    for row in rows:
        table.add_row(*cells(row))
    return table


def healthy(tallies: Sequence[Tally]) -> Table:
    """Runs of healthy stores: how many were valid, and how many were accused for nothing."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("store", "runs", "leader kills", "operations", "valid", "unknown", "false alarms", "no verdict"):
        table.add_column(column, justify="left" if column == "store" else "right", no_wrap=True)
    for tally in tallies:
        numbers = (
            tally.runs,
            tally.kills,
            tally.operations,
            tally.valid,
            tally.unknown,
            tally.false_alarms,
            tally.failed,
        )
        table.add_row(tally.store, *map(grouped, numbers))
    return table


def markdown(rows: Sequence[Row]) -> str:
    """As a document has it; of long values the last digits are enough there."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    for row in rows:
        escaped = [_LONG_VALUE.sub(r"…\1", cell).replace("|", "\\|") for cell in cells(row)]
        lines.append(f"| {' | '.join(escaped)} |")
    return "\n".join(lines) + "\n"


def cells(row: Row) -> tuple[str, ...]:
    by = ", ".join(f"{name} {count}" for name, count in sorted(row.by.items(), key=lambda item: -item[1]))
    twins = f"{row.twins_flagged}/{row.twins}" if row.twins else "-"
    return row.exhibit.name, f"{row.caught}/{row.runs}", by or "-", twins, row.sentence or "; ".join(row.missed)
