"""How a worker's records reach the master: latency deltas always, whole files when no disk is shared.

A worker on the master's machine writes its files straight into the run directory. One on another machine writes
into a temporary directory, and what was added to its files travels with each of Locust's reports.
"""

import re
import shutil
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from records.breakers import BREAKER_FILES
from records.latency import Delta
from records.run_directory import RunDirectory

#: At most this much of the files goes with one report: a report must not hold up heartbeats.
SHIP_BYTES_PER_REPORT = 4 << 20

#: Deltas kept for a master that cannot be reached: ten minutes of one a second.
MAX_UNSHIPPED_DELTAS = 600

_FOLDERS = ("operations", "latency", "violations")
#: What lies in the run directory itself; nothing else there is a worker's to write.
_FILES = (BREAKER_FILES,)
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}\Z")


class Shipper:
    """The worker's side."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._deltas: list[Delta] = []
        self._local: Path | None = None
        self._offsets: dict[str, int] = {}

    def local_directory(self) -> Path:
        """A directory of this worker's own, removed at ``close``; its files are shipped from now on."""
        self._local = Path(tempfile.mkdtemp(prefix="swarmproof-worker-"))
        return self._local

    def add(self, delta: Delta) -> None:
        if delta["operations"]:
            self._deltas.append(delta)
            del self._deltas[:-MAX_UNSHIPPED_DELTAS]

    def take(self) -> dict[str, Any]:
        """What goes with the next report."""
        deltas, self._deltas = self._deltas, []
        return {"process": self._process, "deltas": deltas, "files": self._new_bytes()}

    def _new_bytes(self) -> list[list[Any]]:
        if self._local is None:
            return []
        parts: list[list[Any]] = []
        room = SHIP_BYTES_PER_REPORT
        for pattern in (*_FILES, *(f"{folder}/*" for folder in _FOLDERS)):
            for path in sorted(self._local.glob(pattern)):
                name = path.relative_to(self._local).as_posix()
                offset = self._offsets.get(name, 0)
                with path.open("rb") as file:
                    file.seek(offset)
                    data = file.read(room)
                if data:
                    parts.append([name, offset, data])
                    self._offsets[name] = offset + len(data)
                    room -= len(data)
                if room <= 0:
                    return parts
        return parts

    @property
    def is_remote(self) -> bool:
        """Whether the files are this worker's own, and only what has been shipped is at the master."""
        return self._local is not None

    def rewind(self, lacking: dict[str, int]) -> None:
        """The master has these files only up to there: a report was lost on its way. Ship again from there."""
        for name, offset in lacking.items():
            if offset < self._offsets.get(name, 0):
                self._offsets[name] = offset

    def close(self) -> None:
        if self._local:
            shutil.rmtree(self._local, ignore_errors=True)
            self._local = None


class Receiver:
    """The master's side: writes shipped bytes where the worker would have, gives the deltas."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        #: Files that something is missing of, and from where on: to be shipped again.
        self.lacking: dict[str, int] = {}

    def accept(self, report: dict[str, Any]) -> list[Delta]:
        """Errors: ValueError for a file name that is not one of a run's records."""
        self.lacking = {}
        for name, offset, data in report.get("files", ()):
            self._write(str(name), int(offset), bytes(data))
        deltas: list[Delta] = report.get("deltas", [])
        return deltas

    def _write(self, name: str, offset: int, data: bytes) -> None:
        folder, _, file_name = name.rpartition("/")
        allowed = folder in _FOLDERS if folder else any(fnmatchcase(file_name, pattern) for pattern in _FILES)
        if not allowed or not _NAME.match(file_name):
            raise ValueError(f"a worker may not write {name!r}")
        path = self._run.path / folder / file_name
        size = path.stat().st_size if path.exists() else 0
        if offset > size:  # a hole would be damage; a file that ends early is just shorter
            self.lacking[name] = size
            return
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.seek(offset)
            file.write(data)
