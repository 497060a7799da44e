"""A disk that fails when a file says so: `--disk-faults FILE`, only for experiments.

While FILE holds `full`, every write and every new file fails with ENOSPC; while it holds `eio`, every sync fails with
EIO; while it holds `slow SECONDS`, every sync takes that much longer. Everything else is the real disk. It shows what
a node does with these errors, not what a broken file system does to its data.
"""

import errno
import os
import time
from pathlib import Path

from servers.log_lines import log
from servers.raft.file_system import RealFiles

# Longer than any disk that still works; also what a typing mistake can cost.
MAX_SLOW_S = 60.0


class FaultyFiles(RealFiles):
    """The operating system's files, but for what `control` says at the moment."""

    def __init__(self, control: Path, *, fsync: bool = True) -> None:
        super().__init__(fsync=fsync)
        self._control = control
        self._said = ""

    def create(self, path: Path) -> int:
        self._fail_when_full()
        return super().create(path)

    def write(self, handle: int, data: bytes | memoryview) -> None:
        self._fail_when_full()
        super().write(handle, data)

    def sync(self, handle: int) -> None:
        word, _, value = self._wish().partition(" ")
        if word == "slow":
            try:
                time.sleep(min(max(float(value), 0.0), MAX_SLOW_S))
            except ValueError:
                log.warning("disk_fault_not_understood", text=value)
        elif word == "eio":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(handle)

    def _fail_when_full(self) -> None:
        if self._wish() == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _wish(self) -> str:
        """What the file holds; a change is logged once."""
        try:
            wish = self._control.read_text().strip()
        except OSError:
            wish = ""
        if wish != self._said:
            log.warning("disk_fault", wish=wish or "none")
            self._said = wish
        return wish
