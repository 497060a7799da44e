"""junit.xml: one test case per check, so that a CI server shows the verdict without knowing us.

``invalid`` and a missed threshold are failures, ``unknown`` is an error (the question was not answered), a check
that does not apply is skipped.
"""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from records.run_directory import JUNIT_XML, RunDirectory, write_atomically
from swarmproof.report.contents import Contents, read_contents
from swarmproof.report.wording import encodable


def write_junit(run: RunDirectory) -> Path:
    """Write junit.xml into the run directory; gives its path."""
    path = run.file(JUNIT_XML)
    write_atomically(path, render_junit(read_contents(run)))
    return path


def render_junit(contents: Contents) -> str:
    checks = contents.checks or [
        {"name": "verdict", "verdict": "unknown", "reason": "; ".join(contents.notes) or "the run was not judged"}
    ]
    cases = [_case(contents, each) for check in checks for each in _with_limits(check)]
    suite = ElementTree.Element(
        "testsuite",
        name=_clean(f"swarmproof {contents.title}"),
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors=str(sum(case.find("error") is not None for case in cases)),
        skipped=str(sum(case.find("skipped") is not None for case in cases)),
        time=f"{_seconds(contents):.3f}",
    )
    suite.extend(cases)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _with_limits(check: dict[str, Any]) -> list[dict[str, Any]]:
    """A check; the one of thresholds as one for each of them, so that a CI server names the one that was missed."""
    evidence = check.get("evidence")
    results = evidence.get("results") if isinstance(evidence, dict) else None
    if check.get("name") != "thresholds" or not isinstance(results, list) or not results:
        return [check]
    aborted = evidence.get("aborted") if isinstance(evidence, dict) else None
    limits = [
        {
            "name": f"threshold {result.get('limit')}",
            "verdict": "valid" if result.get("holds") else "missed",
            "reason": result.get("text", ""),
        }
        for result in results
        if isinstance(result, dict)
    ]
    if aborted:
        limits.append({"name": "threshold not aborted", "verdict": "missed", "reason": str(aborted)})
    return limits


def _case(contents: Contents, check: dict[str, Any]) -> ElementTree.Element:
    name, verdict, reason = (str(check.get(field, "")) for field in ("name", "verdict", "reason"))
    case = ElementTree.Element(
        "testcase", classname=_clean(f"swarmproof.{contents.title}"), name=_clean(name), time="0"
    )
    tag = {"invalid": "failure", "missed": "failure", "unknown": "error", "not applicable": "skipped"}.get(verdict)
    if tag:
        outcome = ElementTree.SubElement(case, tag, message=_clean(reason))
        example = check.get("counterexample")
        if isinstance(example, dict):
            outcome.text = _clean(str(example.get("sentence", "")))
    else:
        ElementTree.SubElement(case, "system-out").text = _clean(reason)
    return case


def _seconds(contents: Contents) -> float:
    start, end = contents.start_ns, contents.load.get("end_ns", contents.facts.get("end_ns"))
    return (end - start) / 1e9 if isinstance(end, int) and start is not None else 0.0


def _clean(text: str) -> str:
    """Without the control characters that XML cannot hold: a server's bytes may stand in a sentence."""
    return encodable(
        "".join(char if char in "\t\n" or (char >= " " and char not in "\ufffe\uffff") else "�" for char in text)
    )
