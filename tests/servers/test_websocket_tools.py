"""The tool-call server, as a third-party client sees it."""

from collections.abc import Iterator

import pytest

from servers.websocket_tools.service import StoredReplies
from tests.processes import ServerProcess, wait_until
from tests.servers.clients import http_request, metric
from tests.servers.tool_clients import TOKEN, ToolClient, code_of, text_of

TOKEN_ENV = {"SWARMPROOF_TOKEN": TOKEN}
NAME = "websocket_tools"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """Without limits, for everything that is not about them."""
    with ServerProcess(NAME, "--no-limits", "--hello-timeout", "0.3", "--call-timeout", "1", env=TOKEN_ENV) as process:
        yield process


@pytest.fixture
def limited() -> Iterator[ServerProcess]:
    with ServerProcess(NAME, env=TOKEN_ENV) as process:
        yield process


def metric_of(server: ServerProcess, name: str) -> float:
    status, text = http_request(server.address, "GET", "/metrics")
    assert status == 200
    return metric(text, f"{NAME}_{name}")


# --- hello


def test_hello_is_acknowledged_with_the_session(server: ServerProcess) -> None:
    with ToolClient(server.address, "my-session_1") as client:
        assert client.hello == {"op": "hello_ack", "ok": True, "session_id": "my-session_1"}


@pytest.mark.parametrize("session_id", ["", "no", "with space", "x" * 65])
def test_session_id_that_is_none_is_replaced(server: ServerProcess, session_id: str) -> None:
    with ToolClient(server.address, session_id) as client:
        assert client.hello["ok"] is True
        assert client.hello["session_id"] != session_id


@pytest.mark.parametrize(
    ("first", "error", "code"),
    [
        ("not json", "invalid_hello", 4000),
        ('"hello"', "invalid_hello", 4000),
        ({"op": "call_tool", "request_id": "r", "name": "echo", "arguments": {}}, "missing_hello", 4001),
        ({"op": "hello", "session_id": "abc", "token": "wrong"}, "unauthorized", 4003),
        ({"op": "hello", "session_id": "abc"}, "unauthorized", 4003),
    ],
)
def test_failed_hello_is_named_and_closed(server: ServerProcess, first: object, error: str, code: int) -> None:
    with ToolClient(server.address, None) as client:
        client.say(first)
        assert client.hear() == {"op": "hello_ack", "ok": False, "error": error}
        assert client.close_code() == code


def test_silence_instead_of_hello_is_closed_without_a_word(server: ServerProcess) -> None:
    with ToolClient(server.address, None) as client:
        assert client.close_code() == 4002


def test_binary_message_is_unsupported(server: ServerProcess) -> None:
    with ToolClient(server.address) as client:
        client.socket.send_binary(b"{}")
        assert client.close_code() == 1003


def test_no_log_line_holds_the_token_or_what_was_sent(server: ServerProcess) -> None:
    with ToolClient(server.address, "quiet", token="not-" + TOKEN) as client:
        assert client.hello["ok"] is False
    with ToolClient(server.address) as client:
        client.say('{"op":"call_tool","request_id":"r-secret"}')
        assert client.hear()["op"] == "error"
    server.wait_for_log("bad_message")
    assert TOKEN not in server.log()
    assert "r-secret" not in server.log()


# --- calls


def test_echo_and_add_answer(server: ServerProcess) -> None:
    with ToolClient(server.address) as client:
        assert text_of(client.result("e1", "echo", text="grüße")) == "grüße"
        assert text_of(client.result("a1", "add", a=2, b=3)) == "5"


@pytest.mark.parametrize("arguments", [{}, {"a": 1}, {"a": 1, "b": "2"}, {"a": True, "b": 1}, {"a": 1.5, "b": 1}])
def test_wrong_arguments_are_a_validation_error(server: ServerProcess, arguments: dict[str, object]) -> None:
    with ToolClient(server.address) as client:
        assert code_of(client.result(f"v{arguments}", "add", **arguments)) == "VALIDATION_ERROR"


def test_failing_and_unknown_tools_have_their_codes(server: ServerProcess) -> None:
    with ToolClient(server.address) as client:
        assert code_of(client.result("f1", "fail")) == "TOOL_EXECUTION_ERROR"
        assert code_of(client.result("f2", "fail", code="PROVIDER_ERROR")) == "PROVIDER_ERROR"
        assert code_of(client.result("f3", "nosuch")) == "TOOL_NOT_FOUND"


def test_slow_tool_tells_its_progress_and_does_not_hold_up_others(server: ServerProcess) -> None:
    with ToolClient(server.address) as client:
        client.call("s1", "slow", ms=300, progress=2, text="slept")
        assert text_of(client.result("s2", "echo", text="quick")) == "quick"
        assert client.hear() == {"op": "progress", "request_id": "s1", "message": "1 of 2"}
        assert client.hear() == {"op": "progress", "request_id": "s1", "message": "2 of 2"}
        assert text_of(client.hear()) == "slept"


def test_tool_beyond_the_call_timeout_is_ended(server: ServerProcess) -> None:
    with ToolClient(server.address) as client:
        assert code_of(client.result("t1", "slow", ms=60_000, text="timeout")) == "TIMEOUT"


def test_stream_comes_in_order_and_complete(server: ServerProcess) -> None:
    with ToolClient(server.address) as client:
        client.call("st", "stream", chunks=100, text="x")
        for number in range(100):
            assert client.hear() == {"op": "stream_chunk", "request_id": "st", "chunk": f"{number}:x"}
        assert client.hear() == {"op": "stream_complete", "request_id": "st"}
        assert text_of(client.hear()) == "100"


def test_stream_waits_for_a_reader_that_does_not_read(server: ServerProcess) -> None:
    with ToolClient(server.address, "slow-reader") as slow, ToolClient(server.address, "reader") as other:
        slow.call("big", "stream", chunks=1000, text="x" * 60_000, interval_ms=0)
        held = wait_until(lambda: metric_of(server, "queue_bytes"), "replies held for the slow reader")
        assert held < 4 * 1024 * 1024
        assert text_of(other.result("o1", "echo", text="served")) == "served"


def test_tools_are_listed(server: ServerProcess) -> None:
    with ToolClient(server.address) as client:
        client.say({"op": "list_tools", "request_id": "l1"})
        listed = client.hear()
        assert [tool["name"] for tool in listed["tools"]] == ["echo", "add", "slow", "stream", "fail"]
        assert listed["request_id"] == "l1"
        assert listed["timestamp"] > 1_700_000_000


@pytest.mark.parametrize("message", [{"op": "surprise"}, {"op": "hello"}, "not json", [], {"op": "call_tool"}])
def test_other_messages_are_invalid_and_the_connection_stays(server: ServerProcess, message: object) -> None:
    with ToolClient(server.address) as client:
        client.say(message)
        answer = client.hear()
        assert (answer["op"], answer["error"]["code"]) == ("error", "INVALID_REQUEST")
        assert text_of(client.result("after", "echo", text="still here")) == "still here"


# --- deduplication


def test_same_request_id_gets_the_stored_reply(server: ServerProcess) -> None:
    with ToolClient(server.address, "dedup") as client:
        first = client.result("d1", "add", a=1, b=1)
        assert client.result("d1", "add", a=100, b=100) == first
    with ToolClient(server.address, "dedup") as again:
        assert again.result("d1", "echo", text="other") == first, "the session goes on over connections"
    with ToolClient(server.address, "another") as other:
        assert text_of(other.result("d1", "add", a=3, b=4)) == "7", "ids of other sessions are others"


def test_identical_call_in_flight_is_told_to_come_again(server: ServerProcess) -> None:
    with ToolClient(server.address, "twin-1") as one, ToolClient(server.address, "twin-2") as two:
        one.call("i1", "slow", ms=500, text="twin")
        one.say({"op": "list_tools"})
        one.hear()
        refused = two.result("i2", "slow", text="twin", ms=500)
        assert code_of(refused) == "OVER_CAPACITY"
        assert refused["error"]["details"] == {"retry_after_secs": 5}
        assert text_of(one.hear()) == "twin"
        assert text_of(two.result("i3", "slow", text="twin", ms=5)) == "twin"


# --- limits


def test_session_bucket_lets_fifty_through_then_asks_to_come_again(limited: ServerProcess) -> None:
    with ToolClient(limited.address) as client:
        for number in range(80):
            client.call(f"b{number}", "echo", text="x")
        answers = [client.hear() for _ in range(80)]
        accepted = sum("ok" in answer for answer in answers)
        assert 50 <= accepted < 75, "the capacity, and five for each second that this took"
        refused = [answer for answer in answers if "ok" not in answer]
        assert {code_of(answer) for answer in refused} == {"OVER_CAPACITY"}
        assert refused[0]["error"]["details"] == {"retry_after_secs": 5}
    assert metric_of(limited, "refused_rate_total") == len(refused)


EMPTY = ("--session-rate", "0.001", "--address-rate", "0.001", "--global-rate", "0.001")


def test_every_op_and_what_is_none_takes_from_the_buckets() -> None:
    with ServerProcess(NAME, *EMPTY, "--session-burst", "4", env=TOKEN_ENV) as server:
        with ToolClient(server.address, "asker") as client:
            client.say({"op": "list_tools", "request_id": "l1"})
            assert client.hear()["op"] == "list_tools_res"
            client.say("not json")
            assert client.hear()["error"]["code"] == "INVALID_REQUEST"
            client.say({"op": "surprise"})
            assert client.hear()["error"]["code"] == "INVALID_REQUEST"
            assert text_of(client.result("c1", "echo", text="x")) == "x"
            for message in ({"op": "list_tools", "request_id": "l2"}, "not json", {"op": "surprise"}):
                client.say(message)
                refused = client.hear()
                assert (refused["op"], refused["error"]["code"]) == ("error", "OVER_CAPACITY")
                assert refused["error"]["details"] == {"retry_after_secs": 5}
                assert refused.get("request_id") == ("l2" if "list_tools" in str(message) else None)
            assert code_of(client.result("c2", "echo", text="x")) == "OVER_CAPACITY"
        with ToolClient(server.address, "another") as other:
            assert text_of(other.result("c1", "echo", text="x")) == "x"
        assert metric_of(server, "refused_rate_total") == 4


@pytest.mark.parametrize("whose", ["address", "global"])
def test_buckets_of_addresses_and_of_all_are_options(whose: str) -> None:
    with ServerProcess(NAME, *EMPTY, f"--{whose}-burst", "2", env=TOKEN_ENV) as server:
        for number in range(2):
            with ToolClient(server.address, f"session-{number}") as client:
                assert text_of(client.result("r", "echo", text="x")) == "x"
        with ToolClient(server.address, "session-2") as client:
            assert code_of(client.result("r", "echo", text="x")) == "OVER_CAPACITY"


def test_a_call_that_is_too_large_takes_a_token_too() -> None:
    limits = (*EMPTY, "--session-burst", "1", "--max-call-bytes", "1000")
    with ServerProcess(NAME, *limits, env=TOKEN_ENV) as server, ToolClient(server.address) as client:
        assert client.result("big", "echo", text="x" * 1500)["error"]["message"] == "the call is too large"
        assert client.result("next", "echo", text="x")["error"]["message"] == "too many requests"


def test_how_many_replies_are_kept_and_how_long_are_options() -> None:
    with ServerProcess(NAME, "--max-stored-replies", "1", env=TOKEN_ENV) as server, ToolClient(server.address) as one:
        assert text_of(one.result("r1", "add", a=1, b=1)) == "2"
        assert text_of(one.result("r1", "add", a=5, b=5)) == "2"
        assert text_of(one.result("r2", "add", a=2, b=2)) == "4"
        assert text_of(one.result("r1", "add", a=5, b=5)) == "10", "pushed out by r2"
    stored = StoredReplies(most=10, most_bytes=80, kept_s=5)
    stored.put("s", "r1", "12345678", 0)
    assert stored.get("s", "r1", 5) == "12345678"
    assert stored.get("s", "r1", 5.1) is None
    for number in range(20):
        stored.put("s", f"n{number}", "12345678", 6)
    assert len(stored) == 10


def test_eleventh_connection_of_an_address_is_closed_with_1008(limited: ServerProcess) -> None:
    clients = [ToolClient(limited.address) for _ in range(10)]
    with ToolClient(limited.address, None) as eleventh:
        assert eleventh.close_code() == 1008
    clients.pop().close()

    def admitted() -> bool:
        with ToolClient(limited.address, None) as client:
            client.say({"op": "hello", "session_id": "later", "token": TOKEN})
            try:
                return bool(client.hear()["ok"])
            except AssertionError:
                return False

    wait_until(admitted, "a place after one has left")
    for client in clients:
        client.close()


def test_ninth_call_in_flight_of_a_session_is_over_capacity(limited: ServerProcess) -> None:
    with ToolClient(limited.address) as client:
        for number in range(9):
            client.call(f"c{number}", "slow", ms=1000, text=str(number))
        refused = client.hear()
        assert (refused["request_id"], code_of(refused)) == ("c8", "OVER_CAPACITY")
        assert {text_of(client.hear()) for _ in range(8)} == {str(number) for number in range(8)}


def test_twenty_fifth_call_in_flight_of_all_is_over_capacity(limited: ServerProcess) -> None:
    clients = [ToolClient(limited.address, f"session-{number}") for number in range(4)]
    for number, client in enumerate(clients[:3]):
        for call in range(8):
            client.call(f"c{call}", "slow", ms=3000, text=f"{number}-{call}")
        client.say({"op": "list_tools"})
        client.hear()
    assert code_of(clients[3].result("one-too-many", "slow", ms=1)) == "OVER_CAPACITY"
    for client in clients:
        client.close()
    wait_until(lambda: metric_of(limited, "messages_queued") == 0, "calls of closed connections to be cancelled")


def test_call_too_large_is_refused_and_message_too_large_is_closed() -> None:
    options = ("--max-call-bytes", "1000", "--max-message-bytes", "5000")
    with ServerProcess(NAME, *options, env=TOKEN_ENV) as server, ToolClient(server.address) as client:
        assert code_of(client.result("big", "echo", text="x" * 1500)) == "OVER_CAPACITY"
        client.call("bigger", "echo", text="x" * 6000)
        assert client.close_code() == 1009


def test_call_in_flight_at_sigterm_is_answered() -> None:
    with ServerProcess(NAME, env=TOKEN_ENV) as server, ToolClient(server.address) as client:
        client.call("c", "slow", ms=60_000)
        client.say({"op": "list_tools"})
        client.hear()
        server.signal(15)
        assert code_of(client.hear()) == "SERVICE_UNAVAILABLE"
        assert client.close_code() == 1001
        assert server.wait() == 0


def test_token_file_is_read_and_a_missing_one_is_one_sentence(tmp_path: object) -> None:
    path = f"{tmp_path}/token"
    with open(path, "w") as file:
        file.write(TOKEN + "\n")
    with ServerProcess(NAME, "--token-file", path) as server, ToolClient(server.address) as client:
        assert client.hello["ok"] is True
    with pytest.raises(AssertionError, match="cannot read the token file"):
        ServerProcess(NAME, "--token-file", path + "-missing")
