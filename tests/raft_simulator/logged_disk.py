"""The simulated disk with the real durable log on it: records, segments, renames and recovery of servers/raft/log.py.

The plain :class:`SimDisk` says what a log has to be; this one writes everything through ``DurableLog`` as well, onto
files in memory that lose, tear and zero what was not synced, stops the machine in the middle of any file operation now
and then, and after a crash believes only what the real recovery reads back.
"""

from pathlib import Path
from random import Random

from servers.raft.log import DiskFailed, DurableLog
from servers.raft.types import Entry, HardState, Snapshot
from tests.raft_simulator.disk import DiskError, Image, PowerLoss, SimDisk
from tests.raft_simulator.violation import Violation
from tests.servers.raft.simulated_disk import Crashed, SimulatedDisk

SURVIVES = "what was synced survives a crash"

DIRECTORY = Path("/node")
# Small, so that a short run fills many of them.
SEGMENT_BYTES = 600
# How often the machine stops inside a sync, a snapshot or a recovery, and within how many file operations.
STOPS = 0.01
STOP_WITHIN_OPERATIONS = 8


class LoggedDisk(SimDisk):
    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.files = SimulatedDisk()
        self._log = self._open()[0]

    def _open(self) -> tuple[DurableLog, HardState, Snapshot | None, list[Entry]]:
        return DurableLog.open(DIRECTORY, 1, "simulated", files=self.files, segment_bytes=SEGMENT_BYTES)

    def _maybe_stop(self) -> None:
        if self._rng.random() < STOPS:
            self.files.crash_at = self.files.operations + self._rng.randint(1, STOP_WITHIN_OPERATIONS)

    def sync(self, writes: int) -> None:
        if self.fails:
            self.files.fail_at = self.files.operations + 1
        self._maybe_stop()
        try:
            for kind, what in self._queue[:writes]:
                self._log_write(kind, what)
            self._log.sync()
        except Crashed as crashed:
            raise PowerLoss from crashed
        except DiskFailed as error:
            self.failed = True
            self._queue.clear()
            raise DiskError(str(error)) from error
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
        self._maybe_stop()
        try:
            self._log.save_snapshot(snapshot)
        except Crashed as crashed:
            raise PowerLoss from crashed
        self.files.crash_at = 0
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
        unsynced = bool(self._queue)
        self._queue.clear()
        self.fails = self.failed = False
        self._compare(before, unsynced)

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
