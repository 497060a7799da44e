"""report.html: one self-contained page. The verdict first, then what a person asks next.

The charts are drawn by plotly.js, which is put into the page from the installed ``plotly`` package when the page
is written: it can be zoomed and read off by hover, needs no network, and nothing of it lies in this repository.
The price is 4.8 MB a page. The counterexample is plain SVG, and every number also stands in a table.
"""

import json
import shlex
import time
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from records.latency import RESPONSE, SERVICE, Summary
from records.run_directory import REPORT_HTML, RunDirectory, write_atomically
from swarmproof.report.contents import Contents, read_contents
from swarmproof.report.health_section import breaker_section, generator_section, targets_section
from swarmproof.report.key_history import key_history
from swarmproof.report.outage_section import faults_section
from swarmproof.report.page import PAGE, SCRIPT, STYLE
from swarmproof.report.series import (
    arrivals,
    fault_bands,
    leader_ribbon,
    percentile_curves,
    slow_operations,
    time_series,
)
from swarmproof.report.timeline import timeline
from swarmproof.report.wording import count, encodable, operation_line, operation_times, times_of, verdict_sentence

_COLUMNS = ("operation", "count", "failed", "unknown", "rate/s", "p50", "p90", "p95", "p99", "p99.9", "p99.99", "max")

#: Examples of broken replies that go into the page.
_MAX_EXAMPLES = 10
_MAX_HEX_BYTES = 48


def write_html(run: RunDirectory) -> Path:
    """Write report.html into the run directory; gives its path."""
    path = run.file(REPORT_HTML)
    write_atomically(path, render_html(read_contents(run)))
    return path


def render_html(contents: Contents) -> str:
    series = time_series(contents)
    data = {
        "series": series,
        "slow": slow_operations(contents),
        "arrivals": arrivals(contents),
        "curves": percentile_curves(contents),
        "faults": fault_bands(contents),
        "leaders": leader_ribbon(contents),
    }
    sections = [
        _verdict(contents),
        _counterexample(contents),
        _charts(contents) if series else "",
        faults_section(contents),
        _operations(contents),
        _violations(contents),
        breaker_section(contents),
        targets_section(contents),
        generator_section(contents),
        _about(contents),
    ]
    page = Template(PAGE).substitute(
        title=escape(contents.title),
        style=STYLE,
        body="\n".join(section for section in sections if section),
        plotly=f"<script>{_plotlyjs()}</script>" if series else "",
        data=_json(data),
        script=SCRIPT if series else "",
    )
    return encodable(page)


def _plotlyjs() -> str:
    from plotly.offline import get_plotlyjs  # half a second that only pages with charts need

    return str(get_plotlyjs())


def _json(data: Any) -> str:
    """JSON that can stand inside a script element, whatever an operation is called."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c").replace("\u2028", "").replace("\u2029", "")


def _verdict(contents: Contents) -> str:
    verdict = str(contents.verdict.get("verdict") or "not judged")
    rows = "".join(
        f"<tr><td>{escape(str(check.get('name', '')))}</td>"
        f'<td><span class="badge {_class(check.get("verdict"))}">{escape(str(check.get("verdict", "")))}</span></td>'
        f"<td>{escape(str(check.get('reason', '')))}</td></tr>"
        for check in contents.checks
    )
    table = f"<table class='checks'><thead><tr><th>check<th>says<th>because</tr></thead>{rows}</table>" if rows else ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in contents.notes)
    notes = f"<ul class='notes'>{notes}</ul>" if notes else ""
    return (
        f'<header><p class="kicker">{escape(contents.title)}{_when(contents)}</p>'
        f'<h1 class="{_class(verdict)}">{escape(verdict.upper())}</h1>'
        f'<p class="lead">{escape(verdict_sentence(contents))}</p>{_headline(contents)}{notes}</header>'
        + (f"<section>{table}</section>" if table else "")
    )


def _when(contents: Contents) -> str:
    """When it began, in this machine's time."""
    for facts in (contents.facts, contents.load):
        at_s = facts.get("start_time")
        if isinstance(at_s, int | float) and not isinstance(at_s, bool):
            try:
                return " · " + time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))
            except (ValueError, OverflowError, OSError):
                return ""
    return ""


def _headline(contents: Contents) -> str:
    """Duration, load and faults in one line under the verdict."""
    parts = []
    seconds = contents.latency.seconds()
    if seconds:
        summary = contents.latency.summary()
        span = contents.latency.span()
        parts.append(f"{count(summary.count)} operations in {max(span.end_s - span.begin_s, 0.0):.0f} s")
        parts.append(f"{summary.rate:,.0f}/s")
        parts.append(f"p99 {times_of(summary, [summary.p99_us])[0]}")
    if contents.faults:
        effective = sum(fault.took_effect for fault in contents.faults)
        parts.append(f"{effective} of {len(contents.faults)} faults took effect")
    return f'<p class="headline">{escape(" · ".join(parts))}</p>' if parts else ""


def _class(verdict: Any) -> str:
    known = {"valid": "valid", "invalid": "invalid", "unknown": "unknown", "missed": "unknown"}
    return known.get(str(verdict), "none")


def _counterexample(contents: Contents) -> str:
    example = contents.counterexample
    if example is None:
        return ""
    sentence = escape(str(example.get("sentence", "")))
    operations = [operation for operation in example.get("operations") or [] if isinstance(operation, dict)]
    fault = example.get("fault")
    head = "<tr><th>operation<th>client<th>node<th>time from start" + ("<th>from the fault" if fault else "") + "</tr>"
    rows = "".join(
        f"<tr><td><code>{escape(operation_line(operation))}</code></td>"
        f"<td>{escape(str(operation.get('client', '')))}</td>"
        f"<td>{escape(str(operation.get('node') or ''))}</td>"
        f"<td class='times'>{operation_times(operation, after_fault=False)}</td>"
        + (f"<td class='times'>{operation_times(operation, after_fault=True)}</td>" if fault else "")
        + "</tr>"
        for operation in operations
    )
    table = f"<div class='scroll'><table><thead>{head}</thead>{rows}</table></div>" if rows else ""
    return (
        f'<section><h2>What could not have happened</h2><p class="because">{sentence}</p>'
        f"{timeline(example)}{table}{key_history(contents, example)}</section>"
    )


def _charts(contents: Contents) -> str:
    led = bool(contents.leaders) or any(fault.before.get("leader") for fault in contents.faults)
    ribbon = " The ribbon below is the leader and its term." if led else ""
    faults = (
        " Orange: a fault, from its effect to its heal (green), darker until the first acknowledged write after it."
        if contents.faults
        else ""
    )
    return (
        '<section><h2>Response time</h2><p class="pick"><label>of <select id="operation"></select></label></p>'
        '<div id="latency" class="chart"></div>'
        "<p class='soft'>Per second. Dots: the slowest operations (beyond the p99 of the run), in the second in which "
        f"they ended.{faults}{ribbon}</p>"
        '<h2>Rate</h2><div id="rate" class="chart low"></div>'
        '<h2>Percentiles</h2><div id="curve" class="chart"></div>'
        "<p class='soft'>A second in which a fault struck, lasted or was healed is of the fault; after: what follows "
        "the last of them.</p>"
        "<noscript><p>The charts need JavaScript; every figure also stands in the tables.</p></noscript></section>"
    )


def _operations(contents: Contents) -> str:
    names = contents.latency.operations()
    if not names:
        return ""
    head = "".join(f"<th>{column}" for column in _COLUMNS)
    body = ""
    for kind, title in (
        (RESPONSE, "Response time: from when the operation was due"),
        (SERVICE, "Service time: from its first byte"),
    ):
        body += f"<tr class='part'><td colspan='{len(_COLUMNS)}'>{title}</td></tr>"
        body += "".join(_operation_row(contents.latency.summary(name, kind)) for name in names)
        if len(names) > 1:
            body += _operation_row(contents.latency.summary(None, kind))
    return (
        f"<section><h2>Operations</h2><div class='scroll'><table class='numbers'><thead><tr>{head}</tr></thead>{body}"
        "</table></div></section>"
    )


def _operation_row(summary: Summary) -> str:
    cells = [count(summary.count), count(summary.failed), count(summary.unknown), f"{summary.rate:,.1f}"]
    times = (
        summary.p50_us,
        summary.p90_us,
        summary.p95_us,
        summary.p99_us,
        summary.p999_us,
        summary.p9999_us,
        summary.max_us,
    )
    cells += times_of(summary, times)
    return f"<tr><td>{escape(summary.operation)}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _violations(contents: Contents) -> str:
    if not contents.violations:
        return ""
    rows = "".join(
        f"<tr><td>{escape(kind)}</td><td>{escape(operation)}</td><td>{count(number)}</td></tr>"
        for (kind, operation), number in sorted(contents.violations.items())
    )
    examples = "".join(
        f"<li>{contents.elapsed_s(example.at_ns):.3f} s, {escape(example.operation)}: {escape(example.kind)}"
        f"{escape(f', {example.detail}' if example.detail else '')}"
        f"<br><small>expected <code>{example.expected[:_MAX_HEX_BYTES].hex(' ') or 'nothing'}</code> "
        f"got <code>{example.got[:_MAX_HEX_BYTES].hex(' ') or 'nothing'}</code></small></li>"
        for example in contents.examples[:_MAX_EXAMPLES]
    )
    return (
        "<section><h2>Replies that were not what was asked for</h2><table><thead><tr><th>kind<th>operation<th>count"
        f"</tr></thead>{rows}</table><details><summary>First examples</summary><ul>{examples}</ul></details></section>"
    )


def _about(contents: Contents) -> str:
    facts = contents.facts
    rows = [
        ("to repeat", f"<code>{escape(reproduction(contents))}</code>"),
        ("seed", escape(str(facts.get("seed", "")))),
        ("host", escape(_text(facts.get("host")))),
        ("versions", escape(_text(facts.get("versions") or contents.load.get("versions")))),
        (
            "load",
            escape(_text({name: contents.load.get(name) for name in ("locustfile", "users", "spawn_rate", "host")})),
        ),
        ("records", f"<code>{escape(str(contents.run.path))}</code>"),
    ]
    body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows if value)
    return f"<section><h2>This run</h2><table class='about'>{body}</table></section>"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items() if item not in (None, ""))
    return "" if value is None else str(value)


def reproduction(contents: Contents) -> str:
    """The command that runs the same plan with the same seed."""
    facts = contents.facts
    seed = facts.get("seed")
    arguments = facts.get("arguments")
    if isinstance(arguments, list) and arguments:
        words = ["swarmproof", *(str(word) for word in arguments)]
        if seed is not None and "--seed" not in words:
            words += ["--seed", str(seed)]
        return shlex.join(words)
    load_arguments = contents.load.get("arguments")
    if isinstance(load_arguments, list) and load_arguments:
        return shlex.join(["locust", *(str(word) for word in load_arguments)])
    name = facts.get("plan") if isinstance(facts.get("plan"), str) else facts.get("name")
    if not name:
        return ""
    return shlex.join(["swarmproof", "run", str(name), *(["--seed", str(seed)] if seed is not None else [])])
