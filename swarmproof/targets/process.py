"""One child process of the supervisor: started, waited for until it answers, watched, faulted, stopped.

A thread waits for the child's death and knows of it at once; whoever waits for readiness waits for death at the same
time, so a child that crashes at start is reported with the last lines of its log and not after a timeout.
Deaths are either asked for (a fault, a stop) or unexpected; only the latter are reported to `on_death`.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TypeVar

from swarmproof.targets.errors import TargetNotReady, TargetNotStarted
from swarmproof.targets.guard import Guard

Result = TypeVar("Result")

# How long a child may take between SIGTERM and its end before SIGKILL. The reference servers drain for up to 2 s.
STOP_WITHIN_S = 5.0
KILL_WITHIN_S = 5.0
# Between two looks at a log or two probes. Death is waited for meanwhile, so this delays only readiness.
LOOK_AGAIN_S = 0.01
TAIL_LINES = 5
TAIL_BYTES = 16 * 1024
LOG_NAME = "log"


class State(Enum):
    """What a child is doing, as far as the kernel tells."""

    NOT_STARTED = "not started"
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"


class ChildProcess:
    """A command and its process. It can be started again after it ended, under the same name and into the same log.

    `directory` gets the file `log` (stdout and stderr). `on_death(child, sentence)` is called from a thread of its
    own when the process ends and nobody asked it to.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        directory: Path,
        guard: Guard,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        on_death: Callable[["ChildProcess", str], None] | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.directory = directory
        self.log_path = directory / LOG_NAME
        self.on_death = on_death
        self.starts = 0
        self.started_ns: int | None = None
        self.exited_ns: int | None = None
        self._guard = guard
        self._env = env
        self._cwd = cwd
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._exited = threading.Event()
        self._waiter: threading.Thread | None = None
        self._end_is_wanted = False
        self._paused = False
        self._log_offset_bytes = 0

    # What it is.

    @property
    def pid(self) -> int | None:
        """The process id while it runs (or is paused)."""
        process = self._process
        return process.pid if process is not None and not self._exited.is_set() else None

    @property
    def state(self) -> State:
        if self._process is None:
            return State.NOT_STARTED
        if self._exited.is_set():
            return State.EXITED
        return State.PAUSED if self._paused else State.RUNNING

    @property
    def exit_code(self) -> int | None:
        """As subprocess has it: negative for the signal that killed it; None while it runs."""
        process = self._process
        return process.returncode if process is not None and self._exited.is_set() else None

    def describe_end(self) -> str:
        """How it ended: `exited with code 3`, `was killed by SIGKILL`."""
        code = self.exit_code
        if code is None:
            return "has not ended"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"was killed by {signal.Signals(-code).name}"
            return f"was killed by signal {-code}"
        return f"exited with code {code}"

    def last_lines(self, count: int = TAIL_LINES) -> list[str]:
        """The last lines of the log that this start of the process wrote."""
        return list(deque(self._log_text().splitlines(), maxlen=count))

    # Its life.

    def start(self) -> None:
        """Start the command. Errors: TargetNotStarted when the program is missing or the system refuses."""
        with self._lock:
            if self.state in (State.RUNNING, State.PAUSED):
                raise RuntimeError(f"{self.name} runs already")
            program = self.command[0]
            if self._cwd is not None and os.sep in program:
                program = str(self._cwd / program)
            if shutil.which(program, path=(self._env or os.environ).get("PATH")) is None:
                raise TargetNotStarted(
                    f"cannot start {self.name}: there is no program {program!r}; install it or correct the command"
                )
            self.directory.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("ab") as log:
                self._log_offset_bytes = log.tell()
                try:
                    process = self._guard.spawn(self.command, output=log, env=self._env, cwd=self._cwd)
                except OSError as error:
                    raise TargetNotStarted(f"cannot start {self.name}: {error.strerror or error}") from error
            self._process = process
            self._exited = threading.Event()
            self._end_is_wanted = self._paused = False
            self.started_ns, self.exited_ns = time.monotonic_ns(), None
            self.starts += 1
            self._waiter = threading.Thread(
                target=self._wait_for_death, args=(process, self._exited), name=f"wait-{self.name}", daemon=True
            )
            self._waiter.start()

    def wait_until(self, probe: Callable[[], Result | None], timeout_s: float, what: str) -> Result:
        """Call `probe` until it gives something true. Errors: TargetNotStarted on death, TargetNotReady on timeout.

        `what` completes the sentence "NAME did not ... within 10 s".
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if self._exited.is_set():
                raise TargetNotStarted(self._sentence_about_end("did not start"))
            result = probe()
            if result:
                return result
            if time.monotonic() > deadline:
                lines = self.last_lines(1)
                said = f"; its log ends with: {lines[0]}" if lines else "; its log is empty"
                raise TargetNotReady(f"{self.name} did not {what} within {timeout_s:g} s{said} ({self.log_path})")
            self._exited.wait(LOOK_AGAIN_S)

    def wait_for_line(self, pattern: "re.Pattern[str]", timeout_s: float) -> "re.Match[str]":
        """The first match of `pattern` in what this start wrote to its log. Errors as `wait_until`."""
        return self.wait_until(
            lambda: pattern.search(self._log_text(from_start=True)),
            timeout_s,
            f"write a line like {pattern.pattern!r} to its log",
        )

    def wait_for_exit(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of the process; whether it has ended."""
        return self._process is None or self._exited.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL to the whole process group, and wait until it is gone."""
        self.signal(signal.SIGKILL, ends_it=True)
        self.wait_for_exit(KILL_WITHIN_S)

    def terminate(self) -> None:
        """SIGTERM, without waiting: the process may drain."""
        self.signal(signal.SIGTERM, ends_it=True)

    def expect_end(self, wanted: bool = True) -> None:
        """What is about to be done to it makes it end by itself: that is no unexpected death."""
        with self._lock:
            self._end_is_wanted = wanted

    def pause(self) -> None:
        """SIGSTOP to the whole group."""
        if self.signal(signal.SIGSTOP):
            self._paused = True

    def resume(self) -> None:
        """SIGCONT to the whole group; nothing when it was not paused."""
        if self.signal(signal.SIGCONT):
            self._paused = False

    def is_stopped_by_kernel(self) -> bool:
        """Whether the kernel reports the process as stopped: the observed effect of a pause."""
        pid = self.pid
        if pid is None:
            return False
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
            return text.rpartition(")")[2].split()[0] in ("T", "t")
        except OSError:
            out = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, check=False).stdout
            return out.strip().startswith(b"T")

    def stop(self, timeout_s: float = STOP_WITHIN_S) -> None:
        """End it: continue it when paused, SIGTERM, and SIGKILL when that did not do. Idempotent."""
        if self.pid is None:
            return
        self._end_is_wanted = True
        self.resume()
        self.terminate()
        if not self.wait_for_exit(timeout_s):
            self.kill()

    def signal(self, number: signal.Signals, *, ends_it: bool = False) -> bool:
        """Send a signal to the group; whether there was a process to send it to."""
        with self._lock:  # the waiter reaps under this lock: the number cannot be somebody else's yet
            if self._process is None or self._exited.is_set():
                return False
            if ends_it:
                self._end_is_wanted = True
            try:
                os.killpg(self._process.pid, number)
            except (ProcessLookupError, PermissionError):
                return False
            return True

    # Internals.

    def _wait_for_death(self, process: "subprocess.Popen[bytes]", exited: threading.Event) -> None:
        if hasattr(os, "waitid"):
            # Without reaping it: as long as the zombie is there, nobody else can have its number.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        else:  # pragma: no cover - macOS before Python 3.13
            process.wait()
        with self._lock:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started itself does not stay behind
            self._guard.release(process.pid)
            process.wait()
            self.exited_ns = time.monotonic_ns()
            wanted = self._end_is_wanted
            exited.set()
        if not wanted and self.on_death is not None:
            self.on_death(self, self._sentence_about_end("died"))

    def _sentence_about_end(self, verb: str) -> str:
        lines = self.last_lines()
        said = "; it says: " + " | ".join(lines) if lines else "; its log is empty"
        return f"{self.name} {verb}: it {self.describe_end()}{said} ({self.log_path})"

    def _log_text(self, *, from_start: bool = False) -> str:
        """What this start wrote: its first or its last TAIL_BYTES."""
        try:
            with self.log_path.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                begin = self._log_offset_bytes if from_start else max(self._log_offset_bytes, end - TAIL_BYTES)
                log.seek(begin)
                return log.read(TAIL_BYTES).decode("utf-8", "replace")
        except OSError:
            return ""
