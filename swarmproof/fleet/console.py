"""What a plain Locust run says at its end: percentiles in microsecond resolution, and where the records are."""

from records.breakers import read_breakers
from records.latency import LatencyStore, Summary
from records.offered import Offered
from records.run_directory import RUN_JSON, RunDirectory
from records.violations import read_violations
from swarmproof.breakers import breaker_lines
from swarmproof.generator import generator_lines

_COLUMNS = ("count", "failed", "unknown", "rate/s", "p50", "p90", "p95", "p99", "p99.9", "p99.99", "max")


def print_summary(run: RunDirectory, store: LatencyStore, offered: Offered) -> None:
    """Print one line per operation, the arrivals, the violations by kind, and how to have the run judged."""
    names = store.operations()
    if names:
        width = max(9, *(len(name) for name in names))
        print("\n" + "operation".ljust(width) + "".join(column.rjust(10) for column in _COLUMNS))
        for name in names:
            print(name.ljust(width) + "".join(cell.rjust(10) for cell in _cells(store.summary(name))))
    if offered.rate:
        print(f"arrivals   at {offered.rate} a second: {_arrivals(offered)}")
    load = (run.read_json(RUN_JSON) or {}).get("load") or {}
    for text in generator_lines(load):
        print(f"generator  {text}")
    for text in breaker_lines(read_breakers(run), load.get("start_ns")):
        print(f"breaker    {text}")
    counts, _ = read_violations(run)
    for (kind, operation), number in sorted(counts.items()):
        print(f"violation  {kind}: {number} times in {operation}")
    print(f"records    {run.path}   (swarmproof check {run.path})")


def _arrivals(offered: Offered) -> str:
    text = f"{offered.issued} issued, {offered.dropped} dropped"
    return f"{text}, {offered.unissued} due when the run ended" if offered.unissued else text


def _cells(summary: Summary) -> list[str]:
    percentiles = (summary.p50_us, summary.p90_us, summary.p95_us, summary.p99_us, summary.p999_us, summary.p9999_us)
    times = (*percentiles, summary.max_us)
    counts = [str(summary.count), str(summary.failed), str(summary.unknown), f"{summary.rate:.1f}"]
    return counts + [format_duration(time_us) for time_us in times]


def format_duration(time_us: float) -> str:
    """Three digits and a unit: 84us, 1.84ms, 412ms, 2.1s."""
    if time_us < 1_000:
        return f"{time_us:.0f}us"
    if time_us < 1_000_000:
        value = time_us / 1_000
        return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}ms"
    return f"{time_us / 1_000_000:.2f}s"
