"""What a server says of a whole connection, and what that means for the requests under way on it."""

from typing import Any

import gevent
import pytest

from protocols.envelope import EnvelopeCodec, MsgType
from protocols.kv import KvReply, encode_reply
from tests.users.in_process import in_process
from tests.users.test_connection import Client, framed, receive, serving
from users.failures import ConnectionLost, RequestFailure, ServerRefused
from users.raft_kv import RaftKvUser

ERROR = 2
AT_CAPACITY, INTERNAL = b"server at capacity", b"internal error"


def notice(text: bytes) -> bytes:
    return EnvelopeCodec().encode(0, text, msg_type=ERROR)


def outcome(notice_text: bytes, *, answers_first: bool) -> RequestFailure:
    """How a request ends whose server says this of the connection, and closes."""

    def serve(sock: Any) -> None:
        codec = EnvelopeCodec()
        if answers_first:
            sock.sendall(framed(receive(sock, codec, 1)[0]))
        receive(sock, codec, 1)
        sock.sendall(notice(notice_text))
        sock.close()

    with serving(serve) as port:
        client = Client(port)
        if answers_first:
            client.ask()
        with pytest.raises(RequestFailure) as failure:
            client.ask()
    assert str(failure.value) == notice_text.decode()
    return failure.value


def test_a_server_that_turned_the_connection_away_has_surely_done_nothing() -> None:
    assert type(outcome(AT_CAPACITY, answers_first=False)) is ServerRefused


@pytest.mark.parametrize(("text", "answers_first"), [(INTERNAL, False), (INTERNAL, True), (AT_CAPACITY, True)])
def test_any_other_notice_leaves_open_what_became_of_the_requests(text: bytes, answers_first: bool) -> None:
    assert type(outcome(text, answers_first=answers_first)) is ConnectionLost


def test_an_answer_that_comes_with_the_notice_says_that_the_server_had_begun() -> None:
    def serve(sock: Any) -> None:
        first, _ = receive(sock, EnvelopeCodec(), 2)
        sock.sendall(framed(first) + notice(AT_CAPACITY))
        sock.close()

    with serving(serve) as port:
        client = Client(port)
        second = gevent.spawn_later(0.001, client.ask)
        client.ask()
        with pytest.raises(ConnectionLost):
            second.get(timeout=10)


@pytest.mark.parametrize("text", [INTERNAL, AT_CAPACITY])
def test_a_store_that_fails_while_a_write_is_proposed_may_have_applied_it(text: bytes) -> None:
    def serve(sock: Any) -> None:
        codec = EnvelopeCodec()
        (status,) = receive(sock, codec, 1)
        reply = encode_reply(KvReply("ERROR", error="no such operation"))
        sock.sendall(codec.encode(status.request_id, reply, msg_type=MsgType.KV))
        receive(sock, codec, 1)
        sock.sendall(notice(text))
        sock.close()

    with serving(serve) as port, in_process(RaftKvUser, f"kv://127.0.0.1:{port}", timeout=0.2) as (user, told):
        assert user.client.put("k", "v") is None
    words = "server at capacity" if text == AT_CAPACITY else "server error"
    assert told.bad == {("put", f"outcome unknown: {words}"): 1}
