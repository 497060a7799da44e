"""The tool-call dialect: pinned texts, strict reading, and garbage that is refused by name."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import tool_call as tc
from protocols.errors import LocalProtocolError, RemoteProtocolError

# Every text of docs/protocols/tool-call.md, and what it reads as.
CLIENT = [
    ('{"op":"hello","session_id":"s-1","token":"secret"}', tc.Hello("s-1", "secret")),
    (
        '{"op":"call_tool","request_id":"r1","name":"add","arguments":{"a":2,"b":3}}',
        tc.CallTool("r1", "add", {"a": 2, "b": 3}),
    ),
    ('{"op":"list_tools"}', tc.ListTools(None)),
    ('{"op":"list_tools","request_id":"r2"}', tc.ListTools("r2")),
]
SERVER = [
    ('{"op":"hello_ack","ok":true,"session_id":"s-1"}', tc.HelloAck(True, "s-1", "")),
    ('{"op":"hello_ack","ok":false,"error":"unauthorized"}', tc.HelloAck(False, "", "unauthorized")),
    ('{"op":"progress","request_id":"r1","message":"1 of 3"}', tc.Progress("r1", "1 of 3")),
    ('{"op":"stream_chunk","request_id":"r1","chunk":"0:a"}', tc.StreamChunk("r1", "0:a")),
    ('{"op":"stream_complete","request_id":"r1"}', tc.StreamComplete("r1")),
    (
        '{"op":"call_tool_res","request_id":"r1","ok":true,"outputs":[{"type":"text","text":"5"}]}',
        tc.CallResult("r1", [{"type": "text", "text": "5"}], None),
    ),
    (
        '{"op":"call_tool_res","request_id":"r1","error":{"code":"OVER_CAPACITY","message":"too many requests",'
        '"details":{"retry_after_secs":5}}}',
        tc.CallResult("r1", None, tc.ToolError("OVER_CAPACITY", "too many requests", {"retry_after_secs": 5})),
    ),
    (
        '{"op":"list_tools_res","tools":[{"name":"echo"}],"timestamp":1.5,"request_id":"r2"}',
        tc.ToolList("r2", [{"name": "echo"}], 1.5),
    ),
    (
        '{"op":"error","error":{"code":"INVALID_REQUEST","message":"unknown op"}}',
        tc.Refused(None, tc.ToolError("INVALID_REQUEST", "unknown op")),
    ),
]


def write_client(message: tc.ClientMessage) -> str:
    match message:
        case tc.Hello(session_id, token):
            return tc.encode_hello(session_id, token)
        case tc.CallTool(request_id, name, arguments):
            return tc.encode_call(request_id, name, arguments)
        case tc.ListTools(request_id):
            return tc.encode_list_tools(request_id)
    raise AssertionError(message)


def write_server(message: tc.ServerMessage) -> str:
    match message:
        case tc.HelloAck(True, session_id, _):
            return tc.encode_hello_ack(session_id)
        case tc.HelloAck(_, _, error):
            return tc.encode_hello_failure(error)
        case tc.Progress(request_id, text):
            return tc.encode_progress(request_id, text)
        case tc.StreamChunk(request_id, chunk):
            return tc.encode_stream_chunk(request_id, chunk)
        case tc.StreamComplete(request_id):
            return tc.encode_stream_complete(request_id)
        case tc.CallResult(request_id, outputs, None):
            assert outputs is not None
            return tc.encode_result(request_id, outputs)
        case tc.CallResult(request_id, _, tool_error):
            assert tool_error is not None
            return tc.encode_failure(request_id, tool_error)
        case tc.ToolList(optional_id, tools, timestamp):
            return tc.encode_tool_list(tools, timestamp, optional_id)
        case tc.Refused(optional_id, tool_error):
            return tc.encode_error(tool_error, optional_id)


@pytest.mark.parametrize(("text", "message"), CLIENT)
def test_client_message_is_pinned(text: str, message: tc.ClientMessage) -> None:
    assert write_client(message) == text
    assert tc.decode_client_message(text) == message


@pytest.mark.parametrize(("text", "message"), SERVER)
def test_server_message_is_pinned(text: str, message: tc.ServerMessage) -> None:
    assert write_server(message) == text
    assert tc.decode_server_message(text) == message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", tc.NOT_JSON),
        ("[" * 500 + "]" * 500, tc.NOT_JSON),
        ("[]", tc.NOT_AN_OBJECT),
        ('{"request_id":"r1"}', tc.BAD_OP),
        ('{"op":7}', tc.BAD_OP),
        ('{"op":"call_tool_res","request_id":"r1"}', tc.BAD_MEMBER),
        ('{"op":"call_tool_res","request_id":"r1","outputs":[]}', tc.BAD_MEMBER),
        ('{"op":"call_tool_res","request_id":"r1","ok":true,"outputs":{}}', tc.BAD_MEMBER),
        ('{"op":"call_tool_res","request_id":7,"ok":true,"outputs":[]}', tc.BAD_MEMBER),
        ('{"op":"call_tool_res","request_id":"r1","ok":false,"error":{"code":"TIMEOUT","message":""}}', tc.BOTH),
        ('{"op":"call_tool_res","request_id":"r1","error":{"code":"OOPS","message":""}}', tc.BAD_CODE),
        ('{"op":"call_tool_res","request_id":"r1","error":{"code":"TIMEOUT"}}', tc.BAD_MEMBER),
        ('{"op":"stream_chunk","request_id":"r1","chunk":7}', tc.BAD_MEMBER),
        ('{"op":"hello_ack"}', tc.BAD_MEMBER),
        ('{"op":"list_tools_res","tools":[7],"timestamp":1}', tc.BAD_MEMBER),
        ('{"op":"surprise"}', tc.UNKNOWN_OP),
    ],
)
def test_malformed_server_message_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        tc.decode_server_message(text)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "member", [{"request_id": 7}, {"request_id": ""}, {"request_id": "r" * 129}, {"name": None}, {"arguments": [1]}]
)
def test_malformed_call_is_refused(member: dict[str, object]) -> None:
    call = {"op": "call_tool", "request_id": "r1", "name": "echo", "arguments": {}}
    assert tc.decode_client_message(json.dumps(call)) == tc.CallTool("r1", "echo", {})
    with pytest.raises(RemoteProtocolError):
        tc.decode_client_message(json.dumps(call | member))


def test_hello_with_members_of_wrong_types_names_nobody() -> None:
    assert tc.decode_client_message('{"op":"hello","session_id":7,"token":{}}') == tc.Hello("", "")


@pytest.mark.parametrize("session_id", ["abc", "A-z_9", "x" * 64])
def test_session_id_is_accepted(session_id: str) -> None:
    assert tc.is_session_id(session_id)


@pytest.mark.parametrize("session_id", ["", "ab", "x" * 65, "a b c", "abc\n", "añb"])
def test_session_id_is_replaced(session_id: str) -> None:
    assert not tc.is_session_id(session_id)


def test_identical_calls_have_one_key_whatever_the_order_of_arguments() -> None:
    assert tc.call_key("t", {"a": 1, "b": {"x": 1, "y": 2}}) == tc.call_key("t", {"b": {"y": 2, "x": 1}, "a": 1})
    assert tc.call_key("t", {"a": 1}) != tc.call_key("t", {"a": 2})
    assert tc.call_key("t", {"a": 1}) != tc.call_key("u", {"a": 1})


def test_call_too_large_is_our_mistake() -> None:
    with pytest.raises(LocalProtocolError, match="at most"):
        tc.encode_call("r1", "echo", {"text": "x" * tc.MAX_CALL_BYTES})


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
@settings(max_examples=100)
def test_garbage_raises_nothing_but_remote_errors(text: str) -> None:
    for decode in (tc.decode_client_message, tc.decode_server_message):
        try:
            decode(text.encode("utf-8", "surrogatepass"))
        except RemoteProtocolError:
            pass
    tc.salvage_request_id(text)
