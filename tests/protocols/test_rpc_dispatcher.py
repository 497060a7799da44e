"""The server's side of both RPC dialects, from text to text; the strict one by the specification's own examples."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.rpc import Dispatcher, InvalidParams, RpcMethodError, decode_reply, encode_request


def subtract(params: Any) -> object:
    if isinstance(params, list):
        return params[0] - params[1]
    return params["minuend"] - params["subtrahend"]


def add(params: Any) -> object:
    if not isinstance(params, dict) or not all(type(params.get(name)) is int for name in "ab"):
        raise InvalidParams
    return {"result": params["a"] + params["b"]}


def error_test(params: object) -> object:
    raise RpcMethodError("planned", code=-32000, data=params)


class Server:
    """A dispatcher with the methods of the specification's examples, and the calls that its `update` received."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher()
        self.updates: list[object] = []
        self.dispatcher.register("echo", lambda params: params)
        self.dispatcher.register("subtract", subtract)
        self.dispatcher.register("sum", sum)  # type: ignore[arg-type]
        self.dispatcher.register("get_data", lambda params: ["hello", 5])
        self.dispatcher.register("update", self.updates.append)
        self.dispatcher.register("add", add)
        self.dispatcher.register("error_test", error_test)
        self.dispatcher.register("unprintable", lambda params: {"a": b"bytes"})

    def ask(self, message: object) -> Any:
        """The reply's value, without the free-text `data` of its errors; None when nothing was answered."""
        text = message if isinstance(message, str | bytes) else json.dumps(message)
        answer = self.dispatcher.handle(text)
        return None if answer is None else json.loads(answer, object_hook=without_data)


def without_data(value: dict[str, object]) -> dict[str, object]:
    if "code" in value:
        value.pop("data", None)
    return value


@pytest.fixture
def server() -> Server:
    return Server()


def invalid(id: object = None) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": -32600, "message": "Invalid Request"}}


PARSE_ERROR = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}}


# --- the examples of section 7 of the specification -------------------------------------------------------


def test_a_call_with_positional_parameters(server: Server):
    request = {"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}
    assert server.ask(request) == {"jsonrpc": "2.0", "result": 19, "id": 1}


def test_a_call_with_named_parameters(server: Server):
    request = {"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}
    assert server.ask(request) == {"jsonrpc": "2.0", "result": 19, "id": 3}


def test_a_notification_is_carried_out_and_not_answered(server: Server):
    assert server.ask({"jsonrpc": "2.0", "method": "update", "params": [1, 2, 3]}) is None
    assert server.updates == [[1, 2, 3]]
    assert server.ask({"jsonrpc": "2.0", "method": "foobar"}) is None
    assert server.ask({"jsonrpc": "2.0", "method": "error_test", "params": []}) is None


def test_a_call_of_a_method_that_does_not_exist(server: Server):
    answer = {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"}
    assert server.ask({"jsonrpc": "2.0", "method": "foobar", "id": "1"}) == answer


def test_a_call_with_invalid_json(server: Server):
    assert server.ask('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]') == PARSE_ERROR


def test_a_call_with_an_invalid_request_object(server: Server):
    assert server.ask({"jsonrpc": "2.0", "method": 1, "params": "bar"}) == invalid()


def test_a_batch_with_invalid_json(server: Server):
    text = '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]'
    assert server.ask(text) == PARSE_ERROR


def test_an_empty_batch_gets_one_error(server: Server):
    assert server.ask([]) == invalid()


def test_a_batch_of_what_are_no_requests(server: Server):
    assert server.ask([1]) == [invalid()]
    assert server.ask([1, 2, 3]) == [invalid(), invalid(), invalid()]


def test_a_mixed_batch(server: Server):
    batch = [
        {"jsonrpc": "2.0", "method": "sum", "params": [1, 2, 4], "id": "1"},
        {"jsonrpc": "2.0", "method": "update", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"},
    ]
    assert server.ask(batch) == [
        {"jsonrpc": "2.0", "result": 7, "id": "1"},
        {"jsonrpc": "2.0", "result": 19, "id": "2"},
        invalid(),
        {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "5"},
        {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"},
    ]


def test_a_batch_of_notifications_is_not_answered(server: Server):
    assert server.ask([{"jsonrpc": "2.0", "method": "update", "params": [n]} for n in (1, 2)]) is None
    assert server.updates == [[1], [2]]


# --- beyond the examples ----------------------------------------------------------------------------------


def test_repeated_ids_in_a_batch_are_each_answered(server: Server):
    batch = [{"jsonrpc": "2.0", "method": "echo", "params": [n], "id": 1} for n in (1, 2)]
    assert [reply["result"] for reply in server.ask(batch)] == [[1], [2]]


def test_a_batch_above_the_limit_gets_one_error_and_nothing_is_carried_out(server: Server):
    member = {"jsonrpc": "2.0", "method": "update", "params": [1]}
    assert server.ask([member] * 1001) == invalid()
    assert server.updates == []
    assert server.ask([member] * 1000) is None
    assert len(server.updates) == 1000


def test_an_id_of_null_is_a_request_and_not_a_notification(server: Server):
    request = {"jsonrpc": "2.0", "method": "echo", "params": [1], "id": None}
    assert server.ask(request) == {"jsonrpc": "2.0", "id": None, "result": [1]}


@pytest.mark.parametrize("id", [0, -1, 1.5, "", "x", "é", 2**64, -(2**70), 10**100])
def test_every_id_comes_back_exactly(server: Server, id: object):
    assert server.ask({"jsonrpc": "2.0", "method": "echo", "params": [], "id": id})["id"] == id
    assert server.ask({"method": "echo", "params": 1, "id": id, "method_type": "Call"})["id"] == id


@pytest.mark.parametrize(
    ("request_object", "id"),
    [
        ({"jsonrpc": "1.0", "method": "echo", "id": 1}, 1),
        ({"jsonrpc": 2.0, "method": "echo", "id": 1}, 1),
        ({"jsonrpc": None, "method": "echo", "id": 1}, 1),
        ({"jsonrpc": "2.0", "id": 1}, 1),
        ({"jsonrpc": "2.0", "method": "echo", "params": "bar", "id": 1}, 1),
        ({"jsonrpc": "2.0", "method": "echo", "params": None, "id": 1}, 1),
        ({"jsonrpc": "2.0", "method": "echo", "params": 5}, None),
        ({"jsonrpc": "2.0", "method": "echo", "id": True}, None),
        ({"jsonrpc": "2.0", "method": "echo", "id": [1]}, None),
        ({"jsonrpc": "2.0", "method": "echo", "id": {}}, None),
    ],
)
def test_an_invalid_request_is_answered_for_the_id_that_could_be_read(
    server: Server, request_object: object, id: object
):
    assert server.ask(request_object) == invalid(id)
    assert server.ask([request_object]) == [invalid(id)]


def test_a_request_of_the_first_dialect_inside_a_batch_is_invalid(server: Server):
    assert server.ask([{"method": "echo", "params": 1, "id": 7, "method_type": "Call"}]) == [invalid(7)]


@pytest.mark.parametrize("top", [1, '"text"', "null", True, 1.5])
def test_what_is_no_object_at_all_is_invalid(server: Server, top: object):
    assert server.ask(top) == invalid()


@pytest.mark.parametrize(
    "bomb",
    [
        *("[" * 100_000, '{"a":' * 100_000, "[" * 500 + "]" * 500, '{"id":1,"method":"echo","params":' + "[" * 200),
        *("9" * 5000, '{"id":' + "9" * 400 + ',"method":"echo"}', "1e999", "NaN", '{"id":Infinity,"method":"echo"}'),
        *('"\ud800"', '{"id":1,"method":"\\ud800"}', b"\xff\xfe", b'{"id":"\xc3\x28"}', "", "\x00"),
    ],
)
def test_bombs_and_garbage_are_parse_errors(server: Server, bomb: str | bytes):
    assert server.ask(bomb) == PARSE_ERROR


def test_params_as_deep_as_allowed_are_echoed_or_refused_but_never_raise(server: Server):
    for depth in range(120, 132):
        answer = server.ask(f'{{"jsonrpc":"2.0","id":1,"method":"echo","params":{"[" * depth}{"]" * depth}}}')
        assert "result" in answer if depth <= 127 else answer == PARSE_ERROR


# --- the first dialect ------------------------------------------------------------------------------------


def test_the_first_dialect_always_answers_with_id_result_and_error(server: Server):
    assert server.ask(encode_request(1, "echo", {"message": "Hello"})) == {
        "id": 1,
        "result": {"message": "Hello"},
        "error": None,
    }
    assert server.ask(encode_request("x", "add", {"a": 5, "b": 3})) == {
        "id": "x",
        "result": {"result": 8},
        "error": None,
    }
    assert server.ask(encode_request(2, "foobar")) == {
        "id": 2,
        "result": None,
        "error": {"code": -32601, "message": "Method not found"},
    }


def test_invalid_parameters_have_another_code_in_each_dialect(server: Server):
    first = server.ask(encode_request(1, "add", {"a": "x"}))
    assert first == {"id": 1, "result": None, "error": {"code": -32603, "message": "Invalid parameters"}}
    strict = server.ask(encode_request(1, "add", {"a": "x"}, "jsonrpc"))
    assert strict == {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "Invalid params"}}


def test_the_method_type_may_be_left_out_but_not_be_another(server: Server):
    assert server.ask({"id": 1, "method": "echo", "params": 1})["result"] == 1
    refusal = {"id": 1, "result": None, "error": {"code": -32600, "message": "Invalid Request"}}
    assert server.ask({"id": 1, "method": "echo", "params": 1, "method_type": "Stream"}) == refusal


@pytest.mark.parametrize(
    ("request_object", "id"),
    [
        ({}, None),
        ({"id": 3}, 3),
        ({"method": "echo"}, None),
        ({"id": [], "method": "echo"}, None),
        ({"id": 1, "method": 5}, 1),
    ],
)
def test_an_invalid_request_is_answered_in_the_first_dialect(server: Server, request_object: object, id: object):
    assert server.ask(request_object) == {
        "id": id,
        "result": None,
        "error": {"code": -32600, "message": "Invalid Request"},
    }


# --- what methods do --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["call", "jsonrpc"])
def test_a_methods_own_error_is_answered_with_its_code_and_data(server: Server, dialect: Any):
    text = server.dispatcher.handle(encode_request(1, "error_test", {"n": 1}, dialect))
    assert text is not None
    reply = decode_reply(text, dialect)
    assert not isinstance(reply, list)
    assert reply.error == {"code": -32000, "message": "planned", "data": {"n": 1}}


@pytest.mark.parametrize("method", ["subtract", "unprintable"])
@pytest.mark.parametrize("dialect", ["call", "jsonrpc"])
def test_a_methods_bug_is_an_internal_error_without_its_text(server: Server, method: str, dialect: Any):
    reply = server.ask(encode_request(1, method, {"wrong": 1}, dialect))
    assert reply["error"] == {"code": -32603, "message": "Internal error"}
    assert reply["id"] == 1


def test_numbers_are_echoed_exactly(server: Server):
    params = [2**64, -(2**63) - 1, 10**200 + 7, 1.5]
    assert server.ask(encode_request(1, "echo", params, "jsonrpc"))["result"] == params


requests = st.dictionaries(
    st.sampled_from(["jsonrpc", "id", "method", "params", "method_type"]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["2.0", "Call", "echo", "add", "x"])
    | st.lists(st.integers()),
)


@given(st.binary() | st.text() | st.text('[]{}",:0123456789.\\ud') | requests | st.lists(requests | st.integers()))
def test_whatever_comes_is_answered_with_a_wellformed_reply_or_not_at_all(garbage: object):
    text = garbage if isinstance(garbage, str | bytes) else json.dumps(garbage)
    answer = Server().dispatcher.handle(text)
    if answer is not None:
        decode_reply(answer, "call" if '"jsonrpc"' not in answer else "jsonrpc")
