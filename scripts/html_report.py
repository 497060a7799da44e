"""One page from pytest's junit file: what failed first, then everything with its time. It loads nothing else.

python scripts/html_report.py test-reports/all.xml test-reports/all.html
"""

import html
import sys
from pathlib import Path
from xml.etree import ElementTree

ORDER = {"error": 0, "failed": 1, "skipped": 2, "passed": 3}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { padding: .2rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid #8883; }
td:last-child, th:last-child { text-align: right; font-variant-numeric: tabular-nums; }
pre { white-space: pre-wrap; font-size: 12px; }
.failed, .error { color: #b00020; } .skipped { color: #8a6d00; } .passed { color: #1b7f3b; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd; } }
"""


def outcome(case: ElementTree.Element) -> tuple[str, str]:
    """Of one test: its outcome, and what was said about it."""
    for tag, name in (("error", "error"), ("failure", "failed"), ("skipped", "skipped")):
        found = case.find(tag)
        if found is not None:
            return name, found.text or found.get("message", "")
    return "passed", ""


def page(junit: Path) -> str:
    """The whole page."""
    rows = []
    for case in ElementTree.parse(junit).iter("testcase"):
        result, text = outcome(case)
        rows.append(
            (ORDER[result], result, f"{case.get('classname')}::{case.get('name')}", text, case.get("time", "0"))
        )
    rows.sort(key=lambda row: (row[0], row[2]))
    counts = {name: sum(row[1] == name for row in rows) for name in reversed(ORDER)}
    summary = ", ".join(f'<span class="{name}">{count} {name}</span>' for name, count in counts.items() if count)
    body = "\n".join(
        f'<tr><td class="{result}">{result}</td><td>{html.escape(name)}'
        f"{f'<details open><summary>why</summary><pre>{html.escape(text)}</pre></details>' if text else ''}</td>"
        f"<td>{float(seconds):.2f} s</td></tr>"
        for _, result, name, text, seconds in rows
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Tests: {junit.stem}</title>'
        f"<style>{STYLE}</style><h1>Tests: {junit.stem}</h1><p>{len(rows)} tests: {summary}</p>"
        f"<table><tr><th>outcome</th><th>test</th><th>time</th></tr>{body}</table></html>\n"
    )


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(page(source), encoding="utf-8")
    print(f"report in {target}")
