"""Log lines: one event, one line; a budget that a flood cannot pass."""

import io
import re

import pytest

from servers.log_lines import EventLog, format_value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (0.25, "0.25"),
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("frame too large", '"frame too large"'),
        ("", '""'),
        ("a\nINFO forged key=1", '"a\\nINFO forged key=1"'),
        ("\x1b[2J", '"\\u001b[2J"'),
        ("ключ", '"\\u043a\\u043b\\u044e\\u0447"'),
        (None, "None"),
    ],
)
def test_value_is_plain_or_a_json_string_on_one_line(value: object, text: str) -> None:
    assert format_value(value) == text


def test_value_is_cut_when_it_is_long() -> None:
    assert len(format_value("x" * 10_000)) < 400


def test_event_is_one_line_with_time_level_name_and_keys_in_order() -> None:
    stream = io.StringIO()
    EventLog(stream).warning("connection_closed", peer="127.0.0.1:5", reason="idle timeout")
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING connection_closed peer=127.0.0.1:5 reason="idle timeout"\n',
        stream.getvalue(),
    )


def test_event_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    log = EventLog(stream, "warning")
    log.info("quiet")
    log.debug("quiet")
    log.error("loud")
    assert stream.getvalue().split()[1:] == ["ERROR", "loud"]


def test_flood_of_one_event_is_cut_counted_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("servers.log_lines.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    log = EventLog(stream, lines_per_event_per_s=3)
    for number in range(10):
        log.warning("flood", number=number)
    log.warning("other")
    clock[0] += 1
    log.warning("flood", number=10)
    text = stream.getvalue()
    assert text.count("WARNING flood ") == 4
    assert "WARNING other" in text
    assert "lines_withheld event=flood count=7" in text


def test_flush_says_what_was_withheld_and_only_once() -> None:
    stream = io.StringIO()
    log = EventLog(stream, lines_per_event_per_s=1)
    log.info("flood")
    log.info("flood")
    log.flush()
    log.flush()
    assert stream.getvalue().count("lines_withheld event=flood count=1") == 1


def test_lost_stderr_is_no_reason_to_raise() -> None:
    stream = io.StringIO()
    stream.close()
    EventLog(stream).error("nobody_reads")
