"""Was everything well that the verdict does not speak of? The systems under test as processes, the load generator
itself, and the circuit breakers of its users."""

from collections.abc import Iterable
from html import escape
from typing import Any, Final

from swarmproof.generator import generator_lines
from swarmproof.report.contents import BROKEN, Contents
from swarmproof.report.wording import count

#: More changes of state than this say nothing more to a reader.
_MOST_CHANGES: Final = 100


def targets_section(contents: Contents) -> str:
    """The systems under test, "" when nobody started any."""
    targets = _objects(contents.facts.get("targets"))
    if not targets:
        return ""
    reads = contents.facts.get("final_reads")
    rows = "".join(_target_row(contents, target, reads if isinstance(reads, dict) else {}) for target in targets)
    deaths = _texts(contents.facts.get("unexpected_deaths"))
    problems = _texts(contents.facts.get("harness_problems"))
    lines = "".join(f"<li class='invalid'>{escape(text)}</li>" for text in deaths)
    lines += "".join(f"<li class='unknown'>{escape(text)}</li>" for text in problems)
    if not deaths and not problems:
        lines = "<li>no process died but by a fault</li>" if "unexpected_deaths" in contents.facts else ""
    return (
        "<section><h2>The systems under test</h2><div class='scroll'><table><thead><tr><th>name<th>kind<th>address"
        f"<th>processes<th>led by<th>final read</tr></thead>{rows}</table></div>"
        + (f"<ul class='faults'>{lines}</ul>" if lines else "")
        + "</section>"
    )


def _target_row(contents: Contents, target: dict[str, Any], reads: dict[str, Any]) -> str:
    name = str(target.get("name", "?"))
    members = ", ".join(str(member.get("name", "?")) for member in _objects(target.get("members")))
    cells = [name, str(target.get("kind", "")), str(target.get("address", "")), members]
    cells += [_leaders(contents, name), _final_read(reads.get(name))]
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _leaders(contents: Contents, cluster: str) -> str:
    led = [change for change in contents.leaders if change.cluster == cluster and change.leader is not None]
    if not led:
        return "–"
    shown = ", ".join(f"{change.leader} (term {change.term})" for change in led[:6])
    return shown + (f" … {len(led)} in all" if len(led) > 6 else "")


def _final_read(read: Any) -> str:
    if not isinstance(read, dict) or not isinstance(read.get("nodes"), dict):
        return "–"
    answers = ", ".join(f"{name} {number}" for name, number in read["nodes"].items())
    return f"{read.get('keys', '?')} keys: {answers}"


def generator_section(contents: Contents) -> str:
    """Whether the load generator kept up, "" when it said nothing."""
    load = contents.load
    rows = list(_generator_rows(contents, load))
    if not rows and not _words(load):
        return ""
    body = "".join(f"<tr><th>{escape(name)}</th><td>{text}</td></tr>" for name, text in rows)
    lines = "".join(f"<li>{escape(line)}</li>" for line in _words(load))
    return f"<section><h2>The load generator</h2><table class='about'>{body}</table><ul>{lines}</ul></section>"


def _words(load: dict[str, Any]) -> list[str]:
    """What it says of itself; the figures are the file's, and may be anything."""
    try:
        return generator_lines(load)
    except BROKEN:
        return ["what the generator said of itself cannot be read"]


def _generator_rows(contents: Contents, load: dict[str, Any]) -> Iterable[tuple[str, str]]:
    last = contents.progress[-1] if contents.progress else {}
    users = load.get("users")
    peak = max((line["users"] for line in contents.progress if isinstance(line.get("users"), int)), default=None)
    workers = max((line["workers"] for line in contents.progress if isinstance(line.get("workers"), int)), default=0)
    if peak is not None:
        where = f" in {workers} worker processes" if workers else " in one process"
        asked = f" (of {users} asked for)" if isinstance(users, int) and users != peak else ""
        yield "users", escape(f"{peak}{asked}{where}")
    if load.get("rate"):
        numbers = {name: load.get(name, last.get(name)) for name in ("issued", "dropped", "unissued")}
        known = {name: number for name, number in numbers.items() if isinstance(number, int)}
        told = [f"{count(known[name])} {name}" for name in ("issued", "dropped") if name in known]
        told += [f"{count(known['unissued'])} due when the run ended"] if known.get("unissued") else []
        text = f"at {load['rate']} a second: {', '.join(told) or 'nobody said what became of them'}"
        dropped = known.get("dropped")
        yield "arrivals", f"<span class='{'unknown' if dropped else ''}'>{escape(text)}</span>"
    cancelled = last.get("cancelled")
    if isinstance(cancelled, int) and cancelled:
        yield "cancelled", escape(f"{count(cancelled)} requests were in flight when the run ended; they count nowhere")


def breaker_section(contents: Contents) -> str:
    """The circuit breakers' transitions, "" when none ever did anything."""
    changes, refused = contents.breakers.changes, contents.breakers.refused
    if not changes and not refused:
        return ""
    rows = "".join(
        f"<tr><td class='times'>{contents.elapsed_s(change.at_ns):.3f} s</td><td>{escape(change.address)}</td>"
        f"<td>{escape(change.old)} → {escape(change.new)}</td><td>{escape(change.reason)}</td>"
        f"<td>{count(change.refused)}</td></tr>"
        for change in changes[:_MOST_CHANGES]
    )
    more = len(changes) - _MOST_CHANGES
    number = f"{count(len(changes))} change{'' if len(changes) == 1 else 's'} of state"
    return (
        f"<section><h2>Circuit breakers</h2><p>{number}; {count(refused.total())} calls "
        "were refused, which are neither requests nor failures and count nowhere else.</p>"
        "<div class='scroll'><table><thead><tr><th>time<th>address<th>from → to<th>because<th>refused by then"
        f"</tr></thead>{rows}</table></div>"
        + (f"<p class='soft'>{count(more)} later ones are in breaker-*.jsonl.</p>" if more > 0 else "")
        + "</section>"
    )


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
