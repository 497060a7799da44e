"""A disk in memory that behaves as badly as a real one may, behind the log's file-system seam.

What was written and not synced is lost at a crash, wholly, in part, or page by page; names that were created, renamed
or removed come back as they were unless their directory was synced. A crash or an error can be put at any operation.

    disk = SimulatedDisk()
    disk.crash_at = 7                  # the seventh operation that changes something does not return
    ...                                # raises Crashed
    disk.crash(Random(1))              # now only what survives is there
"""

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random

from servers.raft.file_system import DirectoryInUse

SECTOR_BYTES = 512


class Crashed(BaseException):
    """The machine stops here. Not an Exception: no code under test may handle it."""


class _File:
    """An inode: what is in it now, and how much of it is durable."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = b""


class SimulatedDisk:
    """Implements servers.raft.file_system.Files. Operations that change something are counted from 1."""

    def __init__(self) -> None:
        self.operations = 0
        self.history: list[str] = []
        self.crash_at = 0
        self.fail_at = 0
        self.fail_with = errno.EIO
        self.lose_syncs = False  # a disk that lies: sync returns and does nothing (for mutants)
        self._names: dict[Path, _File] = {}
        self._durable_names: dict[Path, _File] = {}
        self._unsynced_names: list[Callable[[dict[Path, _File]], None]] = []
        self._handles: dict[int, _File] = {}
        self._next_handle = 100
        self._locked: dict[int, Path] = {}

    # --- what happens to the disk ------------------------------------------------------------------------------

    def crash(self, rng: Random) -> None:
        """The machine stops and starts again: decide by `rng` what survived of what was not synced."""
        names = dict(self._durable_names)
        # A journal keeps the order of changes to names, but not how far it got.
        for change in self._unsynced_names[: rng.randint(0, len(self._unsynced_names))]:
            change(names)
        self._names = names
        for file in {id(file): file for file in names.values()}.values():
            file.data = bytearray(_survivor(bytes(file.data), file.durable, rng))
            file.durable = bytes(file.data)
        self._durable_names = dict(names)
        self._unsynced_names.clear()
        self.restart()

    def restart(self) -> None:
        """Only the process stopped: everything written is still there, its locks and handles are not."""
        self._handles.clear()
        self._locked.clear()
        self.crash_at = self.fail_at = 0

    def flip_bit(self, path: Path, offset: int, bit: int) -> None:
        self._names[path].data[offset] ^= 1 << bit

    def cut(self, path: Path, size_bytes: int) -> None:
        del self._names[path].data[size_bytes:]

    def delete(self, path: Path) -> None:
        del self._names[path]

    def paths(self) -> list[Path]:
        return sorted(self._names)

    # --- servers.raft.file_system.Files --------------------------------------------------------------------------

    def make_directory(self, path: Path) -> None:
        pass

    def list_directory(self, path: Path) -> list[str]:
        return sorted(name.name for name in self._names if name.parent == path)

    def read(self, path: Path) -> bytes:
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return bytes(self._names[path].data)

    def create(self, path: Path) -> int:
        self._step(f"create {path.name}")
        file = _File()
        self._change_names(lambda names: names.__setitem__(path, file))
        return self._handle(file)

    def open_append(self, path: Path) -> int:
        return self._handle(self._names[path])

    def write(self, handle: int, data: bytes | memoryview) -> None:
        file = self._handles[handle]
        try:
            self._step(f"write {len(data)}")
        except (Crashed, OSError):
            file.data += data[: len(data) // 2]
            raise
        file.data += data

    def sync(self, handle: int) -> None:
        self._step("sync")
        if not self.lose_syncs:
            file = self._handles[handle]
            file.durable = bytes(file.data)

    def close(self, handle: int) -> None:
        self._handles.pop(handle, None)
        self._locked.pop(handle, None)

    def truncate(self, path: Path, size_bytes: int) -> None:
        self._step(f"truncate {path.name}")
        file = self._names[path]
        del file.data[size_bytes:]
        file.durable = bytes(file.data)

    def rename(self, source: Path, target: Path) -> None:
        self._step(f"rename {target.name}")
        self._change_names(lambda names: names.__setitem__(target, names.pop(source)))

    def remove(self, path: Path) -> None:
        self._step(f"remove {path.name}")
        self._change_names(lambda names: names.pop(path, None))

    def sync_directory(self, path: Path) -> None:
        self._step("sync directory")
        self._durable_names = dict(self._names)
        self._unsynced_names.clear()

    def lock_directory(self, path: Path) -> int:
        if path in self._locked.values():
            raise DirectoryInUse(f"{path} is in use by another process")
        handle = self._handle(_File())
        self._locked[handle] = path
        return handle

    def _handle(self, file: _File) -> int:
        self._next_handle += 1
        self._handles[self._next_handle] = file
        return self._next_handle

    def _change_names(self, change: Callable[[dict[Path, _File]], object]) -> None:
        change(self._names)
        self._unsynced_names.append(change)  # type: ignore[arg-type]

    def _step(self, what: str) -> None:
        self.operations += 1
        self.history.append(what)
        if self.operations == self.crash_at:
            raise Crashed(what)
        if self.operations == self.fail_at:
            raise OSError(self.fail_with, "No space left on device" if self.fail_with == errno.ENOSPC else "I/O error")


def _survivor(data: bytes, durable: bytes, rng: Random) -> bytes:
    """What is in a file after a crash: the durable part, and of what was appended since: nothing, the beginning,
    all, or all but some sectors, which are zeros."""
    if not data.startswith(durable):
        return data  # truncated, durably
    unsynced = len(data) - len(durable)
    fate = rng.randrange(4)
    if fate == 0 or not unsynced:
        return durable
    if fate == 1:
        return data[: len(durable) + rng.randint(0, unsynced)]
    if fate == 2:
        return data
    torn = bytearray(data)
    for start in range(len(durable) // SECTOR_BYTES * SECTOR_BYTES, len(data), SECTOR_BYTES):
        if rng.random() < 0.5:
            begin, end = max(start, len(durable)), min(start + SECTOR_BYTES, len(data))
            torn[begin:end] = bytes(end - begin)
    return bytes(torn)
