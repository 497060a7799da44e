"""junit.xml: what a CI server makes of a verdict."""

from pathlib import Path
from xml.etree import ElementTree

from records.run_directory import RunDirectory
from swarmproof.report import write_junit
from swarmproof.report.contents import read_contents
from swarmproof.report.junit import render_junit
from tests.report import made


def suite_of(run: RunDirectory) -> ElementTree.Element:
    suite = ElementTree.fromstring(render_junit(read_contents(run))).find("testsuite")
    assert suite is not None
    return suite


def test_a_valid_run_passes_every_case(valid: RunDirectory) -> None:
    assert write_junit(valid).name == "junit.xml"
    suite = suite_of(valid)
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    assert int(suite.get("tests", "0")) >= 7
    assert int(suite.get("skipped", "0")) == 1  # no thresholds
    assert float(suite.get("time", "0")) > 10


def test_an_invalid_check_is_a_failure_with_its_sentence(invalid: RunDirectory) -> None:
    failures = suite_of(invalid).findall("testcase/failure")
    assert len(failures) == 2
    assert all("was lost" in (failure.text or "") for failure in failures)


def test_an_unknown_check_is_an_error(without_effect: RunDirectory) -> None:
    (error,) = suite_of(without_effect).findall("testcase/error")
    assert "did not take effect" in error.get("message", "")


def test_each_threshold_is_a_case_of_its_own(valid: RunDirectory) -> None:
    contents = read_contents(valid)
    results = [
        {"limit": "p99 < 5ms", "holds": False, "text": "p99 is 9ms, the limit is < 5ms"},
        {"limit": "rate > 10", "holds": True, "text": "rate is 20, the limit is > 10"},
    ]
    check = {"name": "thresholds", "verdict": "missed", "reason": "1 of 2", "evidence": {"results": results}}
    contents.verdict = {"checks": [check]}
    suite = ElementTree.fromstring(render_junit(contents))[0]
    assert [case.get("name") for case in suite] == ["threshold p99 < 5ms", "threshold rate > 10"]
    assert (suite.get("failures"), suite.get("tests")) == ("1", "2")
    assert suite[0][0].get("message") == "p99 is 9ms, the limit is < 5ms"


def test_a_missed_threshold_is_a_failure(valid: RunDirectory) -> None:
    contents = read_contents(valid)
    contents.verdict = {"checks": [{"name": "thresholds", "verdict": "missed", "reason": "p99 is 2 s"}]}
    assert "<failure" in render_junit(contents)


def test_bytes_of_a_server_do_not_break_the_file(tmp_path: Path) -> None:
    run = made.broken_replies_run(tmp_path, detail="\x00\x1b]]> & <b> \ud800")
    suite = suite_of(run)
    assert suite.find("testcase/failure") is not None


def test_a_run_that_was_never_judged_is_an_error(half_there: list[RunDirectory]) -> None:
    for run in half_there:
        assert suite_of(run).get("tests") is not None
    assert suite_of(half_there[0]).get("errors") == "1"
