"""Finds every process that a command under test started, whatever it is called and whoever adopted it.

The command gets a mark in its environment, which all its descendants inherit; /proc shows the environment of each.
"""

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

from tests.processes import ROOT, Process, wait_until

MARK = "SWARMPROOF_TEST_MARK"


def processes_with(mark: str) -> list[str]:
    """`pid state command` of every living process with the mark (zombies have ended)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if state != "Z":
            found.append(f"{folder.name} {state} {command}")
    return found


def await_nothing_left(mark: str, deadline_s: float = 20.0) -> None:
    wait_until(lambda: not processes_with(mark), f"no process left, but: {processes_with(mark)}", deadline_s)


class Command(Process):
    """`swarmproof ARGUMENTS` with a mark of its own; `directory` is where it runs and where runs/ appears."""

    def __init__(self, *arguments: str, directory: Path) -> None:
        self.mark = secrets.token_hex(8)
        script = f"import os; os.chdir({str(directory)!r}); from swarmproof.cli import main; main()"
        super().__init__([sys.executable, "-c", script, *arguments], env={MARK: self.mark})

    def read_until(self, text: str, deadline_s: float = 90.0) -> str:
        """Lines of stdout up to the one that holds `text`; AssertionError with all of them when it does not come."""
        lines: list[str] = []
        end = time.monotonic() + deadline_s
        while not lines or text not in lines[-1]:
            assert time.monotonic() < end, f"{text!r} did not come in {deadline_s:g} s, but:\n" + "\n".join(lines)
            lines.append(self.read_line())
        return "\n".join(lines)


def swarmproof(*arguments: str, directory: Path, timeout_s: float = 90.0) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end; asserts that it left no process behind."""
    mark = secrets.token_hex(8)
    done = subprocess.run(
        [sys.executable, "-m", "swarmproof.cli", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), MARK: mark},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    await_nothing_left(mark)
    assert "Traceback" not in done.stderr, done.stderr
    return done
