"""The durable log of one node: term, vote, entries and snapshot, on disk before anybody is told of them.

    log, hard_state, snapshot, entries = DurableLog.open(directory, node_id=1, cluster_id="demo")
    log.append(HardState(2, 1), entries)      # remembered
    log.sync()                                # one write, one fdatasync: durable

Everything appended between two syncs is one record (group commit). A file is only ever appended to; entries that
replace others simply come later. A failed write or sync is final: after fsync said no, nobody knows what the disk
holds (the kernel forgets the pages), so the log refuses everything from then on and the node has to stop.
"""

from pathlib import Path
from typing import Final

import msgpack

from servers.raft.disk_records import LogCorrupt, encode_record
from servers.raft.file_system import DirectoryInUse, Files, RealFiles
from servers.raft.recovery import (
    FORMAT,
    KIND_BATCH,
    KIND_SEGMENT_HEADER,
    KIND_SNAPSHOT_DATA,
    KIND_SNAPSHOT_HEADER,
    SNAPSHOT_PREFIX,
    TEMPORARY_SUFFIX,
    Identity,
    Recovered,
    Segment,
    WrongDirectory,
    read_snapshot,
    recover,
    segment_name,
    snapshot_name,
)
from servers.raft.types import Entry, HardState, Snapshot

__all__ = ["DirectoryInUse", "DiskFailed", "DurableLog", "LogCorrupt", "WrongDirectory"]

# A segment is closed once it is this large: small enough that trimming gives space back soon.
SEGMENT_BYTES: Final = 16 * 1024 * 1024
# When a snapshot covers the log, a segment of this size is closed early so that the next snapshot frees it.
EARLY_CLOSE_BYTES: Final = 1024 * 1024
# A snapshot is synced in pieces: the log's own syncs wait for whatever else the disk has been given at once.
SNAPSHOT_WRITE_BYTES: Final = 1024 * 1024


class DiskFailed(Exception):
    """The disk refused a write or a sync: the node must stop. A restart finds what was durable before."""

    def __init__(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        super().__init__(f"the disk failed ({reason}); the node stops, nothing it acknowledged depends on this write")
        self.reason = reason


class DurableLog:
    """One directory, locked by this process. Not for use from two threads at a time."""

    def __init__(self, files: Files, directory: Path, identity: Identity, lock: int, segment_bytes: int) -> None:
        self.directory = directory
        self._files = files
        self._identity = identity
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._segments: list[Segment] = []
        self._handle: int | None = None
        self._hard_state = HardState(0, 0)
        self._last = (0, 0)  # index, term of the last entry
        self._snapshot_path: Path | None = None  # the newest durable one
        self._pending_hard_state: HardState | None = None
        self._pending_entries: list[Entry] = []
        self._pending_max_index = 0
        self._failure: DiskFailed | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        node_id: int,
        cluster_id: str,
        *,
        files: Files | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> tuple["DurableLog", HardState, Snapshot | None, list[Entry]]:
        """Lock and read a directory, creating it when missing. The entries are those behind the snapshot.

        Raises DirectoryInUse, WrongDirectory, LogCorrupt (with `file` and `offset`), DiskFailed.
        """
        files = files or RealFiles()
        try:
            files.make_directory(directory)
            lock = files.lock_directory(directory)
            try:
                log = cls(files, directory, Identity(cluster_id, node_id), lock, segment_bytes)
                recovered = recover(files, directory)
                log._take_over(recovered)
            except BaseException:
                files.close(lock)
                raise
        except OSError as error:
            raise DiskFailed(error) from error
        return log, log._hard_state, recovered.snapshot, recovered.entries_after_snapshot()

    @property
    def size_bytes(self) -> int:
        return sum(segment.size_bytes for segment in self._segments)

    @property
    def segments(self) -> int:
        return len(self._segments)

    def append(self, hard_state: HardState | None, entries: list[Entry]) -> None:
        """Remember these for the next `sync`; entries replace those of the same and higher indexes."""
        if hard_state is not None:
            self._pending_hard_state = hard_state
        if entries:
            self._pending_entries += entries
            self._pending_max_index = max(self._pending_max_index, entries[-1].index)

    def sync(self) -> None:
        """Make everything appended durable. Raises DiskFailed, now and from then on."""
        self._check()
        hard_state, entries = self._pending_hard_state, self._pending_entries
        if hard_state is None and not entries:
            return
        self._pending_hard_state, self._pending_entries = None, []
        record = encode_record(KIND_BATCH, msgpack.packb((hard_state, entries)))
        try:
            if self._segments[-1].size_bytes >= self._segment_bytes:
                self._begin_segment()
            assert self._handle is not None
            self._files.write(self._handle, record)
            self._files.sync(self._handle)
        except OSError as error:
            raise self._fail(error) from error
        segment = self._segments[-1]
        segment.size_bytes += len(record)
        if hard_state is not None:
            self._hard_state = hard_state
        if entries:
            segment.max_index = max(segment.max_index, self._pending_max_index)
            self._pending_max_index = 0
            self._last = entries[-1][:2]

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot of what this node applied; afterwards the log may be compacted up to it.

        Touches no file of the log: it may run in another thread than `append` and `sync`.
        """
        self._check()
        try:
            self._write_snapshot(snapshot)
        except OSError as error:
            raise self._fail(error) from error

    def load_snapshot(self) -> Snapshot:
        """The newest durable snapshot, from the disk. Raises DiskFailed, LogCorrupt, LookupError when there is none."""
        while self._snapshot_path is not None:
            path = self._snapshot_path
            try:
                return read_snapshot(self._files, path)[1]
            except FileNotFoundError as error:
                if path == self._snapshot_path:
                    raise self._fail(error) from error
                # `save_snapshot` in its thread has just put a newer one in its place.
            except OSError as error:
                raise self._fail(error) from error
        raise LookupError("there is no snapshot yet")

    def install_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot that the leader sent, in place of the whole log. Durable when it returns."""
        self.sync()
        try:
            self._write_snapshot(snapshot)
            self._void_log(snapshot)
        except OSError as error:
            raise self._fail(error) from error

    def compact(self, index: int) -> None:
        """Remove segments that a durable snapshot at `index` covers."""
        self._check()
        try:
            newest = self._segments[-1]
            if newest.size_bytes >= min(EARLY_CLOSE_BYTES, self._segment_bytes):
                self.sync()
                self._begin_segment()
            while len(self._segments) > 1 and self._segments[0].max_index <= index:
                self._files.remove(self._segments.pop(0).path)
        except OSError as error:
            raise self._fail(error) from error

    def close(self) -> None:
        """Release the directory. What was appended and not synced is forgotten."""
        if self._handle is not None:
            self._files.close(self._handle)
            self._handle = None
        if self._lock >= 0:
            self._files.close(self._lock)
            self._lock = -1

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: OSError) -> DiskFailed:
        self._failure = DiskFailed(error)
        return self._failure

    def _take_over(self, recovered: Recovered) -> None:
        """Go on where a directory ends, after mending what a crash left half done."""
        found = recovered.identity
        if found is not None and found != self._identity:
            raise WrongDirectory(
                f"{self.directory} belongs to {found}, not to {self._identity}; "
                "give this node a data directory of its own"
            )
        for path in recovered.stale_files:
            self._files.remove(path)
        if recovered.stale_files:
            self._files.sync_directory(self.directory)
        self._hard_state = recovered.hard_state
        self._segments = recovered.segments
        if recovered.snapshot is not None:
            self._snapshot_path = self.directory / snapshot_name(recovered.snapshot.index)
        self._last = (recovered.last_index, recovered.last_term)
        if not self._segments:
            self._begin_segment()
            return
        newest = self._segments[-1]
        if newest.torn_bytes:
            self._files.truncate(newest.path, newest.size_bytes)
        # What was written but never synced before the crash was just read from the page cache: before anybody
        # acts on it, it must be on the disk.
        self._handle = self._files.open_append(newest.path)
        self._files.sync(self._handle)
        self._files.sync_directory(self.directory)
        if recovered.snapshot is not None and recovered.snapshot_is_ahead:
            self._void_log(recovered.snapshot)

    def _void_log(self, snapshot: Snapshot) -> None:
        """Continue behind a durable snapshot; none of the entries so far counts."""
        old = self._segments
        self._last = (snapshot.index, snapshot.term)
        self._begin_segment(reset=True)
        self._segments = self._segments[-1:]
        for segment in old:
            self._files.remove(segment.path)

    def _begin_segment(self, *, reset: bool = False) -> None:
        """Everything in the segments before is durable when this is called."""
        sequence = self._segments[-1].sequence + 1 if self._segments else 1
        path = self.directory / segment_name(sequence)
        fields = (
            FORMAT,
            self._identity.cluster_id,
            self._identity.node_id,
            sequence,
            *self._hard_state,
            *self._last,
            reset,
        )
        header = encode_record(KIND_SEGMENT_HEADER, msgpack.packb(fields))
        handle = self._files.create(path)
        try:
            self._files.write(handle, header)
            self._files.sync(handle)
            self._files.sync_directory(self.directory)
        except BaseException:
            self._files.close(handle)
            raise
        if self._handle is not None:
            self._files.close(self._handle)
        self._handle = handle
        self._segments = [*self._segments, Segment(path, sequence, self._last[0], len(header))]

    def _write_snapshot(self, snapshot: Snapshot) -> None:
        identity = self._identity
        fields = (FORMAT, identity.cluster_id, identity.node_id, snapshot.index, snapshot.term)
        name = snapshot_name(snapshot.index)
        temporary = self.directory / (name + TEMPORARY_SUFFIX)
        handle = self._files.create(temporary)
        try:
            self._files.write(handle, encode_record(KIND_SNAPSHOT_HEADER, msgpack.packb(fields)))
            data = memoryview(encode_record(KIND_SNAPSHOT_DATA, snapshot.data))
            for start in range(0, len(data), SNAPSHOT_WRITE_BYTES):
                self._files.write(handle, data[start : start + SNAPSHOT_WRITE_BYTES])
                self._files.sync(handle)
        finally:
            self._files.close(handle)
        self._files.rename(temporary, self.directory / name)
        self._files.sync_directory(self.directory)
        if self._snapshot_path is None or self._snapshot_path.name < name:
            self._snapshot_path = self.directory / name
        for other in self._files.list_directory(self.directory):
            if other.startswith(SNAPSHOT_PREFIX) and other < name and not other.endswith(TEMPORARY_SUFFIX):
                try:
                    self._files.remove(self.directory / other)
                except FileNotFoundError:
                    pass  # the other thread, with a snapshot of its own, was quicker
