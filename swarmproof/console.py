"""What commands print: plain lines in a pipe, colour and tables on a terminal; errors as one sentence on stderr."""

import threading
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Wide enough that a table never wraps in a pipe, where nobody sees a terminal's width.
PIPE_WIDTH = 200


class Printer:
    """Lines for a person, safe from several threads. `quiet` drops everything but errors and results."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.out = Console(highlight=False, soft_wrap=True)
        if not self.out.is_terminal:
            self.out.width = PIPE_WIDTH
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)
        self._lock = threading.Lock()

    @property
    def is_terminal(self) -> bool:
        return self.out.is_terminal

    def say(self, text: str) -> None:
        """Progress: dropped by --quiet."""
        if not self.quiet:
            self.result(text)

    def result(self, text: str) -> None:
        """What the command was called for."""
        with self._lock:
            self.out.print(Text(text))

    def write(self, text: str) -> None:
        """A piece of a line, shown at once."""
        with self._lock:
            self.out.file.write(text)
            self.out.file.flush()

    def error(self, sentence: str) -> None:
        with self._lock:
            self.err.print(Text.assemble(("error: ", "bold red"), sentence))

    def table(self, table: Table) -> None:
        with self._lock:
            self.out.print(table)


def targets_table(rows: Iterable[dict[str, Any]]) -> Table:
    """Targets as `up` and `status` show them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "kind", "address", "pid", "state", "role", "term"):
        table.add_column(column, justify="right" if column in ("pid", "term") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*("" if row.get(key) is None else str(row.get(key)) for key in row_keys()))
    return table


def row_keys() -> tuple[str, ...]:
    return ("name", "kind", "address", "pid", "state", "role", "term")
