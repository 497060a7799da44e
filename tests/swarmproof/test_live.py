"""The live view of a run: a panel on a terminal, lines in a pipe, nothing when quiet."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from records.faults import FaultRecord
from swarmproof.console import Printer
from swarmproof.live import LiveProgress

ESCAPES = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")
RUN_WITHIN_S = 120.0


def line(elapsed_s: float = 12.0, **more: Any) -> dict[str, Any]:
    operations = {
        f"kv op{place}": {
            "count": 1000 + place,
            "failed": 0,
            "unknown": 0,
            "rate": 50.0,
            "p50_us": 1840.0,
            "p99_us": 9e3,
        }
        for place in range(30)
    }
    return {
        "elapsed_s": elapsed_s, "state": "running", "users": 20, "rate": 1238.5, "count": 74310, "failed": 3,
        "unknown": 0, "p50_us": 1840.0, "p99_us": 9700.0, "operations": operations, **more,
    }  # fmt: skip


def printer_on(height: int, *, terminal: bool = True, quiet: bool = False) -> tuple[Printer, io.StringIO]:
    out = io.StringIO()
    printer = Printer(quiet=quiet)
    printer.out = Console(file=out, force_terminal=terminal, width=100, height=height, highlight=False)
    return printer, out


def panel_text(live: LiveProgress, printer: Printer, out: io.StringIO) -> list[str]:
    out.seek(0)
    out.truncate()
    printer.out.print(live.panel())
    return [text.rstrip() for text in ESCAPES.sub("", out.getvalue()).splitlines()]


def test_the_panel_has_time_rates_operations_faults_and_what_comes_next() -> None:
    printer, out = printer_on(40)
    fault = FaultRecord(1, "pause", "follower", chosen="n2", elapsed_s=10.2)
    upcoming = [(5.0, "kill leader"), (19.0, "partition leader"), (99.0, "never")]
    live = LiveProgress(printer, [], 30.0, active=lambda: [fault], upcoming=upcoming)
    live.show(line())
    text = "\n".join(panel_text(live, printer, out))
    assert re.search(r"12 of 30 s  ━+.*20 users  1 238/s  3 failed  0 unknown", text)
    assert re.search(r"kv op29 +1 029 +0 +0 +50\.0 +1\.84ms +9\.00ms", text)
    assert re.search(r"^all +74 310 +3 +0 +1,238\.5 +1\.84ms +9\.70ms$", text, re.MULTILINE)
    assert "fault   pause n2 since 10.2 s" in text
    assert re.search(r"next    partition leader in [67] s", text)


@pytest.mark.parametrize("height", [12, 20, 24, 60])
def test_the_panel_fits_the_terminal(height: int) -> None:
    printer, out = printer_on(height)
    live = LiveProgress(printer, [], 30.0)
    live.show(line())
    lines = panel_text(live, printer, out)
    assert len(lines) <= max(height, 12)
    assert any(text.startswith("and ") and text.endswith(" more") for text in lines)


def test_a_run_without_an_end_and_with_losses_says_so() -> None:
    printer, out = printer_on(40)
    live = LiveProgress(printer, [], None, upcoming=[(99.0, "kill leader")])
    live.show(line(dropped=7, lost_workers=1, operations={}))
    text = "\n".join(panel_text(live, printer, out))
    assert "7 DROPPED" in text
    assert "1 workers LOST" in text
    assert "next    kill leader in 8" in text
    assert "━" not in text


def test_a_pipe_gets_a_line_now_and_then_and_no_escapes() -> None:
    printer, out = printer_on(40, terminal=False)
    with LiveProgress(printer, [], 30.0) as live:
        for second in range(3):
            live.show(line(second))
            live.refresh()
    assert out.getvalue() == "    0 of 30 s   20 users   1 238/s   3 failed   0 unknown   p99 9.7 ms\n"


def test_quiet_shows_nothing() -> None:
    printer, out = printer_on(40, quiet=True)
    with LiveProgress(printer, [], 30.0) as live:
        live.show(line())
    assert out.getvalue() == ""


def test_on_a_terminal_the_panel_is_seen_and_gone_at_the_end(tmp_path: Path) -> None:
    pid, screen = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        environment = {**os.environ, "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES", "NO_COLOR", "CI"):
            environment.pop(name, None)
        program = [sys.executable, "-m", "swarmproof.cli", "run", "envelope", "-u", "2", "-t", "4s"]
        os.execve(program[0], [*program, "--fault", "pause envelope @1s for 500ms"], environment)
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    raw = bytearray()
    try:
        while select.select([screen], [], [], RUN_WITHIN_S)[0]:
            try:
                part = os.read(screen, 65536)
            except OSError:  # Linux: the other side is closed
                break
            if not part:
                break
            raw += part
    finally:
        os.close(screen)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seen = raw.decode()
    assert status == 0, ESCAPES.sub("", seen)
    panels, _, result = seen.rpartition("\x1b[?25h")  # the cursor is shown again when the panel is gone
    assert re.search(r"\d of 4 s", ESCAPES.sub("", panels))
    assert "fault   pause envelope since" in ESCAPES.sub("", panels)
    assert "envelope stands still (SIGSTOP)" in panels
    assert "verdict" in result
    assert "━" not in result
    erased = re.match(r"\s*(\x1b\[1A\x1b\[2K)+", result)
    assert erased, "the panel is wiped away"
    assert "\x1b[1A" not in result[erased.end() :], "and nothing else is drawn over"
