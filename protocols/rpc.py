"""RPC over WebSocket text messages, in two dialects.

"call", the first dialect (seed 001): request `{"id","method","params","method_type":"Call"}`; the reply always
has `id`, `result` and `error`, nulls kept.

"jsonrpc", strict JSON-RPC 2.0 (https://www.jsonrpc.org/specification): `"jsonrpc":"2.0"`, an id that is a
string, a number or null, params that are an object or an array or absent; the reply has exactly one of
`result` and `error`; a request without `id` is a notification and gets no answer, not even an error; an
array is a batch. A request with a `jsonrpc` member is of this dialect, so is whatever cannot be read at all
(-32700, id null): a server cannot know better.

Encoders and the reply decoder serve clients; `Dispatcher` is the whole of a server, from text to text.
"""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple, get_args

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.json_text import BadJson, dump_json, load_json

Dialect = Literal["call", "jsonrpc"]
DIALECTS: Final = get_args(Dialect)
Id = str | int | float | None

# JSON-RPC 2.0, section 5.1; the first dialect uses the same numbers.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

# A batch of a megabyte may hold half a million members of two bytes, each earning an error of eighty: the
# answer would outgrow the question. No honest batch comes near this.
MAX_BATCH_MEMBERS = 1000

# Stable reasons of RemoteProtocolError: what can be wrong with a reply.
NOT_JSON = "reply is not JSON"
NOT_AN_OBJECT = "reply is not an object"
EMPTY_BATCH = "reply is an empty batch"
WRONG_DIALECT = "reply in the wrong dialect"
MISSING_MEMBER = "reply lacks a member"
BAD_ID = "reply id is not a string, number or null"
BOTH = "reply has both result and error"
NEITHER = "reply has neither result nor error"
BAD_ERROR = "reply error is malformed"


class RpcRequest(NamedTuple):
    """One well-formed request. `notification`: it has no id (strict dialect only) and gets no answer."""

    id: Id
    method: str
    params: object
    jsonrpc: bool
    notification: bool = False


class RpcReply(NamedTuple):
    """One well-formed reply. `error` is None on success; then `result` may still be None (a JSON null)."""

    id: Id
    result: object
    error: dict[str, object] | None
    jsonrpc: bool


class RpcMethodError(Exception):
    """Raised by a method of a Dispatcher: answered with this code, message and data, in both dialects."""

    def __init__(self, message: str, code: int = INTERNAL_ERROR, data: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.data = data


class InvalidParams(Exception):
    """Raised by a method of a Dispatcher: -32603 `Invalid parameters` in the first dialect, -32602 in the other."""


# --- the client's side ------------------------------------------------------------------------------------


def encode_request(id: Id, method: str, params: object = None, dialect: Dialect = "call") -> str:
    """One request, as text.

    >>> encode_request(1, "add", {"a": 2, "b": 3})
    '{"id":1,"method":"add","params":{"a":2,"b":3},"method_type":"Call"}'
    >>> encode_request(1, "add", {"a": 2, "b": 3}, "jsonrpc")
    '{"jsonrpc":"2.0","id":1,"method":"add","params":{"a":2,"b":3}}'

    Raises LocalProtocolError for an id or params that the dialect does not allow, or that JSON cannot carry.
    """
    return encode_request_bytes(id, method, params, dialect).decode()


def encode_request_bytes(id: Id, method: str, params: object = None, dialect: Dialect = "call") -> bytes:
    """The same in UTF-8, as it goes into a frame."""
    if not _is_id(id):
        raise LocalProtocolError(f"an RPC id is a string, a number or null, not {id!r}")
    nulls = (id is None) + (params is None)
    if dialect == "call":
        return _dump_bytes({"id": id, "method": method, "params": params, "method_type": "Call"}, nulls)
    if dialect == "jsonrpc":
        return _dump_bytes(_strict_call({"jsonrpc": "2.0", "id": id}, method, params), nulls)
    raise LocalProtocolError(f"unknown RPC dialect {dialect!r}: choose one of {', '.join(DIALECTS)}")


class RequestWriter:
    """Requests of one method whose id is a text of hex digits: the bytes of `encode_request`.

    Around id and params stand the same bytes every time. `params` is JSON already, compact and in the form that the
    dialect allows.
    """

    __slots__ = ("_between", "_head", "_tail")

    def __init__(self, method: str, dialect: Dialect = "call") -> None:
        whole = encode_request_bytes("0", method, {}, dialect)
        self._head, rest = whole.split(b'"0"', 1)
        self._head += b'"'
        between, self._tail = rest.rsplit(b"{}", 1)
        self._between = b'"' + between

    def encode(self, id_digits: bytes, params: bytes) -> bytes:
        """One request, in UTF-8."""
        return self._head + id_digits + self._between + params + self._tail

    def form(self, params: bytes) -> bytes:
        """The same as a bytes format, which takes the id's digits and whatever the format `params` takes."""
        head, between, tail = (part.replace(b"%", b"%%") for part in (self._head, self._between, self._tail))
        return head + b"%b" + between + params + tail


def encode_notification(method: str, params: object = None) -> str:
    """One notification of the strict dialect: a request without id, never answered."""
    return _dump(_strict_call({"jsonrpc": "2.0"}, method, params), 0)


def encode_batch(requests: list[str]) -> str:
    """A batch of the strict dialect out of encoded requests and notifications."""
    if not requests:
        raise LocalProtocolError("a batch needs at least one request")
    return f"[{','.join(requests)}]"


def decode_reply(text: str | bytes, dialect: Dialect = "call") -> RpcReply | list[RpcReply]:
    """The reply, or the list of replies to a batch (strict dialect only), checked member by member.

    Raises RemoteProtocolError with one of the reasons above. Whether the id was ever asked is for the caller.
    """
    try:
        message = load_json(text)
    except BadJson as error:
        raise RemoteProtocolError(NOT_JSON, str(error)) from None
    if dialect == "call":
        return _read_call_reply(message)
    if isinstance(message, list):
        if not message:
            raise RemoteProtocolError(EMPTY_BATCH)
        return [_read_strict_reply(member) for member in message]
    return _read_strict_reply(message)


def encode_reply(reply: RpcReply) -> str:
    """A reply as text, in its own dialect. Raises LocalProtocolError for what JSON cannot carry."""
    return _dump(_reply_object(reply), 3)


def _strict_call(head: dict[str, object], method: str, params: object) -> dict[str, object]:
    head["method"] = method
    if params is not None:
        # Section 4: "If present, parameters for the rpc call MUST be provided as a Structured value."
        if not isinstance(params, dict | list | tuple):
            raise LocalProtocolError(f"JSON-RPC params are an object or an array, not {params!r}")
        head["params"] = params
    return head


def _dump(value: dict[str, object], nulls: int) -> str:
    return _dump_bytes(value, nulls).decode()


def _dump_bytes(value: dict[str, object], nulls: int) -> bytes:
    try:
        return dump_json(value, nulls)
    except BadJson as error:
        raise LocalProtocolError(f"JSON cannot carry this: {error}") from None


def _read_call_reply(message: object) -> RpcReply:
    if not isinstance(message, dict):
        raise RemoteProtocolError(NOT_AN_OBJECT, type(message).__name__)
    if "jsonrpc" in message:
        # What a server of both dialects answers to a text that it cannot read is strict, with id null.
        if message.get("id", 0) is None and "error" in message:
            return _read_strict_reply(message)
        raise RemoteProtocolError(WRONG_DIALECT, "it has a jsonrpc member")
    try:
        id, result, error = message["id"], message["result"], message["error"]
    except KeyError as missing:
        raise RemoteProtocolError(MISSING_MEMBER, str(missing)) from None
    if not _is_id(id):
        raise RemoteProtocolError(BAD_ID, type(id).__name__)
    if error is not None:
        if result is not None:
            raise RemoteProtocolError(BOTH)
        _check_error(error)
    return RpcReply(id, result, error, jsonrpc=False)


def _read_strict_reply(message: object) -> RpcReply:
    if not isinstance(message, dict):
        raise RemoteProtocolError(NOT_AN_OBJECT, type(message).__name__)
    if message.get("jsonrpc") != "2.0":
        raise RemoteProtocolError(WRONG_DIALECT, 'jsonrpc is not "2.0"')
    if "id" not in message:
        raise RemoteProtocolError(MISSING_MEMBER, "'id'")
    id = message["id"]
    if not _is_id(id):
        raise RemoteProtocolError(BAD_ID, type(id).__name__)
    # Section 5: "Either the result member or error member MUST be included, but both members MUST NOT".
    if "error" in message:
        if "result" in message:
            raise RemoteProtocolError(BOTH)
        _check_error(message["error"])
        return RpcReply(id, None, message["error"], jsonrpc=True)
    if "result" not in message:
        raise RemoteProtocolError(NEITHER)
    return RpcReply(id, message["result"], None, jsonrpc=True)


def _check_error(error: object) -> None:
    """Section 5.1: `code` is an integer, `message` a string, `data` may be anything."""
    if not isinstance(error, dict):
        raise RemoteProtocolError(BAD_ERROR, "not an object")
    if type(error.get("code")) is not int:
        raise RemoteProtocolError(BAD_ERROR, "code is not an integer")
    if not isinstance(error.get("message"), str):
        raise RemoteProtocolError(BAD_ERROR, "message is not a string")


def _is_id(value: object) -> bool:
    # bool is an int in Python, not in JSON.
    return value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))


# --- the server's side ------------------------------------------------------------------------------------

Method = Callable[[object], object]


class _Refused(Exception):
    """A request that is not one: INVALID_REQUEST, for the id that could be read."""

    def __init__(self, id: Id, data: str) -> None:
        super().__init__(data)
        self.id = id
        self.data = data


class Dispatcher:
    """From the text of a request to the text of its reply. Knows no connection: one serves all of them.

    >>> dispatcher = Dispatcher()
    >>> dispatcher.register("echo", lambda params: params)
    >>> dispatcher.handle('{"id":1,"method":"echo","params":[2],"method_type":"Call"}')
    '{"id":1,"result":[2],"error":null}'
    """

    def __init__(self, max_batch_members: int = MAX_BATCH_MEMBERS) -> None:
        self.max_batch_members = max_batch_members
        self._methods: dict[str, Method] = {}

    def register(self, name: str, method: Method) -> None:
        """Serve `name` by `method(params)`. It returns the result, or raises InvalidParams or RpcMethodError.

        Any other exception is answered with -32603 `Internal error`, without its text.
        """
        self._methods[name] = method

    def handle(self, text: str | bytes) -> str | None:
        """The reply to one text message, or None when none is due. Never raises on what a client sent."""
        try:
            message = load_json(text)
        except BadJson as error:
            return encode_reply(_failure(None, True, PARSE_ERROR, "Parse error", str(error)))
        if isinstance(message, list):
            return self._answer_batch(message)
        return self._answer(message, in_batch=False)

    def _answer_batch(self, members: list[object]) -> str | None:
        # Section 6: an empty array gets one Invalid Request, and "If there are no Response objects contained
        # within the Response array [...] the server MUST NOT return an empty Array and should return nothing".
        if not members:
            return _invalid(None, "empty batch")
        if len(members) > self.max_batch_members:
            return _invalid(None, f"a batch has at most {self.max_batch_members} members")
        replies = [self._answer(member, in_batch=True) for member in members]
        answers = [reply for reply in replies if reply is not None]
        return f"[{','.join(answers)}]" if answers else None

    def _answer(self, message: object, *, in_batch: bool) -> str | None:
        try:
            request = _read_request(message, in_batch=in_batch)
        except _Refused as refused:
            strict = in_batch or not isinstance(message, dict) or "jsonrpc" in message
            return _invalid(refused.id, refused.data, jsonrpc=strict)
        reply = self._call(request)
        if request.notification:
            return None
        try:
            return encode_reply(reply)
        except LocalProtocolError:  # a result of ours that JSON cannot carry
            return encode_reply(_failure(request.id, request.jsonrpc, INTERNAL_ERROR, "Internal error"))

    def _call(self, request: RpcRequest) -> RpcReply:
        id, strict = request.id, request.jsonrpc
        method = self._methods.get(request.method)
        if method is None:
            return _failure(id, strict, METHOD_NOT_FOUND, "Method not found")
        try:
            return RpcReply(id, method(request.params), None, strict)
        except InvalidParams:
            if strict:
                return _failure(id, strict, INVALID_PARAMS, "Invalid params")
            return _failure(id, strict, INTERNAL_ERROR, "Invalid parameters")
        except RpcMethodError as error:
            return _failure(id, strict, error.code, error.message, error.data)
        except Exception:  # a method's own bug is the caller's -32603, never the connection's end
            return _failure(id, strict, INTERNAL_ERROR, "Internal error")


def _read_request(message: object, *, in_batch: bool) -> RpcRequest:
    if not isinstance(message, dict):
        raise _Refused(None, "not an object")
    id = message.get("id")
    if not _is_id(id):
        raise _Refused(None, "id is not a string, number or null")
    method = message.get("method")
    if not isinstance(method, str):
        raise _Refused(id, "method is not a string")
    params = message.get("params")
    if "jsonrpc" in message or in_batch:  # batches exist in the strict dialect only
        if message.get("jsonrpc") != "2.0":
            raise _Refused(id, 'jsonrpc is not "2.0"')
        if "params" in message and not isinstance(params, dict | list):
            raise _Refused(id, "params is not an object or array")
        return RpcRequest(id, method, params, jsonrpc=True, notification="id" not in message)
    if "id" not in message:
        raise _Refused(None, "no id")
    if message.get("method_type", "Call") != "Call":
        raise _Refused(id, 'method_type is not "Call"')
    return RpcRequest(id, method, params, jsonrpc=False)


def _reply_object(reply: RpcReply) -> dict[str, object]:
    if not reply.jsonrpc:
        return {"id": reply.id, "result": reply.result, "error": reply.error}
    if reply.error is not None:
        return {"jsonrpc": "2.0", "id": reply.id, "error": reply.error}
    return {"jsonrpc": "2.0", "id": reply.id, "result": reply.result}


def _failure(id: Id, jsonrpc: bool, code: int, message: str, data: object = None) -> RpcReply:
    error: dict[str, object] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return RpcReply(id, None, error, jsonrpc)


def _invalid(id: Id, data: str, jsonrpc: bool = True) -> str:
    return encode_reply(_failure(id, jsonrpc, INVALID_REQUEST, "Invalid Request", data))
