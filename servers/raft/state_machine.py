"""What the log means: a map of keys with versions, and a table of sessions so that a retry is applied once.

Deterministic: the state after an entry depends on the entries before it and on nothing else, so two nodes that
applied the same index have the same `digest()`. An entry's data is the client's request as it came over the wire.

A deleted key stays as a tombstone, so that a read of an absent key can name the delete that it saw.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import msgpack

from protocols.errors import RemoteProtocolError
from protocols.kv import (
    APPEND,
    CAS,
    CAS_FAILED,
    DELETE,
    ERROR,
    MAX_VALUE_BYTES,
    NOT_FOUND,
    OK,
    PUT,
    UNKNOWN,
    KvReply,
    KvRequest,
    Value,
    decode_request,
)
from servers.raft.types import Entry

# Clients whose results are remembered; over it those of the longest silent one are forgotten, on all nodes at the same
# entry. Its highest seq is kept: a retry may come at any time, and must not be applied again.
MAX_SESSIONS: Final = 16_384
# Clients whose highest seq is remembered, forgotten results or not; over it new clients are refused, surely unapplied.
MAX_CLIENTS: Final = 1_048_576
# Results kept for each client: as many of its writes may be on their way at once. A retry asks for a recent one.
RESULTS_PER_SESSION: Final = 32

TOO_OLD: Final = "seq is too old, its result is no longer stored"

SNAPSHOT_FORMAT: Final = 1
# Keys or sessions packed in one go: about a millisecond's work.
ITEMS_PER_PART: Final = 1000


class SnapshotUnreadable(Exception):
    """A snapshot's bytes are not a state of this state machine; its text says why."""


# A key's value (None = deleted) and the index of the entry that wrote it. A plain tuple: there may be millions, and
# the garbage collector leaves plain tuples of plain values alone.
_Stored = tuple[Value | None, int]


class _Session:
    """One client's recent writes: `results` by seq, ascending. Sequence numbers up to `first_seq` are not ours to
    judge when they have no result: it may have been forgotten."""

    __slots__ = ("first_seq", "last_seq", "results")

    def __init__(self, seq: int) -> None:
        self.first_seq = seq
        self.last_seq = seq
        self.results: dict[int, KvReply] = {}


class KvStateMachine:
    """Apply committed entries in order, read in between, snapshot and restore.

    >>> machine = KvStateMachine()
    >>> machine.apply(Entry(1, 1, encode_request(KvRequest("put", "k", "v"))))
    KvReply(result='OK', value=None, version=1, ...)
    """

    def __init__(
        self,
        max_sessions: int = MAX_SESSIONS,
        results_per_session: int = RESULTS_PER_SESSION,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        self._max_sessions = max_sessions
        self._max_clients = max_clients
        self._results_per_session = results_per_session
        self.applied_index = 0
        self._keys: dict[str, _Stored] = {}
        # In the order of their last write, the longest silent first.
        self._sessions: dict[int, _Session] = {}
        # The highest seq of each client whose results are forgotten, in the order of forgetting.
        self._forgotten: dict[int, int] = {}

    @property
    def keys(self) -> int:
        """How many keys there are, tombstones included."""
        return len(self._keys)

    @property
    def sessions(self) -> int:
        """How many clients' results are remembered."""
        return len(self._sessions)

    @property
    def clients(self) -> int:
        """How many clients are known, those with forgotten results included."""
        return len(self._sessions) + len(self._forgotten)

    def apply(self, entry: Entry, request: KvRequest | None = None) -> KvReply:
        """The reply for the client whose write this entry is. Entries come one by one, in order.

        `request` is the entry's data already decoded, when the caller has it. Never raises on what an entry
        holds: data that is no write is an ERROR, the same on every node.
        """
        index = entry.index
        if index != self.applied_index + 1:
            raise ValueError(f"entry {index} cannot be applied after {self.applied_index}")
        self.applied_index = index
        if not entry.data:
            return KvReply(OK, version=index)  # the no-op of a new leader
        if request is None:
            try:
                request = decode_request(entry.data)
            except RemoteProtocolError as error:
                return KvReply(ERROR, error=error.reason)
        client_id, seq = request.client_id, request.seq
        if client_id is None or seq is None:
            return self._write(request, index)
        session = self._sessions.pop(client_id, None)
        if session is None:
            begun = self._begin_session(client_id, seq)
            if isinstance(begun, KvReply):
                return begun
            session = begun
        elif seq <= session.last_seq:
            self._sessions[client_id] = session
            return self._replay(session, seq)
        self._sessions[client_id] = session
        reply = self._write(request, index)
        session.last_seq = seq
        results = session.results
        results[seq] = reply
        oldest = seq - self._results_per_session
        while (first := next(iter(results))) <= oldest:
            del results[first]
        return reply

    def read(self, key: str) -> KvReply:
        """The reply to a `get` of the state as it is now."""
        stored = self._keys.get(key)
        if stored is None:
            return KvReply(NOT_FOUND)
        value, version = stored
        return KvReply(NOT_FOUND, None, version) if value is None else KvReply(OK, value, version)

    def snapshot(self) -> bytes:
        """The whole state; equal states give equal bytes."""
        return b"".join(self.freeze())

    def freeze(self) -> Iterator[bytes]:
        """The bytes of `snapshot` in parts, of the state as it is now whatever is applied between the parts.

        Copying the tables is much quicker than packing them, so a node can pack in between its other work.
        """
        keys = list(self._keys.items())
        sessions = [
            (client_id, session.first_seq, session.last_seq, list(session.results.items()))
            for client_id, session in self._sessions.items()
        ]
        return _parts(self.applied_index, keys, list(self._forgotten.items()), sessions)

    def restore(self, data: bytes) -> None:
        """Become the state in `data`. Raises SnapshotUnreadable and stays as it was."""
        try:
            number, applied_index, keys, sessions = msgpack.unpackb(data, strict_map_key=False)
            if number != SNAPSHOT_FORMAT:
                raise SnapshotUnreadable(f"snapshot format {number} is not {SNAPSHOT_FORMAT}")
            new_keys = {key: (value, version) for key, value, version in keys}
            new_sessions: dict[int, _Session] = {}
            new_forgotten: dict[int, int] = {}
            for client_id, first_seq, last_seq, results in sessions:
                if not results:
                    new_forgotten[client_id] = last_seq
                    continue
                session = new_sessions[client_id] = _Session(first_seq)
                session.last_seq = last_seq
                session.results = {
                    seq: KvReply(result, value, version, None, error) for seq, result, value, version, error in results
                }
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise SnapshotUnreadable(f"not a snapshot of the key-value state: {error}") from error
        self.applied_index = applied_index
        self._keys = new_keys
        self._sessions = new_sessions
        self._forgotten = new_forgotten

    def digest(self) -> str:
        """A hash of the state: equal at equal applied index on every node, or a node is wrong."""
        return hashlib.sha256(self.snapshot()).hexdigest()

    def items(self) -> list[tuple[str, Value | None, int]]:
        """Every key with its value (None = deleted) and version, for people and tests."""
        return [(key, value, version) for key, (value, version) in self._keys.items()]

    def _begin_session(self, client_id: int, seq: int) -> "_Session | KvReply":
        """A session for a client that has none, or why this write is not applied."""
        last_seq = self._forgotten.get(client_id)
        if last_seq is None:
            if self.clients >= self._max_clients:
                return KvReply(
                    ERROR, error=f"{self._max_clients} clients are known, no more are taken: reuse client ids"
                )
            session = _Session(seq)
        elif seq <= last_seq:
            return KvReply(UNKNOWN, error=TOO_OLD)
        else:
            del self._forgotten[client_id]
            session = _Session(last_seq)
        if len(self._sessions) >= self._max_sessions:
            silent = next(iter(self._sessions))
            self._forgotten[silent] = self._sessions.pop(silent).last_seq
        return session

    def _replay(self, session: _Session, seq: int) -> KvReply:
        stored = session.results.get(seq)
        if stored is not None:
            return stored._replace(replayed=True)
        if seq > session.first_seq and seq > session.last_seq - self._results_per_session:
            # All writes since then are remembered and this is none of them; nor will it ever be applied.
            return KvReply(ERROR, error="seq was overtaken by a higher one and is not applied")
        return KvReply(UNKNOWN, error=TOO_OLD)

    def _write(self, request: KvRequest, index: int) -> KvReply:
        op, key, value, expect, *_ = request
        if op == PUT:
            self._keys[key] = (value, index)
        elif op == CAS:
            seen, version = self._keys.get(key, _ABSENT)
            if seen != expect:
                return KvReply(CAS_FAILED, seen, version)
            self._keys[key] = (value, index)
        elif op == APPEND:
            seen = self._keys.get(key, _ABSENT)[0]
            if seen is not None:
                if type(seen) is not type(value):
                    return KvReply(ERROR, error="cannot append text to bytes or bytes to text")
                value = seen + value  # type: ignore[operator]
                if _size_bytes(value) > MAX_VALUE_BYTES:
                    return KvReply(ERROR, error=f"value would be longer than {MAX_VALUE_BYTES} bytes")
            self._keys[key] = (value, index)
        elif op == DELETE:
            self._keys[key] = (None, index)
        else:
            return KvReply(ERROR, error="not a write")
        return KvReply(OK, None, index)


def _parts(
    applied_index: int,
    keys: list[tuple[str, _Stored]],
    forgotten: list[tuple[int, int]],
    sessions: list[tuple[int, int, int, list[tuple[int, KvReply]]]],
) -> Iterator[bytes]:
    """[format, applied_index, [[key, value, version], ...], [[client_id, first_seq, last_seq, results], ...]]

    Clients whose results are forgotten come first, without any results.
    """
    packer = msgpack.Packer(autoreset=False)
    packer.pack_array_header(4)
    packer.pack(SNAPSHOT_FORMAT)
    packer.pack(applied_index)
    packer.pack_array_header(len(keys))
    for start in range(0, len(keys), ITEMS_PER_PART):
        for key, (value, version) in keys[start : start + ITEMS_PER_PART]:
            packer.pack((key, value, version))
        yield packer.bytes()
        packer.reset()
    packer.pack_array_header(len(forgotten) + len(sessions))
    for start in range(0, len(forgotten), ITEMS_PER_PART):
        for client_id, last_seq in forgotten[start : start + ITEMS_PER_PART]:
            packer.pack((client_id, last_seq, last_seq, ()))
        yield packer.bytes()
        packer.reset()
    for start in range(0, len(sessions), ITEMS_PER_PART):
        for client_id, first_seq, last_seq, results in sessions[start : start + ITEMS_PER_PART]:
            stored = [(seq, *reply[:3], reply.error) for seq, reply in results]
            packer.pack((client_id, first_seq, last_seq, stored))
        yield packer.bytes()
        packer.reset()
    yield packer.bytes()


_ABSENT: Final[tuple[Any, int | None]] = (None, None)


def _size_bytes(value: Value) -> int:
    if type(value) is bytes:
        return len(value)
    # A character takes at most 4 bytes: short texts need not be encoded to be measured.
    return len(value) if len(value) * 4 <= MAX_VALUE_BYTES else len(value.encode())  # type: ignore[union-attr]
