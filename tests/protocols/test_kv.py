"""Key-value requests and replies: bytes pinned, limits kept, garbage refused with one kind of error."""

import contextlib
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import kv
from protocols.envelope import EnvelopeCodec, MsgType
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.kv import KvCodec, KvReply, KvRequest, KvStatus, Leader

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocols" / "kv.md"
N3 = Leader(3, "127.0.0.1:9003")

PINNED_REQUESTS = [
    (
        KvRequest(kv.PUT, "k", "v1", client_id=7, seq=1),
        "85a26f70a3707574a36b6579a16ba576616c7565a27631a9636c69656e745f696407a373657101",
    ),
    (KvRequest(kv.GET, "k"), "82a26f70a3676574a36b6579a16b"),
    (KvRequest(kv.GET, "k", stale=True), "83a26f70a3676574a36b6579a16ba57374616c65c3"),
    (
        KvRequest(kv.CAS, "k", b"v2", expect=None, client_id=7, seq=2),
        "86a26f70a3636173a36b6579a16ba576616c7565c4027632a6657870656374c0a9636c69656e745f696407a373657102",
    ),
    (
        KvRequest(kv.APPEND, "k", "7,", client_id=2**64 - 1, seq=4),
        "85a26f70a6617070656e64a36b6579a16ba576616c7565a2372ca9636c69656e745f6964cfffffffffffffffffa373657104",
    ),
    (
        KvRequest(kv.DELETE, "k", client_id=7, seq=3),
        "84a26f70a664656c657465a36b6579a16ba9636c69656e745f696407a373657103",
    ),
    (KvRequest(kv.STATUS), "81a26f70a6737461747573"),
]
PINNED_REPLIES = [
    (KvReply(kv.OK, version=2), "82a6726573756c74a24f4ba776657273696f6e02"),
    (KvReply(kv.OK, "v1", 2), "83a6726573756c74a24f4ba576616c7565a27631a776657273696f6e02"),
    (
        KvReply(kv.OK, version=2, replayed=True),
        "83a6726573756c74a24f4ba776657273696f6e02a87265706c61796564c3",
    ),
    (KvReply(kv.NOT_FOUND, version=9), "82a6726573756c74a94e4f545f464f554e44a776657273696f6e09"),
    (
        KvReply(kv.CAS_FAILED, "v1", 2),
        "83a6726573756c74aa4341535f4641494c4544a576616c7565a27631a776657273696f6e02",
    ),
    (
        KvReply(kv.NOT_LEADER, leader=N3, error="not leader, try node 3"),
        "83a6726573756c74aa4e4f545f4c4541444552a66c656164657282a2696403a761646472657373ae"
        "3132372e302e302e313a39303033a56572726f72b66e6f74206c65616465722c20747279206e6f64652033",
    ),
    (
        KvReply(kv.NOT_LEADER, error="not leader, no leader known"),
        "83a6726573756c74aa4e4f545f4c4541444552a66c6561646572c0"
        "a56572726f72bb6e6f74206c65616465722c206e6f206c6561646572206b6e6f776e",
    ),
    (
        KvReply(kv.BUSY, error="server busy"),
        "82a6726573756c74a442555359a56572726f72ab7365727665722062757379",
    ),
]
STATUS = KvStatus(1, "leader", 2, Leader(1, "h:1"), 5, 4, 6, (Leader(1, "h:1"), Leader(2, "h:2")))


@pytest.mark.parametrize(("request_", "pinned"), PINNED_REQUESTS, ids=lambda value: str(value)[:60])
def test_a_request_has_the_documented_bytes(request_: KvRequest, pinned: str) -> None:
    assert kv.encode_request(request_).hex() == pinned
    assert kv.decode_request(bytes.fromhex(pinned)) == request_
    assert f"`{pinned}`" in DOCUMENT.read_text()


@pytest.mark.parametrize(("reply", "pinned"), PINNED_REPLIES, ids=lambda value: str(value)[:60])
def test_a_reply_has_the_documented_bytes(reply: KvReply, pinned: str) -> None:
    assert kv.encode_reply(reply).hex() == pinned
    assert kv.decode_reply(bytes.fromhex(pinned)) == reply
    assert f"`{pinned}`" in DOCUMENT.read_text()


def test_a_status_reply_comes_back_whole() -> None:
    reply = kv.decode_reply(kv.encode_reply(KvReply(kv.OK, status=STATUS)))
    assert reply.result == kv.OK
    assert reply.status == STATUS
    assert reply.leader == STATUS.leader


def test_a_status_reply_of_a_node_without_a_leader_says_so() -> None:
    status = STATUS._replace(role="candidate", leader=None)
    assert kv.decode_reply(kv.encode_reply(KvReply(kv.OK, status=status))).status == status


@pytest.mark.parametrize("value", ["", "text", "ü" * 100, b"", b"\x00\xff"])
def test_text_stays_text_and_bytes_stay_bytes(value: str | bytes) -> None:
    request = KvRequest(kv.PUT, "k", value)
    assert kv.decode_request(kv.encode_request(request)) == request
    assert kv.decode_reply(kv.encode_reply(KvReply(kv.OK, value, 1))).value == value


BAD_REQUESTS = [
    ({"op": "frobnicate", "key": "k"}, "unknown operation"),
    ({"key": "k"}, "unknown operation"),
    ({"op": 7, "key": "k"}, "unknown operation"),
    ({"op": "get"}, "key must not be empty"),
    ({"op": "get", "key": b"k"}, "key must be text"),
    ({"op": "get", "key": "k" * 257}, "key longer than 256 bytes"),
    ({"op": "get", "key": "ü" * 129}, "key longer than 256 bytes"),
    ({"op": "put", "key": "k"}, "value must be text or bytes"),
    ({"op": "put", "key": "k", "value": 7}, "value must be text or bytes"),
    ({"op": "put", "key": "k", "value": "v" * 65537}, "value longer than 65536 bytes"),
    ({"op": "append", "key": "k", "value": b"v" * 65537}, "value longer than 65536 bytes"),
    ({"op": "put", "key": "k", "value": "ü" * 32769}, "value longer than 65536 bytes"),
    ({"op": "cas", "key": "k", "value": "v", "expect": 1}, "expect must be text, bytes or nil"),
    ({"op": "cas", "key": "k", "value": "v", "expect": "v" * 65537}, "expect longer than 65536 bytes"),
    (
        {"op": "put", "key": "k", "value": "v", "client_id": 1},
        "seq must be an unsigned 64-bit integer",
    ),
    (
        {"op": "put", "key": "k", "value": "v", "seq": 1},
        "client_id must be an unsigned 64-bit integer",
    ),
    (
        {"op": "put", "key": "k", "value": "v", "client_id": True, "seq": 1},
        "client_id must be an unsigned 64-bit integer",
    ),
    (
        {"op": "delete", "key": "k", "client_id": 1, "seq": -1},
        "seq must be an unsigned 64-bit integer",
    ),
    ({"op": "get", "key": "k", "stale": 1}, "stale must be true or false"),
]


@pytest.mark.parametrize(("fields", "reason"), BAD_REQUESTS, ids=lambda value: str(value)[:60])
def test_a_bad_request_is_refused_in_words(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        kv.decode_request(msgpack.packb(fields))
    assert caught.value.reason == reason


def test_keys_and_values_at_the_limit_pass() -> None:
    for request in (
        KvRequest(kv.PUT, "k" * 256, "v" * 65536),
        KvRequest(kv.PUT, "ü" * 128, b"v" * 65536),
        KvRequest(kv.CAS, "k", "ü" * 32768, expect="v" * 65536),
    ):
        assert kv.decode_request(kv.encode_request(request)) == request


def test_our_own_bad_request_is_our_fault_and_not_theirs() -> None:
    with pytest.raises(LocalProtocolError, match="key longer than 256 bytes"):
        kv.encode_request(KvRequest(kv.GET, "k" * 257))
    with pytest.raises(LocalProtocolError, match="UTF-8"):
        kv.encode_request(KvRequest(kv.PUT, "k", "\ud800"))


BAD_REPLIES: list[object] = [
    [],
    {},
    {"result": "MAYBE"},
    {"result": "OK", "value": 7},
    {"result": "OK", "version": -1},
    {"result": "OK", "version": "2"},
    {"result": "ERROR", "error": 7},
    {"result": "OK", "replayed": 1},
    {"result": "NOT_LEADER", "leader": 3},
    {"result": "NOT_LEADER", "leader": {"id": "3", "address": "a:1"}},
    {"result": "OK", "role": "leader"},
    {
        "result": "OK",
        "role": 1,
        "id": 1,
        "term": 1,
        "commit_index": 1,
        "applied_index": 1,
        "last_log_index": 1,
    },
]


@pytest.mark.parametrize("fields", BAD_REPLIES, ids=str)
def test_a_malformed_reply_is_refused(fields: object) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        kv.decode_reply(msgpack.packb(fields))
    assert caught.value.reason == "malformed reply"


msgpack_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
fields_like_ours = st.dictionaries(
    st.sampled_from(
        ["op", "key", "value", "expect", "client_id", "seq", "stale", "result", "leader", "role", "members"]
    ),
    msgpack_values | st.sampled_from(sorted(kv.OPERATIONS | kv.RESULTS)),
)


@settings(deadline=None)
@given(st.binary(max_size=200) | (fields_like_ours | msgpack_values).map(msgpack.packb))
def test_garbage_gives_a_message_or_a_remote_error_and_nothing_else(data: bytes) -> None:
    for decode in (kv.decode_request, kv.decode_reply):
        with contextlib.suppress(RemoteProtocolError):
            decode(data)


@settings(deadline=None)
@given(
    st.builds(
        KvRequest,
        st.sampled_from(sorted(kv.WRITES - {kv.CAS, kv.DELETE})),
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
        st.text(st.characters(exclude_categories=["Cs"])) | st.binary(),
        st.none(),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
    )
)
def test_every_write_survives_the_wire(request: KvRequest) -> None:
    assert kv.decode_request(kv.encode_request(request)) == request


def test_nesting_bombs_are_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        kv.decode_request(b"\x91" * 100_000)


def wire_of(replies: list[tuple[int, KvReply]]) -> bytes:
    server = EnvelopeCodec()
    return b"".join(
        server.encode(request_id, kv.encode_reply(reply), msg_type=MsgType.KV) for request_id, reply in replies
    )


REPLIES = [
    (7, KvReply(kv.OK, version=2)),
    (2**64 - 1, KvReply(kv.NOT_LEADER, leader=N3)),
    (9, KvReply(kv.OK, "x")),
]


def test_the_client_codec_reads_replies_split_at_every_byte() -> None:
    wire = wire_of(REPLIES)
    for cut in range(len(wire) + 1):
        codec = KvCodec()
        assert codec.receive_data(wire[:cut]) + codec.receive_data(wire[cut:]) == REPLIES
        assert codec.error is None


def test_the_client_codec_sends_what_a_server_reads() -> None:
    request = KvRequest(kv.PUT, "k", "v", client_id=1, seq=1)
    [envelope] = EnvelopeCodec().receive_data(KvCodec().encode(42, request))
    assert (envelope.msg_type, envelope.request_id) == (MsgType.KV, 42)
    assert kv.decode_request(envelope.payload) == request


def test_replies_before_a_malformed_one_are_delivered_and_the_rest_is_not() -> None:
    broken = EnvelopeCodec().encode(8, b"\xc1", msg_type=MsgType.KV)
    codec = KvCodec()
    assert codec.receive_data(wire_of(REPLIES[:1]) + broken + wire_of(REPLIES[1:])) == REPLIES[:1]
    assert codec.error is not None
    assert codec.error.reason == "malformed reply"
    assert codec.receive_data(wire_of(REPLIES)) == []


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (EnvelopeCodec().encode(1, b"\x80", msg_type=MsgType.KV, version=2), "wrong version"),
        (EnvelopeCodec().encode(1, b"\x80", msg_type=MsgType.ECHO), "wrong message type"),
    ],
)
def test_an_envelope_that_is_no_reply_sets_the_error(wire: bytes, reason: str) -> None:
    codec = KvCodec()
    assert codec.receive_data(wire) == []
    assert codec.error is not None
    assert codec.error.reason == reason


def test_an_error_envelope_is_a_definite_refusal() -> None:
    def reply_to(text: bytes) -> list[tuple[int, KvReply]]:
        return KvCodec().receive_data(EnvelopeCodec().encode(5, text, msg_type=MsgType.ERROR))

    assert reply_to(b"server busy") == [(5, KvReply(kv.BUSY, error="server busy"))]
    assert reply_to(b"server at capacity") == [(5, KvReply(kv.ERROR, error="server at capacity"))]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_the_client_codec_never_raises_on_garbage(data: bytes) -> None:
    codec = KvCodec()
    codec.receive_data(data)
    codec.receive_data(data)
