"""The tool-call dialect over WebSocket (seed 002): JSON texts, each with an `op`.

    client                                   server
    hello {session_id, token}           ->   hello_ack {ok, session_id}, or {ok: false, error} and a close code
    call_tool {request_id, name, ...}   ->   progress*, stream_chunk*, stream_complete?, then one call_tool_res
    list_tools {request_id?}            ->   list_tools_res {tools, timestamp}
    anything else                       ->   error {error: {code, message}}

`decode_server_message` is the client's reader and strict: a message that lacks a member, or has one of the wrong
type, is a RemoteProtocolError with one of the reasons below. `decode_client_message` is the server's. Both read one
whole WebSocket text; order (hello first) and matching (request ids) are for those who hold the connection.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.json_text import BadJson, dump_json, load_json

# The original's limits: one WebSocket message, and one call within it.
MAX_FRAME_BYTES: Final = 32 * 1024 * 1024
MAX_CALL_BYTES: Final = 10 * 1024 * 1024
# An id comes back in every message of its call; the original's are UUIDs.
MAX_REQUEST_ID_CHARS: Final = 128
MAX_TOOL_NAME_CHARS: Final = 128
HELLO_TIMEOUT_S: Final = 15.0
RETRY_AFTER_S: Final = 5

# Close codes of a failed hello, and the errors that hello_ack names before them.
INVALID_HELLO_CODE: Final = 4000
MISSING_HELLO_CODE: Final = 4001
HELLO_TIMEOUT_CODE: Final = 4002
UNAUTHORIZED_CODE: Final = 4003
INVALID_HELLO: Final = "invalid_hello"
MISSING_HELLO: Final = "missing_hello"
HELLO_UNAUTHORIZED: Final = "unauthorized"

INVALID_REQUEST: Final = "INVALID_REQUEST"
UNAUTHORIZED: Final = "UNAUTHORIZED"
NOT_FOUND: Final = "NOT_FOUND"
TIMEOUT: Final = "TIMEOUT"
VALIDATION_ERROR: Final = "VALIDATION_ERROR"
OVER_CAPACITY: Final = "OVER_CAPACITY"
INTERNAL_ERROR: Final = "INTERNAL_ERROR"
SERVICE_UNAVAILABLE: Final = "SERVICE_UNAVAILABLE"
TOOL_NOT_FOUND: Final = "TOOL_NOT_FOUND"
TOOL_EXECUTION_ERROR: Final = "TOOL_EXECUTION_ERROR"
PROVIDER_ERROR: Final = "PROVIDER_ERROR"
PROTOCOL_ERROR: Final = "PROTOCOL_ERROR"
ERROR_CODES: Final = frozenset(
    {
        INVALID_REQUEST,
        UNAUTHORIZED,
        NOT_FOUND,
        TIMEOUT,
        VALIDATION_ERROR,
        OVER_CAPACITY,
        INTERNAL_ERROR,
        SERVICE_UNAVAILABLE,
        TOOL_NOT_FOUND,
        TOOL_EXECUTION_ERROR,
        PROVIDER_ERROR,
        PROTOCOL_ERROR,
    }
)

# Stable reasons of RemoteProtocolError.
NOT_JSON = "message is not JSON"
NOT_AN_OBJECT = "message is not an object"
BAD_OP = "message has no op"
UNKNOWN_OP = "message has an unknown op"
BAD_MEMBER = "message lacks a member or has one of the wrong type"
BAD_CODE = "error code is not of this dialect"
BOTH = "result has both outputs and error"

_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{3,64}\Z")


# --- messages ---------------------------------------------------------------------------------------------


class ToolError(NamedTuple):
    """`details` is an object or None; OVER_CAPACITY says `retry_after_secs` there."""

    code: str
    message: str
    details: dict[str, Any] | None = None


class Hello(NamedTuple):
    """`session_id` as sent: see `is_session_id`. `token` "" when there was none."""

    session_id: str
    token: str


class CallTool(NamedTuple):
    request_id: str
    name: str
    arguments: dict[str, Any]


class ListTools(NamedTuple):
    request_id: str | None


class OtherOp(NamedTuple):
    """A message with an op that the server does not serve."""

    request_id: str | None


class HelloAck(NamedTuple):
    ok: bool
    session_id: str
    error: str


class Progress(NamedTuple):
    request_id: str
    message: str


class StreamChunk(NamedTuple):
    request_id: str
    chunk: str


class StreamComplete(NamedTuple):
    request_id: str


class CallResult(NamedTuple):
    """The end of a call: `outputs` on success, else `error`."""

    request_id: str
    outputs: list[Any] | None
    error: ToolError | None


class ToolList(NamedTuple):
    request_id: str | None
    tools: list[dict[str, Any]]
    timestamp: float


class Refused(NamedTuple):
    """An `error` message: it answers no call."""

    request_id: str | None
    error: ToolError


ClientMessage = Hello | CallTool | ListTools | OtherOp
ServerMessage = HelloAck | Progress | StreamChunk | StreamComplete | CallResult | ToolList | Refused


def is_session_id(text: str) -> bool:
    """3 to 64 of letters, digits, underscore and hyphen; a server replaces any other."""
    return _SESSION_ID.match(text) is not None


def call_key(name: str, arguments: Mapping[str, Any]) -> bytes:
    """What makes two calls identical: sha256 over the name and the sorted arguments."""
    hashed = hashlib.sha256(name.encode("utf-8", "surrogatepass"))
    hashed.update(b"\0")
    hashed.update(dump_json(_sorted(arguments)))
    return hashed.digest()


def _sorted(value: Any) -> Any:
    # dump_json keeps an object's order. Depth is bounded by what load_json lets through.
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


# --- writing ----------------------------------------------------------------------------------------------


def encode_hello(session_id: str, token: str) -> str:
    """>>> encode_hello("s-1", "secret")
    '{"op":"hello","session_id":"s-1","token":"secret"}'
    """
    return _dump({"op": "hello", "session_id": session_id, "token": token})


def encode_call(request_id: str, name: str, arguments: Mapping[str, Any]) -> str:
    """>>> encode_call("r1", "add", {"a": 2, "b": 3})
    '{"op":"call_tool","request_id":"r1","name":"add","arguments":{"a":2,"b":3}}'

    Raises LocalProtocolError for arguments that JSON cannot carry, or that exceed MAX_CALL_BYTES.
    """
    text = _dump({"op": "call_tool", "request_id": request_id, "name": name, "arguments": arguments})
    if len(text) > MAX_CALL_BYTES:
        raise LocalProtocolError(f"a call has at most {MAX_CALL_BYTES} bytes, not {len(text)}")
    return text


def encode_list_tools(request_id: str | None = None) -> str:
    return _dump({"op": "list_tools"} | ({} if request_id is None else {"request_id": request_id}))


def encode_hello_ack(session_id: str) -> str:
    return _dump({"op": "hello_ack", "ok": True, "session_id": session_id})


def encode_hello_failure(error: str) -> str:
    return _dump({"op": "hello_ack", "ok": False, "error": error})


def encode_progress(request_id: str, message: str) -> str:
    return _dump({"op": "progress", "request_id": request_id, "message": message})


def encode_stream_chunk(request_id: str, chunk: str) -> str:
    return _dump({"op": "stream_chunk", "request_id": request_id, "chunk": chunk})


def encode_stream_complete(request_id: str) -> str:
    return _dump({"op": "stream_complete", "request_id": request_id})


def encode_result(request_id: str, outputs: list[Any]) -> str:
    return _dump({"op": "call_tool_res", "request_id": request_id, "ok": True, "outputs": outputs})


def encode_failure(request_id: str, error: ToolError) -> str:
    """The end of a failed call; it has no `ok`."""
    return _dump({"op": "call_tool_res", "request_id": request_id, "error": _error_object(error)})


def encode_tool_list(tools: list[dict[str, Any]], timestamp: float, request_id: str | None = None) -> str:
    message: dict[str, Any] = {"op": "list_tools_res", "tools": tools, "timestamp": timestamp}
    return _dump(message | ({} if request_id is None else {"request_id": request_id}))


def encode_error(error: ToolError, request_id: str | None = None) -> str:
    message: dict[str, Any] = {"op": "error", "error": _error_object(error)}
    return _dump(message | ({} if request_id is None else {"request_id": request_id}))


def _error_object(error: ToolError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message} | (
        {} if error.details is None else {"details": error.details}
    )


def _dump(value: dict[str, Any]) -> str:
    try:
        return dump_json(value).decode()
    except BadJson as error:
        raise LocalProtocolError(f"JSON cannot carry this: {error}") from None


# --- reading ----------------------------------------------------------------------------------------------


def decode_client_message(text: str | bytes) -> ClientMessage:
    """What a client says. Raises RemoteProtocolError; `salvage_request_id` may still tell whom to answer."""
    message = _load(text)
    op = message["op"]
    if op == "call_tool":
        name, arguments = _text(message, "name", MAX_TOOL_NAME_CHARS), message.get("arguments")
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise RemoteProtocolError(BAD_MEMBER, "arguments")
        return CallTool(_text(message, "request_id", MAX_REQUEST_ID_CHARS), name, arguments)
    if op == "hello":
        session_id, token = message.get("session_id", ""), message.get("token", "")
        # An id that is none is replaced, not refused; a token that is none authorizes nobody.
        return Hello(session_id if isinstance(session_id, str) else "", token if isinstance(token, str) else "")
    if op == "list_tools":
        return ListTools(_optional_id(message))
    return OtherOp(_optional_id(message))


def salvage_request_id(text: str | bytes) -> str | None:
    """The request id of a client's message that could not be read otherwise, if it has one."""
    try:
        return _optional_id(_load(text))
    except RemoteProtocolError:
        return None


def decode_server_message(text: str | bytes) -> ServerMessage:
    """What a server says, checked member by member. Raises RemoteProtocolError."""
    message = _load(text)
    op = message["op"]
    if op == "call_tool_res":
        return _read_result(message)
    if op == "stream_chunk":
        return StreamChunk(_request_id(message), _text(message, "chunk"))
    if op == "progress":
        return Progress(_request_id(message), _text(message, "message"))
    if op == "stream_complete":
        return StreamComplete(_request_id(message))
    if op == "list_tools_res":
        tools, timestamp = message.get("tools"), message.get("timestamp", 0)
        if not isinstance(tools, list) or not all(
            isinstance(tool, dict) and isinstance(tool.get("name"), str) for tool in tools
        ):
            raise RemoteProtocolError(BAD_MEMBER, "tools")
        if not isinstance(timestamp, int | float) or isinstance(timestamp, bool):
            raise RemoteProtocolError(BAD_MEMBER, "timestamp")
        return ToolList(_optional_id(message), tools, timestamp)
    if op == "hello_ack":
        return _read_hello_ack(message)
    if op == "error":
        return Refused(_optional_id(message), _read_error(message))
    raise RemoteProtocolError(UNKNOWN_OP)


def _load(text: str | bytes) -> dict[str, Any]:
    try:
        message = load_json(text)
    except BadJson as error:
        raise RemoteProtocolError(NOT_JSON, str(error)) from None
    if not isinstance(message, dict):
        raise RemoteProtocolError(NOT_AN_OBJECT, type(message).__name__)
    if not isinstance(message.get("op"), str):
        raise RemoteProtocolError(BAD_OP)
    return message


def _text(message: dict[str, Any], member: str, max_chars: int = 0) -> str:
    value = message.get(member)
    if not isinstance(value, str) or (max_chars and not 0 < len(value) <= max_chars):
        raise RemoteProtocolError(BAD_MEMBER, member)
    return value


def _request_id(message: dict[str, Any]) -> str:
    return _text(message, "request_id", MAX_REQUEST_ID_CHARS)


def _optional_id(message: dict[str, Any]) -> str | None:
    value = message.get("request_id")
    return value if isinstance(value, str) and len(value) <= MAX_REQUEST_ID_CHARS else None


def _read_hello_ack(message: dict[str, Any]) -> HelloAck:
    ok = message.get("ok")
    if ok is True:
        return HelloAck(True, _text(message, "session_id"), "")
    if ok is False:
        return HelloAck(False, "", _text(message, "error"))
    raise RemoteProtocolError(BAD_MEMBER, "ok")


def _read_result(message: dict[str, Any]) -> CallResult:
    request_id = _request_id(message)
    if "error" in message:
        if "outputs" in message or "ok" in message:
            raise RemoteProtocolError(BOTH)
        return CallResult(request_id, None, _read_error(message))
    outputs = message.get("outputs")
    if message.get("ok") is not True:
        raise RemoteProtocolError(BAD_MEMBER, "ok")
    if not isinstance(outputs, list):
        raise RemoteProtocolError(BAD_MEMBER, "outputs")
    return CallResult(request_id, outputs, None)


def _read_error(message: dict[str, Any]) -> ToolError:
    error = message.get("error")
    if not isinstance(error, dict):
        raise RemoteProtocolError(BAD_MEMBER, "error")
    code, details = _text(error, "code"), error.get("details")
    if code not in ERROR_CODES:
        raise RemoteProtocolError(BAD_CODE)
    if details is not None and not isinstance(details, dict):
        raise RemoteProtocolError(BAD_MEMBER, "details")
    return ToolError(code, _text(error, "message"), details)
