"""The performance report: the seed's block and schema to the letter, and figures that other tools agree with."""

import json
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.performance_report import (
    PerformanceReport,
    PerformanceReportError,
    Samples,
    console_block,
    percentile,
    performance_report,
    read_report,
    write_report,
)

# Seed 003, "Console Output" and "JSON Artifact".
SEED_REPORT: PerformanceReport = {
    "timestamp": "2025-11-02T12:34:56.789Z",
    "thresholds": {"p95_ms": 300.0, "p99_ms": 800.0},
    "metrics": {
        "sample_count": 8,
        "min_ms": 15.23,
        "max_ms": 42.67,
        "mean_ms": 24.85,
        "stddev_ms": 8.12,
        "p50_ms": 22.45,
        "p95_ms": 38.91,
        "p99_ms": 41.23,
    },
    "samples_ms": [15.23, 18.45, 22.67],
    "warnings": [],
}
SEED_BLOCK = """\
======================================================================
PERFORMANCE REPORT - Round-Trip Command Latency
======================================================================

Samples collected: 8

Latency Statistics:
  Min:       15.23 ms
  Max:       42.67 ms
  Mean:      24.85 ms
  StdDev:     8.12 ms

Percentiles:
  p50:       22.45 ms
  p95:       38.91 ms  (threshold: 300.0 ms)
  p99:       41.23 ms  (threshold: 800.0 ms)

✅ All performance thresholds met

======================================================================"""

milliseconds = st.lists(st.floats(0, 10_000), min_size=1, max_size=300)


def of(values: list[float]) -> PerformanceReport:
    samples = Samples()
    samples.extend(values)
    return performance_report(samples)


def test_the_block_is_the_seeds_to_the_letter() -> None:
    assert console_block(SEED_REPORT) == SEED_BLOCK


def test_the_json_has_exactly_the_seeds_schema(tmp_path: Path) -> None:
    def shape(value: Any) -> Any:
        return {key: shape(inner) for key, inner in value.items()} if isinstance(value, dict) else type(value)

    path = tmp_path / "test-reports" / "performance-report.json"
    write_report(of([15.234, 18.45, 22.67]), path)
    written = json.loads(path.read_text())
    assert shape(written) == shape(SEED_REPORT)
    assert list(written) == list(SEED_REPORT)
    assert list(written["metrics"]) == list(SEED_REPORT["metrics"])
    assert written["samples_ms"] == [15.23, 18.45, 22.67]
    assert read_report(path) == written
    assert list(path.parent.iterdir()) == [path]  # no draft is left


def test_the_timestamp_is_utc_with_milliseconds_and_z() -> None:
    moment = datetime(2025, 11, 2, 12, 34, 56, 789_654, tzinfo=UTC)
    assert performance_report(Samples(), now=moment)["timestamp"] == "2025-11-02T12:34:56.789Z"


@given(milliseconds)
def test_the_figures_are_those_of_numpy_and_statistics(values: list[float]) -> None:
    metrics = of(values)["metrics"]
    rough = {"abs": 0.006, "rel": 1e-9}
    assert metrics["sample_count"] == len(values)
    assert (metrics["min_ms"], metrics["max_ms"]) == (round(min(values), 2), round(max(values), 2))
    assert metrics["mean_ms"] == pytest.approx(statistics.fmean(values), **rough)
    assert metrics["stddev_ms"] == pytest.approx(statistics.stdev(values) if len(values) > 1 else 0, **rough)
    for percent, key in ((50, "p50_ms"), (95, "p95_ms"), (99, "p99_ms")):
        assert metrics[key] == pytest.approx(np.percentile(values, percent, method="linear"), **rough)  # type: ignore[literal-required]


def test_a_percentile_lies_where_the_method_says() -> None:
    assert percentile([10.0, 20.0], 50) == 15
    assert percentile([10.0, 20.0, 30.0, 40.0, 50.0], 95) == pytest.approx(48)
    assert percentile([7.0], 99) == 7
    with pytest.raises(statistics.StatisticsError):
        percentile([], 50)


def test_a_threshold_that_is_reached_warns_and_one_that_is_not_does_not() -> None:
    assert of([299.99] * 3)["warnings"] == []
    assert of([300.0] * 3)["warnings"] == ["p95 latency 300.00 ms exceeds threshold 300.0 ms"]
    block = console_block(of([900.0]))
    assert "✅" not in block
    assert "⚠️  p95 latency 900.00 ms exceeds threshold 300.0 ms" in block
    assert "⚠️  p99 latency 900.00 ms exceeds threshold 800.0 ms" in block


def test_without_samples_the_report_says_so(tmp_path: Path) -> None:
    report = of([])
    assert "No performance data collected" in console_block(report)
    write_report(report, tmp_path / "r.json")
    assert read_report(tmp_path / "r.json")["metrics"]["p95_ms"] is None


def test_more_samples_than_are_kept_stay_exact_where_they_can_and_say_so_where_not() -> None:
    samples = Samples(limit=1000)
    samples.extend(float(value) for value in range(100_000))
    report = performance_report(samples)
    metrics = report["metrics"]
    assert (metrics["sample_count"], metrics["min_ms"], metrics["max_ms"]) == (100_000, 0.0, 99_999.0)
    assert metrics["mean_ms"] == pytest.approx(49_999.5)
    assert metrics["p50_ms"] == pytest.approx(50_000, rel=0.1)
    assert len(report["samples_ms"]) == 1000
    assert "percentiles are those of 1000 of 100000 samples, chosen at random" in report["warnings"]


def test_parts_that_are_put_together_are_as_one_whole() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.exponential(10, size).tolist() for size in (1, 30, 0, 7)]
    whole, together = Samples(), Samples()
    for part in parts:
        whole.extend(part)
        samples = Samples()
        samples.extend(part)
        together.merge(Samples.from_message(json.loads(json.dumps(samples.to_message())) if part else None))
    assert together.kept == whole.kept == [value for part in parts for value in part]
    assert performance_report(together)["metrics"] == performance_report(whole)["metrics"]


def test_what_is_kept_of_parts_is_a_fair_choice_of_all_of_them() -> None:
    together = Samples(limit=1000)
    for size, value in ((60_000, 1.0), (500, 2.0), (39_500, 3.0)):
        part = Samples(limit=1000)
        part.extend([value] * size)
        together.merge(part)
    assert (together.count, len(together.kept)) == (100_000, 1000)
    assert together.mean_ms == pytest.approx(1.795)
    # 600, 5 and 395 on average; with the first that came alone there would be one kind only.
    assert 500 < together.kept.count(1.0) < 700
    assert together.kept.count(2.0) < 30
    assert 300 < together.kept.count(3.0) < 500


@pytest.mark.parametrize(
    "message",
    [None, [1.0], {}, {"count": 1}, {"count": 1, "min_ms": 1, "max_ms": 1, "mean_ms": 1, "squares": 0, "kept": ["x"]}],
)
def test_a_message_that_is_none_has_no_samples(message: Any) -> None:
    assert Samples.from_message(message).count == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"timestamp": 1}',
        json.dumps(SEED_REPORT | {"extra": 1}),
        json.dumps(SEED_REPORT | {"timestamp": "yesterday"}),
        json.dumps(SEED_REPORT | {"samples_ms": ["1"]}),
        json.dumps(SEED_REPORT | {"samples_ms": [float("nan")]}),
        json.dumps(SEED_REPORT | {"metrics": SEED_REPORT["metrics"] | {"p95_ms": None}}),
        json.dumps(SEED_REPORT | {"metrics": {}}),
        json.dumps(SEED_REPORT | {"thresholds": {"p95_ms": True, "p99_ms": 1}}),
        json.dumps(SEED_REPORT | {"warnings": "none"}),
        "[" * 100_000,
    ],
)
def test_what_is_no_report_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(PerformanceReportError, match="is no performance report"):
        read_report(path)
