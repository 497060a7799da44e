"""A disk that forgets what was not synced.

Writes queue up until ``sync`` makes them durable, in order. A crash keeps a random prefix of the queue, and of the
last append that survives a random prefix of its entries: the torn tail that recovery cuts off. A failed sync loses
the queue, as page caches do. Renaming a snapshot into place is atomic; emptying the log after it is a write of its
own, so that a crash can fall in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from servers.raft.types import Entry, HardState, Snapshot


class DiskError(Exception):
    """The sync failed; nobody knows what is on the platter."""


class PowerLoss(Exception):
    """The machine stops in the middle of a write."""


@dataclass
class Image:
    """What a restart would find."""

    hard_state: HardState = field(default_factory=lambda: HardState(0, 0))
    snapshot: Snapshot | None = None
    base_index: int = 0
    base_term: int = 0
    entries: list[Entry] = field(default_factory=list)

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    def term_at(self, index: int) -> int:
        if index > self.base_index:
            return self.entries[index - self.base_index - 1].term if index <= self.last_index else 0
        return self.base_term if index == self.base_index else 0

    def holds(self, index: int, term: int) -> bool:
        """Whether a restart still knows the entry, in the log or inside the snapshot."""
        if self.snapshot is not None and index <= self.snapshot.index:
            return True
        return self.term_at(index) == term

    def append(self, entries: Sequence[Entry]) -> None:
        if entries:
            assert entries[0].index <= self.last_index + 1, "the shell left a gap in the log"
            del self.entries[max(0, entries[0].index - self.base_index - 1) :]
            self.entries.extend(entry for entry in entries if entry.index > self.base_index)

    def trim(self, index: int, term: int) -> None:
        if index > self.base_index:
            del self.entries[: index - self.base_index]
            self.base_index, self.base_term = index, term

    def drop_log(self, index: int, term: int) -> None:
        self.entries = []
        self.base_index, self.base_term = index, term

    def recover(self) -> None:
        """A snapshot whose last entry the log contradicts, or ends before, replaces the log."""
        snapshot = self.snapshot
        if snapshot is not None and self.term_at(snapshot.index) != snapshot.term:
            self.drop_log(snapshot.index, snapshot.term)


class SimDisk:
    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.durable = Image()
        self._queue: list[tuple[str, object]] = []
        self.fails = False
        self.failed = False

    def write_hard_state(self, hard_state: HardState) -> None:
        self._queue.append(("hard_state", hard_state))

    def write_entries(self, entries: list[Entry]) -> None:
        self._queue.append(("entries", entries))

    def write_snapshot(self, snapshot: Snapshot) -> None:
        """Rename a snapshot into place; it survives a crash or it does not."""
        self._queue.append(("snapshot", snapshot))

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """A snapshot of this node's own: temporary file, fsync, rename, directory fsync; durable when it returns."""
        self.durable.snapshot = snapshot

    def drop_log(self, index: int, term: int) -> None:
        self._queue.append(("drop", (index, term)))

    def trim(self, index: int, term: int) -> None:
        self._queue.append(("trim", (index, term)))

    @property
    def pending(self) -> int:
        """How many writes wait for a sync."""
        return len(self._queue)

    @property
    def snapshot_pending(self) -> bool:
        return any(kind == "snapshot" for kind, _ in self._queue)

    def sync(self, writes: int) -> None:
        """The oldest ``writes`` that wait become durable. Raises DiskError."""
        if self.fails:
            self.failed = True
            self._queue.clear()
            raise DiskError("fsync: input/output error")
        for write in self._queue[:writes]:
            self._apply(*write)
        del self._queue[:writes]

    def crash(self) -> None:
        """Power is gone; some of what was not synced may be there all the same."""
        survivors = self._rng.randint(0, len(self._queue))
        for position, (kind, what) in enumerate(self._queue[: survivors + 1]):
            torn = position == survivors
            if not torn:
                self._apply(kind, what)
            elif kind == "entries":
                assert isinstance(what, list)
                self._apply(kind, what[: self._rng.randint(0, len(what))])
        self._queue.clear()
        self.durable.recover()
        self.fails = self.failed = False

    def flip_bit(self) -> str | None:
        """Change one bit of what a crashed node left; says which. None: this disk has no bits to flip."""
        return None

    def restore_bit(self) -> None:
        """Undo :meth:`flip_bit`."""

    def refusal(self) -> str | None:
        """Why the node must not start from what is there; None: it may. Raises Violation if it would start."""
        return None

    def _apply(self, kind: str, what: object) -> None:
        image = self.durable
        match kind, what:
            case "hard_state", HardState():
                image.hard_state = what
            case "entries", list():
                image.append(what)
            case "snapshot", Snapshot():
                image.snapshot = what
            case "trim", (int(index), int(term)):
                image.trim(index, term)
            case "drop", (int(index), int(term)):
                image.drop_log(index, term)
