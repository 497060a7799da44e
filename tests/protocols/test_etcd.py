"""Requests and replies of etcd's gateway, pinned as a real 3.4.23 spoke them, and what refusals mean for a history."""

# ruff: noqa: UP031 (JSON is full of braces, and str.format would want each of them twice)
from base64 import b64decode
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError
from protocols.etcd import MAX_APPEND_ROUNDS, MAX_IN_FLIGHT, UNASKED, EtcdCodec, request_key
from protocols.kv import BUSY, CAS_FAILED, ERROR, NOT_FOUND, NOT_LEADER, OK, UNKNOWN, KvReply, KvRequest

HEADER = '{"cluster_id":"12101053776118486841","member_id":"15985099378392235387","revision":"%d","raft_term":"2"}'


def response(body: str, status: int = 200) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def sent(data: bytes) -> tuple[str, dict[str, Any]]:
    """Path and body of the only request in `data`."""
    head, _, body = data.partition(b"\r\n\r\n")
    assert body.count(b"POST /") == 0
    return head.split()[1].decode(), orjson.loads(body)


def ask(request: KvRequest, *bodies: str) -> KvReply:
    """The reply when the server answers the rounds with `bodies`."""
    codec = EtcdCodec()
    codec.encode(7, request)
    replies: list[tuple[int, KvReply]] = []
    for body in bodies:
        assert replies == []
        codec.data_to_send()
        replies = codec.receive_data(response(body))
        assert codec.error is None
    ((request_id, reply),) = replies
    assert request_id == 7
    assert codec.data_to_send() == b""
    return reply


def kv(value: str, revision: int) -> str:
    return f'"kvs":[{{"key":"aw==","create_revision":"2","mod_revision":"{revision}","version":"1","value":"{value}"}}]'


def test_a_put_is_guarded_by_its_request_key() -> None:
    path, body = sent(EtcdCodec().encode(1, KvRequest("put", "k", "v1", client_id=1, seq=2)))
    assert path == "/v3/kv/txn"
    (guard,) = body["compare"]
    assert b64decode(guard["key"]).decode() == request_key(1, 2) == "~swarmproof/0000000000000001/2"
    assert (guard["target"], guard["create_revision"]) == ("CREATE", "0")
    assert body["success"][0] == {"request_put": {"key": "aw==", "value": "djE="}}
    assert body["success"][1]["request_put"]["key"] == guard["key"]
    assert body["failure"] == [{"request_range": {"key": guard["key"]}}]


def test_a_put_that_was_applied_before_is_not_applied_again() -> None:
    request = KvRequest("put", "k", "v1", client_id=1, seq=2)
    done = '{"header":%s,"succeeded":true,"responses":[{"response_put":{}},{"response_put":{}}]}' % (HEADER % 5)
    assert ask(request, done) == KvReply(OK, version=5)
    again = '{"header":%s,"responses":[{"response_range":{%s}}]}' % (HEADER % 9, kv("MQ==", 5))
    assert ask(request, again) == KvReply(OK, version=5, replayed=True)


def test_reads_are_linearizable_unless_stale_is_asked_for() -> None:
    assert sent(EtcdCodec().encode(1, KvRequest("get", "k"))) == ("/v3/kv/range", {"key": "aw=="})
    assert sent(EtcdCodec().encode(1, KvRequest("get", "k", stale=True)))[1]["serializable"] is True


def test_reads_give_text_bytes_empty_values_and_absence() -> None:
    get = KvRequest("get", "k")
    assert ask(get, '{"header":%s}' % (HEADER % 3)) == KvReply(NOT_FOUND)
    assert ask(get, '{"header":%s,%s,"count":"1"}' % (HEADER % 3, kv("djE=", 2))) == KvReply(OK, "v1", 2)
    assert ask(get, "{%s}" % kv("/wA=", 2)) == KvReply(OK, b"\xff\x00", 2)
    assert ask(get, '{"kvs":[{"key":"aw==","mod_revision":"2"}]}') == KvReply(OK, "", 2)


def test_a_cas_compares_the_value_and_tells_what_it_saw() -> None:
    request = KvRequest("cas", "k", "new", "old", client_id=1, seq=2)
    inner = sent(EtcdCodec().encode(1, request))[1]["success"][0]["request_txn"]
    assert inner["compare"] == [{"target": "VALUE", "key": "aw==", "value": "b2xk"}]
    won = '{"header":%s,"succeeded":true,"responses":[{"response_txn":{"succeeded":true}}]}' % (HEADER % 6)
    assert ask(request, won) == KvReply(OK, version=6)
    seen = '{"response_range":{%s}}' % kv("djE=", 4)
    lost = '{"header":%s,"succeeded":true,"responses":[{"response_txn":{"responses":[%s,{}]}}]}' % (HEADER % 6, seen)
    assert ask(request, lost) == KvReply(CAS_FAILED, "v1", 4)


def test_a_cas_that_expects_absence_compares_the_creation() -> None:
    inner = sent(EtcdCodec().encode(1, KvRequest("cas", "k", "v", None, client_id=1, seq=2)))[1]["success"][0]
    assert inner["request_txn"]["compare"] == [{"target": "CREATE", "key": "aw==", "create_revision": "0"}]


def test_a_copy_of_a_failed_cas_cannot_succeed_later_and_tells_what_the_first_saw() -> None:
    codec = EtcdCodec()
    codec.encode(1, KvRequest("cas", "k", "new", "old", client_id=1, seq=2))
    kept = kv("MA==", 6)  # the request key says: refused, at revision 6
    assert codec.receive_data(response('{"responses":[{"response_range":{%s}}]}' % kept)) == []
    path, body = sent(codec.data_to_send())
    assert (path, body["revision"]) == ("/v3/kv/range", "6")
    assert codec.receive_data(response("{%s}" % kv("djE=", 4))) == [(1, KvReply(CAS_FAILED, "v1", 4, replayed=True))]


def test_an_append_reads_and_writes_if_nothing_changed_between() -> None:
    codec = EtcdCodec()
    assert sent(codec.encode(1, KvRequest("append", "k", "w", client_id=1, seq=2)))[0] == "/v3/kv/range"
    assert codec.receive_data(response("{%s}" % kv("djE=", 4))) == []
    _, body = sent(codec.data_to_send())
    assert body["compare"][0] == {"target": "MOD", "key": "aw==", "mod_revision": "4"}
    assert b64decode(body["success"][0]["request_put"]["value"]) == b"v1w"
    # Somebody was faster: the answer brings the newer value, and the next try builds on it.
    conflict = '{"responses":[{"response_range":{}},{"response_range":{%s}}]}' % kv("djF4", 5)
    assert codec.receive_data(response(conflict)) == []
    _, body = sent(codec.data_to_send())
    assert b64decode(body["success"][0]["request_put"]["value"]) == b"v1xw"
    done = '{"header":%s,"succeeded":true}' % (HEADER % 6)
    assert codec.receive_data(response(done)) == [(1, KvReply(OK, version=6))]


def test_an_append_that_was_applied_before_is_not_repeated() -> None:
    again = '{"responses":[{"response_range":{%s}},{"response_range":{%s}}]}' % (kv("MQ==", 5), kv("djF3", 5))
    request = KvRequest("append", "k", "w", client_id=1, seq=2)
    assert ask(request, "{%s}" % kv("djF3", 5), again) == KvReply(OK, version=5, replayed=True)


def test_an_append_that_always_meets_others_gives_up_and_was_surely_not_applied() -> None:
    conflict = '{"responses":[{"response_range":{}},{"response_range":{%s}}]}' % kv("djF4", 5)
    rounds = ["{}", *[conflict] * MAX_APPEND_ROUNDS]
    assert ask(KvRequest("append", "k", "w", client_id=1, seq=2), *rounds).result == BUSY


def test_later_rounds_leave_before_newer_requests() -> None:
    codec = EtcdCodec()
    codec.encode(1, KvRequest("append", "k", "w"))
    assert codec.receive_data(response("{}")) == []
    data = codec.encode(2, KvRequest("get", "k"))
    assert data.index(b"/v3/kv/txn") < data.index(b"/v3/kv/range")
    both = response('{"header":%s,"succeeded":true}' % (HEADER % 6)) + response("{}")
    assert codec.receive_data(both) == [(1, KvReply(OK, version=6)), (2, KvReply(NOT_FOUND))]


@pytest.mark.parametrize(
    ("text", "code", "result"),
    [
        ("etcdserver: too many requests", 8, BUSY),
        ("raft proposal dropped", 2, NOT_LEADER),
        ("etcdserver: mvcc: database space exceeded", 8, ERROR),
        ("etcdserver: key is not provided", 3, ERROR),
        ("etcdserver: request timed out", 14, UNKNOWN),
        ("etcdserver: request timed out, possibly due to previous leader failure", 14, UNKNOWN),
        ("etcdserver: leader changed", 14, UNKNOWN),
        ("etcdserver: server stopped", 14, UNKNOWN),
        ("transport is closing", 14, UNKNOWN),
        ("something that a later version says", 99, UNKNOWN),
    ],
)
def test_only_what_was_surely_not_proposed_is_definite(text: str, code: int, result: str) -> None:
    codec = EtcdCodec()
    codec.encode(1, KvRequest("put", "k", "v", client_id=1, seq=1))
    body = orjson.dumps({"error": text, "message": text, "code": code}).decode()
    ((_, reply),) = codec.receive_data(response(body, 503))
    assert reply.result == result
    assert codec.error is None


def test_a_refusal_in_plain_text_leaves_the_outcome_unknown() -> None:
    codec = EtcdCodec()
    codec.encode(1, KvRequest("put", "k", "v", client_id=1, seq=1))
    assert codec.receive_data(response("going down", 502))[0][1].result == UNKNOWN


def test_the_member_that_names_itself_leads() -> None:
    body = '{"header":{"member_id":"15","raft_term":"7"},"leader":"%s","raftIndex":"4","raftTerm":"7"}'
    leads, follows = ask(KvRequest("status"), body % 15), ask(KvRequest("status"), body % 16)
    alone = ask(KvRequest("status"), '{"header":{"member_id":"15"},"raftTerm":"7"}')
    roles = [reply.status.role for reply in (leads, follows, alone) if reply.status is not None]
    assert roles == ["leader", "follower", "candidate"]
    assert alone.status is not None
    assert (alone.status.leader, alone.status.term) == (None, 7)


@pytest.mark.parametrize("body", ["[]", '{"kvs":[{}]}', '{"kvs":7}', '{"kvs":[{"mod_revision":"x"}]}', "{", '"x"'])
def test_a_strange_answer_is_an_error_of_the_stream(body: str) -> None:
    codec = EtcdCodec()
    codec.encode(1, KvRequest("get", "k"))
    assert codec.receive_data(response(body)) == []
    assert codec.error is not None


def test_a_response_that_nobody_asked_for_is_told() -> None:
    codec = EtcdCodec()
    assert codec.receive_data(response("{}")) == []
    assert codec.error is not None
    assert codec.error.reason == UNASKED


def test_limits_are_told_before_anything_is_sent() -> None:
    codec = EtcdCodec()
    with pytest.raises(LocalProtocolError, match="key must not be empty"):
        codec.encode(1, KvRequest("get", ""))
    for number in range(MAX_IN_FLIGHT):
        codec.encode(number, KvRequest("get", "k"))
    with pytest.raises(LocalProtocolError, match="in flight"):
        codec.encode(99, KvRequest("get", "k"))


@given(st.sampled_from(["get", "put", "cas", "append", "delete", "status"]), st.binary(max_size=200))
def test_garbage_never_raises(op: str, body: bytes) -> None:
    codec = EtcdCodec()
    value = "v" if op in ("put", "cas", "append") else None
    codec.encode(1, KvRequest(op, "k", value, client_id=1, seq=1))
    codec.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    codec.receive_eof()
