"""The durable log: what sync acknowledged is there after a crash at any operation, and damage is never taken for it."""

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgpack
import pytest

from servers.raft import log as log_module
from servers.raft.disk_records import LogCorrupt, encode_record, scan_records
from servers.raft.file_system import DirectoryInUse, RealFiles
from servers.raft.log import DiskFailed, DurableLog, WrongDirectory
from servers.raft.recovery import KIND_BATCH, KIND_SEGMENT_HEADER, KIND_SNAPSHOT_HEADER
from servers.raft.types import Entry, HardState, Snapshot
from tests.servers.raft.simulated_disk import Crashed, SimulatedDisk

DIRECTORY = Path("/data/n1")
# Small enough that the story below fills several segments.
SEGMENT_BYTES = 400
CRASH_FATES = 6


class State(NamedTuple):
    """What a node remembers after opening its directory."""

    hard_state: HardState
    snapshot: Snapshot | None
    entries: tuple[Entry, ...]


def entries_of(first: int, last: int, term: int, size_bytes: int = 40) -> list[Entry]:
    return [Entry(index, term, f"{index}/{term} ".encode().ljust(size_bytes, b"x")) for index in range(first, last + 1)]


def open_log(disk: SimulatedDisk, node_id: int = 1, cluster_id: str = "test") -> tuple[DurableLog, State]:
    log, hard_state, snapshot, entries = DurableLog.open(
        DIRECTORY, node_id, cluster_id, files=disk, segment_bytes=SEGMENT_BYTES
    )
    return log, State(hard_state, snapshot, tuple(entries))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots are written in pieces: small ones here, so that a crash may come between them."""
    monkeypatch.setattr(log_module, "SNAPSHOT_WRITE_BYTES", 300)


def remembered(disk: SimulatedDisk) -> State:
    log, state = open_log(disk)
    log.close()
    return state


class Story:
    """A node's life as steps; after each, `states` has what must be remembered, and what may be while it runs."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        self.state = State(HardState(0, 0), None, ())
        self.may_be = [self.state]

    def run(self) -> None:
        self.log, found = open_log(self.disk)
        assert found == self.state
        self.write(HardState(1, 1), entries_of(1, 1, 1))
        self.write(None, entries_of(2, 6, 1))
        self.write(HardState(2, 0), [])
        self.write(None, entries_of(7, 9, 2))
        self.write(HardState(3, 2), entries_of(8, 14, 3))  # replaces 8 and 9
        self.save_snapshot(10)
        self.log.compact(10)
        self.write(None, entries_of(15, 24, 3, size_bytes=300))
        self.save_snapshot(16)
        self.log.compact(12)
        self.write(HardState(4, 0), entries_of(17, 18, 4))
        self.install(HardState(5, 0), Snapshot(40, 5, b"from the leader" * 60))
        self.write(None, entries_of(41, 45, 5))
        self.install(HardState(6, 3), Snapshot(44, 6, b"conflicts with entry 44"))
        self.write(HardState(6, 3), entries_of(45, 46, 6, size_bytes=1500))
        self.log.close()

    def write(self, hard_state: HardState | None, entries: list[Entry]) -> None:
        before = self.state
        kept = [entry for entry in before.entries if not entries or entry.index < entries[0].index]
        after = State(hard_state or before.hard_state, before.snapshot, (*kept, *entries))
        self.may_be = [before, after]
        self.log.append(hard_state, entries)
        self.log.sync()
        self._acknowledged(after)

    def save_snapshot(self, index: int) -> None:
        before = self.state
        term = next(entry.term for entry in before.entries if entry.index == index)
        snapshot = Snapshot(index, term, f"state at {index}".encode() * 40)
        after = State(before.hard_state, snapshot, tuple(entry for entry in before.entries if entry.index > index))
        self.may_be = [before, after]
        self.log.save_snapshot(snapshot)
        self._acknowledged(after)

    def install(self, hard_state: HardState, snapshot: Snapshot) -> None:
        before = self.state
        after = State(hard_state, snapshot, ())
        self.may_be = [before, before._replace(hard_state=hard_state), after]
        self.log.append(hard_state, [])
        self.log.install_snapshot(snapshot)
        self._acknowledged(after)

    def _acknowledged(self, state: State) -> None:
        self.state = state
        self.may_be = [state]


def whole_story() -> tuple[SimulatedDisk, Story]:
    disk = SimulatedDisk()
    story = Story(disk)
    story.run()
    return disk, story


def test_a_closed_log_is_found_as_it_was_left() -> None:
    disk, story = whole_story()
    assert remembered(disk) == story.state
    assert remembered(disk) == story.state  # opening it changed nothing


def test_the_story_fills_segments_and_trims_them() -> None:
    disk, _ = whole_story()
    text = "\n".join(disk.history)
    assert "remove log-" in text
    assert "remove snapshot-" in text
    assert disk.operations > 60


def test_a_crash_at_any_operation_loses_nothing_acknowledged() -> None:
    total = whole_story()[0].operations
    for crash_at in range(1, total + 1):
        for fate in range(CRASH_FATES):
            disk = SimulatedDisk()
            story = Story(disk)
            disk.crash_at = crash_at
            with pytest.raises(Crashed):
                story.run()
            disk.crash(Random(fate))
            found = remembered(disk)
            assert found in story.may_be, f"crash at {crash_at} ({disk.history[crash_at - 1]}), fate {fate}"
            assert remembered(disk) == found, "the second start found something else than the first"


def test_a_crash_during_recovery_loses_nothing_acknowledged() -> None:
    total = whole_story()[0].operations
    tried = 0
    for crash_at in range(1, total + 1):
        for second in range(1, 30):
            disk = SimulatedDisk()
            story = Story(disk)
            disk.crash_at = crash_at
            with pytest.raises(Crashed):
                story.run()
            disk.crash(Random(second))
            disk.crash_at = disk.operations + second
            try:
                remembered(disk)
            except Crashed:
                tried += 1
                disk.crash(Random(crash_at))
                assert remembered(disk) in story.may_be
            else:
                break
    assert tried > total


def test_what_was_written_but_not_synced_is_durable_before_anybody_acts_on_it() -> None:
    """The process dies between write and sync: the next start reads the write from the page cache. Once opened, a
    crash of the machine must not take it away again."""
    disk = SimulatedDisk()
    log, _ = open_log(disk)
    log.append(HardState(1, 1), entries_of(1, 3, 1))
    disk.crash_at = disk.operations + 2
    with pytest.raises(Crashed, match="sync"):
        log.sync()
    disk.restart()
    found = remembered(disk)
    assert found == State(HardState(1, 1), None, tuple(entries_of(1, 3, 1)))
    disk.crash(Random(0))
    assert remembered(disk) == found


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_disk_error_at_any_operation_stops_the_log_for_good(error: int) -> None:
    total = whole_story()[0].operations
    for fail_at in range(1, total + 1):
        disk = SimulatedDisk()
        story = Story(disk)
        disk.fail_at, disk.fail_with = fail_at, error
        with pytest.raises(DiskFailed, match="No space left" if error == errno.ENOSPC else "I/O error"):
            story.run()
        if hasattr(story, "log"):
            operations = disk.operations
            story.log.append(HardState(99, 1), entries_of(100, 100, 99))
            refused: list[Callable[[], None]] = [
                story.log.sync,
                lambda log=story.log: log.compact(1),  # type: ignore[misc]
                lambda log=story.log: log.save_snapshot(Snapshot(1, 1, b"")),  # type: ignore[misc]
                lambda log=story.log: log.install_snapshot(Snapshot(1, 1, b"")),  # type: ignore[misc]
            ]
            for step in refused:
                with pytest.raises(DiskFailed):
                    step()
            assert disk.operations == operations, "something was written after the disk had failed"
        disk.restart()
        assert remembered(disk) in story.may_be, f"error at {fail_at} ({disk.history[fail_at - 1]})"


def test_a_log_that_never_synced_would_be_caught() -> None:
    """The bad twin of the crash test: on a disk whose syncs do nothing, acknowledged writes are lost."""
    lost = 0
    for fate in range(20):
        disk = SimulatedDisk()
        disk.lose_syncs = True
        story = Story(disk)
        story.run()
        disk.crash(Random(fate))
        try:
            lost += remembered(disk) not in story.may_be
        except LogCorrupt:
            lost += 1
    assert lost > 10


def test_every_flipped_bit_is_refused_with_file_and_offset() -> None:
    disk, _ = whole_story()
    flips = 0
    for path in disk.paths():
        for offset in range(0, len(disk.read(path))):
            disk.flip_bit(path, offset, offset % 8)
            with pytest.raises(LogCorrupt) as caught:
                remembered(disk)
            assert caught.value.file == path
            assert caught.value.offset <= offset
            assert str(path) in str(caught.value)
            disk.flip_bit(path, offset, offset % 8)
            flips += 1
    assert flips > 2000
    remembered(disk)


def test_a_log_cut_in_its_last_record_keeps_all_records_before_it() -> None:
    disk = SimulatedDisk()
    log, _ = open_log(disk)
    log.append(HardState(1, 1), entries_of(1, 1, 1))
    log.sync()
    whole = len(disk.read(disk.paths()[0]))
    log.append(None, entries_of(2, 3, 1))
    log.sync()
    log.close()
    [path] = disk.paths()
    for size in range(len(disk.read(path)) - 1, whole - 1, -1):
        disk.cut(path, size)
        assert [entry.index for entry in remembered(disk).entries] == [1]
        assert len(disk.read(path)) == whole, "the torn end is gone"


def log_of_many_segments() -> tuple[SimulatedDisk, list[Path]]:
    disk = SimulatedDisk()
    log, _ = open_log(disk)
    for index in range(1, 40):
        log.append(None, entries_of(index, index, 1))
        log.sync()
    log.close()
    segments = disk.paths()
    assert len(segments) > 3
    return disk, segments


def test_a_cut_in_a_segment_that_is_not_the_last_is_refused() -> None:
    disk, segments = log_of_many_segments()
    disk.cut(segments[0], len(disk.read(segments[0])) - 1)
    with pytest.raises(LogCorrupt, match="ends inside a record"):
        remembered(disk)


def test_a_missing_segment_is_refused() -> None:
    disk, segments = log_of_many_segments()
    disk.delete(segments[1])
    with pytest.raises(LogCorrupt, match="there is no snapshot"):
        remembered(disk)


def test_a_snapshot_without_a_log_is_refused() -> None:
    disk, _ = whole_story()
    for path in disk.paths():
        if path.name.startswith("log-"):
            disk.delete(path)
    with pytest.raises(LogCorrupt, match="vote is lost"):
        remembered(disk)


def test_the_directory_of_another_node_or_cluster_is_refused_by_name() -> None:
    disk, _ = whole_story()
    with pytest.raises(WrongDirectory, match="belongs to node n1 of cluster 'test', not to node n2 of cluster 'test'"):
        open_log(disk, node_id=2)
    with pytest.raises(WrongDirectory, match="not to node n1 of cluster 'other'"):
        open_log(disk, cluster_id="other")
    open_log(disk)  # a refusal leaves it unlocked and usable


def test_a_file_of_another_node_among_ours_is_refused() -> None:
    disk, _ = whole_story()
    other = SimulatedDisk()
    log, *_ = DurableLog.open(DIRECTORY, 2, "test", files=other)
    log.close()
    stray = DIRECTORY / "log-0000000000009999"
    handle = disk.create(stray)
    disk.write(handle, other.read(other.paths()[0]))
    with pytest.raises(WrongDirectory, match="belongs to"):
        remembered(disk)


def test_a_directory_is_used_by_one_process_at_a_time(tmp_path: Path) -> None:
    log, *_ = DurableLog.open(tmp_path / "n1", 1, "test")
    with pytest.raises(DirectoryInUse, match="in use by another process"):
        DurableLog.open(tmp_path / "n1", 1, "test")
    log.close()
    DurableLog.open(tmp_path / "n1", 1, "test")[0].close()


def test_the_same_story_on_a_real_file_system(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "down"
    log, *_ = DurableLog.open(directory, 1, "test", segment_bytes=SEGMENT_BYTES)
    for index in range(1, 60):
        log.append(HardState(1, 1) if index == 1 else None, entries_of(index, index, 1))
        log.sync()
    log.save_snapshot(Snapshot(50, 1, b"state"))
    log.compact(50)
    assert log.load_snapshot() == Snapshot(50, 1, b"state")
    log.close()
    log, hard_state, snapshot, entries = DurableLog.open(directory, 1, "test", segment_bytes=SEGMENT_BYTES)
    assert (hard_state, snapshot) == (HardState(1, 1), Snapshot(50, 1, b"state"))
    assert [entry.index for entry in entries] == list(range(51, 60))
    log.install_snapshot(Snapshot(100, 3, b"other"))
    log.close()
    log, hard_state, snapshot, entries = DurableLog.open(directory, 1, "test", files=RealFiles(fsync=False))
    assert (snapshot, entries) == (Snapshot(100, 3, b"other"), [])
    log.close()


def test_a_snapshot_of_another_term_than_the_entry_in_its_place_voids_the_log() -> None:
    """After a crash between keeping the leader's snapshot and voiding the log, the entries behind it belong to
    another history: kept, they could win an election they must lose."""
    disk = SimulatedDisk()
    log, _ = open_log(disk)
    log.append(HardState(5, 0), entries_of(1, 20, 3))
    log.sync()
    log.save_snapshot(Snapshot(10, 5, b"from the leader of term 5"))  # and no install_snapshot: the crash
    log.close()
    assert remembered(disk) == State(HardState(5, 0), Snapshot(10, 5, b"from the leader of term 5"), ())


def test_records_name_the_place_of_damage() -> None:
    data = encode_record(2, b"first") + encode_record(2, b"second") + encode_record(2, b"third")
    records, end = scan_records(Path("log"), data, may_be_torn=False)
    assert [record.body for record in records] == [b"first", b"second", b"third"]
    assert end == len(data)
    second = records[1].offset
    for broken in (data[: second + 20] + b"!" + data[second + 21 :], data[: second + 3] + b"!" + data[second + 4 :]):
        for may_be_torn in (False, True):
            with pytest.raises(LogCorrupt) as caught:
                scan_records(Path("log"), broken, may_be_torn=may_be_torn)
            assert caught.value.offset == second


def test_a_length_that_lies_is_seen_before_it_is_believed() -> None:
    record = bytearray(encode_record(2, b"body"))
    record[3:7] = b"\xff\xff\xff\xff"
    with pytest.raises(LogCorrupt, match="header does not match"):
        scan_records(Path("log"), bytes(record) + encode_record(2, b"next"), may_be_torn=True)


@pytest.mark.parametrize(
    ("kind", "fields", "pinned"),
    [
        (
            KIND_SEGMENT_HEADER,
            (1, "demo", 1, 1, 0, 0, 0, 0, False),
            "7352010000000eb9a20f31466979629901a464656d6f010100000000c22e",
        ),
        (
            KIND_BATCH,
            (HardState(1, 1), [Entry(1, 1, b""), Entry(2, 1, b"x")]),
            "735202000000101a3da8bf05cc2ee89292010192930101c400930201c401782e",
        ),
        (KIND_SNAPSHOT_HEADER, (1, "demo", 1, 2, 1), "7352030000000af6350010b585f0f89501a464656d6f0102012e"),
    ],
)
def test_a_record_has_the_documented_bytes(kind: int, fields: tuple[object, ...], pinned: str) -> None:
    assert encode_record(kind, msgpack.packb(fields)).hex() == pinned
    assert f"`{pinned}`" in (Path(__file__).parents[3] / "docs" / "raft-node.md").read_text()
