"""`swarmproof trend test-reports/*.json`: the history of performance reports, oldest first, and where it leads."""

from collections.abc import Callable, Sequence
from pathlib import Path

from records.performance_report import PERCENTILE_METHOD, PerformanceReport, PerformanceReportError, read_report


class TrendError(Exception):
    """Nothing to compare; one sentence."""


def trend(paths: Sequence[Path], say: Callable[[str], None]) -> None:
    """Print one line for each report and one that compares the newest with the oldest.

    Files that are no performance reports are named and left out. Raises TrendError when none is left.
    """
    reports: list[tuple[PerformanceReport, Path]] = []
    for path in paths:
        try:
            reports.append((read_report(path), path))
        except PerformanceReportError as error:
            say(f"left out: {error}")
        except OSError as error:
            say(f"left out: {path}: {error.strerror}")
    if not reports:
        raise TrendError(
            "there is no performance report among these files; the seed's tests and "
            "`locust -f locustfiles/f00d.py --performance-report FILE` write them"
        )
    reports.sort(key=lambda pair: pair[0]["timestamp"])
    say(f"{'time':<24} {'samples':>8} {'mean':>9} {'p50':>9} {'p95':>9} {'p99':>9}  {'p95 changed':>11}")
    before: float | None = None
    for report, path in reports:
        metrics = report["metrics"]
        figures = " ".join(_milliseconds(metrics[key]) for key in ("mean_ms", "p50_ms", "p95_ms", "p99_ms"))
        p95_ms = metrics["p95_ms"]
        warned = f"  {'; '.join(report['warnings'])}" if report["warnings"] else ""
        say(
            f"{report['timestamp']:<24} {metrics['sample_count']:>8} {figures}  "
            f"{_change(before, p95_ms):>11}  {path.name}{warned}"
        )
        before = p95_ms if p95_ms is not None else before
    measured = [report for report, _ in reports if report["metrics"]["sample_count"]]
    if len(measured) > 1:
        first, last = measured[0]["metrics"], measured[-1]["metrics"]
        say(
            f"newest against oldest of {len(measured)}: p50 {_change(first['p50_ms'], last['p50_ms'])}, "
            f"p95 {_change(first['p95_ms'], last['p95_ms'])}, p99 {_change(first['p99_ms'], last['p99_ms'])}"
        )
    say(f"milliseconds; percentiles by {PERCENTILE_METHOD}")


def _milliseconds(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.2f}':>9}"


def _change(before: float | None, now: float | None) -> str:
    if before is None or now is None or before == 0:
        return "-"
    return f"{(now / before - 1) * 100:+.1f} %"
