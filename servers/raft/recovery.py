"""Reading a node's data directory: which term, vote, snapshot and entries survived. Changes nothing on disk.

    LOCK                          held by the running node
    log-0000000000000007          segments in the order of their numbers, each beginning with a header record
    snapshot-00000000000000004711 the state after that index

A segment's header names the cluster and the node, the term and vote so far, and the last entry before it. So old
segments can be removed without losing the vote, and a segment that is missing is noticed. A header marked as
`reset` means: whatever stood before is void, the log continues behind a snapshot that came from the leader.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from servers.raft.disk_records import LogCorrupt, Record, scan_records, unpack_body
from servers.raft.file_system import Files
from servers.raft.types import Entry, HardState, Snapshot

FORMAT: Final = 1
SEGMENT_PREFIX: Final = "log-"
SNAPSHOT_PREFIX: Final = "snapshot-"
TEMPORARY_SUFFIX: Final = ".tmp"

KIND_SEGMENT_HEADER: Final = 1  # [format, cluster_id, node_id, sequence, term, vote, last_index, last_term, reset]
KIND_BATCH: Final = 2  # [[term, vote] or nil, [[index, term, data], ...]]
KIND_SNAPSHOT_HEADER: Final = 3  # [format, cluster_id, node_id, index, term]
KIND_SNAPSHOT_DATA: Final = 4  # the state machine's bytes


class WrongDirectory(Exception):
    """The data directory belongs to another node or cluster."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose directory it is."""

    cluster_id: str
    node_id: int

    def __str__(self) -> str:
        return f"node n{self.node_id} of cluster {self.cluster_id!r}"


@dataclass(slots=True)
class Segment:
    """One file of the log. `max_index` is the highest entry it ever held; it may go once a snapshot covers that."""

    path: Path
    sequence: int
    max_index: int = 0
    size_bytes: int = 0
    torn_bytes: int = 0  # what a cut-short last write left behind; only the last segment has any


@dataclass(slots=True)
class Recovered:
    """What a directory holds. Entries begin at `base_index + 1` and may begin before the end of the snapshot."""

    identity: Identity | None = None
    hard_state: HardState = field(default_factory=lambda: HardState(0, 0))
    snapshot: Snapshot | None = None
    base_index: int = 0
    base_term: int = 0
    entries: list[Entry] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    # Left over from an interrupted clean-up: nothing in them counts.
    stale_files: list[Path] = field(default_factory=list)

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.base_term

    @property
    def snapshot_is_ahead(self) -> bool:
        """Whether the snapshot replaces the log: it lies past its end, or the log has another entry in its place.

        So it is after a crash between keeping a snapshot that the leader sent and voiding the log.
        """
        snapshot = self.snapshot
        if snapshot is None or snapshot.index == self.base_index:
            return False
        if snapshot.index > self.last_index:
            return True
        return self.entries[snapshot.index - self.base_index - 1].term != snapshot.term

    def entries_after_snapshot(self) -> list[Entry]:
        if self.snapshot is None:
            return self.entries
        return [] if self.snapshot_is_ahead else self.entries[self.snapshot.index - self.base_index :]


def recover(files: Files, directory: Path) -> Recovered:
    """Read everything. Raises LogCorrupt, OSError, and WrongDirectory when its files disagree on whose it is."""
    recovered = Recovered()
    names = files.list_directory(directory)
    recovered.stale_files = [directory / name for name in names if name.endswith(TEMPORARY_SUFFIX)]
    _read_snapshot(files, directory, _numbered(names, SNAPSHOT_PREFIX), recovered)
    _read_segments(files, directory, _numbered(names, SEGMENT_PREFIX), recovered)
    snapshot = recovered.snapshot
    if recovered.base_index > (snapshot.index if snapshot else 0):
        covered = f"the snapshot ends at {snapshot.index}" if snapshot else "there is no snapshot"
        first = recovered.segments[0].path
        raise LogCorrupt(first, 0, f"the log begins behind entry {recovered.base_index}, but {covered}")
    if snapshot is not None and not recovered.segments:
        raise LogCorrupt(directory, 0, "there is a snapshot but no log: the node's vote is lost")
    return recovered


def read_snapshot(files: Files, path: Path) -> tuple[Identity, Snapshot]:
    """One snapshot file, and whose it is. Raises LogCorrupt and OSError."""
    records, _ = scan_records(path, files.read(path), may_be_torn=False)
    if [record.kind for record in records] != [KIND_SNAPSHOT_HEADER, KIND_SNAPSHOT_DATA]:
        raise LogCorrupt(path, 0, "it is not a snapshot: header and data expected")
    fields = _fields(path, records[0], (int, str, int, int, int))
    _check_format(path, fields[0])
    _, cluster_id, node_id, index, term = fields
    return Identity(cluster_id, node_id), Snapshot(index, term, records[1].body)


def segment_name(sequence: int) -> str:
    return f"{SEGMENT_PREFIX}{sequence:016d}"


def snapshot_name(index: int) -> str:
    return f"{SNAPSHOT_PREFIX}{index:020d}"


def _numbered(names: list[str], prefix: str) -> list[tuple[int, str]]:
    numbers = ((name.removeprefix(prefix), name) for name in names if name.startswith(prefix))
    return sorted((int(number), name) for number, name in numbers if number.isdecimal())


def _read_snapshot(files: Files, directory: Path, found: list[tuple[int, str]], into: Recovered) -> None:
    if not found:
        return
    # Only the newest counts; it got its name after it was durable, and the log behind it may be gone already.
    into.stale_files += [directory / name for _, name in found[:-1]]
    path = directory / found[-1][1]
    identity, into.snapshot = read_snapshot(files, path)
    _belongs(path, identity, into)


def _read_segments(files: Files, directory: Path, found: list[tuple[int, str]], into: Recovered) -> None:
    # Segments are removed from the oldest on, but a crash may keep any of the removals: what counts is the
    # unbroken run up to the newest.
    first = len(found) - 1
    while first > 0 and found[first - 1][0] == found[first][0] - 1:
        first -= 1
    into.stale_files += [directory / name for _, name in found[: max(first, 0)]]
    counting = found[max(first, 0) :]
    for position, (sequence, name) in enumerate(counting):
        newest = position == len(counting) - 1
        path = directory / name
        data = files.read(path)
        records, whole_bytes = scan_records(path, data, may_be_torn=newest)
        if not records:
            # Created, but the crash came before its header was durable; the one before it is complete.
            if not newest:
                raise LogCorrupt(path, 0, "the segment is empty")
            into.stale_files.append(path)
            return
        segment = Segment(path, sequence, 0, whole_bytes, len(data) - whole_bytes)
        _replay_segment(segment, records, position == 0, into)
        into.segments.append(segment)


def _replay_segment(segment: Segment, records: list[Record], is_first: bool, into: Recovered) -> None:
    path = segment.path
    if records[0].kind != KIND_SEGMENT_HEADER:
        raise LogCorrupt(path, 0, "the segment does not begin with a header")
    fields = _fields(path, records[0], (int, str, int, int, int, int, int, int, bool))
    _check_format(path, fields[0])
    _, cluster_id, node_id, sequence, term, vote, last_index, last_term, reset = fields
    _belongs(path, Identity(cluster_id, node_id), into)
    if sequence != segment.sequence:
        raise LogCorrupt(path, 0, f"the segment's number is {sequence}: the file was renamed")
    if is_first or reset:
        into.base_index, into.base_term = last_index, last_term
        into.entries.clear()
    elif (last_index, last_term) != (into.last_index, into.last_term):
        raise LogCorrupt(path, 0, f"it continues behind entry {last_index}, the log ends at {into.last_index}")
    into.hard_state = HardState(term, vote)
    segment.max_index = last_index
    for record in records[1:]:
        if record.kind != KIND_BATCH:
            raise LogCorrupt(path, record.offset, f"a record of kind {record.kind} has no place in a log")
        _replay_batch(segment, record, into)


def _replay_batch(segment: Segment, record: Record, into: Recovered) -> None:
    hard_state, entries = _fields(segment.path, record, (list, list), nil_first=True)
    known = into.entries
    try:
        if hard_state is not None:
            term, vote = hard_state
            into.hard_state = HardState(term, vote)
        for index, term, data in entries:
            place = index - into.base_index - 1
            if place > len(known) or index < 1:
                text = f"entry {index} does not follow entry {into.last_index}"
                raise LogCorrupt(segment.path, record.offset, text)
            segment.max_index = max(segment.max_index, index)
            if place < 0:
                # It replaces an entry whose segment is gone, so the snapshot covers both: begin behind it.
                known.clear()
                into.base_index, into.base_term = index, term
                continue
            if place < len(known):
                del known[place:]  # a new leader's entries replaced these
            known.append(Entry(index, term, data))
    except (ValueError, TypeError) as error:
        raise LogCorrupt(segment.path, record.offset, f"a batch has another shape: {error}") from error


def _fields(path: Path, record: Record, types: tuple[type, ...], *, nil_first: bool = False) -> list[Any]:
    fields = unpack_body(path, record, len(types))
    for position, (value, wanted) in enumerate(zip(fields, types, strict=True)):
        if type(value) is not wanted and not (nil_first and position == 0 and value is None):
            raise LogCorrupt(path, record.offset, f"field {position} of the record has another type")
    return fields


def _check_format(path: Path, number: int) -> None:
    if number != FORMAT:
        raise LogCorrupt(path, 0, f"its format is {number}, this program writes and reads {FORMAT}")


def _belongs(path: Path, identity: Identity, into: Recovered) -> None:
    if into.identity is None:
        into.identity = identity
    elif into.identity != identity:
        raise WrongDirectory(f"{path} belongs to {identity}, other files beside it to {into.identity}")
