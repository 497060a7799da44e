"""Peer messages survive the wire unchanged, are pinned byte by byte, and garbage is one clear error."""

import contextlib

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import RemoteProtocolError
from protocols.raft_messages import (
    KINDS,
    MAX_INTEGER,
    NONCE_BYTES,
    PEER_VERSION,
    Append,
    AppendReply,
    Entry,
    Heartbeat,
    HeartbeatReply,
    MessageEncoder,
    PeerHello,
    PeerProof,
    ReadReply,
    ReadRequest,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
    decode_hello,
    decode_message,
    decode_proof,
    encode_hello,
    encode_message,
    encode_proof,
    prove,
    verify,
)

# The layout of docs/protocols/raft.md. A change here breaks rolling upgrades.
PINNED = [
    (VoteRequest(1, 2, 7, 9, 6, True, False), "98010102070906c3c2"),
    (VoteReply(2, 1, 7, True, True), "9602020107c3c3"),
    (
        Append(1, 2, 7, 9, 6, 8, [Entry(10, 7, b"put"), Entry(11, 7, b"")]),
        "98030102070906089293 0a 07 c403 707574 93 0b 07 c400",
    ),
    (AppendReply(2, 1, 7, True, 11, 0, 0), "9804020107c30b0000"),
    (AppendReply(2, 1, 7, False, 9, 4, 3), "9804020107c2090403"),
    (Heartbeat(1, 2, 7, 9, 300), "96050102 07 09 cd012c"),
    (HeartbeatReply(2, 1, 7, 300), "95060201 07 cd012c"),
    (SnapshotChunk(1, 2, 7, 100, 6, 5, 2, b"abc"), "990701020764060502c403616263"),
    (SnapshotReply(2, 1, 7, 100, 5), "96080201076405"),
    (ReadRequest(2, 1, 7, 2**60), "9509020107cf1000000000000000"),
    (ReadReply(1, 2, 7, 3, 11, True), "970a010207030bc3"),
    (TimeoutNow(1, 2, 7), "940b010207"),
]
ALL = [message for message, _ in PINNED]

integers = st.integers(0, MAX_INTEGER)


@st.composite
def appends(draw: st.DrawFn) -> Append:
    prev = draw(st.integers(0, 2**40))
    terms = sorted(draw(st.lists(st.integers(1, 2**40), max_size=5)))
    entries = [Entry(prev + 1 + i, term, draw(st.binary(max_size=20))) for i, term in enumerate(terms)]
    return Append(draw(integers), draw(integers), draw(integers), prev, draw(integers), draw(integers), entries)


class TestMessages:
    @pytest.mark.parametrize(("message", "pinned"), PINNED, ids=lambda value: type(value).__name__)
    def test_bytes_are_pinned(self, message, pinned):
        assert encode_message(message) == bytes.fromhex(pinned)

    @pytest.mark.parametrize("message", ALL, ids=lambda value: type(value).__name__)
    def test_every_kind_comes_back_as_it_went(self, message):
        decoded = decode_message(encode_message(message))
        assert decoded == message
        assert type(decoded) is type(message)

    def test_every_kind_is_pinned(self):
        assert {type(message) for message in ALL} == set(KINDS)

    @given(appends())
    def test_appends_come_back_as_they_went(self, message):
        decoded = decode_message(encode_message(message))
        assert decoded == message
        assert all(type(entry) is Entry for entry in decoded.entries)

    def test_the_encoder_that_shares_entries_writes_the_same_bytes(self):
        encoder = MessageEncoder()
        for entries in ([Entry(i, 1, bytes(i)) for i in range(1, 40)], [], [Entry(1, 2, b"x")]):
            for to in (2, 3, 4):
                message = Append(1, to, 5, 0, 0, 0, entries)
                assert encoder.encode(message) == encode_message(message)
        assert encoder.encode(TimeoutNow(1, 2, 7)) == encode_message(TimeoutNow(1, 2, 7))


class TestRefusals:
    @pytest.mark.parametrize("message", ALL, ids=lambda value: type(value).__name__)
    def test_every_truncation_is_refused(self, message):
        encoded = encode_message(message)
        for end in range(len(encoded)):
            with pytest.raises(RemoteProtocolError):
                decode_message(encoded[:end])

    @pytest.mark.parametrize("message", ALL, ids=lambda value: type(value).__name__)
    @pytest.mark.parametrize("intruder", [None, -1, 2**63, 1.5, "x", b"x", {}, [1], [[1, 2]]])
    def test_a_field_of_another_type_is_refused(self, message, intruder):
        fields = [KINDS[type(message)], *message]
        for position in range(len(fields)):
            if type(fields[position]) is type(intruder) and type(intruder) not in {int, list}:
                continue
            wrong = [*fields[:position], intruder, *fields[position + 1 :]]
            with pytest.raises(RemoteProtocolError):
                decode_message(msgpack.packb(wrong))

    def test_a_boolean_is_not_an_integer(self):
        with pytest.raises(RemoteProtocolError):
            decode_message(msgpack.packb([11, 1, 2, True]))

    @pytest.mark.parametrize("message", ALL, ids=lambda value: type(value).__name__)
    def test_a_missing_or_extra_field_is_refused(self, message):
        fields = [KINDS[type(message)], *message]
        for wrong in (fields[:-1], [*fields, 0]):
            with pytest.raises(RemoteProtocolError, match="malformed peer message"):
                decode_message(msgpack.packb(wrong))

    @pytest.mark.parametrize(
        "entries",
        [
            [[11, 7, b""]],  # a gap after prev_index
            [[10, 7, b""], [10, 7, b""]],  # the same index twice
            [[10, 7, b""], [11, 6, b""]],  # a term that falls
            [[10, 0, b""]],  # there is no term 0
            [[10, 7, "text"]],
            [[10, 7]],
            [10],
        ],
    )
    def test_entries_that_are_no_log_are_refused(self, entries):
        with pytest.raises(RemoteProtocolError, match="malformed peer message"):
            decode_message(msgpack.packb([3, 1, 2, 7, 9, 6, 8, entries]))

    @settings(max_examples=300)
    @given(st.binary(max_size=60))
    def test_garbage_is_one_error(self, data):
        with contextlib.suppress(RemoteProtocolError):
            decode_message(data)

    @pytest.mark.parametrize(
        "data", [b"\x91" * 5000, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc7\x02\xff\x00\x00"]
    )
    def test_bombs_are_refused_without_memory(self, data):
        with pytest.raises(RemoteProtocolError):
            decode_message(data)


class TestHandshake:
    SECRET = b"s3cret"
    ONE = PeerHello(PEER_VERSION, "demo", 1, 2, b"1" * NONCE_BYTES)
    TWO = PeerHello(PEER_VERSION, "demo", 2, 1, b"2" * NONCE_BYTES)

    def test_hello_bytes_are_pinned(self):
        pinned = "961401a464656d6f0102c410" + "31" * 16
        assert encode_hello(self.ONE) == bytes.fromhex(pinned)
        assert decode_hello(bytes.fromhex(pinned)) == self.ONE

    def test_both_sides_believe_each_other(self):
        proof = decode_proof(encode_proof(prove(self.SECRET, self.ONE, self.TWO)))
        assert verify(self.SECRET, proof, mine=self.TWO, theirs=self.ONE)
        back = prove(self.SECRET, self.TWO, self.ONE)
        assert verify(self.SECRET, back, mine=self.ONE, theirs=self.TWO)

    def test_another_secret_is_not_believed(self):
        proof = prove(b"other", self.ONE, self.TWO)
        assert not verify(self.SECRET, proof, mine=self.TWO, theirs=self.ONE)

    def test_a_proof_cannot_be_reflected_to_its_maker(self):
        mine = prove(self.SECRET, self.ONE, self.TWO)
        assert not verify(self.SECRET, mine, mine=self.ONE, theirs=self.TWO)

    def test_a_proof_cannot_be_replayed_against_a_new_nonce(self):
        proof = prove(self.SECRET, self.ONE, self.TWO)
        again = self.TWO._replace(nonce=b"3" * NONCE_BYTES)
        assert not verify(self.SECRET, proof, mine=again, theirs=self.ONE)

    @pytest.mark.parametrize("change", [{"cluster_id": "prod"}, {"sender": 3}, {"to": 3}])
    def test_a_hello_meant_for_somebody_else_is_not_believed(self, change):
        theirs = self.ONE._replace(**change)
        proof = prove(self.SECRET, theirs, self.TWO)
        assert not verify(self.SECRET, proof, mine=self.TWO, theirs=theirs)

    @pytest.mark.parametrize(
        "change", [{"cluster_id": "x" * 129}, {"cluster_id": ""}, {"sender": 0}, {"to": -1}, {"nonce": b"short"}]
    )
    def test_a_hello_beyond_its_limits_is_refused(self, change):
        with pytest.raises(RemoteProtocolError, match="malformed peer hello"):
            decode_hello(encode_hello(self.ONE._replace(**change)))

    def test_another_version_is_refused_by_name(self):
        with pytest.raises(RemoteProtocolError, match="unsupported peer version"):
            decode_hello(encode_hello(self.ONE._replace(version=2)))

    @given(st.binary(max_size=60))
    def test_garbage_is_one_error(self, data):
        for decode in (decode_hello, decode_proof):
            with pytest.raises(RemoteProtocolError):
                decode(data)

    def test_a_short_proof_is_refused(self):
        with pytest.raises(RemoteProtocolError, match="malformed peer proof"):
            decode_proof(encode_proof(PeerProof(b"short")))
