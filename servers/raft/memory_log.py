"""The log as the core sees it: in memory, from just after the last trimmed entry up to the newest.

Three marks move through it, always in this order: ``stable <= handed <= last_index``. ``handed`` is how far
entries were given to the shell to be written, ``stable`` how far the shell reported them durable. A conflict
with the leader truncates the log and pulls the marks back; ``generation`` counts these cuts, so that a late
report about entries that have since been replaced is not believed (the same index and term can come back
under a newer leader while the disk still holds the older version: etcd's "append ABA race").
"""

from collections.abc import Sequence

from protocols.raft_messages import Entry
from servers.raft.types import InvariantBroken


class MemoryLog:
    __slots__ = (
        "_entries",
        "base_index",
        "base_term",
        "generation",
        "handed",
        "last_index",
        "last_term",
        "stable",
    )

    def __init__(self, base_index: int, base_term: int, entries: Sequence[Entry]) -> None:
        self._entries = [entry for entry in entries if entry.index > base_index]
        for position, entry in enumerate(self._entries):
            if entry.index != base_index + 1 + position:
                raise InvariantBroken(
                    f"log has entry {entry.index} where {base_index + 1 + position} belongs: entries are missing"
                )
        self.base_index = base_index
        self.base_term = base_term
        self.last_index = base_index + len(self._entries)
        self.last_term = self._entries[-1].term if self._entries else base_term
        self.handed = self.stable = self.last_index
        self.generation = 0

    def term_at(self, index: int) -> int:
        """The term of the entry at ``index``; 0 if it is trimmed or not there yet."""
        if index > self.base_index:
            return self._entries[index - self.base_index - 1].term if index <= self.last_index else 0
        return self.base_term if index == self.base_index else 0

    def between(self, first: int, last: int) -> list[Entry]:
        """Entries ``first..last``, both included; both must be in memory."""
        offset = self.base_index + 1
        return self._entries[first - offset : last - offset + 1]

    def batch(self, first: int, max_bytes: int) -> list[Entry]:
        """Entries from ``first`` on, at least one if there is one, of about ``max_bytes`` in all."""
        position = first - self.base_index - 1
        entries = self._entries
        size_bytes = 0
        for end in range(position, len(entries)):
            size_bytes += len(entries[end].data) + 16
            if size_bytes > max_bytes:
                return entries[position : max(end, position + 1)]
        return entries[position:]

    def append(self, entry: Entry) -> None:
        self._entries.append(entry)
        self.last_index = entry.index
        self.last_term = entry.term

    def extend(self, entries: list[Entry]) -> None:
        self._entries.extend(entries)
        self.last_index = entries[-1].index
        self.last_term = entries[-1].term

    def truncate_from(self, index: int) -> None:
        """Forget ``index`` and everything after it, durable or not."""
        del self._entries[index - self.base_index - 1 :]
        self.last_index = index - 1
        self.last_term = self.term_at(index - 1)
        self.handed = min(self.handed, self.last_index)
        self.stable = min(self.stable, self.last_index)
        self.generation += 1

    def restore(self, index: int, term: int) -> None:
        """Replace everything by a snapshot that is not yet durable."""
        self._entries = []
        self.base_index = self.last_index = self.handed = index
        self.base_term = self.last_term = term
        self.stable = 0
        self.generation += 1

    def trim(self, index: int) -> None:
        """Drop entries up to ``index``; they are in a snapshot."""
        if index <= self.base_index:
            return
        term = self.term_at(index)
        del self._entries[: index - self.base_index]
        self.base_index = index
        self.base_term = term

    def take_unhanded(self) -> list[Entry]:
        """The entries the shell does not have yet; they count as handed over from here on."""
        if self.handed >= self.last_index:
            return []
        entries = self._entries[self.handed - self.base_index :]
        self.handed = self.last_index
        return entries

    def stable_to(self, index: int, generation: int) -> None:
        """The shell reports that everything handed over up to ``index`` is durable."""
        if generation == self.generation and index > self.stable:
            self.stable = index

    def up_to_date(self, last_index: int, last_term: int) -> bool:
        """Raft paper, 5.4.1: whether a log that ends there is at least as up-to-date as ours."""
        return last_term > self.last_term or (last_term == self.last_term and last_index >= self.last_index)

    def agreement_hint(self, index: int, max_term: int, floor: int) -> int:
        """The largest index <= ``index`` whose term is <= ``max_term``, not below ``floor``.

        Whoever refuses an Append, or reads the refusal, can skip every entry of a later term at once: it
        cannot be the one the other log has there.
        """
        index = min(index, self.last_index)
        while index > floor and self.term_at(index) > max_term:
            index -= 1
        return max(index, floor)
