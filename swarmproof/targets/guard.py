"""The guard: nothing that it starts outlives it.

Two nets, one above the other. (1) Every child is started through `launcher.py`, which asks the kernel for SIGKILL
when its parent *thread* dies; therefore one thread, which lives as long as the guard, does all the starting. (2) A
watchdog process holds a pipe from us and kills all registered process groups when it closes. Either net alone holds on
Linux; the second holds everywhere, and for grandchildren and stopped processes too.
"""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import IO

LAUNCHER = Path(__file__).with_name("launcher.py")
WATCHDOG = Path(__file__).with_name("watchdog.py")
# Isolated (-I) and without site (-S): both scripts need the standard library only, and start in about 15 ms.
SCRIPT_PYTHON = (sys.executable, "-I", "-S")
WATCHDOG_ENDS_WITHIN_S = 5.0
GONE_WITHIN_S = 2.0  # SIGKILL takes milliseconds; a process in an uninterruptible wait is the watchdog's to kill again

_Job = tuple[Callable[[], "subprocess.Popen[bytes]"], "Future[subprocess.Popen[bytes]]"]


class Guard:
    """Starts processes that die with this one, whatever it dies of. Use as a context manager.

    >>> with Guard() as guard:
    ...     process = guard.spawn(["sleep", "60"], output=log_file)
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._groups: dict[int, subprocess.Popen[bytes]] = {}
        self._paths: set[str] = set()
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._spawner = threading.Thread(target=self._spawn_forever, name="spawner", daemon=True)
        self._spawner.start()

    def __enter__(self) -> "Guard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def spawn(
        self,
        command: Sequence[str],
        *,
        output: IO[bytes] | int,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> "subprocess.Popen[bytes]":
        """Start `command` in a session of its own (pgid == pid), stdout and stderr to `output`, stdin empty.

        `env` is added to our environment. OSError when the system refuses another process.
        """
        if self._closed:
            raise RuntimeError("the guard is closed")
        full = [*SCRIPT_PYTHON, str(LAUNCHER), str(os.getpid()), *command]
        environment = {**os.environ, **env} if env else None

        def start() -> "subprocess.Popen[bytes]":
            process = subprocess.Popen(
                full,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=cwd,
                start_new_session=True,
            )
            # Here, not in the caller: a Ctrl-C while the caller waits must not lose the registration.
            with self._lock:
                self._groups[process.pid] = process
                self._tell("+group", process.pid)
            return process

        future: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((start, future))
        return future.result()

    def release(self, pgid: int) -> None:
        """The group is gone: the watchdog need not kill it (and must not: the number may be used again)."""
        with self._lock:
            if pgid in self._groups:
                del self._groups[pgid]
                self._tell("-group", pgid)

    def protect(self, path: Path) -> None:
        """Remove this file or directory when we die before `remove` was called."""
        with self._lock:
            absolute = str(path.absolute())  # the watchdog works in /
            self._paths.add(absolute)
            self._tell("+path", absolute)

    def remove(self, path: Path) -> None:
        """Remove a protected file or directory now."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        with self._lock:
            self._paths.discard(str(path.absolute()))
            self._tell("-path", str(path.absolute()))

    def close(self) -> None:
        """Kill what is still registered, remove protected paths, end the watchdog. Idempotent."""
        with self._lock:
            if self._closed:
                return
            groups, paths, watchdog = dict(self._groups), list(self._paths), self._watchdog
        for group in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        for group, process in groups.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GONE_WITHIN_S)
                self.release(group)
        with self._lock:
            self._closed = True
        for path in paths:
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                Path(path).unlink(missing_ok=True)
        if watchdog is not None and watchdog.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                watchdog.stdin.close()  # whatever slipped through is killed there
            try:
                watchdog.wait(WATCHDOG_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                watchdog.kill()
                watchdog.wait()
        self._jobs.put(None)
        self._spawner.join()

    # Internals.

    def _tell(self, verb: str, subject: int | str) -> None:
        """Write one line to the watchdog; start it, or a new one when somebody killed it. Under the lock."""
        if self._closed:
            return
        line = json.dumps([verb, subject]).encode() + b"\n"
        if self._watchdog is None or not self._write(line):
            self._watchdog = self._start_watchdog()
            for group in self._groups:
                self._write(json.dumps(["+group", group]).encode() + b"\n")
            for path in self._paths:
                self._write(json.dumps(["+path", path]).encode() + b"\n")

    def _write(self, line: bytes) -> bool:
        assert self._watchdog is not None
        assert self._watchdog.stdin is not None
        try:
            self._watchdog.stdin.write(line)
            self._watchdog.stdin.flush()
        except (BrokenPipeError, ValueError):
            self._watchdog.poll()  # reap it
            return False
        return True

    @staticmethod
    def _start_watchdog() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*SCRIPT_PYTHON, str(WATCHDOG)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C or a kill of our group must not reach it
            cwd="/",
        )

    def _spawn_forever(self) -> None:
        while (job := self._jobs.get()) is not None:
            start, future = job
            try:
                future.set_result(start())
            except BaseException as error:
                future.set_exception(error)
