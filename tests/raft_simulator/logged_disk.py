"""The simulated disk with the real durable log on it: records, segments, renames and recovery of servers/raft/log.py.

The plain :class:`SimDisk` says what a log has to be; this one writes everything through ``DurableLog`` as well, onto
files in memory that lose, tear and zero what was not synced, stops the machine in the middle of any file operation now
and then, and after a crash believes only what the real recovery reads back.
"""

import errno
from pathlib import Path
from random import Random

from servers.raft.log import DiskFailed, DurableLog, LogCorrupt
from servers.raft.types import Entry, HardState, Snapshot
from tests.raft_simulator.disk import DiskError, Image, PowerLoss, SimDisk
from tests.raft_simulator.violation import Violation
from tests.servers.raft.simulated_disk import Crashed, SimulatedDisk

SURVIVES = "what was synced survives a crash"
DAMAGE_REFUSED = "a flipped bit is refused by file and offset"

DIRECTORY = Path("/node")
# Small, so that a short run fills many of them.
SEGMENT_BYTES = 600
# How often the machine stops inside a sync, a snapshot or a recovery, and within how many file operations.
STOPS = 0.01
STOP_WITHIN_OPERATIONS = 8
# A disk that fails does so within this many file operations: at a write, a sync, a new file, a rename.
FAIL_WITHIN_OPERATIONS = 3


class LoggedDisk(SimDisk):
    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.files = SimulatedDisk()
        self.files.fail_with = rng.choice((errno.EIO, errno.ENOSPC))
        self._flipped: tuple[Path, int, int] | None = None
        self._log = self._open()[0]

    def _open(self) -> tuple[DurableLog, HardState, Snapshot | None, list[Entry]]:
        return DurableLog.open(DIRECTORY, 1, "simulated", files=self.files, segment_bytes=SEGMENT_BYTES)

    def _maybe_stop(self) -> None:
        if self._rng.random() < STOPS:
            self.files.crash_at = self.files.operations + self._rng.randint(1, STOP_WITHIN_OPERATIONS)

    def _maybe_fail(self) -> None:
        if self.fails:
            self.files.fail_at = self.files.operations + self._rng.randint(1, FAIL_WITHIN_OPERATIONS)

    def _failed(self, error: DiskFailed) -> DiskError:
        self.failed = True
        self._queue.clear()
        return DiskError(str(error))

    def sync(self, writes: int) -> None:
        self._maybe_fail()
        self._maybe_stop()
        try:
            for kind, what in self._queue[:writes]:
                self._log_write(kind, what)
            self._log.sync()
        except Crashed as crashed:
            raise PowerLoss from crashed
        except DiskFailed as error:
            raise self._failed(error) from error
        self.files.crash_at = self.files.fail_at = 0
        self.fails, fails = False, self.fails
        super().sync(writes)
        self.fails = fails

    def _log_write(self, kind: str, what: object) -> None:
        match kind, what:
            case "hard_state", HardState():
                self._log.append(what, [])
            case "entries", list():
                self._log.append(None, what)
            case "snapshot", Snapshot():
                self._log.install_snapshot(what)
            case "trim", (int(index), int(_)):
                self._log.compact(index)
            # "drop" is a part of install_snapshot.

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self._maybe_fail()
        self._maybe_stop()
        try:
            self._log.save_snapshot(snapshot)
        except Crashed as crashed:
            raise PowerLoss from crashed
        except DiskFailed as error:
            raise self._failed(error) from error
        self.files.crash_at = self.files.fail_at = 0
        super().save_snapshot(snapshot)

    def crash(self) -> None:
        """Half of the time only the process dies and the page cache survives it."""
        if self._rng.random() < 0.5:
            self.files.crash(self._rng)
        else:
            self.files.restart()
        self._maybe_stop()
        try:
            recovered = self._open()
        except Crashed:
            self.files.crash(self._rng)
            recovered = self._open()
        self.files.crash_at = 0
        self._log, hard_state, snapshot, entries = recovered
        before = self.durable
        base = (snapshot.index, snapshot.term) if snapshot else (0, 0)
        self.durable = Image(hard_state, snapshot, *base, entries)
        unsynced = bool(self._queue) or self.failed  # of a write or sync that failed, any part may be there
        self._queue.clear()
        self.fails = self.failed = False
        self._compare(before, unsynced)

    def flip_bit(self) -> str:
        """Anywhere in a log or snapshot; right after a crash, when recovery has removed all that does not count."""
        path = self._rng.choice([path for path in self.files.paths() if self.files.read(path)])
        offset, bit = self._rng.randrange(len(self.files.read(path))), self._rng.randrange(8)
        self.files.flip_bit(path, offset, bit)
        self._flipped = path, offset, bit
        return f"bit {bit} of byte {offset} of {path.name}"

    def restore_bit(self) -> None:
        if self._flipped is not None:
            self.files.flip_bit(*self._flipped)
            self._flipped = None
            self.files.restart()
            self._log = self._open()[0]

    def refusal(self) -> str | None:
        if self._flipped is None:
            return None
        path, offset, bit = self._flipped
        self.files.restart()
        before = {name: self.files.read(name) for name in self.files.paths()}
        try:
            self._open()
        except LogCorrupt as error:
            if error.file != path or error.offset > offset:
                raise Violation(DAMAGE_REFUSED, f"byte {offset} of {path} is damaged, but it says {error}") from error
            if before != {name: self.files.read(name) for name in self.files.paths()}:
                raise Violation(DAMAGE_REFUSED, f"it changed its files although it refused {path}") from error
            return str(error)
        raise Violation(DAMAGE_REFUSED, f"the node starts although bit {bit} of byte {offset} of {path} is flipped")

    def _compare(self, before: Image, unsynced: bool) -> None:
        """What was synced is there again; only what was being written may have replaced it."""
        after = self.durable
        forgot = after.hard_state.term < before.hard_state.term or (
            before.snapshot is not None and (after.snapshot is None or after.snapshot.index < before.snapshot.index)
        )
        if not unsynced:
            forgot = forgot or after.hard_state != before.hard_state
            start = max(before.base_index, after.base_index)
            wanted = [entry for entry in before.entries if entry.index > start]
            if before.snapshot == after.snapshot:
                forgot = forgot or wanted != [entry for entry in after.entries if entry.index > start]
        if forgot:
            raise Violation(SURVIVES, f"before {before}, after {after}")


class LyingDisk(LoggedDisk):
    """A drive that says it has synced and has not: no log can be safe on it, and the simulator must see that."""

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.files.lose_syncs = True
