"""Live progress of a run: one line that changes on a terminal, a plain line every few seconds in a pipe."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.live import Live
from rich.text import Text

from swarmproof.console import Printer
from swarmproof.targets.cluster import ClusterTarget

# In a pipe: often enough to see that it lives, rare enough to be read in a CI log.
PLAIN_EVERY_S = 5.0


class LiveProgress:
    """Shows progress lines of the load generator beside the cluster's leader. Use as a context manager."""

    def __init__(self, printer: Printer, clusters: Sequence[ClusterTarget], run_time_s: float | None) -> None:
        self._printer = printer
        self._clusters = clusters
        self._run_time_s = run_time_s
        self._live: Live | None = None
        self._next_plain = 0.0
        self._last: dict[str, Any] = {}

    def __enter__(self) -> "LiveProgress":
        if self._printer.is_terminal and not self._printer.quiet:
            self._live = Live(Text("load is starting ..."), console=self._printer.out, transient=True)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
            self._live = None

    def show(self, line: dict[str, Any]) -> None:
        """A new line of progress.jsonl."""
        self._last = line
        self.refresh()
        if self._live is None and time.monotonic() >= self._next_plain:
            self._next_plain = time.monotonic() + PLAIN_EVERY_S
            self._printer.say(self._text())

    def refresh(self) -> None:
        """The leader may have changed since the last line."""
        if self._live is not None and self._last:
            self._live.update(Text(self._text(), style="bold"))

    def _text(self) -> str:
        line = self._last
        elapsed_s = float(line.get("elapsed_s", 0.0))
        of = f" of {self._run_time_s:.0f}" if self._run_time_s else ""
        parts = [
            f"{elapsed_s:5.0f}{of} s",
            f"{line.get('users', 0)} users",
            f"{float(line.get('rate', 0.0)):,.0f}/s".replace(",", " "),
            f"{line.get('failed', 0)} failed",
            f"{line.get('unknown', 0)} unknown",
        ]
        if line.get("dropped"):
            parts.append(f"{line['dropped']} DROPPED")
        if line.get("p99_us"):
            parts.append(f"p99 {float(line['p99_us']) / 1000:.1f} ms")
        for cluster in self._clusters:
            found = cluster.leader()
            name = cluster.member_of(found.node).name if found is not None else None
            parts.append(f"leader {name} (term {found.term})" if found is not None else "no leader")
        return "   ".join(parts)
