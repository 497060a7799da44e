"""`swarmproof compare RUN_A RUN_B`: what two runs have in common, what not, and which differences mean something."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from records.latency import LatencyStore
from swarmproof.report.contents import Contents
from swarmproof.report.variation import difference

#: Percentiles that are compared, and the share of 100 that each is.
PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
#: Figures of recovery in the order and the words of the report.
RECOVERY: Final = {
    "detection_s": "first error or silence",
    "new_leader_s": "new leader",
    "first_ack_s": "first acknowledged write",
    "back_to_baseline_s": "back to the baseline",
    "worst_client_gap_s": "longest gap of a client",
}
#: Differences of the plans that are listed; two unrelated plans differ in everything.
_MOST_DIFFERENCES: Final = 40

HONESTY: Final = (
    "higher, lower: the run's stretches lie apart from those of the other run (rank test, 1 %); this is how these two "
    "runs differ, and two runs cannot tell whether the next two would"
)


@dataclass(slots=True)
class Difference:
    """Something of which the runs were told different things."""

    what: str
    a: str
    b: str


@dataclass(slots=True)
class Percentile:
    """In microseconds; ``ratio`` is b / a. ``says`` is a word of swarmproof.report.variation."""

    name: str
    a_us: float
    b_us: float
    ratio: float | None
    says: str


@dataclass(slots=True)
class OperationPair:
    """One operation in both runs; ``rate`` per second. Counts as [a, b]."""

    operation: str
    count: list[int]
    failed: list[int]
    unknown: list[int]
    rate: list[float]
    rate_ratio: float | None
    percentiles: list[Percentile] = field(default_factory=list)


@dataclass(slots=True)
class Comparison:
    """Two runs side by side."""

    a: dict[str, Any]
    b: dict[str, Any]
    differences: list[Difference]
    operations: list[OperationPair]
    only_a: list[str]
    only_b: list[str]
    recovery: list[dict[str, Any]]
    checks: list[dict[str, str]]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"about": HONESTY}


def compare(a: Contents, b: Contents) -> Comparison:
    """Never fails on what is missing: it says so in ``notes``."""
    ours, theirs = a.latency.operations(), b.latency.operations()
    common = [name for name in ours if name in theirs]
    names: list[str | None] = [*common]
    if len(common) > 1 and ours == theirs:
        names.append(None)
    notes = [f"A: {note}" for note in a.notes] + [f"B: {note}" for note in b.notes]
    if not common:
        notes.append("the runs have no operation in common, so there are no percentiles to compare")
    return Comparison(
        identity(a),
        identity(b),
        list(differences(a, b)),
        [_pair(a.latency, b.latency, name) for name in names],
        [name for name in ours if name not in theirs],
        [name for name in theirs if name not in ours],
        _recovery(a, b),
        _checks(a, b),
        notes,
    )


def identity(contents: Contents) -> dict[str, Any]:
    """What tells a run from others."""
    return {
        "path": str(contents.run.path),
        "name": contents.run.path.name,
        "title": contents.title,
        "plan": plan_name(contents),
        "seed": contents.facts.get("seed"),
        "start_time": start_time(contents),
        "verdict": contents.verdict.get("verdict") or "not judged",
        "summary": contents.verdict.get("summary") or "",
    }


def plan_name(contents: Contents) -> str:
    return str(contents.facts.get("name") or contents.load.get("locustfile") or "?")


def start_time(contents: Contents) -> float | None:
    """Seconds since the epoch, None when the run does not say."""
    for facts in (contents.facts, contents.load):
        value = facts.get("start_time")
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def differences(a: Contents, b: Contents) -> Iterator[Difference]:
    """What the runs were told: plan by key, seed, versions, host. Addresses and times always differ: left out."""
    found = 0
    for what in ("name", "seed", "plan", "versions", "host"):
        ours, theirs = _flat(a.facts.get(what)), _flat(b.facts.get(what))
        for key in sorted({*ours, *theirs}):
            if ours.get(key) != theirs.get(key) and (what, key) != ("plan", "seed"):
                found += 1
                if found <= _MOST_DIFFERENCES:
                    label = f"{what} {key}".strip()
                    yield Difference(label, ours.get(key, "–"), theirs.get(key, "–"))
    if found > _MOST_DIFFERENCES:
        yield Difference("and more", f"{found - _MOST_DIFFERENCES} keys", "")


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """``{"load.users": "20", "fault[0].kind": "kill"}``."""
    if isinstance(value, dict):
        nested = [_flat(item, f"{prefix}.{key}".lstrip(".")) for key, item in value.items()]
    elif isinstance(value, list):
        nested = [_flat(item, f"{prefix}[{place}]") for place, item in enumerate(value)]
    else:
        return {} if value is None else {prefix: str(value)}
    return {key: text for part in nested for key, text in part.items()}


def _pair(a: LatencyStore, b: LatencyStore, name: str | None) -> OperationPair:
    ours, theirs = a.summary(name), b.summary(name)
    pair = OperationPair(
        "all" if name is None else name,
        [ours.count, theirs.count],
        [ours.failed, theirs.failed],
        [ours.unknown, theirs.unknown],
        [round(ours.rate, 3), round(theirs.rate, 3)],
        _ratio(ours.rate, theirs.rate),
    )
    before, after = a.histogram(name), b.histogram(name)
    for label, percent in PERCENTILES.items():
        first, second = before.percentile_us(percent), after.percentile_us(percent)
        says = difference(a, b, name, percent)
        pair.percentiles.append(Percentile(label, first, second, _ratio(first, second), says))
    return pair


def _ratio(a: float, b: float) -> float | None:
    return round(b / a, 4) if a > 0 else None


def _recovery(a: Contents, b: Contents) -> list[dict[str, Any]]:
    """Min, median and max of each figure that either run has."""
    found = []
    for figure, words in RECOVERY.items():
        ours, theirs = recovery_of(a, figure), recovery_of(b, figure)
        if ours or theirs:
            found.append({"figure": figure, "words": words, "a": ours, "b": theirs})
    return found


def recovery_of(contents: Contents, figure: str) -> dict[str, float] | None:
    """``{"min", "median", "max", "count"}`` in seconds, None when the run has none."""
    recovery = contents.facts.get("recovery")
    value = recovery.get(figure) if isinstance(recovery, dict) else None
    if not isinstance(value, dict):
        return None
    numbers = {name: value.get(name) for name in ("min", "median", "max", "count")}
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers.values()):
        return None
    return {name: float(number) for name, number in numbers.items() if number is not None}


def _checks(a: Contents, b: Contents) -> list[dict[str, str]]:
    """Each check's answer in both runs, with the reasons where they differ."""
    ours, theirs = ({str(check.get("name")): check for check in contents.checks} for contents in (a, b))
    found = []
    for name in dict.fromkeys([*ours, *theirs]):
        pair = [side.get(name, {}) for side in (ours, theirs)]
        first, second = (str(check.get("verdict", "–")) for check in pair)
        row = {"check": name, "a": first, "b": second}
        if first != second:
            row |= {"reason_a": str(pair[0].get("reason", "")), "reason_b": str(pair[1].get("reason", ""))}
        found.append(row)
    return found
