"""What stands in Locust's HTML report beside its own tables: percentiles in microseconds, faults, the verdict."""

from html import escape
from typing import Final

from records.faults import FaultRecord, read_faults
from records.latency import RESPONSE, SERVICE, LatencyStore
from records.run_directory import RUN_JSON, VERDICT_JSON, RunDirectory
from swarmproof.report.contents import BROKEN
from swarmproof.report.wording import count, encodable, fault_line, times_of

_COLUMNS: Final = ("operation", "count", "failed", "unknown", "rate/s", "p50", "p90", "p99", "p99.9", "p99.99", "max")
_STYLE: Final = """
.swarmproof { max-width:1200px; margin:24px auto; padding:0 24px 40px; font:14px/1.5 Roboto,Helvetica,Arial,sans-serif;
  color:%(ink)s; background:%(back)s }
.swarmproof h2 { font-size:20px; font-weight:500; margin:28px 0 8px }
.swarmproof table { border-collapse:collapse; width:100%%; font-variant-numeric:tabular-nums }
.swarmproof th, .swarmproof td { text-align:right; padding:6px 8px; border-bottom:1px solid %(line)s }
.swarmproof th:first-child, .swarmproof td:first-child { text-align:left }
body { background:%(back)s }
"""
_COLOURS: Final = {
    "light": {"ink": "#1c2024", "back": "#fff", "line": "#dfe2e6"},
    "dark": {"ink": "#e8eaed", "back": "#121212", "line": "#3a3f45"},
}


def locust_sections(store: LatencyStore, run: RunDirectory | None, theme: str) -> str:
    """HTML for the end of Locust's report; "" when nothing was recorded."""
    names = store.operations()
    if not names:
        return ""
    style = _STYLE % _COLOURS.get(theme, _COLOURS["light"])
    body = _table(store, names, RESPONSE, "Response time: from when the request was due")
    body += _table(store, names, SERVICE, "Service time: from its first byte")
    if run is not None:
        body += _faults(run) + _verdict(run)
    return encodable(f"<style>{style}</style><div class='swarmproof'>{body}</div>")


def _table(store: LatencyStore, names: list[str], kind: str, title: str) -> str:
    rows = ""
    for name in [*names, None] if len(names) > 1 else names:
        one = store.summary(name, kind)
        times = (one.p50_us, one.p90_us, one.p99_us, one.p999_us, one.p9999_us, one.max_us)
        cells = [one.operation, count(one.count), count(one.failed), count(one.unknown), f"{one.rate:,.1f}"]
        rows += "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in [*cells, *times_of(one, times)]) + "</tr>"
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    return f"<h2>{title}</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _faults(run: RunDirectory) -> str:
    try:
        faults = read_faults(run)
        facts = run.read_json(RUN_JSON)
    except BROKEN:
        return ""
    if not faults:
        return ""
    load = facts.get("load") if isinstance(facts, dict) else None
    start_ns = load.get("start_ns") if isinstance(load, dict) else None
    items = "".join(f"<li>{escape(fault_line(fault, _at_s(fault, start_ns)))}</li>" for fault in faults)
    return f"<h2>Faults</h2><ul>{items}</ul>"


def _at_s(fault: FaultRecord, start_ns: object) -> float:
    moment_ns = fault.effect_ns if fault.effect_ns is not None else fault.requested_ns
    return (moment_ns - start_ns) / 1e9 if isinstance(start_ns, int) else fault.elapsed_s


def _verdict(run: RunDirectory) -> str:
    try:
        verdict = run.read_json(VERDICT_JSON)
    except BROKEN:
        verdict = None
    if isinstance(verdict, dict) and verdict.get("verdict"):
        text = f"{str(verdict['verdict']).upper()}: {verdict.get('summary', '')}"
    else:
        text = f"not judged yet; `swarmproof check {run.path}` does it"
    return f"<h2>Verdict</h2><p>{escape(text)}</p>"
