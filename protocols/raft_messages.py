"""The messages of Raft peers, as msgpack arrays.

Nodes of one cluster talk over the same length-prefixed frames as everybody else, on a port of their own.
A frame holds one msgpack array ``[kind, sender, to, term, ...]``; the remaining fields depend on the kind and
stand in the order of the tuples below. Positions instead of names keep the hot message (``Append``) small and
let a decoder check every field by one table.

Every message and every acknowledgement carries the term of its sender, so that a reply from an earlier term
can be told from a current one (Ongaro, "Consensus: Bridging Theory and Practice", figure 3.1). A pre-vote
is the one exception: it carries the term the sender would campaign in.

Before the first message, both ends of a connection send a ``PeerHello`` and then a ``PeerProof``: an HMAC over both
hellos under the cluster's shared secret. A node that cannot prove it belongs to the cluster is not listened to.

Nothing here unpickles or evaluates: fields are integers, booleans, byte strings and arrays of entries; anything
else is a :class:`RemoteProtocolError`.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import msgpack

from protocols.errors import RemoteProtocolError

PEER_VERSION = 1

# Terms, indexes, ids and offsets are u63, so that they fit a signed 64-bit integer in any language.
MAX_INTEGER = 2**63 - 1

# A cluster's name goes into log lines and file headers; longer ones are a mistake or an attack.
MAX_CLUSTER_ID_BYTES = 128

NONCE_BYTES = 16
PROOF_BYTES = 32  # SHA-256


class Entry(NamedTuple):
    """One log entry. ``data`` is the state machine's command; ``b""`` is the no-op of a new leader."""

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    term: int
    data: bytes


class VoteRequest(NamedTuple):
    """Asks for a vote. ``pre``: only asks whether the vote would be given, in ``term`` = own term + 1.
    ``force``: the leader itself asked for this election (leadership transfer), so leases do not count."""

    sender: int
    to: int
    term: int
    last_index: int
    last_term: int
    pre: bool
    force: bool


class VoteReply(NamedTuple):
    """Answers a vote request. A granted pre-vote carries the term that was asked for."""

    sender: int
    to: int
    term: int
    pre: bool
    granted: bool


class Append(NamedTuple):
    """Entries that follow (``prev_index``, ``prev_term``), and the leader's commit index."""

    sender: int
    to: int
    term: int
    prev_index: int
    prev_term: int
    commit: int
    entries: list[Entry]


class AppendReply(NamedTuple):
    """``ok``: everything up to ``index`` is durable here and equal to the leader's log.
    Otherwise ``index`` is the refused ``prev_index`` and the hint is where the logs may still agree."""

    sender: int
    to: int
    term: int
    ok: bool
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    hint_index: int
    hint_term: int


class Heartbeat(NamedTuple):
    """The leader is alive. ``commit`` never exceeds what the receiver acknowledged; ``round`` numbers the
    leader's read rounds within its term."""

    sender: int
    to: int
    term: int
    commit: int
    round: int


class HeartbeatReply(NamedTuple):
    """The receiver still follows the sender of the heartbeat of that round."""

    sender: int
    to: int
    term: int
    round: int


class SnapshotChunk(NamedTuple):
    """``data`` belongs at ``offset`` of the snapshot (``index``, ``index_term``) of ``total`` bytes."""

    sender: int
    to: int
    term: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    index_term: int
    total: int
    offset: int
    data: bytes


class SnapshotReply(NamedTuple):
    """The receiver has the first ``offset`` bytes of the snapshot at ``index`` and wants the next."""

    sender: int
    to: int
    term: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    offset: int


class ReadRequest(NamedTuple):
    """A follower asks for a read index. ``context`` is unique over the follower's restarts."""

    sender: int
    to: int
    term: int
    context: int


class ReadReply(NamedTuple):
    """``ok``: once ``index`` is applied, the reads of that context see everything acknowledged before them."""

    sender: int
    to: int
    term: int
    context: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    ok: bool


class TimeoutNow(NamedTuple):
    """The leader asks the receiver to campaign at once (leadership transfer)."""

    sender: int
    to: int
    term: int


PeerMessage: TypeAlias = (
    VoteRequest
    | VoteReply
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | SnapshotChunk
    | SnapshotReply
    | ReadRequest
    | ReadReply
    | TimeoutNow
)


class PeerHello(NamedTuple):
    """The first frame in each direction: who speaks, of which cluster, to whom, and a fresh nonce."""

    version: int
    cluster_id: str
    sender: int
    to: int
    nonce: bytes


class PeerProof(NamedTuple):
    """The second frame in each direction: :func:`prove` of both hellos."""

    mac: bytes


# The first element of each array. Numbers are never reused: an old node must refuse, not misread.
KINDS: dict[type[Any], int] = {
    VoteRequest: 1,
    VoteReply: 2,
    Append: 3,
    AppendReply: 4,
    Heartbeat: 5,
    HeartbeatReply: 6,
    SnapshotChunk: 7,
    SnapshotReply: 8,
    ReadRequest: 9,
    ReadReply: 10,
    TimeoutNow: 11,
}
HELLO_KIND = 20
PROOF_KIND = 21

_KIND_APPEND = KINDS[Append]

# kind -> (class, type of each field). Entries are checked one by one.
_SHAPES: dict[int, tuple[Callable[..., PeerMessage], tuple[type, ...]]] = {
    kind: (
        cls,
        tuple(list if name == "entries" else cls.__annotations__[name] for name in cls._fields),
    )
    for cls, kind in KINDS.items()
}


def encode_message(message: PeerMessage) -> bytes:
    """One peer message as msgpack bytes, not yet framed."""
    packed: bytes = msgpack.packb((KINDS[type(message)], *message))
    return packed


class MessageEncoder:
    """Encodes like :func:`encode_message`, but packs a batch of entries once for all peers it goes to.

    The leader sends the same list object to every follower that stands at the same index; packing it again for
    each would be most of the cost of a message.
    """

    __slots__ = ("_entries", "_packed")

    def __init__(self) -> None:
        self._entries: list[Entry] | None = None
        self._packed = b""

    def encode(self, message: PeerMessage) -> bytes:
        if type(message) is not Append or not message.entries:
            return encode_message(message)
        entries = message.entries
        if entries is not self._entries:
            self._packed = msgpack.packb(entries)
            self._entries = entries
        # Packed with a nil (one byte) in the last place, which the packed entries then take.
        head: bytes = msgpack.packb((_KIND_APPEND, *message[:-1], None))
        return head[:-1] + self._packed


def decode_message(data: bytes) -> PeerMessage:
    """The peer message in one frame's payload. Raises :class:`RemoteProtocolError`, never anything else."""
    fields = _unpack_array(data)
    kind = fields[0]
    shape = _SHAPES.get(kind) if type(kind) is int else None
    if shape is None:
        raise RemoteProtocolError("unknown peer message", f"kind {str(kind)[:40]}")
    cls, types = shape
    if len(fields) != len(types) + 1:
        raise RemoteProtocolError("malformed peer message", f"{len(fields)} elements for kind {kind}")
    del fields[0]
    for position, wanted in enumerate(types):
        value = fields[position]
        if type(value) is not wanted:
            raise RemoteProtocolError("malformed peer message", f"field {position} of kind {kind}")
        if type(value) is int and not 0 <= value <= MAX_INTEGER:
            raise RemoteProtocolError("malformed peer message", f"field {position} of kind {kind} out of range")
    if kind == _KIND_APPEND:
        fields[-1] = _entries(fields[-1], first_index=fields[3] + 1)
    return cls(*fields)


def encode_hello(hello: PeerHello) -> bytes:
    """The first frame's payload."""
    packed: bytes = msgpack.packb((HELLO_KIND, *hello))
    return packed


def decode_hello(data: bytes) -> PeerHello:
    """Raises :class:`RemoteProtocolError` for anything but a hello of this version."""
    match _unpack_array(data):
        case [kind, int(version), str(cluster_id), int(sender), int(to), bytes(nonce)] if kind == HELLO_KIND:
            if version != PEER_VERSION:
                raise RemoteProtocolError("unsupported peer version", str(version)[:40])
            sane = 0 < sender <= MAX_INTEGER and 0 < to <= MAX_INTEGER and len(nonce) == NONCE_BYTES
            if sane and 0 < len(cluster_id.encode("utf-8", "replace")) <= MAX_CLUSTER_ID_BYTES:
                return PeerHello(version, cluster_id, sender, to, nonce)
    raise RemoteProtocolError("malformed peer hello")


def encode_proof(proof: PeerProof) -> bytes:
    """The second frame's payload."""
    packed: bytes = msgpack.packb((PROOF_KIND, proof.mac))
    return packed


def decode_proof(data: bytes) -> PeerProof:
    """Raises :class:`RemoteProtocolError` for anything but a proof."""
    match _unpack_array(data):
        case [kind, bytes(mac)] if kind == PROOF_KIND and len(mac) == PROOF_BYTES:
            return PeerProof(mac)
    raise RemoteProtocolError("malformed peer proof")


def prove(secret: bytes, mine: PeerHello, theirs: PeerHello) -> PeerProof:
    """What the sender of ``mine`` answers to ``theirs``.

    The MAC covers both nonces and, first, the prover's own hello: a proof cannot be replayed on another
    connection nor reflected to the node that sent it.
    """
    return PeerProof(hmac.digest(secret, encode_hello(mine) + encode_hello(theirs), hashlib.sha256))


def verify(secret: bytes, proof: PeerProof, mine: PeerHello, theirs: PeerHello) -> bool:
    """Whether ``proof``, received on this connection, was made by the sender of ``theirs`` with our secret."""
    addressed = mine.cluster_id == theirs.cluster_id and (mine.sender, mine.to) == (theirs.to, theirs.sender)
    return addressed and hmac.compare_digest(proof.mac, prove(secret, theirs, mine).mac)


def _unpack_array(data: bytes) -> list[Any]:
    try:
        fields = msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=True)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise RemoteProtocolError("malformed peer message", str(error)[:80]) from None
    if type(fields) is not list or not fields:
        raise RemoteProtocolError("malformed peer message", "not an array")
    return fields


def _entries(items: list[Any], first_index: int) -> list[Entry]:
    """Entries must be consecutive and in non-descending terms, as every Raft log is."""
    entries = []
    expected_index = first_index
    term_before = 0
    for item in items:
        if type(item) is not list or len(item) != 3:
            raise RemoteProtocolError("malformed peer message", "entry is not a triple")
        index, term, data = item
        if type(index) is not int or type(term) is not int or type(data) is not bytes:
            raise RemoteProtocolError("malformed peer message", "entry has wrong types")
        if index != expected_index or not term_before <= term <= MAX_INTEGER or term == 0:
            raise RemoteProtocolError("malformed peer message", f"entry {index} out of order")
        entries.append(Entry(index, term, data))
        expected_index += 1
        term_before = term
    return entries
