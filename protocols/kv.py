"""The key-value requests that clients send to a Raft node, and the replies they get.

Both are msgpack maps with text keys, carried as the payload of an envelope of type KV, and only the fields
that an operation needs are on the wire. The request id lives in the envelope, so replies may come back in any
order: requests of one connection can be pipelined.

Keys are text. Values are text or bytes and come back as they went: msgpack keeps the two apart, and a `cas`
that expects text does not match bytes.
"""

from typing import Any, Final, NamedTuple

import msgpack

from protocols.envelope import EnvelopeCodec, MsgType
from protocols.errors import LocalProtocolError, RemoteProtocolError

# Limits of the wire format. A key is measured in UTF-8 bytes, a text value too.
MAX_KEY_BYTES: Final = 256
MAX_VALUE_BYTES: Final = 64 * 1024
MAX_U64: Final = 2**64 - 1

PUT: Final = "put"
GET: Final = "get"
APPEND: Final = "append"
CAS: Final = "cas"
DELETE: Final = "delete"
STATUS: Final = "status"
# Operations that go through the log; the others only read.
WRITES: Final = frozenset({PUT, APPEND, CAS, DELETE})
OPERATIONS: Final = WRITES | {GET, STATUS}

OK: Final = "OK"
NOT_FOUND: Final = "NOT_FOUND"  # `get` of an absent key; `version` names the delete it saw
CAS_FAILED: Final = "CAS_FAILED"  # `value` is the value seen, absent when there was none
NOT_LEADER: Final = "NOT_LEADER"  # definite: the write was not proposed
BUSY: Final = "BUSY"  # definite: the write was not proposed
UNKNOWN: Final = "UNKNOWN"  # the write may or may not have been applied, now or later
ERROR: Final = "ERROR"  # definite: a bad request, `error` says why
RESULTS: Final = frozenset({OK, NOT_FOUND, CAS_FAILED, NOT_LEADER, BUSY, UNKNOWN, ERROR})

# The text that an overloaded server puts into an ERROR envelope, or into `error` beside BUSY.
SERVER_BUSY_TEXT: Final = "server busy"

Value = str | bytes


class Leader(NamedTuple):
    """Where writes should go: the node's number and its client address `host:port`."""

    id: int
    address: str


class KvRequest(NamedTuple):
    """One request. `client_id` and `seq` name a write so that a retry is applied once; None = no session."""

    op: str
    key: str = ""
    value: Value | None = None
    expect: Value | None = None  # cas only; None = the key must be absent
    client_id: int | None = None
    seq: int | None = None
    stale: bool = False  # get only: read this node's state as it is, without asking a quorum


class KvStatus(NamedTuple):
    """What a node says about itself; `leader` None = knows of none; `members` has client addresses."""

    id: int
    role: str  # "leader", "follower", "candidate" or "pre_candidate"
    term: int
    leader: Leader | None
    commit_index: int
    applied_index: int
    last_log_index: int
    members: tuple[Leader, ...]


class KvReply(NamedTuple):
    """One reply. `version`: log index of the last write of the key, its delete included; None = no write."""

    result: str
    value: Value | None = None
    version: int | None = None
    leader: Leader | None = None
    error: str = ""
    replayed: bool = False  # the stored result of an earlier copy of this request
    status: KvStatus | None = None


def encode_request(request: KvRequest) -> bytes:
    """The msgpack map of a request. Raises LocalProtocolError when it breaks a limit or lacks a field."""
    mistake = mistake_in(request)
    if mistake is not None:
        raise LocalProtocolError(mistake)
    op, key, value, expect, client_id, seq, stale = request
    fields: dict[str, Any] = {"op": op}
    if op != STATUS:
        fields["key"] = key
    if value is not None:
        fields["value"] = value
    if op == CAS:
        fields["expect"] = expect
    if client_id is not None:
        fields["client_id"] = client_id
        fields["seq"] = seq
    if stale:
        fields["stale"] = True
    try:
        return _packed(fields)
    except UnicodeEncodeError as error:
        raise LocalProtocolError("text must be encodable as UTF-8") from error


def decode_request(data: bytes) -> KvRequest:
    """The request in a payload. Raises RemoteProtocolError; its reason is fit for an ERROR reply."""
    fields = _unpacked(data, "malformed request")
    if type(fields) is not dict:
        raise RemoteProtocolError("malformed request", "the payload is not a map")
    get = fields.get
    request = KvRequest(
        get("op", ""),
        get("key", ""),
        get("value"),
        get("expect"),
        get("client_id"),
        get("seq"),
        get("stale", False),
    )
    mistake = mistake_in(request)
    if mistake is not None:
        raise RemoteProtocolError(mistake)
    return request


def mistake_in(request: KvRequest) -> str | None:
    """What is wrong with a request, in words with a low number of variants, or None."""
    op, key, value, expect, client_id, seq, stale = request
    if type(op) is not str or op not in OPERATIONS:
        return "unknown operation"
    if op == STATUS:
        return None
    if type(key) is not str:
        return "key must be text"
    if not key:
        return "key must not be empty"
    # UTF-8 never takes fewer bytes than characters, so only mid-sized keys need the encoding to be counted.
    if len(key) > MAX_KEY_BYTES or (len(key) * 4 > MAX_KEY_BYTES and _size_bytes(key) > MAX_KEY_BYTES):
        return f"key longer than {MAX_KEY_BYTES} bytes"
    if op in WRITES:
        if op != DELETE:
            if type(value) is not str and type(value) is not bytes:
                return "value must be text or bytes"
            if _too_long(value):
                return f"value longer than {MAX_VALUE_BYTES} bytes"
        if op == CAS and expect is not None:
            if type(expect) is not str and type(expect) is not bytes:
                return "expect must be text, bytes or nil"
            if _too_long(expect):
                return f"expect longer than {MAX_VALUE_BYTES} bytes"
        if client_id is not None or seq is not None:
            if type(client_id) is not int or not 0 <= client_id <= MAX_U64:
                return "client_id must be an unsigned 64-bit integer"
            if type(seq) is not int or not 0 <= seq <= MAX_U64:
                return "seq must be an unsigned 64-bit integer"
    elif type(stale) is not bool:
        return "stale must be true or false"
    return None


def encode_reply(reply: KvReply) -> bytes:
    """The msgpack map of a reply; only fields that say something are on the wire."""
    result, value, version, leader, error, replayed, status = reply
    fields: dict[str, Any] = {"result": result}
    if value is not None:
        fields["value"] = value
    if version is not None:
        fields["version"] = version
    if leader is not None or result == NOT_LEADER:
        fields["leader"] = _leader_map(leader)
    if error:
        fields["error"] = error
    if replayed:
        fields["replayed"] = True
    if status is not None:
        fields["id"] = status.id
        fields["role"] = status.role
        fields["term"] = status.term
        fields["leader"] = _leader_map(status.leader)
        fields["commit_index"] = status.commit_index
        fields["applied_index"] = status.applied_index
        fields["last_log_index"] = status.last_log_index
        fields["members"] = [_leader_map(member) for member in status.members]
    return _packed(fields)


def decode_reply(data: bytes) -> KvReply:
    """The reply in a payload. Raises RemoteProtocolError("malformed reply", what)."""
    fields = _unpacked(data, "malformed reply")
    if type(fields) is not dict:
        raise _malformed("the payload is not a map")
    result = fields.get("result")
    if type(result) is not str or result not in RESULTS:
        raise _malformed("result is not one of the known ones")
    value = fields.get("value")
    if value is not None and type(value) is not str and type(value) is not bytes:
        raise _malformed("value is neither text nor bytes")
    version = fields.get("version")
    if version is not None and (type(version) is not int or version < 0):
        raise _malformed("version is not a log index")
    error = fields.get("error")
    if error is not None and type(error) is not str:
        raise _malformed("error is not text")
    replayed = fields.get("replayed", False)
    if type(replayed) is not bool:
        raise _malformed("replayed is neither true nor false")
    leader = _leader(fields.get("leader"))
    status = _status(fields, leader) if "role" in fields else None
    return KvReply(result, value, version, leader, error or "", replayed, status)


class KvCodec:
    """A client's end of one connection: requests to framed bytes, received bytes to (request_id, reply).

    `receive_data` never raises on remote bytes: it returns the replies that were whole and well-formed, and
    sets `error`, after which it returns nothing more.

        codec = KvCodec()
        sock.sendall(codec.encode(7, KvRequest(PUT, "k", "v", client_id=1, seq=1)))
        replies = codec.receive_data(sock.recv(65536))      # [(7, KvReply(result="OK", version=2))]
    """

    def __init__(self) -> None:
        self._envelopes = EnvelopeCodec()
        self._error: RemoteProtocolError | None = None

    @property
    def error(self) -> RemoteProtocolError | None:
        return self._error

    def encode(self, request_id: int, request: KvRequest) -> bytes:
        return self._envelopes.encode(request_id, encode_request(request), msg_type=MsgType.KV)

    def receive_data(self, data: bytes) -> list[tuple[int, KvReply]]:
        if self._error is not None:
            return []
        replies: list[tuple[int, KvReply]] = []
        try:
            for envelope in self._envelopes.receive_data(data):
                if envelope.version != 1:
                    raise RemoteProtocolError("wrong version", str(envelope.version))
                if envelope.msg_type == MsgType.KV:
                    reply = decode_reply(envelope.payload)
                elif envelope.msg_type == MsgType.ERROR:
                    reply = _envelope_error(envelope.payload)
                else:
                    raise RemoteProtocolError("wrong message type", str(envelope.msg_type))
                replies.append((envelope.request_id, reply))
        except RemoteProtocolError as error:
            self._error = error
            return replies
        self._error = self._envelopes.error
        return replies


def _envelope_error(payload: bytes) -> KvReply:
    """ERROR envelopes speak about the connection (`server at capacity`); all of them mean: not proposed."""
    text = bytes(payload).decode("utf-8", "replace")
    return KvReply(BUSY if text == SERVER_BUSY_TEXT else ERROR, error=text)


def _packed(fields: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return packed


def _unpacked(data: bytes, reason: str) -> Any:
    # msgpack allocates no more than the input's length warrants and bounds its nesting itself.
    try:
        return msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException, OverflowError, RecursionError, TypeError) as error:
        raise RemoteProtocolError(reason, f"not msgpack: {type(error).__name__}") from error


def _size_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _too_long(value: Value) -> bool:
    if len(value) > MAX_VALUE_BYTES:
        return True
    # A character takes at most 4 bytes: short texts need no second look.
    return type(value) is str and len(value) * 4 > MAX_VALUE_BYTES and _size_bytes(value) > MAX_VALUE_BYTES


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError("malformed reply", detail)


def _leader_map(leader: Leader | None) -> dict[str, Any] | None:
    return None if leader is None else {"id": leader.id, "address": leader.address}


def _leader(fields: Any) -> Leader | None:
    if fields is None:
        return None
    if type(fields) is not dict or type(fields.get("id")) is not int or type(fields.get("address")) is not str:
        raise _malformed("leader is not {id, address}")
    return Leader(fields["id"], fields["address"])


def _status(fields: dict[str, Any], leader: Leader | None) -> KvStatus:
    numbers = [fields.get(name) for name in ("id", "term", "commit_index", "applied_index", "last_log_index")]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise _malformed("a number of the status is missing")
    if type(fields["role"]) is not str:
        raise _malformed("role is not text")
    members = fields.get("members")
    if type(members) is not list:
        raise _malformed("members is not a list")
    known = tuple(member for member in map(_leader, members) if member is not None)
    node_id, term, commit_index, applied_index, last_log_index = numbers
    return KvStatus(node_id, fields["role"], term, leader, commit_index, applied_index, last_log_index, known)  # type: ignore[arg-type]
