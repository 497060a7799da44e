"""Lists built by append: every read is taken apart into the writes that made it.

A value read from a key with appends is a *base* (a put, a cas, or nothing) followed by tokens. Tokens are unique,
so the value names the whole order of the appends that it contains: each token's version follows from the version
of the token before it, exactly as a successful cas follows from the value that it demanded. With that the zone
algorithm decides appends too, also on keys that mix them with put, cas and delete:

* Reads of one base must be prefixes of the longest one; a token in two places was applied twice.
* An acknowledged append that nobody ever saw is a group of its own: it must have taken effect at a point after
  which nothing of its list was read, that is, just before a write that replaces the value, or at the end. That
  is where an unread put could stand, and groups follow one another whole, so both obey the same zone rule. For a
  key with appends only this says: unseen appends come last.
* An unanswered append that nobody saw may never have happened.

The parts can be told from one another when no written value is empty or the beginning of another (``"7,"`` and
``"77,"`` are well; ``"7"`` and ``"77"`` are not): other keys go to the general search.
"""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from swarmproof.judge.history import (
    APPEND,
    CAS,
    NONE,
    PUT,
    STATUS_FAIL,
    STATUS_OK,
    History,
    Ints,
    Value,
    as_bytes,
)

if TYPE_CHECKING:
    from swarmproof.judge.lineage import Lineage

PHANTOM = "phantom read"
ABORTED = "aborted read"
APPLIED_TWICE = "applied twice"
DISAGREEING = "disagreeing reads"

Text = str | bytes


class _Parts:
    """The values that can make up a list, and how to find the next one at a position."""

    def __init__(self, nodes: dict[Text, int]) -> None:
        self.nodes = nodes
        self._lengths = sorted({len(value) for value in nodes})

    def at(self, value: Text, position: int) -> tuple[Text, int] | None:
        """The part of ``value`` that begins at ``position`` and its node."""
        for length in self._lengths:
            part = value[position : position + length]
            node = self.nodes.get(part)
            if node is not None:
                return part, node
        return None

    @property
    def ambiguous(self) -> bool:
        """Some part is empty, so no list shows it, or is the beginning of another (neighbours in sorted order)."""
        ordered = sorted(self.nodes)
        return (bool(ordered) and not ordered[0]) or any(
            after.startswith(before)  # type: ignore[arg-type]
            for before, after in pairwise(ordered)
        )


class _Resolver:
    """One key's reads, taken apart."""

    def __init__(self, history: History, lineage: "Lineage", key: int, rows: Ints) -> None:
        self.history = history
        self.lineage = lineage
        self.key = key
        self.initial = int(history.initial[key])
        self.rows = rows
        self.as_bytes = False
        self.first_reader: dict[int, int] = {}
        self.resolved: dict[int, int] = {self.initial: self.initial}

    def run(self) -> None:
        history, lineage, rows = self.history, self.lineage, self.rows
        kind, written = history.kind[rows], history.wrote[rows]
        writes = rows[(written != NONE) & ((kind == PUT) | (kind == CAS) | (kind == APPEND))]
        seen = rows[lineage.before[rows] != NONE]
        touched = np.unique(np.concatenate((history.wrote[writes], lineage.before[seen])))
        self.as_bytes = any(isinstance(lineage.values[node], bytes) for node in touched.tolist())

        taken = writes[history.status[writes] != STATUS_FAIL]
        refused = writes[history.status[writes] == STATUS_FAIL]
        self.tokens = set(history.wrote[taken[history.kind[taken] == APPEND]].tolist())
        nodes = {self.text(node): node for node in history.wrote[taken].tolist()}
        self.parts = _Parts(nodes)
        self.refused = _Parts(
            {
                text: row
                for row in refused.tolist()
                if (text := self.text(int(history.wrote[row]))) and text not in nodes
            }
        )
        if len(nodes) < len(taken):
            lineage.undecided.setdefault(self.key, "the same value was written more than once")
            return
        if self.parts.ambiguous:
            lineage.undecided.setdefault(self.key, "some written values are empty or beginnings of others")
            return
        self.resolve_all(self.authoritative(seen))
        self.apply(seen, taken)

    def text(self, node: int) -> Text:
        value: Value = self.lineage.values[node]
        if value is None:
            return b"" if self.as_bytes else ""
        return as_bytes(value) if self.as_bytes else value

    def authoritative(self, seen: Ints) -> list[int]:
        """Nodes that were surely seen: by answered reads and cas, and by unanswered cas whose value was seen."""
        history, lineage = self.history, self.lineage
        answered = history.status[seen] == STATUS_OK
        sure = seen[answered & (lineage.reads[seen] | lineage.writes[seen])]
        for row in sure[np.argsort(history.ret[sure], kind="stable")].tolist():
            self.first_reader.setdefault(int(lineage.before[row]), row)
        waiting = {int(history.wrote[row]): row for row in seen[~answered & lineage.writes[seen]].tolist()}
        fresh = list(self.first_reader)
        while fresh and waiting:
            found = []
            for node in fresh:
                first = self.parts.at(self.text(node), 0)
                row = waiting.pop(first[1], None) if first else None
                if row is not None and int(lineage.before[row]) not in self.first_reader:
                    self.first_reader[int(lineage.before[row])] = row
                    found.append(int(lineage.before[row]))
            fresh = found
        return list(self.first_reader)

    def resolve_all(self, nodes: list[int]) -> None:
        """Longest first: the longest list of each first part fixes the order, all others must be beginnings."""
        parent = self.lineage.parent
        longest: dict[int, tuple[int, Text, dict[int, int]]] = {}  # first part -> (node, text, end -> version)
        chain_of: dict[int, int] = {}  # token -> first part of the list that holds it
        for node in sorted(nodes, key=lambda node: -len(self.text(node))):
            if node == self.initial:
                continue
            text = self.text(node)
            first = self.parts.at(text, 0)
            known = longest.get(first[1]) if first else None
            if known is not None and known[1].startswith(text) and len(text) in known[2]:  # type: ignore[arg-type]
                self.resolved[node] = known[2][len(text)]
                continue
            chain = self.take_apart(node, text)
            if chain is None:
                return
            if known is not None:
                self.report(DISAGREEING, node, self.first_reader[known[0]])
                return
            ends: dict[int, int] = {}
            position, above = 0, self.initial
            for part, version in chain:
                position += len(part)
                ends[position] = version
                if version in self.tokens:
                    if version in chain_of:
                        elsewhere = longest[chain_of[version]]
                        kind = DISAGREEING if chain[0][1] in self.tokens else APPLIED_TWICE
                        self.report(kind, node, self.first_reader[elsewhere[0]], self.writer_row(version))
                        return
                    chain_of[version] = chain[0][1]
                    parent[version] = above
                above = version
            longest[chain[0][1]] = (node, text, ends)
            self.resolved[node] = above

    def take_apart(self, node: int, text: Text) -> list[tuple[Text, int]] | None:
        """The parts of a value, or None when it cannot have been written (reported)."""
        chain: list[tuple[Text, int]] = []
        held: set[int] = set()
        position = 0
        while position < len(text):
            part = self.parts.at(text, position)
            if part is None or (chain and part[1] not in self.tokens):
                refused = self.refused.at(text, position)
                if refused is not None:
                    self.report(ABORTED, node, refused[1])
                else:
                    self.report(PHANTOM, node)
                return None
            if part[1] in held:
                self.report(APPLIED_TWICE, node, self.writer_row(part[1]))
                return None
            held.add(part[1])
            chain.append(part)
            position += len(part[0])
        if not chain:  # a read of an empty text that nobody wrote
            self.report(PHANTOM, node)
            return None
        return chain

    def apply(self, seen: Ints, taken: Ints) -> None:
        lineage = self.lineage
        for row in seen.tolist():
            node = int(lineage.before[row])
            lineage.before[row] = self.resolved.get(node, node)
        cas = taken[self.history.kind[taken] == CAS]
        lineage.parent[lineage.wrote[cas]] = lineage.before[cas]

    def writer_row(self, node: int) -> int:
        rows = self.rows[(self.history.wrote[self.rows] == node) & self.lineage.writes[self.rows]]
        return int(rows[0])

    def report(self, kind: str, node: int, *others: int) -> None:
        self.lineage.report(self.key, kind, (self.first_reader[node], *others))


def resolve(history: History, lineage: "Lineage", key: int, rows: Ints) -> None:
    """Replace what the reads of ``key`` saw by versions, and hang each seen token below the one before it."""
    _Resolver(history, lineage, key, rows).run()
