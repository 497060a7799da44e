"""The client's side of both RPC dialects: what is asked, and how strictly an answer is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import rpc
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.rpc import (
    Dialect,
    Id,
    RpcReply,
    decode_reply,
    encode_batch,
    encode_notification,
    encode_reply,
    encode_request,
)

dialects = pytest.mark.parametrize("dialect", ["call", "jsonrpc"])
ids = st.none() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
rpc_errors = st.fixed_dictionaries({"code": st.integers(), "message": st.text()}, optional={"data": json_values})


def refused(text: str | bytes, dialect: Dialect) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_reply(text, dialect)
    return caught.value.reason


def test_requests_of_the_first_dialect_are_the_ones_of_the_wire_formats():
    text = '{"id":1,"method":"add","params":{"a":2,"b":3},"method_type":"Call"}'
    assert encode_request(1, "add", {"a": 2, "b": 3}) == text
    assert encode_request("x", "get_time") == '{"id":"x","method":"get_time","params":null,"method_type":"Call"}'


def test_requests_of_the_strict_dialect_are_the_ones_of_the_specification():
    text = '{"jsonrpc":"2.0","id":1,"method":"add","params":[2,3]}'
    assert encode_request(1, "add", [2, 3], "jsonrpc") == text
    assert encode_request(None, "get_time", None, "jsonrpc") == '{"jsonrpc":"2.0","id":null,"method":"get_time"}'
    assert encode_notification("log", {"a": "é"}) == '{"jsonrpc":"2.0","method":"log","params":{"a":"é"}}'


def test_a_batch_is_an_array_of_requests():
    members = [encode_request(1, "a", None, "jsonrpc"), encode_notification("b")]
    assert encode_batch(members) == '[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"b"}]'


def test_what_a_dialect_does_not_allow_is_our_own_error():
    with pytest.raises(LocalProtocolError, match="object or an array"):
        encode_request(1, "add", 5, "jsonrpc")
    with pytest.raises(LocalProtocolError, match="object or an array"):
        encode_notification("add", "text")
    with pytest.raises(LocalProtocolError, match="string, a number or null"):
        encode_request(True, "add")
    with pytest.raises(LocalProtocolError, match="string, a number or null"):
        encode_request([1], "add")  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="choose one of call, jsonrpc"):
        encode_request(1, "add", None, "soap")  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="at least one"):
        encode_batch([])


@dialects
@pytest.mark.parametrize("params", [{"x": float("nan")}, {"x": b"bytes"}, {"x": "\ud800"}, {1: 2}])
def test_params_that_json_cannot_carry_are_our_own_error(dialect: Dialect, params: dict[str, object]):
    with pytest.raises(LocalProtocolError, match="JSON cannot carry"):
        encode_request(1, "echo", params, dialect)


def test_an_id_that_json_cannot_carry_is_our_own_error():
    with pytest.raises(LocalProtocolError):
        encode_request(float("nan"), "echo", {"meant": None})


# --- replies ----------------------------------------------------------------------------------------------


def test_replies_of_the_first_dialect_keep_their_nulls():
    assert decode_reply('{"id":1,"result":{"result":5},"error":null}') == RpcReply(1, {"result": 5}, None, False)
    error = {"code": -32601, "message": "Method not found"}
    text = '{"id":"x","result":null,"error":{"code":-32601,"message":"Method not found"}}'
    assert decode_reply(text) == RpcReply("x", None, error, False)
    assert encode_reply(RpcReply("x", None, error, False)) == text
    assert decode_reply(b'{"id":1,"result":null,"error":null}') == RpcReply(1, None, None, False)


def test_replies_of_the_strict_dialect_have_exactly_one_of_result_and_error():
    assert decode_reply('{"jsonrpc":"2.0","id":1,"result":null}', "jsonrpc") == RpcReply(1, None, None, True)
    error = {"code": -32700, "message": "Parse error", "data": [1]}
    text = '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error","data":[1]}}'
    assert decode_reply(text, "jsonrpc") == RpcReply(None, None, error, True)
    assert encode_reply(RpcReply(None, None, error, True)) == text


def test_replies_to_a_batch_come_as_a_list_with_repeated_ids_as_they_are():
    text = '[{"jsonrpc":"2.0","id":1,"result":1},{"jsonrpc":"2.0","id":1,"result":2}]'
    assert decode_reply(text, "jsonrpc") == [RpcReply(1, 1, None, True), RpcReply(1, 2, None, True)]


def test_a_parse_error_of_a_server_of_both_dialects_can_be_read_in_the_first():
    text = '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}'
    assert decode_reply(text, "call") == decode_reply(text, "jsonrpc")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", rpc.NOT_JSON),
        ("{", rpc.NOT_JSON),
        (b"\xff", rpc.NOT_JSON),
        ("[" * 100_000, rpc.NOT_JSON),
        ("9" * 5000, rpc.NOT_JSON),
        ('"\ud800"', rpc.NOT_JSON),
        ("7", rpc.NOT_AN_OBJECT),
        ('[{"id":1,"result":1,"error":null}]', rpc.NOT_AN_OBJECT),
        ('{"jsonrpc":"2.0","id":1,"result":1}', rpc.WRONG_DIALECT),
        ('{"jsonrpc":"1.0","id":null,"error":{"code":1,"message":""}}', rpc.WRONG_DIALECT),
        ('{"result":1,"error":null}', rpc.MISSING_MEMBER),
        ('{"id":1,"error":null}', rpc.MISSING_MEMBER),
        ('{"id":1,"result":1}', rpc.MISSING_MEMBER),
        ('{"id":true,"result":1,"error":null}', rpc.BAD_ID),
        ('{"id":[],"result":1,"error":null}', rpc.BAD_ID),
        ('{"id":1,"result":1,"error":{"code":1,"message":""}}', rpc.BOTH),
        ('{"id":1,"result":null,"error":"no"}', rpc.BAD_ERROR),
        ('{"id":1,"result":null,"error":{"code":"1","message":""}}', rpc.BAD_ERROR),
        ('{"id":1,"result":null,"error":{"code":true,"message":""}}', rpc.BAD_ERROR),
        ('{"id":1,"result":null,"error":{"code":1.5,"message":""}}', rpc.BAD_ERROR),
        ('{"id":1,"result":null,"error":{"code":1}}', rpc.BAD_ERROR),
    ],
)
def test_a_reply_of_another_shape_than_the_first_dialects_is_refused(text: str | bytes, reason: str):
    assert refused(text, "call") == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", rpc.NOT_JSON),
        ("null", rpc.NOT_AN_OBJECT),
        ("[]", rpc.EMPTY_BATCH),
        ("[1]", rpc.NOT_AN_OBJECT),
        ('{"id":1,"result":1,"error":null}', rpc.WRONG_DIALECT),
        ('{"jsonrpc":2.0,"id":1,"result":1}', rpc.WRONG_DIALECT),
        ('{"jsonrpc":"2.1","id":1,"result":1}', rpc.WRONG_DIALECT),
        ('{"jsonrpc":"2.0","result":1}', rpc.MISSING_MEMBER),
        ('{"jsonrpc":"2.0","id":false,"result":1}', rpc.BAD_ID),
        ('{"jsonrpc":"2.0","id":1}', rpc.NEITHER),
        ('{"jsonrpc":"2.0","id":1,"result":1,"error":null}', rpc.BOTH),
        ('{"jsonrpc":"2.0","id":1,"error":null}', rpc.BAD_ERROR),
        ('{"jsonrpc":"2.0","id":1,"error":{"message":""}}', rpc.BAD_ERROR),
        ('[{"jsonrpc":"2.0","id":1,"result":1},{"jsonrpc":"2.0","id":2}]', rpc.NEITHER),
    ],
)
def test_a_reply_of_another_shape_than_the_strict_dialects_is_refused(text: str, reason: str):
    assert refused(text, "jsonrpc") == reason


@given(ids, json_values, st.booleans())
def test_every_result_comes_back(id: Id, result: object, strict: bool):
    reply = RpcReply(id, result, None, strict)
    assert decode_reply(encode_reply(reply), "jsonrpc" if strict else "call") == reply


@given(ids, rpc_errors, st.booleans())
def test_every_error_comes_back(id: Id, error: dict[str, object], strict: bool):
    reply = RpcReply(id, None, error, strict)
    assert decode_reply(encode_reply(reply), "jsonrpc" if strict else "call") == reply


member_names = st.sampled_from(["jsonrpc", "id", "result", "error"])
members = st.dictionaries(member_names, json_values | st.just("2.0") | rpc_errors)
REASONS = (
    *(rpc.NOT_JSON, rpc.NOT_AN_OBJECT, rpc.EMPTY_BATCH, rpc.WRONG_DIALECT, rpc.MISSING_MEMBER, rpc.BAD_ID),
    *(rpc.BOTH, rpc.NEITHER, rpc.BAD_ERROR),
)


@given(st.binary() | st.text() | members | st.lists(members), st.sampled_from(["call", "jsonrpc"]))
def test_garbage_is_a_reply_or_one_clear_error(garbage: object, dialect: Dialect):
    text = garbage if isinstance(garbage, str | bytes) else rpc.dump_json(garbage)
    try:
        decoded = decode_reply(text, dialect)
    except RemoteProtocolError as error:
        REASONS.index(error.reason)  # ValueError for an error of another kind
        return
    for reply in decoded if isinstance(decoded, list) else [decoded]:
        assert reply.error is None or reply.result is None
