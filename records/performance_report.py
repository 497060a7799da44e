"""The performance report of seed 003: round-trip latencies of successful device commands, as a block and as JSON.

    samples = Samples()
    samples.add(15.23)
    report = performance_report(samples)
    print(console_block(report))
    write_report(report, Path("test-reports/performance-report.json"))

Samples come from the happy path only: commands acknowledged at the first attempt. A threshold that is exceeded makes
a warning in the report; it fails nothing.

Percentiles interpolate linearly between the two closest ranks (Hyndman and Fan's type 7, as `numpy.percentile` and
`statistics.quantiles(method="inclusive")`): p lies at rank 1 + (n - 1) * p / 100. The standard deviation is that of a
sample (n - 1), 0 for a single one.
"""

import json
import math
import os
import re
import statistics
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final, TypedDict

import numpy as np

# Seed 003, "Thresholds": Phase 0's target and Phase 1's stretch goal.
P95_THRESHOLD_MS: Final = 300.0
P99_THRESHOLD_MS: Final = 800.0
PERCENTILE_METHOD: Final = "linear interpolation between closest ranks"

REPORT_JSON: Final = "test-reports/performance-report.json"
# Kept one by one, 8 bytes each; beyond it percentiles are those of a random choice of so many, and the report says so.
MAX_SAMPLES: Final = 100_000

_MAX_HYPERGEOMETRIC: Final = 1_000_000_000  # numpy's own limit

_WIDTH: Final = 70
_MAX_FILE_BYTES: Final = 64 * 1_048_576  # of one report: MAX_SAMPLES need 2 MB


class Thresholds(TypedDict):
    """Limits in milliseconds."""

    p95_ms: float
    p99_ms: float


class Metrics(TypedDict):
    """Statistics in milliseconds; null without samples."""

    sample_count: int
    min_ms: float | None
    max_ms: float | None
    mean_ms: float | None
    stddev_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class PerformanceReport(TypedDict):
    """The JSON file's schema (seed 003)."""

    timestamp: str
    thresholds: Thresholds
    metrics: Metrics
    samples_ms: list[float]
    warnings: list[str]


class PerformanceReportError(Exception):
    """A file that is no performance report; one sentence."""


class Samples:
    """Round trips in milliseconds: exact count, extremes, mean and deviation of all; at most MAX_SAMPLES are kept."""

    def __init__(self, limit: int = MAX_SAMPLES) -> None:
        self.count = 0
        self.kept: list[float] = []
        self._limit = limit
        self._random = Random(0)
        self._numbers = np.random.default_rng(0)
        self.min_ms = math.inf
        self.max_ms = -math.inf
        self.mean_ms = 0.0
        self._squares = 0.0

    def add(self, sample_ms: float) -> None:
        """One command's round trip."""
        self.count += 1
        self.min_ms = min(self.min_ms, sample_ms)
        self.max_ms = max(self.max_ms, sample_ms)
        # Welford: no large sums of squares to subtract from each other.
        delta = sample_ms - self.mean_ms
        self.mean_ms += delta / self.count
        self._squares += delta * (sample_ms - self.mean_ms)
        if len(self.kept) < self._limit:
            self.kept.append(sample_ms)
            return
        place = self._random.randrange(self.count)  # every sample is kept with the same chance (reservoir, algorithm R)
        if place < self._limit:
            self.kept[place] = sample_ms

    def extend(self, samples_ms: Iterable[float]) -> None:
        """Many of them, at less cost for each."""
        values = np.fromiter(samples_ms, dtype=np.float64)
        if not len(values):
            return
        part = Samples(self._limit)
        part.count = len(values)
        part.min_ms, part.max_ms, part.mean_ms = float(values.min()), float(values.max()), float(values.mean())
        part._squares = float(((values - part.mean_ms) ** 2).sum())
        part.kept = _some(values, min(len(values), self._limit), self._numbers)
        self.merge(part)

    def merge(self, other: "Samples") -> None:
        """Add all that another one has seen. What is kept stays a fair choice of everything."""
        if not other.count:
            return
        ours, total = self.count, self.count + other.count
        delta = other.mean_ms - self.mean_ms
        self.mean_ms += delta * other.count / total
        self._squares += other._squares + delta * delta * ours * other.count / total
        self.count = total
        self.min_ms = min(self.min_ms, other.min_ms)
        self.max_ms = max(self.max_ms, other.max_ms)
        if total <= self._limit:
            self.kept += other.kept
            return
        if total < _MAX_HYPERGEOMETRIC:
            chosen = int(self._numbers.hypergeometric(other.count, ours, self._limit))
        else:  # so many that drawing with or without replacement makes no difference
            chosen = int(self._numbers.binomial(self._limit, other.count / total))
        chosen = min(chosen, len(other.kept))
        self.kept = [
            *_some(self.kept, min(self._limit - chosen, len(self.kept)), self._numbers),
            *_some(other.kept, chosen, self._numbers),
        ]

    @property
    def stddev_ms(self) -> float:
        return math.sqrt(self._squares / (self.count - 1)) if self.count > 1 else 0.0

    def to_message(self) -> dict[str, Any]:
        """What a worker sends to its master."""
        return {
            "count": self.count,
            "min_ms": self.min_ms,
            "max_ms": self.max_ms,
            "mean_ms": self.mean_ms,
            "squares": self._squares,
            "kept": self.kept,
        }

    @classmethod
    def from_message(cls, message: Any) -> "Samples":
        """The other way; whatever is no such message has no samples."""
        samples = cls()
        if not isinstance(message, dict) or not isinstance(message.get("count"), int):
            return samples
        figures = [message.get(name) for name in ("min_ms", "max_ms", "mean_ms", "squares")]
        kept = message.get("kept")
        if message["count"] < 1 or not all(map(_is_number, figures)):
            return samples
        if not isinstance(kept, list) or not 0 < len(kept) <= message["count"] or not all(map(_is_number, kept)):
            return samples
        samples.count = message["count"]
        samples.min_ms, samples.max_ms, samples.mean_ms, samples._squares = map(float, figures)  # type: ignore[arg-type]
        samples.kept = kept
        return samples


def _some(values: Any, count: int, numbers: np.random.Generator) -> list[float]:
    """So many of these, each with the same chance."""
    if count == len(values):
        return list(map(float, values))
    chosen: list[float] = numbers.choice(np.asarray(values), count, replace=False, shuffle=False).tolist()
    return chosen


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The percentile of samples in ascending order, by PERCENTILE_METHOD. Raises StatisticsError for none."""
    if not ordered:
        raise statistics.StatisticsError("no percentile of no samples")
    rank = (len(ordered) - 1) * percent / 100
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def performance_report(
    samples: Samples,
    *,
    p95_threshold_ms: float = P95_THRESHOLD_MS,
    p99_threshold_ms: float = P99_THRESHOLD_MS,
    now: datetime | None = None,
) -> PerformanceReport:
    """What the samples say, rounded to hundredths of a millisecond as in the seed. `now`: an aware time."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    thresholds = Thresholds(p95_ms=p95_threshold_ms, p99_ms=p99_threshold_ms)
    metrics = _metrics(samples)
    return PerformanceReport(
        timestamp=moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z",
        thresholds=thresholds,
        metrics=metrics,
        samples_ms=[round(sample_ms, 2) for sample_ms in samples.kept],
        warnings=_warnings(samples, metrics, thresholds),
    )


def _metrics(samples: Samples) -> Metrics:
    if not samples.count:
        return Metrics(
            sample_count=0,
            min_ms=None,
            max_ms=None,
            mean_ms=None,
            stddev_ms=None,
            p50_ms=None,
            p95_ms=None,
            p99_ms=None,
        )
    ordered = sorted(samples.kept)
    return Metrics(
        sample_count=samples.count,
        min_ms=round(samples.min_ms, 2),
        max_ms=round(samples.max_ms, 2),
        mean_ms=round(samples.mean_ms, 2),
        stddev_ms=round(samples.stddev_ms, 2),
        p50_ms=round(percentile(ordered, 50), 2),
        p95_ms=round(percentile(ordered, 95), 2),
        p99_ms=round(percentile(ordered, 99), 2),
    )


def _warnings(samples: Samples, metrics: Metrics, thresholds: Thresholds) -> list[str]:
    warnings = []
    for name, value, limit in (
        ("p95", metrics["p95_ms"], thresholds["p95_ms"]),
        ("p99", metrics["p99_ms"], thresholds["p99_ms"]),
    ):
        if value is not None and value >= limit:  # the seed wants less than the threshold
            warnings.append(f"{name} latency {value:.2f} ms exceeds threshold {limit:.1f} ms")
    if samples.count > len(samples.kept):
        warnings.append(f"percentiles are those of {len(samples.kept)} of {samples.count} samples, chosen at random")
    return warnings


def console_block(report: PerformanceReport) -> str:
    """The block that the seed prints at the end of a session."""
    line = "=" * _WIDTH
    head = [line, "PERFORMANCE REPORT - Round-Trip Command Latency", line, ""]
    metrics, thresholds = report["metrics"], report["thresholds"]
    if not metrics["sample_count"]:
        return "\n".join([*head, "No performance data collected", "", line])

    def row(label: str, value: float | None, limit: float | None = None) -> str:
        told = f"  {label + ':':<8}{value:>8.2f} ms"
        return told if limit is None else f"{told}  (threshold: {limit:.1f} ms)"

    warnings = [f"⚠️  {warning}" for warning in report["warnings"]] or ["✅ All performance thresholds met"]
    return "\n".join(
        [
            *head,
            f"Samples collected: {metrics['sample_count']}",
            "",
            "Latency Statistics:",
            row("Min", metrics["min_ms"]),
            row("Max", metrics["max_ms"]),
            row("Mean", metrics["mean_ms"]),
            row("StdDev", metrics["stddev_ms"]),
            "",
            "Percentiles:",
            row("p50", metrics["p50_ms"]),
            row("p95", metrics["p95_ms"], thresholds["p95_ms"]),
            row("p99", metrics["p99_ms"], thresholds["p99_ms"]),
            "",
            *warnings,
            "",
            line,
        ]
    )


def write_report(report: PerformanceReport, path: Path) -> None:
    """Write the JSON file, whole or not at all; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def read_report(path: Path) -> PerformanceReport:
    """A report from its file. Raises PerformanceReportError when it is none, OSError when it cannot be read."""
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise PerformanceReportError(f"{path} is larger than any performance report")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PerformanceReportError(f"{path} is no performance report: {error}") from None
    fault = _fault(value)
    if fault:
        raise PerformanceReportError(f"{path} is no performance report: {fault}")
    report: PerformanceReport = value
    return report


def _fault(value: Any) -> str:
    """Where `value` departs from the schema, or ""."""
    if not isinstance(value, dict) or set(value) != set(PerformanceReport.__annotations__):
        return f"it must have exactly {', '.join(PerformanceReport.__annotations__)}"
    if not isinstance(value["timestamp"], str) or not re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value["timestamp"]
    ):
        return "timestamp must be like 2025-11-02T12:34:56.789Z"
    for part, keys in (("thresholds", tuple(Thresholds.__annotations__)), ("metrics", tuple(Metrics.__annotations__))):
        numbers = value[part]
        if not isinstance(numbers, dict) or set(numbers) != set(keys):
            return f"{part} must have exactly {', '.join(keys)}"
        missing_is_fine = part == "metrics" and numbers["sample_count"] == 0
        if not all(_is_number(number) or (number is None and missing_is_fine) for number in numbers.values()):
            return f"{part} must be numbers"
    if not isinstance(value["samples_ms"], list) or not all(map(_is_number, value["samples_ms"])):
        return "samples_ms must be numbers"
    if not isinstance(value["warnings"], list) or not all(isinstance(text, str) for text in value["warnings"]):
        return "warnings must be texts"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
