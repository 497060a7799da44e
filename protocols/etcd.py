"""Key-value operations on etcd, through the JSON gateway of its v3 API: our KvRequest in, our KvReply out.

etcd has puts, ranges and transactions. What it lacks is built of transactions, so that one request means the same as
with a server that has it, also when it is sent twice:

    once only   every write also creates a *request key* (client id and sequence number) and is guarded by
                CREATE(request key) == 0; a copy that comes later finds the key and changes nothing
    cas         a transaction inside the guard compares VALUE(key), or CREATE(key) == 0 for "absent"; a failed one
                leaves its outcome in the request key, so that no late copy of it can succeed after all
    append      read the key, then write the longer value if MOD(key) is still what was read; repeated on conflict

So a request may take several *rounds* on the wire. The codec sends the later ones itself: `data_to_send()` after each
`receive_data`. Versions are mod_revision. A read of an absent key names no version: etcd keeps none.

JSON of the gateway: keys and values are base64, 64-bit numbers are text, fields that are false, zero or empty are left
out. https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/
"""

from base64 import b64decode, b64encode
from collections import deque
from typing import Any, Final

import orjson

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.http1 import HttpResponse, ResponseDecoder, encode_post
from protocols.kv import (
    APPEND,
    BUSY,
    CAS,
    CAS_FAILED,
    DELETE,
    ERROR,
    GET,
    MAX_VALUE_BYTES,
    NOT_FOUND,
    NOT_LEADER,
    OK,
    PUT,
    STATUS,
    UNKNOWN,
    KvReply,
    KvRequest,
    KvStatus,
    Leader,
    Value,
    mistake_in,
)

RANGE_PATH: Final = "/v3/kv/range"
PUT_PATH: Final = "/v3/kv/put"
TXN_PATH: Final = "/v3/kv/txn"
DELETE_PATH: Final = "/v3/kv/deleterange"
STATUS_PATH: Final = "/v3/maintenance/status"

# Where the request keys stand, away from all others. Text, so that etcdctl shows them.
REQUEST_KEY_PREFIX: Final = "~swarmproof/"
# An append that met another writer this often in a row is given back as BUSY: it surely was not applied.
MAX_APPEND_ROUNDS: Final = 64
# The server answers a connection's requests one after the other, so more in flight gains nothing; and as many of the
# largest requests still fit into the unsent bytes that a connection may gather.
MAX_IN_FLIGHT: Final = 32

MALFORMED: Final = "malformed reply"
UNASKED: Final = "a response without a request"

# Refusals that come before anything is proposed. Everything else may have been proposed: UNKNOWN.
TOO_MANY_REQUESTS: Final = "etcdserver: too many requests"
PROPOSAL_DROPPED: Final = "raft proposal dropped"
NO_SPACE: Final = "etcdserver: mvcc: database space exceeded"

_INVALID_ARGUMENT: Final = 3  # gRPC's code: what it is said of was never proposed
_APPLIED: Final = b64encode(b"1").decode()
_REFUSED: Final = b64encode(b"0").decode()

_Json = dict[str, Any]


class _Round:
    """One operation on its way: what to send next, and what its reply is made of."""

    __slots__ = ("body", "path", "request", "request_id", "rounds", "step")

    def __init__(self, request_id: int, request: KvRequest) -> None:
        self.request_id = request_id
        self.request = request
        self.rounds = 0
        self.step = _FIRST[request.op]
        self.path, self.body = _first_round(request)


class EtcdCodec:
    """A client's end of one connection to one member. The same face as KvCodec, and `data_to_send`.

    >>> codec = EtcdCodec("127.0.0.1:2379")
    >>> data = codec.encode(7, KvRequest("get", "k"))     # POST /v3/kv/range ...
    >>> codec.receive_data(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}')
    [(7, KvReply(result='NOT_FOUND', ...))]
    """

    def __init__(self, host: str = "localhost") -> None:
        self._host = host
        self._http = ResponseDecoder()
        self._error: RemoteProtocolError | None = None
        self._waiting: deque[_Round] = deque()  # in the order of the requests on the wire
        self._out = bytearray()
        self.closes = False  # the server announced that it will close the connection

    @property
    def error(self) -> RemoteProtocolError | None:
        return self._error

    def encode(self, request_id: int, request: KvRequest) -> bytes:
        """The bytes to send now: those of later rounds that wait for it, then this request.

        Raises LocalProtocolError when the request breaks a limit, or too many are in flight.
        """
        mistake = mistake_in(request)
        if mistake is not None:
            raise LocalProtocolError(mistake)
        if len(self._waiting) >= MAX_IN_FLIGHT:
            raise LocalProtocolError(f"more than {MAX_IN_FLIGHT} requests in flight on one HTTP connection")
        self._send(_Round(request_id, request))
        return self.data_to_send()

    def data_to_send(self) -> bytes:
        """What later rounds want sent; empty when nothing."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def receive_data(self, data: bytes) -> list[tuple[int, KvReply]]:
        """The replies of the requests that `data` finished. Never raises on remote bytes; sets `error`."""
        if self._error is not None:
            return []
        replies: list[tuple[int, KvReply]] = []
        try:
            for response in self._http.receive_data(data):
                self.closes = self.closes or response.closes
                if not self._waiting:
                    raise RemoteProtocolError(UNASKED, f"status {response.status}")
                current = self._waiting.popleft()
                reply = _answer(current, response)
                if reply is None:
                    self._send(current)
                else:
                    replies.append((current.request_id, reply))
        except RemoteProtocolError as error:
            self._error = error
            return replies
        self._error = self._http.error
        return replies

    def receive_eof(self) -> None:
        self._http.receive_eof()
        self._error = self._error or self._http.error

    def _send(self, current: _Round) -> None:
        self._waiting.append(current)
        self._out += encode_post(current.path, orjson.dumps(current.body), self._host)


# -- requests ------------------------------------------------------------------------------------------------------


def request_key(client_id: int, seq: int) -> str:
    """The key that stands for one write of one client."""
    return f"{REQUEST_KEY_PREFIX}{client_id:016x}/{seq}"


def _b64(value: Value) -> str:
    try:
        return b64encode(value.encode() if isinstance(value, str) else value).decode("ascii")
    except UnicodeEncodeError as error:
        raise LocalProtocolError("text must be encodable as UTF-8") from error


def _first_round(request: KvRequest) -> tuple[str, _Json]:
    op = request.op
    if op == STATUS:
        return STATUS_PATH, {}
    if op == GET:
        return RANGE_PATH, {"key": _b64(request.key), "serializable": True} if request.stale else _range(request.key)
    if op == APPEND:
        # The basis may be old: the transaction compares it with what is there.
        return RANGE_PATH, {"key": _b64(request.key), "serializable": True}
    if op == PUT:
        assert request.value is not None
        put = {"key": _b64(request.key), "value": _b64(request.value)}
        if request.client_id is None:
            return PUT_PATH, put
        return TXN_PATH, _guarded(request, [{"request_put": put}])
    if op == DELETE:
        if request.client_id is None:
            return DELETE_PATH, _range(request.key)
        return TXN_PATH, _guarded(request, [{"request_delete_range": _range(request.key)}])
    return TXN_PATH, _cas(request)


def _range(key: str) -> _Json:
    return {"key": _b64(key)}


def _name(request: KvRequest) -> str | None:
    """The request key in base64; None for a write without session."""
    if request.client_id is None or request.seq is None:
        return None
    return _b64(request_key(request.client_id, request.seq))


def _absent(key_b64: str) -> _Json:
    return {"target": "CREATE", "key": key_b64, "create_revision": "0"}


def _guarded(request: KvRequest, writes: list[_Json], compare: _Json | None = None, *, see_key: bool = False) -> _Json:
    """`writes` once only, and only if `compare` holds. On failure: the request key, then (`see_key`) the key."""
    name = _name(request)
    compares = [] if compare is None else [compare]
    success, failure = list(writes), []
    if name is not None:
        compares.append(_absent(name))
        success.append({"request_put": {"key": name, "value": _APPLIED}})
        failure.append({"request_range": {"key": name}})
    if see_key:
        failure.append({"request_range": _range(request.key)})
    return {"compare": compares, "success": success, "failure": failure}


def _cas(request: KvRequest) -> _Json:
    assert request.value is not None
    key = _b64(request.key)
    expected = (
        _absent(key) if request.expect is None else {"target": "VALUE", "key": key, "value": _b64(request.expect)}
    )
    put = {"request_put": {"key": key, "value": _b64(request.value)}}
    see = {"request_range": {"key": key}}
    name = _name(request)
    if name is None:
        return {"compare": [expected], "success": [put], "failure": [see]}
    inner = {
        "compare": [expected],
        "success": [put, {"request_put": {"key": name, "value": _APPLIED}}],
        "failure": [see, {"request_put": {"key": name, "value": _REFUSED}}],
    }
    return {
        "compare": [_absent(name)],
        "success": [{"request_txn": inner}],
        "failure": [{"request_range": {"key": name}}],
    }


# -- replies -------------------------------------------------------------------------------------------------------


def _answer(current: _Round, response: HttpResponse) -> KvReply | None:
    """The reply that a response means, or None after having prepared another round. Raises RemoteProtocolError."""
    try:
        body = orjson.loads(response.body)
    except orjson.JSONDecodeError as error:
        if response.status != 200:  # a gateway that is going down answers in plain text
            return KvReply(UNKNOWN, error=f"HTTP status {response.status}")
        raise RemoteProtocolError(MALFORMED, "the body is not JSON") from error
    if type(body) is not dict:
        raise RemoteProtocolError(MALFORMED, "the body is not an object")
    if response.status != 200:
        return _refusal(body)
    try:
        reply: KvReply | None = current.step(current, body)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise RemoteProtocolError(MALFORMED, f"{type(error).__name__} in an answer to {current.request.op}") from error
    return reply


def _refusal(body: _Json) -> KvReply:
    text = body.get("error") or body.get("message")
    text = text if isinstance(text, str) else "refused without a reason"
    if text == TOO_MANY_REQUESTS:
        return KvReply(BUSY, error=text)
    if text == PROPOSAL_DROPPED:
        return KvReply(NOT_LEADER, error=text)
    if text == NO_SPACE or body.get("code") == _INVALID_ARGUMENT:
        return KvReply(ERROR, error=text)
    return KvReply(UNKNOWN, error=text)


def _on_status(_: _Round, body: _Json) -> KvReply:
    header = body["header"]
    member, leader = int(header["member_id"]), int(body.get("leader", 0))
    term = int(body.get("raftTerm", 0))
    index = int(body.get("raftIndex", 0))
    role = "leader" if leader == member else "follower" if leader else "candidate"
    found = Leader(leader, "") if leader else None
    status = KvStatus(member, role, term, found, index, int(body.get("raftAppliedIndex", 0)), index, ())
    return KvReply(OK, leader=found, status=status)


def _on_range(_: _Round, body: _Json) -> KvReply:
    value, version = _seen(body)
    return KvReply(NOT_FOUND if version is None else OK, value, version)


def _on_put(_: _Round, body: _Json) -> KvReply:
    return KvReply(OK, version=_revision(body))


def _on_delete(_: _Round, body: _Json) -> KvReply:
    if int(body.get("deleted", 0)) == 0:
        return KvReply(NOT_FOUND)
    return KvReply(OK, version=_revision(body))


def _on_put_txn(current: _Round, body: _Json) -> KvReply | None:
    if current.request.client_id is None:
        return _on_put(current, body)
    if body.get("succeeded") is True:
        return KvReply(OK, version=_revision(body))
    return _replayed(body)


def _on_delete_txn(current: _Round, body: _Json) -> KvReply | None:
    if current.request.client_id is None:
        return _on_delete(current, body)
    if body.get("succeeded") is not True:
        return _replayed(body)
    if int(body["responses"][0]["response_delete_range"].get("deleted", 0)) == 0:
        return KvReply(NOT_FOUND)
    return KvReply(OK, version=_revision(body))


def _on_cas(current: _Round, body: _Json) -> KvReply | None:
    if current.request.client_id is None:
        inner = body
    elif body.get("succeeded") is True:
        inner = body["responses"][0]["response_txn"]
    else:
        kept = body["responses"][0]["response_range"]["kvs"][0]
        if kept["value"] == _APPLIED:
            return KvReply(OK, version=int(kept["mod_revision"]), replayed=True)
        # It failed the first time. What it saw then is still there, at the revision of that time.
        current.path, current.step = RANGE_PATH, _on_old_range
        current.body = {**_range(current.request.key), "revision": kept["mod_revision"], "serializable": False}
        return None
    if inner.get("succeeded") is True:
        return KvReply(OK, version=_revision(body))
    value, version = _seen(inner["responses"][0]["response_range"])
    return KvReply(CAS_FAILED, value, version)


def _on_old_range(_: _Round, body: _Json) -> KvReply:
    value, version = _seen(body)
    return KvReply(CAS_FAILED, value, version, replayed=True)


def _on_append_basis(current: _Round, body: _Json) -> KvReply | None:
    """What stands there now is read: write the longer value if it still does."""
    request = current.request
    assert request.value is not None
    value, version = _seen_bytes(body)
    token = request.value.encode() if isinstance(request.value, str) else request.value
    if len(value) + len(token) > MAX_VALUE_BYTES:
        return KvReply(ERROR, error=f"value longer than {MAX_VALUE_BYTES} bytes")
    current.rounds += 1
    if current.rounds > MAX_APPEND_ROUNDS:
        return KvReply(BUSY, error="other writers were always faster")
    unchanged = {"target": "MOD", "key": _b64(request.key), "mod_revision": str(version or 0)}
    put = {"request_put": {"key": _b64(request.key), "value": _b64(value + token)}}
    current.path, current.step = TXN_PATH, _on_append
    current.body = _guarded(request, [put], unchanged, see_key=True)
    return None


def _on_append(current: _Round, body: _Json) -> KvReply | None:
    if body.get("succeeded") is True:
        return KvReply(OK, version=_revision(body))
    responses = body["responses"]
    if current.request.client_id is not None and responses[0]["response_range"].get("kvs"):
        return _replayed(body)
    return _on_append_basis(current, responses[-1]["response_range"])


def _replayed(body: _Json) -> KvReply:
    """A copy of this request was applied before; the request key was written in that very revision."""
    kept = body["responses"][0]["response_range"]["kvs"][0]
    return KvReply(OK, version=int(kept["mod_revision"]), replayed=True)


def _revision(body: _Json) -> int:
    return int(body["header"]["revision"])


def _seen(body: _Json) -> tuple[Value | None, int | None]:
    """Value and version of the only key of a range; text where it is UTF-8."""
    value, version = _seen_bytes(body)
    if version is None:
        return None, None
    try:
        return value.decode(), version
    except UnicodeDecodeError:
        return value, version


def _seen_bytes(body: _Json) -> tuple[bytes, int | None]:
    kvs = body.get("kvs")
    if not kvs:
        return b"", None
    return b64decode(kvs[0].get("value", ""), validate=True), int(kvs[0]["mod_revision"])


_FIRST: Final = {
    STATUS: _on_status,
    GET: _on_range,
    PUT: _on_put_txn,
    DELETE: _on_delete_txn,
    CAS: _on_cas,
    APPEND: _on_append_basis,
}
