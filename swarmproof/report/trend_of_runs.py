"""`swarmproof report RUN...`: several runs in the order in which they happened, and where they lead."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from swarmproof.report.comparing import plan_name, recovery_of, start_time
from swarmproof.report.contents import Contents

#: Fewer earlier runs than this have no range that a newer one could fall out of.
LEAST_EARLIER: Final = 4


@dataclass(slots=True)
class RunRow:
    """One run in a trend. Latencies in microseconds, of all its operations; recovery: the median of its faults."""

    path: str
    name: str
    plan: str
    seed: Any
    start_time: float | None
    verdict: str
    missed: bool
    count: int
    failed: int
    unknown: int
    rate: float
    p50_us: float
    p99_us: float
    p999_us: float
    faults: int
    effective_faults: int
    first_ack_s: float | None
    back_to_baseline_s: float | None
    notes: list[str]

    @property
    def when(self) -> str:
        """``2026-01-31 12:00:00``, "?" when the run does not say."""
        if self.start_time is None:
            return "?"
        try:
            return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.start_time))
        except (ValueError, OverflowError, OSError):
            return "?"


@dataclass(slots=True)
class Trend:
    """Runs, oldest first, and one sentence for each figure that can be said something about."""

    runs: list[RunRow]
    sentences: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


#: What the sentences are about: attribute of RunRow, words, how a value is written.
_FIGURES: Final[Sequence[tuple[str, str, Callable[[float], str]]]] = (
    ("rate", "the rate", lambda value: f"{value:,.1f}/s"),
    ("p50_us", "p50", lambda value: f"{value / 1000:.3g} ms"),
    ("p99_us", "p99", lambda value: f"{value / 1000:.3g} ms"),
    ("first_ack_s", "the first acknowledged write after a fault", lambda value: f"{value:.2f} s"),
)


def trend_of(runs: Sequence[Contents]) -> Trend:
    """Runs without a start time stand first, in the order in which they were named."""
    rows = sorted((row_of(contents) for contents in runs), key=lambda row: row.start_time or 0.0)
    return Trend(rows, sentences_of(rows))


def row_of(contents: Contents) -> RunRow:
    summary = contents.latency.summary()
    first_ack, back = (recovery_of(contents, figure) for figure in ("first_ack_s", "back_to_baseline_s"))
    return RunRow(
        path=str(contents.run.path),
        name=contents.run.path.name,
        plan=plan_name(contents),
        seed=contents.facts.get("seed"),
        start_time=start_time(contents),
        verdict=str(contents.verdict.get("verdict") or "not judged"),
        missed=any(check.get("verdict") == "missed" for check in contents.checks),
        count=summary.count,
        failed=summary.failed,
        unknown=summary.unknown,
        rate=round(summary.rate, 3),
        p50_us=summary.p50_us,
        p99_us=summary.p99_us,
        p999_us=summary.p999_us,
        faults=len(contents.faults),
        effective_faults=sum(fault.took_effect for fault in contents.faults),
        first_ack_s=first_ack["median"] if first_ack else None,
        back_to_baseline_s=back["median"] if back else None,
        notes=contents.notes,
    )


def sentences_of(rows: Sequence[RunRow]) -> list[str]:
    """What can be said of the newest run beside the earlier ones; nothing where they cannot be compared."""
    plans = list(dict.fromkeys(row.plan for row in rows))
    if len(plans) > 1:
        return [f"these are runs of {len(plans)} plans ({', '.join(plans)}): their figures are no trend"]
    invalid = [row.name for row in rows if row.verdict == "invalid"]
    found = [f"{len(invalid)} of {len(rows)} runs are invalid: {', '.join(invalid[:5])}"] if invalid else []
    measured = [row for row in rows if row.count]
    if len(measured) < 2:
        return found
    *earlier, newest = measured
    if len(earlier) < LEAST_EARLIER:
        return [
            *found,
            f"with {len(measured)} runs nobody can tell a trend from chance; {LEAST_EARLIER + 1} or more can",
        ]
    for name, words, show in _FIGURES:
        values = [value for row in earlier if (value := getattr(row, name)) is not None]
        value = getattr(newest, name)
        if value is None or len(values) < LEAST_EARLIER:
            continue
        low, high = min(values), max(values)
        where = "above" if value > high else "below" if value < low else "within"
        found.append(
            f"{words} of the newest run is {show(value)}, {where} what the {len(values)} earlier ones had "
            f"({show(low)} to {show(high)}, median {show(statistics.median(values))})"
        )
    return found
