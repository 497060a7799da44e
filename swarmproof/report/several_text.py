"""Comparisons and trends as plain lines for a terminal or a log."""

from swarmproof.report.comparing import HONESTY, Comparison, OperationPair, Percentile
from swarmproof.report.trend_of_runs import RunRow, Trend
from swarmproof.report.wording import count, duration


def comparison_lines(found: Comparison) -> list[str]:
    """The whole comparison, without a final newline."""
    lines = [_run_line("A", found.a), _run_line("B", found.b), ""]
    lines += _table(
        ["operation", "figure", "A", "B", "B / A", "B is"],
        [row for pair in found.operations for row in pair_rows(pair)],
        left=(0, 1, 5),
    )
    if found.recovery:
        rows = [[entry["words"], spread_of(entry["a"]), spread_of(entry["b"])] for entry in found.recovery]
        lines += ["", *_table(["recovery (min / median / max)", "A", "B"], rows, left=(0,))]
    changed = [check for check in found.checks if check["a"] != check["b"]]
    if changed:
        rows = [[check["check"], check["a"], check["b"]] for check in changed]
        lines += ["", *_table(["check", "A", "B"], rows, left=(0, 1, 2))]
    if found.differences:
        rows = [[entry.what, entry.a, entry.b] for entry in found.differences]
        lines += ["", *_table(["different", "A", "B"], rows, left=(0, 1, 2))]
    else:
        lines += ["", "plan, seed, versions and host are the same"]
    for label, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            lines.append(f"only in {label}: {', '.join(names)}")
    lines += [f"note    {note}" for note in found.notes]
    if found.operations:
        lines += ["", HONESTY]
    return lines


def _run_line(label: str, run: dict[str, object]) -> str:
    return f"{label}  {run['name']}  {str(run['verdict']).upper()}  {run['title']}, seed {run['seed']}"


def pair_rows(pair: OperationPair) -> list[list[str]]:
    """One operation of a comparison as rows of cells."""
    rows = [
        [pair.operation, "count", count(pair.count[0]), count(pair.count[1]), "", ""],
        ["", "rate/s", f"{pair.rate[0]:,.1f}", f"{pair.rate[1]:,.1f}", times(pair.rate_ratio), ""],
    ]
    for name, numbers in (("failed", pair.failed), ("unknown", pair.unknown)):
        if any(numbers):
            rows.append(["", name, count(numbers[0]), count(numbers[1]), "", ""])
    return rows + [["", one.name, *_both(pair, one), times(one.ratio), one.says] for one in pair.percentiles]


def _both(pair: OperationPair, one: Percentile) -> list[str]:
    """A dash for the run in which none of them ended."""
    return [duration(us) if ended else "–" for us, ended in zip((one.a_us, one.b_us), pair.count, strict=True)]


def times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f} x"


def spread_of(figures: dict[str, float] | None) -> str:
    if figures is None:
        return "–"
    low, middle, high = (f"{figures[name]:.2f}" for name in ("min", "median", "max"))
    return f"{low} / {middle} / {high} s ({figures['count']:.0f})"


def trend_lines(trend: Trend) -> list[str]:
    """One line per run, oldest first, then the sentences."""
    head = ["started", "plan", "verdict", "count", "failed", "rate/s", "p50", "p99", "p99.9", "first ack", "run"]
    lines = _table(head, [trend_row(row) for row in trend.runs], left=(0, 1, 2, 10))
    for row in trend.runs:
        lines += [f"note    {row.name}: {note}" for note in row.notes]
    return [*lines, *(["", *trend.sentences] if trend.sentences else [])]


def trend_row(row: RunRow) -> list[str]:
    times_us = [duration(value) if row.count else "–" for value in (row.p50_us, row.p99_us, row.p999_us)]
    first_ack = f"{row.first_ack_s:.2f} s" if row.first_ack_s is not None else "–"
    verdict = row.verdict.upper() + (", limit missed" if row.missed else "")
    rate = f"{row.rate:,.1f}"
    return [row.when, row.plan, verdict, count(row.count), count(row.failed), rate, *times_us, first_ack, row.name]


def _table(head: list[str], rows: list[list[str]], left: tuple[int, ...]) -> list[str]:
    """Aligned columns, two spaces apart; those in `left` begin at the left."""
    if not rows:
        return []
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]

    def line(row: list[str]) -> str:
        cells = [
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return [line(head), *map(line, rows)]
