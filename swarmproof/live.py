"""Live progress of a run: a small panel on a terminal, a plain line every few seconds in a pipe, nothing with --quiet.

The panel changes in place; what happens (faults, new leaders, deaths) is printed above it and stays.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from records.faults import FaultRecord
from swarmproof.console import Printer
from swarmproof.report.wording import count, duration
from swarmproof.targets.cluster import ClusterTarget

# In a pipe: often enough to see that it lives, rare enough to be read in a CI log.
PLAIN_EVERY_S = 5.0
# On a terminal: an election is over in less than half a second, and should be seen.
PANEL_EVERY_S = 0.2
# Lines of the panel that are not operations, and the least of them that are shown on a low terminal.
_OTHER_LINES = 10
_LEAST_OPERATIONS = 3
_MOST_OPERATIONS = 16
_BAR_WIDTH = 34


class LiveProgress:
    """Shows progress lines of the load generator beside the cluster's state. Use as a context manager.

    `active` gives the faults that are not healed yet; `upcoming` the seconds and words of those that are due.
    """

    def __init__(
        self,
        printer: Printer,
        clusters: Sequence[ClusterTarget],
        run_time_s: float | None,
        *,
        active: Callable[[], Sequence[FaultRecord]] = lambda: (),
        upcoming: Sequence[tuple[float, str]] = (),
    ) -> None:
        self._printer = printer
        self._clusters = clusters
        self._run_time_s = run_time_s
        self._active = active
        self._upcoming = upcoming
        self._live: Live | None = None
        self._next_plain = self._next_panel = 0.0
        self._last: dict[str, Any] = {}
        self._seen = 0.0

    def __enter__(self) -> "LiveProgress":
        if self._printer.is_terminal and not self._printer.quiet:
            waiting = Text("load is starting ...", style="dim")
            self._live = Live(waiting, console=self._printer.out, transient=True, auto_refresh=False)
            self._live.__enter__()
            self._live.refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
            self._live = None

    def show(self, line: dict[str, Any]) -> None:
        """A new line of progress.jsonl."""
        self._last, self._seen = line, time.monotonic()
        self.refresh()
        if self._live is None and time.monotonic() >= self._next_plain:
            self._next_plain = time.monotonic() + PLAIN_EVERY_S
            self._printer.say(self._text())

    def refresh(self) -> None:
        """The leader may have changed since the last line."""
        if self._live is None or not self._last or time.monotonic() < self._next_panel:
            return
        self._next_panel = time.monotonic() + PANEL_EVERY_S
        self._live.update(self.panel(), refresh=True)

    # One line.

    def _text(self) -> str:
        elapsed_s = float(self._last.get("elapsed_s", 0.0))
        of = f" of {self._run_time_s:.0f}" if self._run_time_s else ""
        parts = [f"{elapsed_s:5.0f}{of} s", *self._counts()]
        if self._last.get("p99_us"):
            parts.append(f"p99 {float(self._last['p99_us']) / 1000:.1f} ms")
        for cluster in self._clusters:
            found = cluster.leader()
            name = cluster.member_of(found.node).name if found is not None else None
            parts.append(f"leader {name} (term {found.term})" if found is not None else "no leader")
        return "   ".join(parts)

    def _counts(self) -> list[str]:
        line = self._last
        parts = [
            f"{line.get('users', 0)} users",
            f"{float(line.get('rate', 0.0)):,.0f}/s".replace(",", " "),
            f"{line.get('failed', 0)} failed",
            f"{line.get('unknown', 0)} unknown",
        ]
        if line.get("dropped"):
            parts.append(f"{line['dropped']} DROPPED")
        if line.get("lost_workers"):
            parts.append(f"{line['lost_workers']} workers LOST")
        return parts

    # The panel.

    def panel(self) -> RenderableType:
        """Time and rates, the busiest operations, the clusters, the faults."""
        # Progress comes once a second; the clock of the panel goes on in between, but not through a silence.
        since_s = min(time.monotonic() - self._seen, 1.0)
        elapsed_s = float(self._last.get("elapsed_s", 0.0)) + (since_s if self._last.get("state") == "running" else 0.0)
        rows: list[RenderableType] = [Text(), self._clock(elapsed_s)]
        operations = self._operations()
        if operations is not None:
            rows += [Text(), operations]
        rows.append(Text())
        rows += [self._cluster(cluster) for cluster in self._clusters]
        rows += [
            Text(f"fault   {fault.kind} {fault.chosen or fault.target} since {fault.elapsed_s:.1f} s", style="yellow")
            for fault in self._active()
        ]
        end_s = self._run_time_s or float("inf")
        following = next((entry for entry in self._upcoming if elapsed_s < entry[0] < end_s), None)
        if following is not None:
            rows.append(Text(f"next    {following[1]} in {following[0] - elapsed_s:.0f} s", style="dim"))
        return Group(*rows)

    def _clock(self, elapsed_s: float) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        cells: list[RenderableType] = []
        if self._run_time_s:
            shown_s = min(elapsed_s, self._run_time_s)
            cells = [
                Text(f"{shown_s:.0f} of {self._run_time_s:.0f} s", style="bold"),
                ProgressBar(total=self._run_time_s, completed=shown_s, width=_BAR_WIDTH),
            ]
        else:
            cells = [Text(f"{elapsed_s:.0f} s", style="bold")]
        for part in self._counts():
            bad = not part.startswith("0 ") and part.endswith(("failed", "unknown", "DROPPED", "LOST"))
            cells.append(
                Text(part, style="bold red" if part.endswith(("DROPPED", "LOST")) else "yellow" if bad else "")
            )
        grid.add_row(*cells)
        return grid

    def _operations(self) -> Table | None:
        operations = self._last.get("operations")
        if not isinstance(operations, dict) or not operations:
            return None
        room = max(_LEAST_OPERATIONS, min(_MOST_OPERATIONS, self._printer.out.height - _OTHER_LINES))
        busiest = sorted(operations.items(), key=lambda item: -int(item[1].get("count", 0)))[:room]
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("operation", "count", "failed", "unknown", "rate/s", "p50", "p99"):
            table.add_column(column, justify="left" if column == "operation" else "right", no_wrap=True)
        for name, one in sorted(busiest):
            table.add_row(*self._cells(name, one))
        if len(operations) > room:
            table.add_row(Text(f"and {len(operations) - room} more", style="dim"))
        if len(operations) > 1:
            table.add_row(*self._cells("all", self._last), style="bold")
        return table

    @staticmethod
    def _cells(name: str, one: dict[str, Any]) -> Iterable[str]:
        counts = [count(int(one.get(key, 0))) for key in ("count", "failed", "unknown")]
        times = [duration(float(one.get(key, 0.0))) for key in ("p50_us", "p99_us")]
        return [name, *counts, f"{float(one.get('rate', 0.0)):,.1f}", *times]

    @staticmethod
    def _cluster(cluster: ClusterTarget) -> Text:
        """`raft    n1 leader (term 2)   n2 follower   n3 EXITED`."""
        text = Text(f"{cluster.name:<8}", style="dim")
        for row in cluster.rows():
            well = row.state == "running" and row.role
            word = (row.role or "silent") if row.state == "running" else row.state.upper()
            term = f" (term {row.term})" if row.role == "leader" else ""
            style = "bold green" if row.role == "leader" else "" if well else "bold red"
            text.append(f"{row.name} {word}{term}   ", style=style)
        return text
