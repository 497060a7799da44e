"""Real server processes for tests: started, awaited by their startup line, and surely gone afterwards.

    with ServerProcess("envelope", "--idle-timeout", "0.3") as server:
        sock = socket.create_connection(server.address)
        ...
        assert "frame too large" in server.log()

The server runs as `python -m servers.<name> --port 0 ...` with its stderr in a file (a pipe that nobody reads would
block it). Leaving the block stops it with SIGTERM and expects exit code 0; a server that has to be killed, or that
died by itself, fails the test with the end of its log.
"""

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

ROOT = Path(__file__).resolve().parent.parent
START_DEADLINE_S = 30.0  # room for a loaded machine; a healthy server needs half a second
STOP_DEADLINE_S = 15.0  # the servers themselves drain at most 2 s
CONDITION_DEADLINE_S = 20.0
POLL_S = 0.01
LOG_TAIL_LINES = 30

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, deadline_s: float = CONDITION_DEADLINE_S) -> T:
    """Poll `condition` until it is true and return its value; AssertionError saying `what` never came."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_s} s in vain for: {what} (last: {value!r})")
        time.sleep(POLL_S)


class Process:
    """One child process in its own process group; stdout is read here, stderr goes to a file."""

    def __init__(self, command: Sequence[str], *, env: dict[str, str] | None = None) -> None:
        self.command = list(command)
        self._stderr = tempfile.TemporaryFile("w+b")  # noqa: SIM115 (lives as long as the process)
        self._received = b""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        self.popen = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def log(self) -> str:
        """Everything on stderr so far."""
        return os.pread(self._stderr.fileno(), 1 << 26, 0).decode("utf-8", "replace")

    def log_tail(self) -> str:
        return "\n".join(self.log().splitlines()[-LOG_TAIL_LINES:])

    def wait_for_log(self, text: str, deadline_s: float = CONDITION_DEADLINE_S) -> str:
        """The first line of the log that holds `text`, awaited."""

        def line() -> str:
            return next((line for line in self.log().splitlines() if text in line), "")

        try:
            return wait_until(line, f"{text!r} in the log", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; log:\n{self.log_tail()}") from None

    def read_line(self, deadline_s: float = START_DEADLINE_S) -> str:
        """The next line of stdout; AssertionError with the log when it does not come."""
        assert self.popen.stdout is not None
        end = time.monotonic() + deadline_s
        while b"\n" not in self._received:
            left_s = end - time.monotonic()
            ready = left_s > 0 and select.select([self.popen.stdout], [], [], left_s)[0]
            chunk = os.read(self.popen.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                why = "ended" if ready else f"said nothing for {deadline_s} s"
                raise AssertionError(f"{' '.join(self.command)} {why}; log:\n{self.log_tail()}")
            self._received += chunk
        line, self._received = self._received.split(b"\n", 1)
        return line.decode()

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self, deadline_s: float = STOP_DEADLINE_S) -> int:
        """Await the end by itself and return the exit code."""
        try:
            return self.popen.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{' '.join(self.command)} still runs; log:\n{self.log_tail()}") from None

    def stop(self, deadline_s: float = STOP_DEADLINE_S) -> int:
        """SIGTERM, await the end, return the exit code."""
        if self.running:
            self.signal(signal.SIGTERM)
        return self.wait(deadline_s)

    def kill(self) -> None:
        """SIGKILL the whole process group and reap; safe to call at any time."""
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()

    def close(self) -> None:
        self.kill()
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        if not self._stderr.closed:
            self._stderr.close()


class ServerProcess(Process):
    """`python -m servers.NAME --port 0 OPTIONS`, ready to be connected to at `address` = (host, port)."""

    def __init__(self, name: str, *options: str, port: int = 0, env: dict[str, str] | None = None) -> None:
        super().__init__([sys.executable, "-m", f"servers.{name}", "--port", str(port), *options], env=env)
        self.name = name
        try:
            self.startup_line = self.read_line()
            match = re.fullmatch(rf"{name} listening on (.+):(\d+)", self.startup_line)
            if match is None:
                raise AssertionError(f"unexpected startup line {self.startup_line!r}; log:\n{self.log_tail()}")
        except BaseException:
            self.close()
            raise
        self.host, self.port = match[1].strip("[]"), int(match[2])
        self.address = (self.host, self.port)

    def logged_address(self, event: str) -> tuple[str, int]:
        """The address that the server logged as `EVENT ... address=HOST:PORT` (metrics, admin)."""
        line = self.wait_for_log(f" {event} ")
        match = re.search(r"address=(\S+):(\d+)", line)
        assert match is not None, line
        return match[1].strip("[]"), int(match[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                print(f"log of {self.name}:\n{self.log_tail()}")  # pytest shows it with the failure
                return
            died = None if self.running else self.popen.returncode
            code = self.stop()
            assert died is None or died == 0, f"{self.name} died by itself with {died}; log:\n{self.log_tail()}"
            assert code == 0, f"{self.name} ended with {code} on SIGTERM; log:\n{self.log_tail()}"
            assert "Traceback" not in self.log(), self.log()
        finally:
            self.close()
