"""`--threshold` on plain Locust: the same limits as in plans, told at the end, in JUnit XML and by exit code 4."""

import json
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from records.faults import FaultRecord, append_fault
from records.run_directory import RunDirectory
from tests.fleet.test_extension import free_port, locust, run_locust
from tests.processes import wait_until

LOAD = ("--headless", "-u", "3", "-r", "3")


def cases(path: Path) -> dict[str, bool]:
    """Test case -> whether it is free of failures."""
    (suite,) = ElementTree.parse(path).getroot()
    return {str(case.get("name")): case.find("failure") is None for case in suite.findall("testcase")}


def test_limits_that_are_kept_and_one_that_is_missed_make_exit_code_4_and_cases(tmp_path: Path) -> None:
    limits = ("--threshold", "p99{clock tick} < 5s", "--threshold", "rate>1000000", "--threshold", "fail_ratio<1%")
    code, output = run_locust(tmp_path, *LOAD, "-t", "3s", *limits, "--junit-xml", "junit.xml")
    assert code == 4, output
    assert "threshold  kept    p99{clock tick} is " in output
    assert "threshold  MISSED  rate is " in output
    assert cases(tmp_path / "junit.xml") == {
        "requests": True,
        "threshold p99{clock tick} < 5s": True,
        "threshold rate > 1000000": False,
        "threshold fail_ratio < 1%": True,
    }
    facts = json.loads((tmp_path / "runs" / "latest" / "run.json").read_text())
    assert facts["thresholds"]["rate"] == "> 1000000"
    assert facts["threshold_results"]["verdict"] == "missed"


def test_limits_that_are_all_kept_leave_exit_code_0(tmp_path: Path) -> None:
    limits = ("--threshold", "p99.99{tick}<5s; rate over 1s > 1")
    code, output = run_locust(tmp_path, *LOAD, "-t", "3s", *limits)
    assert code == 0, output
    assert output.count("threshold  kept") == 2


def test_a_limit_on_what_was_not_measured_is_missed(tmp_path: Path) -> None:
    code, output = run_locust(tmp_path, *LOAD, "-t", "1s", "--threshold", "p99{clock tack}<5s")
    assert code == 4, output
    assert "p99{clock tack} was not measured" in output


def test_a_reply_that_broke_the_protocol_outranks_a_missed_limit(tmp_path: Path) -> None:
    arguments = ("-t", "1s", "--threshold", "rate>1000000", "--junit-xml", "junit.xml")
    code, output = run_locust(tmp_path, *LOAD, *arguments, CLOCKWORK_VIOLATES="1")
    assert code == 1, output
    assert cases(tmp_path / "junit.xml") == {"requests": False, "threshold rate > 1000000": False}


def test_a_limit_with_abort_ends_the_run_as_soon_as_it_is_missed(tmp_path: Path) -> None:
    begin = time.monotonic()
    code, output = run_locust(tmp_path, *LOAD, "-t", "50s", "--threshold", "p50{clock tick} over 2s < 1ms abort")
    assert code == 4, output
    assert time.monotonic() - begin < 45
    assert "the run is ended because p50{clock tick} over 2s is" in output


def test_a_master_measures_what_all_its_workers_did(tmp_path: Path) -> None:
    port = str(free_port())
    master = ("--master", "--master-bind-port", port, "--master-bind-host", "127.0.0.1", "--expect-workers", "2")
    limits = ("--threshold", "p99<5s", "--threshold", "max{clock tick}<1us")
    with locust(tmp_path, "--worker", "--master-port", port), locust(tmp_path, "--worker", "--master-port", port):
        code, output = run_locust(tmp_path, *master, *LOAD, "-t", "3s", *limits)
    assert code == 4, output
    assert "threshold  kept    p99 is " in output
    assert "threshold  MISSED  max{clock tick} is " in output


def test_phases_are_those_of_the_faults_in_the_run_directory(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "mine")
    limits = ("--threshold", "rate before faults > 1", "--threshold", "rate during faults > 1000000")
    with locust(tmp_path, *LOAD, "-t", "6s", "--run-dir", str(run.path), *limits) as process:
        wait_until(lambda: run.file("progress.jsonl").exists() and len(run.file("progress.jsonl").read_text()), "load")
        time.sleep(2)  # a whole second of the phase before it
        now_ns = time.monotonic_ns()
        append_fault(
            run, FaultRecord(1, "kill", "leader", took_effect=True, effect_ns=now_ns, healed_ns=now_ns + 10**9)
        )
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 4, output
    assert "threshold  kept    rate before faults is " in output
    assert "threshold  MISSED  rate during faults is " in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--threshold", "p99"), "'p99' is not a limit; write it like 'p99{kv append}<50ms'"),
        (("--threshold", "p98<5ms"), "there is no metric p98; there are p50"),
        (("--threshold", "p99<5ms;p99"), "'p99' is not a limit"),
        (("--threshold", "p99<five"), 'cannot read the limit "< five" of p99'),
        (("--junit-xml", "no/such/folder/x.xml"), "its folder does not exist"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_starts(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    code, output = run_locust(tmp_path, *LOAD, *arguments)
    assert code == 2, output
    assert sentence in output
    assert "Traceback" not in output
    assert not (tmp_path / "runs").exists()
