"""What a threshold says, and what it measures: one line of text, read once, the same live and at the end.

    p99{envelope echo} < 5ms                     the whole run
    p99{kv append} during faults < 500ms         before | during | after faults: a phase of the run
    fail_ratio over 10s < 1%                     every sliding window of ten seconds; the worst one counts
    fail_ratio over 10s < 5% abort               and end the run as soon as it is missed
    recovery < 3s · rate > 1000

Left of the sign stands what is measured, right of it the limit; plans have them as key and value.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from records.histogram import merge
from records.latency import RESPONSE, LatencyStore
from records.span import Span

#: Seconds [start, end) of the monotonic clock.
Stretch = tuple[int, int]

BEFORE: Final = "before"
DURING: Final = "during"
AFTER: Final = "after"
PHASES: Final = (BEFORE, DURING, AFTER)

#: Histograms are kept by the second; a window of an hour is the run.
MAX_WINDOW_S: Final = 3600

_LEFT = re.compile(
    r"\s*(?P<metric>[a-z_]+[0-9.]*)\s*(?:\{(?P<operation>[^}]*)\})?"
    r"(?:\s+(?P<phase>before|during|after)\s+faults)?(?:\s+over\s+(?P<window>[0-9]+)\s*s)?\s*"
)
_RIGHT = re.compile(
    r"\s*(?P<sign><=|>=|<|>)\s*(?P<number>[0-9.]+)\s*(?P<unit>us|ms|s|min|%|/s)?(?P<abort>\s+abort)?\s*"
)
_WHOLE = re.compile(r"\s*([^<>]+?)\s*([<>]=?)\s*(\S.*?)\s*")
# Between limits, and not within the braces around a name.
_BETWEEN = re.compile(r"[;\n](?![^{}]*\})")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "%": 0.01, "/s": 1.0, None: 1.0}
PERCENTILES: Final = {
    "p50": 50.0,
    "p90": 90.0,
    "p95": 95.0,
    "p99": 99.0,
    "p99.9": 99.9,
    "p999": 99.9,
    "p99.99": 99.99,
    "p9999": 99.99,
}
RECOVERY: Final = "recovery"
METRICS: Final = (*PERCENTILES, "mean", "max", "min", "rate", "fail_ratio", "unknown_ratio", RECOVERY)


class ThresholdError(ValueError):
    """A limit that cannot be read; one sentence."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One threshold. `value` in seconds, or a share of 1, or a number per second; `unit` as it was written."""

    left: str
    right: str
    metric: str
    operation: str | None
    phase: str | None
    window_s: int | None
    sign: str
    value: float
    unit: str | None
    aborts: bool

    def holds(self, measured: float) -> bool:
        return {
            "<": measured < self.value,
            "<=": measured <= self.value,
            ">": measured > self.value,
            ">=": measured >= self.value,
        }[self.sign]

    def worst(self, measured: Sequence[float]) -> float:
        """The one of several that is nearest to missing the limit, or furthest beyond it."""
        return max(measured) if self.sign in ("<", "<=") else min(measured)

    def show(self, measured: float) -> str:
        return f"{self.left} is {measured / _UNITS[self.unit]:.4g}{self.unit or ''}, the limit is {self.right}"


def read_limit(left: str, right: str) -> Limit:
    """Errors: ThresholdError."""
    subject, bound = _LEFT.fullmatch(left), _RIGHT.fullmatch(right)
    if subject is None:
        raise ThresholdError(f'cannot read "{left}": write a metric and an operation, such as "p99{{kv append}}"')
    if bound is None:
        raise ThresholdError(f'cannot read the limit "{right}" of {left}: write a sign and a number, such as "< 50ms"')
    try:
        value = float(bound["number"]) * _UNITS[bound["unit"]]
    except ValueError as error:
        raise ThresholdError(f'"{bound["number"]}" in the limit of {left} is not a number') from error
    metric, window_s = subject["metric"], int(subject["window"]) if subject["window"] else None
    if metric not in METRICS:
        raise ThresholdError(f"there is no metric {metric}; there are {', '.join(METRICS)}")
    if window_s is not None and not 1 <= window_s <= MAX_WINDOW_S:
        raise ThresholdError(f"the window of {left.strip()} must be of 1s to {MAX_WINDOW_S}s")
    if metric == RECOVERY and (subject["operation"] or subject["phase"] or window_s or bound["abort"]):
        raise ThresholdError("recovery is of the whole run: it has no operation, phase or window, and cannot abort")
    if bound["abort"] and subject["phase"]:
        raise ThresholdError(f"{left.strip()}: a phase is known when the run is over, so it cannot abort it")
    operation = subject["operation"].strip() if subject["operation"] is not None else None
    return Limit(
        left.strip(),
        right.strip(),
        metric,
        operation,
        subject["phase"],
        window_s,
        bound["sign"],
        value,
        bound["unit"],
        bool(bound["abort"]),
    )


def split_limit(text: str) -> tuple[str, str]:
    """What is measured and its limit, of one text such as `p99{envelope echo}<5ms`. Errors: ThresholdError."""
    match = _WHOLE.fullmatch(text)
    if match is None:
        raise ThresholdError(f"{text!r} is not a limit; write it like 'p99{{kv append}}<50ms' or 'recovery<3s'")
    left, right = match[1], f"{match[2]} {match[3]}"
    try:
        read_limit(left, right)
    except ThresholdError as error:
        raise ThresholdError(f"{text!r}: {error}") from None
    return left, right


def split_limits(text: str) -> dict[str, str]:
    """What is measured and its limit, of several between `;` or in lines of their own. Errors: ThresholdError."""
    return dict(split_limit(part.strip()) for part in _BETWEEN.split(text) if part.strip())


def measure(store: LatencyStore, limit: Limit, stretches: Sequence[Stretch], load: Span | None = None) -> float | None:
    """What a limit measures in these stretches of a run (the worst of its windows); None: nothing was.

    With `load`, of seconds that the load did not fill only its part counts for a rate, and windows begin and end with
    seconds that it filled; without, all are filled.
    """
    name = None
    if limit.operation is not None:
        name = find_operation(store.operations(), limit.operation)
        if name is None:
            return None
    if limit.window_s is None:
        return _measure(store, limit.metric, name, stretches, load)
    found = [
        measured
        for window in _windows(stretches, limit.window_s, load)
        if (measured := _measure(store, limit.metric, name, [window], load)) is not None
    ]
    return limit.worst(found) if found else None


def _windows(stretches: Sequence[Stretch], window_s: int, load: Span | None) -> Iterator[Stretch]:
    """All windows within the stretches; of a stretch that has no room for one, itself."""
    for start, end in stretches:
        first, last = start, end
        if load is not None:
            whole_from, whole_to = load.whole_seconds()
            first, last = max(start, whole_from), min(end, whole_to)
        if last - first < window_s:
            yield start, end
        for at in range(first, last - window_s + 1):
            yield at, at + window_s


def _measure(
    store: LatencyStore, metric: str, name: str | None, stretches: Sequence[Stretch], load: Span | None
) -> float | None:
    length_s = sum((end - start) if load is None else load.overlap_s(start, end) for start, end in stretches)
    outcomes = [store.outcomes(name, start, end) for start, end in stretches]
    ok, failed, unknown = (sum(column) for column in list(zip(*outcomes, strict=True))[:3]) if outcomes else (0, 0, 0)
    count = ok + failed + unknown
    if metric == "rate":
        return count / length_s if length_s else None
    if not count:
        return None
    if metric == "fail_ratio":
        return failed / count
    if metric == "unknown_ratio":
        return unknown / count
    histogram = merge([store.histogram(name, RESPONSE, start, end) for start, end in stretches])
    if metric == "mean":
        return histogram.sum_us / count / 1e6
    if metric in PERCENTILES:
        return histogram.percentile_us(PERCENTILES[metric]) / 1e6
    return (histogram.max_us if metric == "max" else histogram.min_us) / 1e6


def find_operation(operations: list[str], wanted: str) -> str | None:
    """By its name, or by the last word of it when that names one operation only."""
    if wanted in operations:
        return wanted
    ending = [name for name in operations if name.split()[-1:] == [wanted]]
    return ending[0] if len(ending) == 1 else None
