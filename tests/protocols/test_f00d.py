"""F00D packets and both acknowledgements: layout, the five reasons, and every way of cutting them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError
from protocols.f00d import (
    BAD_ACK,
    MAX_PAYLOAD_BYTES,
    RAW_ACK,
    DecodeReason,
    FramedAckDecoder,
    Packet,
    PacketDecoder,
    RawAckDecoder,
    encode_ack,
    encode_packet,
    new_msg_id,
)
from protocols.frames import TRUNCATED
from tests.protocols.streams import assert_decodes_however_it_is_cut, assert_survives, cut, cut_places, feed

PACKET = Packet("toggle", "DEVICE123", "00000000deadbeef", True)
WIRE = (
    bytes.fromhex("f00d 01 00000054")
    + b'{"opcode":"toggle","device_id":"DEVICE123","msg_id":"00000000deadbeef","state":true}'
)

device_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
msg_ids = st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}")
packets = st.builds(Packet, st.sampled_from(["toggle", "status"]), device_ids, msg_ids, st.booleans())


def framed(payload: bytes) -> bytes:
    return bytes.fromhex("f00d01") + len(payload).to_bytes(4, "big") + payload


def reason_of(data: bytes) -> str | None:
    decoder = PacketDecoder()
    decoder.receive_data(data)
    return decoder.error.reason if decoder.error else None


def test_the_bytes_of_a_packet_are_the_ones_of_the_wire_formats():
    assert encode_packet(PACKET) == WIRE
    assert PacketDecoder().receive_data(WIRE) == [PACKET]


def test_the_bytes_of_a_framed_acknowledgement_are_pinned():
    payload = b'{"opcode":"ack","msg_id":"00000000deadbeef"}'
    assert encode_ack("00000000deadbeef") == bytes.fromhex("f00d 01 0000002c") + payload
    assert FramedAckDecoder().receive_data(encode_ack("00000000deadbeef")) == ["00000000deadbeef"]


def test_the_raw_acknowledgement_is_three_bytes():
    assert RAW_ACK.hex() == "41434b"
    assert RawAckDecoder().receive_data(b"ACKACK") == [RAW_ACK, RAW_ACK]


def test_the_reasons_are_the_labels_of_the_metric():
    assert list(DecodeReason) == ["bad_magic", "bad_version", "bad_length", "bad_json", "bad_fields"]


def test_the_seeds_own_example_is_accepted():
    example = b'{\n  "opcode": "toggle",\n  "device_id": "DEVICE123",\n  "msg_id": "abc123def456",\n  "state": true\n}'
    assert PacketDecoder().receive_data(framed(example)) == [Packet("toggle", "DEVICE123", "abc123def456", True)]


def test_unknown_fields_are_ignored():
    more = b'{"opcode":"toggle","device_id":"D","msg_id":"ff","state":false,"firmware":[1,{"a":2}]}'
    assert PacketDecoder().receive_data(framed(more)) == [Packet("toggle", "D", "ff", False)]


def test_a_message_id_is_sixteen_hex_digits_of_the_given_randomness():
    ids = {new_msg_id(random.Random(seed)) for seed in range(50)}
    assert len(ids) == 50
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in ids)
    assert new_msg_id(random.Random(7)) == new_msg_id(random.Random(7))


def test_packets_decode_the_same_however_they_are_cut():
    other = PACKET._replace(device_id="Gerät", state=False)
    assert_decodes_however_it_is_cut(PacketDecoder, WIRE + encode_packet(other), [PACKET, other])


def test_framed_acknowledgements_decode_the_same_however_they_are_cut():
    assert_decodes_however_it_is_cut(FramedAckDecoder, encode_ack("0f") + encode_ack("10"), ["0f", "10"])


def test_raw_acknowledgements_decode_the_same_however_they_are_cut():
    assert_decodes_however_it_is_cut(RawAckDecoder, b"ACKACKACK", [RAW_ACK] * 3)


FAULTS = [
    (b"ACK", DecodeReason.BAD_MAGIC),
    (b"\xf0\x0e", DecodeReason.BAD_MAGIC),
    (b"\x0d\xf0", DecodeReason.BAD_MAGIC),
    (b"\xf0\x0d\x02", DecodeReason.BAD_VERSION),
    (b"\xf0\x0d\x00" + WIRE[3:], DecodeReason.BAD_VERSION),
    (b"\xf0\x0d\x01\x00\x00\x00\x00", DecodeReason.BAD_LENGTH),
    (b"\xf0\x0d\x01\x00\x01\x00\x01", DecodeReason.BAD_LENGTH),
    (b"\xf0\x0d\x01\xff\xff\xff\xff", DecodeReason.BAD_LENGTH),
    (framed(b"{"), DecodeReason.BAD_JSON),
    (framed(b"\xff\xfe"), DecodeReason.BAD_JSON),
    (framed(b"[]"), DecodeReason.BAD_JSON),
    (framed(b"17"), DecodeReason.BAD_JSON),
    (framed(b'{"opcode":"\\ud800"}'), DecodeReason.BAD_JSON),
    (framed(b'{"a":NaN}'), DecodeReason.BAD_JSON),
    (framed(b"[" * 60_000), DecodeReason.BAD_JSON),
    (framed(b'{"a":' + b"[" * 200 + b"]" * 200 + b"}"), DecodeReason.BAD_JSON),
    (framed(b'{"a":' + b"9" * 60_000 + b"}"), DecodeReason.BAD_JSON),
    (framed(b"{}"), DecodeReason.BAD_FIELDS),
    (framed(b'{"opcode":1,"device_id":"D","msg_id":"ff","state":true}'), DecodeReason.BAD_FIELDS),
    (framed(b'{"opcode":"toggle","device_id":"","msg_id":"ff","state":true}'), DecodeReason.BAD_FIELDS),
    (framed(b'{"opcode":"toggle","device_id":"D","msg_id":"xyz","state":true}'), DecodeReason.BAD_FIELDS),
    (framed(b'{"opcode":"toggle","device_id":"D","msg_id":255,"state":true}'), DecodeReason.BAD_FIELDS),
    (framed(b'{"opcode":"toggle","device_id":"D","msg_id":"ff","state":1}'), DecodeReason.BAD_FIELDS),
    (framed(b'{"opcode":"toggle","device_id":"D","msg_id":"ff"}'), DecodeReason.BAD_FIELDS),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_every_fault_has_its_reason(fault: bytes, reason: DecodeReason):
    assert reason_of(fault) == reason


@pytest.mark.parametrize(("fault", "reason"), [pair for pair in FAULTS if len(pair[0]) < 100])
def test_good_packets_before_the_fault_are_still_delivered(fault: bytes, reason: DecodeReason):
    assert_decodes_however_it_is_cut(PacketDecoder, WIRE + fault, [PACKET], reason)


def test_the_first_wrong_byte_is_enough():
    assert reason_of(b"\xf1") == DecodeReason.BAD_MAGIC
    assert reason_of(b"\xf0") is None


def test_the_largest_payload_is_accepted():
    fields = b'{"opcode":"toggle","device_id":"D","msg_id":"ff","state":true,"pad":"'
    payload = fields + b"x" * (MAX_PAYLOAD_BYTES - len(fields) - 2) + b'"}'
    assert len(PacketDecoder().receive_data(framed(payload))) == 1
    assert reason_of(framed(payload + b" ")) == DecodeReason.BAD_LENGTH


@pytest.mark.parametrize(
    "ack",
    [b'{"opcode":"toggle","msg_id":"ff"}', b'{"opcode":"ack"}', b'{"opcode":"ack","msg_id":""}', b'{"msg_id":"ff"}'],
)
def test_an_acknowledgement_that_is_none_has_bad_fields(ack: bytes):
    assert_decodes_however_it_is_cut(FramedAckDecoder, encode_ack("1") + framed(ack), ["1"], DecodeReason.BAD_FIELDS)


@pytest.mark.parametrize("reply", [b"NAK", b"AxK", b"ACk", b"ACKN", b"ACK\n"])
def test_a_raw_reply_that_is_not_exactly_ack_is_an_error(reply: bytes):
    expected = [RAW_ACK] if reply.startswith(RAW_ACK) else []
    assert_decodes_however_it_is_cut(RawAckDecoder, reply, expected, BAD_ACK)


def test_any_reply_counts_where_the_original_client_would_count_it():
    decoder = RawAckDecoder(accept_any=True)
    assert decoder.receive_data(b"OK!") == [b"OK!"]
    assert decoder.receive_data(b"") == []
    assert decoder.error is None


@pytest.mark.parametrize(
    ("decoder", "start"),
    [(PacketDecoder(), WIRE[:-1]), (FramedAckDecoder(), b"\xf0"), (RawAckDecoder(), b"AC")],
)
def test_a_stream_that_ends_inside_a_message_is_an_error(decoder: PacketDecoder, start: bytes):
    assert decoder.receive_data(start) == []
    decoder.receive_eof()
    assert decoder.error is not None
    assert decoder.error.reason == TRUNCATED


@pytest.mark.parametrize(
    "packet",
    [
        PACKET._replace(opcode=""),
        PACKET._replace(device_id="x" * 257),
        PACKET._replace(msg_id="not hex"),
        PACKET._replace(msg_id="0" * 65),
        PACKET._replace(state=1),  # type: ignore[arg-type]
        PACKET._replace(device_id="\ud800"),
    ],
)
def test_a_packet_that_the_device_would_refuse_is_our_own_error(packet: Packet):
    with pytest.raises(LocalProtocolError):
        encode_packet(packet)


def test_an_acknowledgement_of_nothing_is_our_own_error():
    with pytest.raises(LocalProtocolError, match="msg_id"):
        encode_ack("")


def test_a_packet_above_the_limit_is_our_own_error():
    with pytest.raises(LocalProtocolError, match="exceeds the limit of 20"):
        encode_packet(PACKET, max_payload_bytes=20)


@given(st.lists(packets, max_size=6), cut_places)
def test_every_packet_comes_back_however_it_is_cut(wanted: list[Packet], places: list[int]):
    decoder = PacketDecoder()
    assert feed(decoder, cut(b"".join(map(encode_packet, wanted)), places)) == wanted
    assert decoder.error is None
    assert decoder.pending_bytes == 0


@given(
    st.sampled_from([PacketDecoder, FramedAckDecoder]),
    st.lists(st.binary(max_size=60) | st.binary(max_size=60).map(framed) | packets.map(encode_packet), max_size=8),
)
def test_garbage_never_raises_nor_grows_memory(decoder: type[PacketDecoder], chunks: list[bytes]):
    assert_survives(decoder(max_payload_bytes=100), chunks, most_kept_bytes=107)


@given(st.lists(st.text("ACKx", max_size=8).map(str.encode)))
def test_garbage_for_raw_acknowledgements_never_raises_nor_grows_memory(chunks: list[bytes]):
    assert_survives(RawAckDecoder(), chunks, most_kept_bytes=2)
