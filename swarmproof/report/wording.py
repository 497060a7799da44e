"""How numbers and faults are put into words, the same in the console and in the page."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from records.faults import FaultRecord
from records.latency import Summary

if TYPE_CHECKING:
    from swarmproof.report.contents import Contents

#: What was done, by kind of fault: {who} is whom it hit, {how} what it was told beside that.
_HAPPENED = {
    "kill": "{who} killed",
    "kill-compacting": "{who} killed while compacting its log",
    "kill-election": "{who} killed during an election",
    "rolling-kill": "{who} killed one after the other",
    "term": "{who} terminated",
    "pause": "{who} paused",
    "partition": "{who} cut off",
    "partition-out": "{who} no longer heard by the others",
    "partition-in": "{who} no longer hearing the others",
    "link": "links of {who} with {how}",
    "disconnect": "clients of {who} disconnected",
    "slow-fsync": "disk of {who} slowed down",
    "disk-full": "disk of {who} full",
    "log-truncate": "log of {who} cut short",
    "bit-flip": "a bit flipped in the log of {who}",
    "mode": "{who} told to answer with {how}",
    "rpc-errors": "{who} told to answer with errors",
}

#: Of these the first sentence says all: that the process was gone, or stood still.
_SAYS_ALL = frozenset({"kill", "kill-compacting", "kill-election", "term", "pause"})


def duration(time_us: float) -> str:
    """Three digits and a unit: 84us, 1.84ms, 412ms, 2.10s."""
    if time_us < 1_000:
        return f"{time_us:.0f}us"
    if time_us < 1_000_000:
        value = time_us / 1_000
        # Rounded first, so that 999.96 does not become 1000ms of four digits.
        return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}ms"
    return f"{time_us / 1_000_000:.2f}s"


def times_of(summary: Summary, times_us: Iterable[float]) -> list[str]:
    """Each as `duration`; a dash where no operation ended, since nothing took no time."""
    return [duration(time_us) if summary.count else "–" for time_us in times_us]


def count(number: int) -> str:
    """Thousands apart by a narrow gap: 74 310."""
    return f"{number:,}".replace(",", " ")


def encodable(text: str) -> str:
    """Without lone surrogates, which a server's JSON may hold and no file or terminal can."""
    return text.encode("utf-8", "replace").decode("utf-8")


def node(name: Any) -> str:
    """``n1`` for 1 and for "n1"; "" for none."""
    if name is None or name == "":
        return ""
    return f"n{name}" if isinstance(name, int) else str(name)


def what_happened(fault: FaultRecord, at_s: float) -> str:
    """``leader n1 killed at 10.0 s``, ``links of n2 with latency=60ms at 14.0 s``."""
    chosen = node(fault.chosen) or fault.target or "target"
    leader = fault.target == "leader" or (bool(fault.chosen) and node(fault.before.get("leader")) == chosen)
    who = f"leader {chosen}" if leader and chosen != "leader" else chosen
    known = _HAPPENED.get(fault.kind)
    if known is None or not fault.took_effect or ("{how}" in known and not fault.how):
        return f"{fault.kind} of {who} at {at_s:.1f} s"
    # Not with str.format: names are the user's, and may hold braces.
    return f"{known.replace('{how}', fault.how.replace('{', '(')).replace('{who}', who)} at {at_s:.1f} s"


def what_came_of_it(fault: FaultRecord) -> list[str]:
    """What was seen, ``4 links carry nothing (n2 | n1, n3)``, then ``n3 leads term 2 after 0.41 s`` and ``first
    acknowledged write after 0.47 s``; or that nothing happened."""
    if not fault.took_effect:
        why = fault.error or fault.observed
        return [f"it did not take effect{': ' + why if why else ''}"]
    parts: list[str] = []
    leader, term = node(fault.after.get("leader")), fault.after.get("term")
    new_leader_s = fault.figures.get("new_leader_s")
    if new_leader_s is not None:
        parts.append(f"{leader or 'a new leader'} leads{f' term {term}' if term else ''} after {new_leader_s:.2f} s")
    first_ack_s = fault.figures.get("first_ack_s")
    if first_ack_s is not None:
        parts.append(f"first acknowledged write after {first_ack_s:.2f} s")
    seen = effect_of(fault)
    if seen and not (parts and fault.kind in _SAYS_ALL):
        parts.insert(0, seen)
    if fault.error:
        parts.append(fault.error)
    return parts


def effect_of(fault: FaultRecord) -> str:
    """What was observed, without what came of it later and without what the fault was told."""
    seen = fault.observed
    leads = seen.find(" leads term ")
    if leads >= 0:
        seen = seen[: max(seen.rfind("; ", 0, leads), 0)]
    told = f"{', '.join(fault.how.split())} on "
    return f"seen on {seen.removeprefix(told)}" if fault.how and seen.startswith(told) else seen


def fault_line(fault: FaultRecord, at_s: float) -> str:
    """``leader n1 killed at 10.0 s; n3 leads term 2 after 0.41 s; first acknowledged write after 0.47 s``."""
    return "; ".join([what_happened(fault, at_s), *what_came_of_it(fault)])


def verdict_sentence(contents: "Contents") -> str:
    """The answer in one sentence, for somebody who reads nothing else."""
    verdict, summary = contents.verdict.get("verdict"), str(contents.verdict.get("summary") or "")
    missed = [str(check.get("reason", "")) for check in contents.checks if check.get("verdict") == "missed"]
    match verdict:
        case "valid" if missed:
            return f"The system told its clients nothing untrue, but it missed a limit: {'; '.join(missed)}."
        case "valid":
            return f"The system told its clients nothing untrue: {summary}."
        case "invalid":
            example = contents.counterexample or {}
            return f"The system told its clients something untrue: {example.get('sentence') or summary}."
        case "unknown":
            return f"Whether the system told the truth cannot be said: {summary}."
    return "This run has no verdict." if not contents.notes else f"This run has no verdict: {contents.notes[0]}."


def operation_line(operation: dict[str, Any], value_chars: int = 60) -> str:
    """One operation of a counterexample: ``append "7;" to k3``, ``get k3 -> "1;2;"``."""
    name, key = operation.get("op", "?"), operation.get("key", "?")
    match name:
        case "get":
            text = f"get {key} -> {_value(operation.get('out'), value_chars)}"
        case "cas":
            outcome = "" if operation.get("ok", True) else f" refused, saw {_value(operation.get('out'), value_chars)}"
            expect = f" {_value(operation['expect'], value_chars)} ->" if "expect" in operation else ""
            text = f"cas {key}{expect} {_value(operation.get('value'), value_chars)}{outcome}"
        case "delete":
            text = f"delete {key}"
        case _:
            text = f"{name} {key} {_value(operation.get('value'), value_chars)}"
    return f"final {text}" if operation.get("final") else text


def _value(value: Any, chars: int) -> str:
    if value is None:
        return "absent"
    text = str(value)
    return f'"{text}"' if len(text) <= chars else f'"…{text[1 - chars :]}"'


def operation_times(operation: dict[str, Any], *, after_fault: bool) -> str:
    """``12.304 to 12.306 s``, or counted from the fault: ``+0.004 to +0.006 s``."""
    call_name, return_name = ("call_after_fault_s", "return_after_fault_s") if after_fault else ("call_s", "return_s")
    call_s, return_s = operation.get(call_name), operation.get(return_name)
    if not isinstance(call_s, int | float):
        return ""
    sign = "+" if after_fault else ""
    end = f"{return_s:{sign}.3f} s" if isinstance(return_s, int | float) else "never answered"
    return f"{call_s:{sign}.3f} to {end}" if isinstance(return_s, int | float) else f"{call_s:{sign}.3f} s, {end}"
