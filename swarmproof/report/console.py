"""The end of a run as a terminal shows it: percentiles, one line per fault, and the verdict.

Plain lines of text; on a terminal rich adds weight and colour, and nothing else changes, so that what is read on
a screen and what a CI log holds are the same.
"""

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from records.latency import Summary
from records.run_directory import REPORT_HTML, RunDirectory
from swarmproof.breakers import breaker_lines
from swarmproof.generator import generator_lines
from swarmproof.report.contents import BROKEN, Contents, read_contents
from swarmproof.report.wording import count, encodable, fault_line, operation_line, operation_times, times_of

_COLUMNS = ("count", "failed", "unknown", "rate/s", "p50", "p90", "p95", "p99", "p99.9", "p99.99", "max")
_CELL = 9
#: Before the text of every line that is not of the table.
_LABEL = 8

_STYLE_OF_VERDICT = {"valid": "bold green", "invalid": "bold red", "unknown": "bold yellow", "missed": "bold yellow"}

#: One line: its style for a terminal ("" for none) and its text.
Line = tuple[str, str]


def render_report(run: RunDirectory) -> str:
    """The whole end of a run as plain text, without a final newline."""
    return "\n".join(text for _, text in report_lines(read_contents(run)))


def print_report(run: RunDirectory, console: Console | None = None) -> None:
    """Print it; with colour on a terminal, as clean lines otherwise."""
    console = console or Console(file=sys.stdout, highlight=False)
    for style, text in report_lines(read_contents(run)):
        if console.is_terminal:
            console.print(_coloured(style, text), soft_wrap=True)
        else:
            console.file.write(_writable(text, console.encoding) + "\n")
    console.file.flush()


def _writable(text: str, encoding: str) -> str:
    """The line as a log in another encoding (ASCII in a bare CI shell) can hold it."""
    try:
        return text.encode(encoding, "replace").decode(encoding)
    except LookupError:
        return text


def report_lines(contents: Contents) -> list[Line]:
    lines = _table(contents)
    if lines:
        lines.append(("", ""))
    lines += [_fault(contents, fault) for fault in contents.faults]
    lines += [("", _labelled("breaker", text)) for text in breaker_lines(contents.breakers, contents.start_ns)]
    lines += [("", _labelled("load", text)) for text in _generator(contents)]
    lines += _violations(contents)
    lines += _verdict(contents)
    if contents.run.file(REPORT_HTML).exists():
        lines.append(("", _labelled("report", str(contents.run.file(REPORT_HTML)))))
    lines += [("dim", _labelled("note", note)) for note in contents.notes]
    return [(style, encodable(text)) for style, text in lines]


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"


def _table(contents: Contents) -> list[Line]:
    names = contents.latency.operations()
    if not names:
        return []
    width = max(len("operation"), *(len(name) for name in names))
    head = "operation".ljust(width) + "".join(column.rjust(_CELL) for column in _COLUMNS)
    rows = [("bold", head)]
    summaries = [contents.latency.summary(name) for name in names]
    if len(names) > 1:
        summaries.append(contents.latency.summary())
    for summary in summaries:
        style = "dim" if summary.operation == "all" and len(names) > 1 else ""
        rows.append((style, summary.operation.ljust(width) + "".join(_cells(summary))))
    return rows


def _cells(summary: Summary) -> list[str]:
    percentiles = (summary.p50_us, summary.p90_us, summary.p95_us, summary.p99_us, summary.p999_us, summary.p9999_us)
    times = (*percentiles, summary.max_us)
    cells = [count(summary.count), count(summary.failed), count(summary.unknown), f"{summary.rate:.1f}"]
    cells += times_of(summary, times)
    # A number that fills its cell still keeps a space before it.
    return [" " + cell if len(cell) >= _CELL else cell.rjust(_CELL) for cell in cells]


def _fault(contents: Contents, fault: Any) -> Line:
    style = "" if fault.took_effect else "yellow"
    return style, _labelled("fault", fault_line(fault, contents.fault_at_s(fault)))


def _generator(contents: Contents) -> list[str]:
    try:
        return generator_lines(contents.load)
    except BROKEN:  # the figures are the file's, and may be anything
        return ["what the generator said of itself cannot be read"]


def _violations(contents: Contents) -> list[Line]:
    return [
        ("red", _labelled("reply", f"{kind}: {count(number)} × in {operation}"))
        for (kind, operation), number in sorted(contents.violations.items())
    ]


def _verdict(contents: Contents) -> list[Line]:
    verdict = contents.verdict.get("verdict")
    if not isinstance(verdict, str):
        return []
    style = _STYLE_OF_VERDICT.get(verdict, "")
    lines: list[Line] = []
    counting = [check for check in contents.checks if check.get("verdict") != "not applicable"]
    if verdict == "valid":
        lines.append((style, _labelled("verdict", f"VALID   {contents.verdict.get('summary', '')}")))
        counting = [check for check in counting if check.get("verdict") == "missed"]
    else:
        lines.append((style, _labelled("verdict", verdict.upper())))
    for check in counting:
        answer = str(check.get("verdict", ""))
        text = f"{check.get('name', '?')!s:<16}{answer:<9}{check.get('reason', '')}"
        lines.append((_STYLE_OF_VERDICT.get(answer, "") if answer != "valid" else "", _labelled("", text)))
    example = contents.counterexample or contents.verdict.get("counterexample")
    if verdict == "invalid" and isinstance(example, dict):
        lines += _counterexample(example)
    return lines


def _counterexample(example: dict[str, Any]) -> list[Line]:
    lines = [("bold", _labelled("because", str(example.get("sentence", ""))))]
    fault = example.get("fault")
    operations = example.get("operations")
    rows = (
        [operation for operation in operations if isinstance(operation, dict)] if isinstance(operations, list) else []
    )
    width = max((len(operation_line(operation)) for operation in rows), default=0)
    for operation in rows:
        node = f" at {operation['node']}" if operation.get("node") else ""
        relative = f"  (from the fault {operation_times(operation, after_fault=True)})" if fault else ""
        times = operation_times(operation, after_fault=False)
        text = f"{operation_line(operation):<{width}}  client {operation.get('client')}{node}  {times}{relative}"
        lines.append(("", _labelled("", text)))
    if isinstance(fault, dict):
        nearest = f"nearest fault: {fault.get('kind')} {fault.get('chosen')} at {float(fault.get('at_s', 0)):.3f} s"
        lines.append(("", _labelled("", nearest)))
    return lines


def _coloured(style: str, text: str) -> Text:
    """The line in its style; of a verdict line only the verdict itself is coloured."""
    label, rest = text[:_LABEL], text[_LABEL:]
    if label.strip() in ("verdict", "fault", "breaker", "report", "because", "note", "reply"):
        word, gap, tail = rest.partition("   ")
        head = (word, style) if label.strip() == "verdict" else (word, style or "")
        return Text.assemble((label, "dim"), head, gap, tail)
    return Text(text, style=style)
