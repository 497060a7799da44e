"""The protocol check: every reply matched one request on its own connection, exactly once and unaltered."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from records.violations import INFORMATIONAL, PAYLOAD, Violation
from swarmproof.judge.case import Case
from swarmproof.judge.history import STATUS_OK
from swarmproof.judge.verdict import INVALID, UNKNOWN, VALID, Check, grouped

NAME = "protocol"

#: Kinds named in the reason; the evidence has them all.
_KINDS_NAMED = 4
#: Examples that go into the evidence; the run directory keeps more of them.
_EXAMPLES = 3
_HEX_BYTES = 64
#: A shorter payload may be the same as another's by chance.
_TELLING_BYTES = 8


def check(case: Case) -> Check | None:
    """None for a bare history, which knows nothing of replies."""
    if case.protocol is None:
        return None
    by_kind: dict[str, int] = {}
    for (kind, _), count in case.protocol.counts.items():
        by_kind[kind] = by_kind.get(kind, 0) + count
    broken = {kind: count for kind, count in by_kind.items() if kind not in INFORMATIONAL and count}
    told = {kind: count for kind, count in by_kind.items() if kind in INFORMATIONAL and count}
    checked = _replies_checked(case)
    evidence: dict[str, Any] = {
        "replies_checked": checked,
        "violations": sum(broken.values()),
        "violations_by_kind": broken,
        "violations_by_operation": {
            f"{operation}: {kind}": count
            for (kind, operation), count in sorted(case.protocol.counts.items())
            if kind in broken
        },
        "informational": told,
    }
    if broken:
        examples = [example for example in case.protocol.examples if example.kind in broken]
        others = crossed_replies(examples)
        evidence["examples"] = [_example(case, example) for example in examples[:_EXAMPLES]]
        evidence["crossed_examples"] = len(others)
        ranked = sorted(broken.items(), key=lambda item: -item[1])
        named = ", ".join(f"{count} × {kind}" for kind, count in ranked[:_KINDS_NAMED])
        more = f" and {len(ranked) - _KINDS_NAMED} more kinds" if len(ranked) > _KINDS_NAMED else ""
        crossed = f" (crossed: {_replies(len(others))} came with what another request had asked for)" if others else ""
        chosen = next((number for number in others if others[number] in others), next(iter(others), 0))
        shown = _counterexample(case, examples, chosen, others) if examples else None
        return Check(NAME, INVALID, f"{named}{more}, in {grouped(checked)} replies{crossed}", evidence, shown)
    if not checked:
        return Check(NAME, UNKNOWN, "no reply was checked: there is no data", evidence)
    late = f" ({', '.join(f'{count} × {kind}' for kind, count in told.items())})" if told else ""
    return Check(NAME, VALID, f"{grouped(checked)} replies matched their requests{late}", evidence)


def _replies_checked(case: Case) -> int:
    """Replies that were parsed and compared: at least the successful ones."""
    from_latency = case.latency.outcomes()[0] if case.latency else 0
    from_history = int(np.count_nonzero(case.history.status == STATUS_OK))
    return max(from_latency, from_history)


def _example(case: Case, violation: Violation) -> dict[str, Any]:
    return {
        "kind": violation.kind,
        "operation": violation.operation,
        "detail": violation.detail,
        "request_id": violation.request_id,
        "connection": violation.connection,
        "expected_hex": violation.expected[:_HEX_BYTES].hex(),
        "got_hex": violation.got[:_HEX_BYTES].hex(),
        "at_s": round(case.seconds(violation.at_ns), 6),
        "process": violation.process,
    }


def crossed_replies(examples: Sequence[Violation]) -> dict[int, int]:
    """Wrong payloads that are the right ones of another failed request: number of an example -> number of the other.

    When two replies are swapped, both requests fail, and each got what the other was to get.
    """
    wanted: dict[bytes, int] = {}
    for number, example in enumerate(examples):
        if example.kind == PAYLOAD and len(example.expected) >= _TELLING_BYTES:
            wanted.setdefault(example.expected, number)
    return {
        number: wanted[example.got]
        for number, example in enumerate(examples)
        if example.kind == PAYLOAD and wanted.get(example.got, number) != number
    }


def _replies(count: int) -> str:
    return "one of the replies kept" if count == 1 else f"{count} of the replies kept"


def _counterexample(
    case: Case, examples: Sequence[Violation], number: int, crossed: Mapping[int, int]
) -> dict[str, Any]:
    violation = examples[number]
    example = _example(case, violation)
    sentence = f"{violation.operation} at {example['at_s']:.3f} s: {violation.kind}"
    if violation.detail:
        sentence += f", {violation.detail}"
    if violation.request_id is not None:
        sentence += f" (request {violation.request_id})"
    if number in crossed:
        other = examples[crossed[number]]
        sentence += f": it is the reply to request {other.request_id}"
        swapped = crossed.get(crossed[number]) == number
        sentence += ", which got that of this one: replies swapped" if swapped else ": replies crossed"
    return {"kind": violation.kind, "sentence": sentence, "operations": [], "violation": example, "fault": None}
