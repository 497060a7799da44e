"""The last lines of a run, as text and on a terminal."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from records.breakers import BreakerLog
from records.faults import FaultRecord
from records.run_directory import RunDirectory
from swarmproof.report import print_report, render_report
from swarmproof.report.wording import count, duration, fault_line
from tests.report import made


def test_the_table_has_a_row_per_operation_and_aligned_columns(valid: RunDirectory) -> None:
    lines = render_report(valid).splitlines()
    head = lines[0]
    assert head.split() == [
        "operation",
        "count",
        "failed",
        "unknown",
        "rate/s",
        "p50",
        "p90",
        "p95",
        "p99",
        "p99.9",
        "p99.99",
        "max",
    ]
    rows = [line for line in lines[1:] if line.startswith(("kv ", "envelope ", "f00d ", "all "))]
    assert [re.split(r"  +", row)[0] for row in rows] == [
        "envelope echo",
        "f00d toggle",
        "kv append",
        "kv cas",
        "kv delete",
        "kv get",
        "kv put",
        "all",
    ]
    assert {len(row) for row in rows} == {len(head)}


def test_each_fault_has_its_line(valid: RunDirectory) -> None:
    text = render_report(valid)
    assert (
        "fault   leader n1 killed at 4.0 s; n2 leads term 2 after 0.41 s; first acknowledged write after 0.47 s" in text
    )
    assert "fault   leader n2 killed at 9.0 s; n3 leads term 3 after 0.41 s" in text


def test_a_valid_run_has_its_verdict_in_one_line(valid: RunDirectory) -> None:
    (line,) = [line for line in render_report(valid).splitlines() if line.startswith("verdict")]
    assert re.match(
        r"verdict VALID   linearizable: [\d ]+ operations on 12 keys; [\d ]+ acknowledged writes all found; "
        r"[\d ]+ replies matched their requests; 2 of 2 faults took effect$",
        line,
    )


def test_an_invalid_run_shows_the_counterexample(invalid: RunDirectory) -> None:
    text = render_report(invalid)
    assert "verdict INVALID\n" in text
    assert re.search(r'because n\d acknowledged append "\S+" to key list-\d at 3\.\d+ s; .*was lost\n', text)
    assert re.search(r'        append list-\d "\S+" +client \d at n\d  3\.\d+ to 3\.\d+ s  \(from the fault -0\.', text)
    assert "nearest fault: kill n1 at 4.002 s" in text


def test_an_unknown_run_says_what_is_missing(without_effect: RunDirectory) -> None:
    text = render_report(without_effect)
    assert "it did not take effect" in text
    assert "verdict UNKNOWN" in text
    assert re.search(r"faults +unknown +the fault at 4\.0 s \(kill n1\) did not take effect", text)


def test_broken_replies_are_counted_by_kind(broken_replies: RunDirectory) -> None:
    assert "reply   reply on the wrong connection: 1 × in envelope echo" in render_report(broken_replies)


def test_a_file_gets_clean_lines_and_a_terminal_gets_colour(valid: RunDirectory) -> None:
    plain, coloured = io.StringIO(), io.StringIO()
    print_report(valid, Console(file=plain, force_terminal=False))
    print_report(valid, Console(file=coloured, force_terminal=True, color_system="standard", width=60, highlight=False))
    assert plain.getvalue() == render_report(valid) + "\n"
    assert "\x1b[" not in plain.getvalue()
    assert "\x1b[1;32mVALID" in coloured.getvalue()
    without_colour = re.sub(r"\x1b\[[0-9;]*m", "", coloured.getvalue())
    assert without_colour == plain.getvalue()


def test_a_log_in_another_encoding_gets_what_it_can_hold(broken_replies: RunDirectory) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    print_report(broken_replies, Console(file=out, force_terminal=False))
    assert b"reply on the wrong connection: 1 ? in envelope echo" in raw.getvalue()


def test_a_half_finished_run_is_reported_with_a_note(half_there: list[RunDirectory]) -> None:
    for run in half_there:
        text = render_report(run)
        assert text.strip(), run.path.name
        assert "Traceback" not in text
    first = render_report(half_there[0])
    assert "the run has not been judged yet; `swarmproof check" in first
    assert "no response times were recorded" in first


def test_markup_in_a_name_stays_text(tmp_path_factory: pytest.TempPathFactory, valid: RunDirectory) -> None:
    out = io.StringIO()
    record = FaultRecord(1, "kill", "[bold]x[/bold]", took_effect=False, error="[red]gone")
    assert fault_line(record, 1.0) == "kill of [bold]x[/bold] at 1.0 s; it did not take effect: [red]gone"
    print_report(valid, Console(file=out, force_terminal=True))


@pytest.mark.parametrize(
    ("time_us", "text"),
    [(0, "0us"), (84, "84us"), (999.4, "999us"), (1_840, "1.84ms"), (9_996, "10.0ms"), (97_000, "97.0ms"),
     (99_960, "100ms"), (412_000, "412ms"), (2_104_000, "2.10s")],
)  # fmt: skip
def test_durations_have_three_digits(time_us: float, text: str) -> None:
    assert duration(time_us) == text


def test_thousands_stand_apart() -> None:
    assert count(74310) == "74 310"


def test_faults_of_every_sort_read_as_sentences() -> None:
    pause = FaultRecord(1, "pause", "n2", chosen="n2", took_effect=True, observed="n2 is stopped", before={"leader": 1})
    assert fault_line(pause, 3.0) == "n2 paused at 3.0 s; n2 is stopped"
    kill = FaultRecord(2, "kill", "leader", chosen="n1", took_effect=True, before={"leader": 1}, after={"leader": 3})
    kill.figures = {"new_leader_s": 0.5}
    assert fault_line(kill, 3.0) == "leader n1 killed at 3.0 s; n3 leads after 0.50 s"
    cut = FaultRecord(4, "partition", "leader", chosen="n2", took_effect=True, after={"leader": "n1", "term": 2})
    cut.observed, cut.figures = (
        "4 links carry nothing (n2 | n1, n3); n1 leads term 2 after 0.3 s",
        {"new_leader_s": 0.3},
    )
    assert fault_line(cut, 4.0) == (
        "leader n2 cut off at 4.0 s; 4 links carry nothing (n2 | n1, n3); n1 leads term 2 after 0.30 s"
    )
    late = FaultRecord(5, "link", "n3", chosen="n3", took_effect=True, how="latency=60ms±10ms slicer=64")
    late.observed = "latency=60ms±10ms, slicer=64 on 4 links in use"
    assert fault_line(late, 5.0) == ("links of n3 with latency=60ms±10ms slicer=64 at 5.0 s; seen on 4 links in use")
    gone = FaultRecord(6, "disconnect", "all", chosen="n1, n2", took_effect=True, observed="30 connections were reset")
    assert fault_line(gone, 6.0) == "clients of n1, n2 disconnected at 6.0 s; 30 connections were reset"
    slow = FaultRecord(3, "slow fsync", "n1", chosen="n1", took_effect=True)
    assert fault_line(slow, 3.0) == "slow fsync of n1 at 3.0 s"


def test_a_breakers_way_is_told_by_time_and_reason_and_its_refusals_apart(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "x")
    assert "breaker " not in render_report(run)
    log = BreakerLog(run, "worker-7")
    log.changed("127.0.0.1:9000", "closed", "open", "connection refused", 0)
    for _ in range(20):
        log.changed("127.0.0.1:9000", "open", "half-open", "60 s are over", 1234)
    log.close()
    lines = [line for line in render_report(run).splitlines() if line.startswith("breaker")]
    assert lines[0].endswith("0.0 s  127.0.0.1:9000: closed -> open: connection refused (worker-7)")
    assert lines[-2] == "breaker ... and 9 more changes"
    assert lines[-1].startswith("breaker 127.0.0.1:9000: 1 234 calls refused")
    assert len(lines) == 14


def test_figures_of_the_generator_that_are_none_are_said_to_be_unreadable(tmp_path: Path) -> None:
    run = made.valid_run(tmp_path)
    run.update_json("run.json", {"load": {"clocks": {"w": {"shared": False, "error_s": "soon"}}}})
    assert "what the generator said of itself cannot be read" in render_report(run)
