"""How a run stands: the checks that can be made while it goes on, and the judge's once it has judged.

Some answers cannot come early: whether a write was lost is known when everything has been read back. Others can only
get worse: a reply that broke the protocol makes the run invalid, whatever comes after it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from records.violations import INFORMATIONAL
from swarmproof.fleet.live import Live
from swarmproof.judge.limits import RECOVERY, Limit, ThresholdError, measure, read_limit
from swarmproof.judge.thresholds import limits_of
from swarmproof.judge.verdict import INVALID, MISSED, VALID, grouped

#: What a run can be called that has no verdict.
NO_RUN: Final = "no run yet"
RUNNING: Final = "running"
INVALID_ALREADY: Final = "invalid already"
JUDGING: Final = "being judged"
NOT_JUDGED: Final = "not judged"

#: What a check says that is only made at the end, and one that holds so far.
LATER: Final = "later"
SO_FAR: Final = "so far"

#: What the supervisor says of itself between the end of the load and the verdict.
SETTLING_STAGES: Final = ("settling", "judging")


@dataclass(slots=True)
class Standing:
    """`verdict`: valid | invalid | unknown, or one of the words above. `checks`: rows of name, says, because."""

    verdict: str
    summary: str
    checks: list[tuple[str, str, str]] = field(default_factory=list)
    counterexample: dict[str, Any] | None = None

    @property
    def is_final(self) -> bool:
        return self.verdict not in (NO_RUN, RUNNING, INVALID_ALREADY, JUDGING, NOT_JUDGED)


def standing(live: Live) -> Standing:
    """The verdict of the run when there is one, else what can be said so far."""
    if live.run is None:
        return Standing(NO_RUN, "no test has been started yet")
    judged = live.verdict()
    if judged:
        return _judged(judged)
    checks = list(_checks_so_far(live))
    broken = any(says == INVALID for _, says, _ in checks)
    if live.is_loading:
        text = (
            "a reply broke the protocol; the verdict comes when the run is over"
            if broken
            else "the verdict comes when the run is over"
        )
        return Standing(INVALID_ALREADY if broken else RUNNING, text, checks)
    if (live.status().reply or {}).get("stage") in SETTLING_STAGES:
        return Standing(JUDGING, "everything is healed, read back and judged now", checks)
    if live.status().reply is not None:
        return Standing(
            NOT_JUDGED, "the supervisor will judge this run as soon as it sees that the load has ended", checks
        )
    return Standing(NOT_JUDGED, f"`swarmproof check {live.run.path}` judges this run", checks)


def _judged(verdict: dict[str, Any]) -> Standing:
    checks = []
    example = None
    for check in verdict.get("checks") or []:
        if isinstance(check, dict):
            checks.append(tuple(str(check.get(name, "")) for name in ("name", "verdict", "reason")))
            example = example or check.get("counterexample")
    return Standing(
        str(verdict.get("verdict", "unknown")),
        str(verdict.get("summary", "")),
        checks,  # type: ignore[arg-type]
        example if isinstance(example, dict) else None,
    )


def _checks_so_far(live: Live) -> Iterator[tuple[str, str, str]]:
    total = live.total()
    answered = total.count - total.failed - total.unknown
    counts, _ = live.violations()
    broken = [
        f"{number} × {kind} in {operation}" for (kind, operation), number in counts.items() if kind not in INFORMATIONAL
    ]
    if broken:
        yield "protocol", INVALID, "; ".join(broken)
    else:
        yield "protocol", SO_FAR, f"{grouped(answered)} replies matched their requests"
    yield "outcomes", SO_FAR, f"{grouped(total.failed)} operations failed, of {grouped(total.unknown)} it is not known"
    planned = live.facts().get("planned_faults")
    faults = live.faults()
    if faults or planned:
        seen = sum(fault.took_effect for fault in faults)
        of = f" ({planned} planned)" if isinstance(planned, int) and planned else ""
        yield "faults", SO_FAR, f"{seen} of {len(faults)} faults took effect{of}"
    yield from _thresholds(live)
    yield "durability", LATER, "every acknowledged write is looked for when the run is over"
    yield "linearizability", LATER, "the history is judged when the run is over"


def _thresholds(live: Live) -> Iterator[tuple[str, str, str]]:
    for left, right in limits_of(live.facts()).items():
        try:
            limit = read_limit(left, right)
        except ThresholdError as error:
            yield "threshold", MISSED, str(error)
            continue
        measured = _measured(live, limit)
        if measured is None:
            yield "threshold", LATER, f"{left} {right}"
        else:
            yield "threshold", SO_FAR if limit.holds(measured) else MISSED, limit.show(measured)


def _measured(live: Live, limit: Limit) -> float | None:
    """What the limit measures so far; None for what is only known at the end. Of a window only the newest counts."""
    if limit.metric == RECOVERY:
        figures = [fault.figures.get("first_ack_s") for fault in live.faults()]
        return max((figure for figure in figures if figure is not None), default=None)
    store = live.store
    seconds = store.seconds()
    if limit.phase is not None or len(seconds) < 2:
        return None
    start_s = seconds[0] if limit.window_s is None else max(seconds[0], seconds[-1] - limit.window_s)
    return measure(store, limit, [(start_s, seconds[-1])], store.span())


def verdict_class(word: str) -> str:
    """For colours: good, bad, doubtful or plain."""
    return {VALID: "good", INVALID: "bad", INVALID_ALREADY: "bad", MISSED: "doubtful", "unknown": "doubtful"}.get(
        word, "plain"
    )
