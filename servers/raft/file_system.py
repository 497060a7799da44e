"""Every operation that the durable log does on files, behind one small seam.

`RealFiles` is the operating system. Tests and the simulator put a disk of their own in its place, one that loses
what was not synced, tears writes, flips bits and runs full, at any operation.
"""

import fcntl
import os
from pathlib import Path
from typing import Protocol


class DirectoryInUse(Exception):
    """Another process holds the lock of the directory."""


class Files(Protocol):
    """What the log needs. Paths are whole; handles are what `create` and `open_append` return. Errors are OSError."""

    def make_directory(self, path: Path) -> None:
        """Create the directory and its parents, if they are missing, durably."""

    def list_directory(self, path: Path) -> list[str]:
        """The names in a directory, sorted."""

    def read(self, path: Path) -> bytes:
        """A whole file."""

    def create(self, path: Path) -> int:
        """A new, empty file open for appending; an old one of that name is emptied."""

    def open_append(self, path: Path) -> int:
        """An existing file, open for appending."""

    def write(self, handle: int, data: bytes | memoryview) -> None:
        """All of `data`, at the end of the file."""

    def sync(self, handle: int) -> None:
        """Return when everything written to the file is durable."""

    def close(self, handle: int) -> None: ...

    def truncate(self, path: Path, size_bytes: int) -> None:
        """Cut a file, durably."""

    def rename(self, source: Path, target: Path) -> None: ...

    def remove(self, path: Path) -> None: ...

    def sync_directory(self, path: Path) -> None:
        """Return when the directory's names (created, renamed, removed) are durable."""

    def lock_directory(self, path: Path) -> int:
        """An exclusive lock that ends with `close` or with the process. Raises DirectoryInUse."""


class RealFiles:
    """The operating system's files. `fsync=False` leaves durability to luck; only for measuring what it costs."""

    def __init__(self, *, fsync: bool = True) -> None:
        self._fsync = fsync

    def make_directory(self, path: Path) -> None:
        missing = [directory for directory in (path, *path.parents) if not directory.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for directory in reversed(missing):
            self.sync_directory(directory.parent)

    def list_directory(self, path: Path) -> list[str]:
        return sorted(os.listdir(path))

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def create(self, path: Path) -> int:
        return os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def open_append(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def write(self, handle: int, data: bytes | memoryview) -> None:
        written = os.write(handle, data)
        while written < len(data):  # a nearly full disk takes a part and refuses the rest with ENOSPC
            written += os.write(handle, memoryview(data)[written:])

    def sync(self, handle: int) -> None:
        if self._fsync:
            os.fdatasync(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    def truncate(self, path: Path, size_bytes: int) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(handle, size_bytes)
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def remove(self, path: Path) -> None:
        os.unlink(path)

    def sync_directory(self, path: Path) -> None:
        if not self._fsync:
            return
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def lock_directory(self, path: Path) -> int:
        handle = os.open(path / "LOCK", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise DirectoryInUse(f"{path} is in use by another process") from error
        return handle
