"""The control channel: a Unix socket (mode 0600) in the run directory, one JSON line there, one JSON line back.

Only the user who started the supervisor is answered: the file mode keeps others out, and on Linux the kernel is asked
who is at the other end (SO_PEERCRED), so a mode that was changed does not help a stranger.
"""

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from records.run_directory import CONTROL_SOCKET, LATEST, RunDirectory

Request = dict[str, Any]
Reply = dict[str, Any]

MAX_LINE_BYTES = 1024 * 1024  # a status of hundreds of processes fits
READ_WITHIN_S = 5.0
MAX_CONNECTIONS = 16
# After an accept that failed: what is wrong may be so for a while.
ACCEPT_AGAIN_S = 0.05
# A Unix socket whose backlog is full refuses at once instead of letting the caller wait.
BACKLOG = 128
# sun_path holds 108 bytes on Linux and 104 on the BSDs and macOS, with the final zero.
MAX_PATH_BYTES = 103


class ControlError(Exception):
    """The supervisor cannot be reached or refused. The text is one sentence."""


class ControlServer:
    """Answers on `run`/control.sock until closed. `handle(request) -> reply` runs in a thread per connection."""

    def __init__(self, run: RunDirectory, handle: Callable[[Request], Reply]) -> None:
        self.path = run.file(CONTROL_SOCKET)
        self._handle = handle
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._closing = False
        self._directory = os.open(run.path, os.O_RDONLY | os.O_DIRECTORY)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                os.fchmod(self._listener.fileno(), 0o600)  # Linux creates the file with the socket's own mode
            self._listener.bind(bindable(self.path, self._directory))
            self.path.chmod(0o600)
            self._listener.listen(BACKLOG)
        except OSError as error:
            self._listener.close()
            os.close(self._directory)
            raise ControlError(f"cannot create the control socket {self.path}: {error.strerror or error}") from error
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and remove the socket. Idempotent."""
        if self._closing:
            return
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink(missing_ok=True)
        self._thread.join(READ_WITHIN_S)
        os.close(self._directory)

    def _serve(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # a caller that is gone again, or no descriptors left: the next one is to be answered
                time.sleep(ACCEPT_AGAIN_S)
                continue
            self._slots.acquire()
            try:
                threading.Thread(target=self._answer, args=(connection,), name="control-call", daemon=True).start()
            except RuntimeError:  # the system has no room for another thread
                connection.close()
                self._slots.release()

    def _answer(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(READ_WITHIN_S)
                # Read in any case: one who is refused while still sending would see a broken pipe, not the reason.
                try:
                    line = _read_line(connection)
                except OSError:  # it said nothing for so long
                    line = b""
                if not may_speak(connection):
                    reply: Reply = {"error": "this supervisor belongs to another user"}
                else:
                    reply = self._reply_to(line)
                with contextlib.suppress(OSError):
                    connection.sendall(json.dumps(reply, default=str).encode() + b"\n")
        finally:
            self._slots.release()

    def _reply_to(self, line: bytes) -> Reply:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "the request is not a line of JSON"}
        if not isinstance(request, dict):
            return {"error": "the request is not a JSON object"}
        try:
            return self._handle(request)
        except Exception as error:  # whatever a request causes, the run goes on
            return {"error": str(error) or type(error).__name__}


def ask(run: RunDirectory, request: Request, timeout_s: float = 60.0) -> Reply:
    """Send one request to the supervisor of `run`. Errors: ControlError, also when it answered with an error."""
    path = run.file(CONTROL_SOCKET)
    directory = os.open(run.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(bindable(path, directory))
            connection.sendall(json.dumps(request).encode() + b"\n")
            line = _read_line(connection)
    except PermissionError as error:
        raise ControlError(f"the supervisor of {run.path} belongs to another user") from error
    except TimeoutError as error:
        raise ControlError(f"the supervisor of {run.path} did not answer within {timeout_s:g} s") from error
    except OSError as error:
        raise ControlError(
            f"no supervisor runs in {run.path}; start one with `swarmproof up` or `swarmproof run PLAN`"
        ) from error
    finally:
        os.close(directory)
    try:
        reply = json.loads(line)
    except ValueError as error:
        raise ControlError(f"the supervisor of {run.path} ended before it answered") from error
    if not isinstance(reply, dict):
        raise ControlError(f"the supervisor of {run.path} did not answer with a JSON object")
    if "error" in reply:
        raise ControlError(str(reply["error"]))
    return reply


def find_run(path: Path | None, root: Path) -> RunDirectory:
    """The run directory to talk to: `path`, or the newest under `root` with a supervisor. Errors: ControlError.

    `latest` is not enough: a plain Locust run beside `swarmproof up` is newer, and has no supervisor.
    """
    if path is None:
        sockets = sorted(root.glob(f"*/{CONTROL_SOCKET}"), key=lambda found: found.lstat().st_mtime, reverse=True)
        for found in sockets:
            if _answers(RunDirectory(found.parent.resolve())):
                return RunDirectory(found.parent.resolve())
    chosen = path or root / LATEST
    if not chosen.is_dir():
        where = f"{chosen}" if path else f"{root}/"
        raise ControlError(
            f"there is no run in {where}; start one with `swarmproof up` or name its directory with --run"
        )
    return RunDirectory(chosen.resolve())


def _answers(run: RunDirectory) -> bool:
    directory = os.open(run.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(READ_WITHIN_S)
            connection.connect(bindable(run.file(CONTROL_SOCKET), directory))
    except OSError:
        return False
    finally:
        os.close(directory)
    return True


def bindable(path: Path, directory: int) -> str:
    """The path as it fits into a socket address: a long one goes through the open directory (Linux)."""
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        return str(path)
    short = f"/proc/self/fd/{directory}"
    if os.path.isdir(short):
        return f"{short}/{path.name}"
    raise OSError(f"its path is longer than {MAX_PATH_BYTES} bytes; choose a shorter --out")


def may_speak(connection: socket.socket) -> bool:
    """Whether our own user (or root) is at the other end."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the file mode alone
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return bool(uid in (os.getuid(), 0))


def _read_line(connection: socket.socket) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n") and len(data) < MAX_LINE_BYTES:
        try:
            part = connection.recv(64 * 1024)
        except ConnectionError:
            break
        if not part:
            break
        data += part
    return bytes(data)
