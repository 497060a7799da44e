"""The envelope in both codecs: layout, refusals, and the fast path against the plain one."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.envelope import (
    BAD_MSGPACK,
    ENVELOPE_TOO_SHORT,
    LENGTH_MISMATCH,
    MAX_PAYLOAD_BYTES,
    PAYLOAD_TOO_LARGE,
    Codec,
    Envelope,
    EnvelopeCodec,
    MsgType,
    codec_of,
    decode_envelope,
    encode_envelope,
)
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.frames import FRAME_TOO_LARGE, MAX_FRAME_BYTES, TRUNCATED, FrameDecoder, encode_frame
from tests.protocols.streams import assert_decodes_however_it_is_cut, assert_survives, cut, cut_places, feed

U8 = st.integers(0, 0xFF)
U64 = st.integers(0, 0xFFFF_FFFF_FFFF_FFFF)
envelopes = st.builds(Envelope, U8, U8, U64, U64, st.binary(max_size=300))
# 0x95 in front is msgpack's mark: no binary envelope has that version.
binary_envelopes = envelopes.filter(lambda envelope: envelope.version != 0x95)
codecs = pytest.mark.parametrize("codec", ["binary", "msgpack"])

HELLO = Envelope(1, MsgType.ECHO, 0x0102030405060708, 0x1112131415161718, b"hi")
BINARY_HEX = "01 00 0102030405060708 1112131415161718 00000002 6869"
MSGPACK_HEX = "95 01 00 cf0102030405060708 cf1112131415161718 c4026869"


def refused(data: bytes) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_envelope(data)
    return caught.value.reason


@pytest.mark.parametrize(("codec", "wire"), [("binary", BINARY_HEX), ("msgpack", MSGPACK_HEX)])
def test_the_bytes_are_the_ones_of_the_wire_formats(codec: Codec, wire: str):
    assert encode_envelope(HELLO, codec) == bytes.fromhex(wire)
    assert decode_envelope(bytes.fromhex(wire)) == HELLO
    assert codec_of(bytes.fromhex(wire)) == codec


def test_the_message_types_are_the_ones_of_the_wire_formats():
    assert [(kind.name, kind.value) for kind in MsgType] == [("ECHO", 0), ("LOG", 1), ("ERROR", 2), ("KV", 3)]


@codecs
def test_a_wrong_version_is_a_message_and_not_a_fault(codec: Codec):
    wire = encode_envelope(HELLO._replace(version=2), codec)
    assert decode_envelope(wire).version == 2


@codecs
def test_an_unknown_message_type_is_a_message_and_not_a_fault(codec: Codec):
    assert decode_envelope(encode_envelope(HELLO._replace(msg_type=200), codec)).msg_type == 200


@pytest.mark.parametrize("length", [0, 1, 21])
def test_less_than_a_header_is_too_short(length: int):
    assert refused(bytes.fromhex(BINARY_HEX)[:length]) == ENVELOPE_TOO_SHORT


def test_a_payload_that_is_longer_or_shorter_than_announced_is_refused():
    wire = bytes.fromhex(BINARY_HEX)
    assert refused(wire + b"!") == LENGTH_MISMATCH
    assert refused(wire[:-1]) == LENGTH_MISMATCH


def test_a_payload_above_one_mebibyte_is_refused_by_its_announcement():
    wire = bytes.fromhex(BINARY_HEX)
    assert refused(wire[:18] + (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "big") + b"hi") == PAYLOAD_TOO_LARGE


@pytest.mark.parametrize(
    "fields",
    [
        [1, 0, 7, 0],  # an array of four has another first byte: binary, and too short
        [1, 0, 7, 0, "text"],
        [1, 0, 7, 0, None],
        [True, 0, 7, 0, b""],
        [1, 256, 7, 0, b""],
        [-1, 0, 7, 0, b""],
        [1, 0, -7, 0, b""],
        [1, 0, 7.0, 0, b""],
        [1, 0, 7, None, b""],
        [1, 0, 7, [0], b""],
        [1, 0, 7, {"a": 1}, b""],
        [1, 0, 7, 0, msgpack.ExtType(1, b"x")],
    ],
)
def test_msgpack_of_another_shape_is_refused(fields: list[object]):
    reason = refused(msgpack.packb(fields))
    assert reason == (BAD_MSGPACK if len(fields) == 5 else ENVELOPE_TOO_SHORT)


@pytest.mark.parametrize(
    "wire",
    ["95", "9501", MSGPACK_HEX + "00", MSGPACK_HEX[:-2], "95 c1 00 07 00 c400", "95 01 00 07 00 c6ffffffff"],
)
def test_broken_msgpack_is_refused(wire: str):
    assert refused(bytes.fromhex(wire)) == BAD_MSGPACK


def test_a_msgpack_depth_bomb_is_refused():
    assert refused(b"\x95" + b"\x91" * 100_000) == BAD_MSGPACK
    assert refused(b"\x95" * 100_000) == BAD_MSGPACK


@codecs
@pytest.mark.parametrize("field", ["version", "msg_type", "request_id", "timestamp_ms"])
@pytest.mark.parametrize("value", [-1, 1 << 64, 1.5])
def test_a_number_that_does_not_fit_is_our_own_error(codec: Codec, field: str, value: float):
    with pytest.raises(LocalProtocolError, match="out of range"):
        encode_envelope(HELLO._replace(**{field: value}), codec)
    with pytest.raises(LocalProtocolError, match="out of range"):
        EnvelopeCodec(codec).encode(**{"request_id": 1, "payload": b""} | {field: value})  # type: ignore[arg-type]


@codecs
def test_a_payload_above_the_limit_is_our_own_error(codec: Codec):
    with pytest.raises(LocalProtocolError, match="exceeds the limit"):
        encode_envelope(HELLO._replace(payload=b"x" * (MAX_PAYLOAD_BYTES + 1)), codec)
    with pytest.raises(LocalProtocolError, match="exceeds the"):
        EnvelopeCodec(codec).encode(1, b"x" * MAX_PAYLOAD_BYTES)  # with its header it exceeds the frame


def test_a_text_as_payload_is_our_own_error():
    with pytest.raises(LocalProtocolError, match="is bytes, not str"):
        EnvelopeCodec("msgpack").encode(1, "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        EnvelopeCodec("binary").encode(1, "text")  # type: ignore[arg-type]


def test_an_unknown_codec_is_our_own_error():
    with pytest.raises(LocalProtocolError, match="choose one of binary, msgpack"):
        EnvelopeCodec("json")  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="choose one of binary, msgpack"):
        encode_envelope(HELLO, "json")  # type: ignore[arg-type]


@given(binary_envelopes, st.sampled_from(["binary", "msgpack"]))
def test_every_envelope_comes_back(envelope: Envelope, codec: Codec):
    assert decode_envelope(encode_envelope(envelope, codec)) == envelope


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"\x95" + tail))
def test_garbage_is_an_envelope_or_one_clear_error(data: bytes):
    reasons = {ENVELOPE_TOO_SHORT, LENGTH_MISMATCH, PAYLOAD_TOO_LARGE, BAD_MSGPACK}
    try:
        assert all(0 <= field <= 0xFFFF_FFFF_FFFF_FFFF for field in decode_envelope(data)[:4])
    except RemoteProtocolError as error:
        reasons.remove(error.reason)  # KeyError for an error of another kind


# --- EnvelopeCodec: framed, many at a time ----------------------------------------------------------------


@codecs
def test_what_the_codec_sends_is_a_framed_envelope(codec: Codec):
    wire = EnvelopeCodec(codec).encode(HELLO.request_id, HELLO.payload, timestamp_ms=HELLO.timestamp_ms)
    assert wire == encode_frame(encode_envelope(HELLO, codec))


def test_envelopes_of_both_codecs_decode_the_same_however_they_are_cut():
    wanted = [HELLO, HELLO._replace(request_id=9, payload=b""), HELLO._replace(version=2)]
    kinds: list[Codec] = ["binary", "msgpack", "binary"]
    frames = [encode_frame(encode_envelope(e, codec)) for e, codec in zip(wanted, kinds, strict=True)]
    assert_decodes_however_it_is_cut(EnvelopeCodec, b"".join(frames), wanted)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (encode_frame(b""), ENVELOPE_TOO_SHORT),
        (encode_frame(b"\x01" * 21), ENVELOPE_TOO_SHORT),
        (encode_frame(bytes.fromhex(BINARY_HEX) + b"!"), LENGTH_MISMATCH),
        (encode_frame(bytes.fromhex(BINARY_HEX)[:18] + b"\xff\xff\xff\xffhi"), PAYLOAD_TOO_LARGE),
        (encode_frame(b"\x95\xc1" + bytes(30)), BAD_MSGPACK),
        ((MAX_FRAME_BYTES + 1).to_bytes(4, "big") + bytes(40), FRAME_TOO_LARGE),
        # A header that agrees with its frame, and both exceed the limit.
        (bytes.fromhex("00100001 01 00") + bytes(16) + (MAX_FRAME_BYTES + 1 - 22).to_bytes(4, "big"), FRAME_TOO_LARGE),
    ],
)
def test_good_envelopes_before_the_fault_are_still_delivered(fault: bytes, reason: str):
    good = encode_frame(encode_envelope(HELLO))
    assert_decodes_however_it_is_cut(EnvelopeCodec, good + fault, [HELLO], reason)


def test_a_buffer_that_its_owner_reuses_does_not_change_what_was_decoded():
    buffer = bytearray(encode_frame(encode_envelope(HELLO)))
    envelopes = EnvelopeCodec().receive_data(memoryview(buffer))  # type: ignore[arg-type]
    buffer[:] = bytes(len(buffer))
    assert envelopes == [HELLO]


def test_a_stream_that_ends_inside_an_envelope_is_an_error():
    codec = EnvelopeCodec()
    codec.receive_data(codec.encode(1, b"payload")[:-1])
    codec.receive_eof()
    assert codec.error is not None
    assert codec.error.reason == TRUNCATED


def test_the_largest_envelope_of_the_default_frame_goes_through():
    codec = EnvelopeCodec()
    payload = b"x" * (MAX_FRAME_BYTES - 22)
    wire = codec.encode(1, payload)
    pieces = [wire[i : i + 65_536] for i in range(0, len(wire), 65_536)]
    assert feed(codec, pieces) == [Envelope(1, 0, 1, 0, payload)]


@given(st.lists(st.tuples(binary_envelopes, st.sampled_from(["binary", "msgpack"])), max_size=8), cut_places)
def test_every_stream_of_envelopes_comes_back(items: list[tuple[Envelope, Codec]], places: list[int]):
    wire = b"".join(encode_frame(encode_envelope(envelope, codec)) for envelope, codec in items)
    codec = EnvelopeCodec()
    assert feed(codec, cut(wire, places)) == [envelope for envelope, _ in items]
    assert codec.error is None
    assert codec.pending_bytes == 0


def plainly(wire: bytes, max_frame_bytes: int) -> tuple[list[Envelope], str | None]:
    """What EnvelopeCodec must do, said without its fast path."""
    decoder = FrameDecoder(max_frame_bytes)
    envelopes: list[Envelope] = []
    for frame in decoder.receive_data(wire):
        try:
            envelopes.append(decode_envelope(frame))
        except RemoteProtocolError as error:
            return envelopes, error.reason
    return envelopes, decoder.error.reason if decoder.error else None


pieces_of_streams = st.one_of(
    st.binary(max_size=40),
    envelopes.map(lambda e: encode_frame(encode_envelope(e))),
    envelopes.map(lambda e: encode_frame(encode_envelope(e, "msgpack"))),
    st.binary(max_size=40).map(encode_frame),
    # A frame that disagrees with the header inside it.
    st.builds(lambda e, n: n.to_bytes(4, "big") + encode_envelope(e), envelopes, st.integers(0, 400)),
)


@given(st.lists(pieces_of_streams, max_size=6).map(b"".join), cut_places)
def test_the_fast_path_decides_as_the_plain_one_does(wire: bytes, places: list[int]):
    codec = EnvelopeCodec(max_frame_bytes=200)
    got = feed(codec, cut(wire, places))
    assert (got, codec.error.reason if codec.error else None) == plainly(wire, 200)


@given(st.lists(pieces_of_streams, max_size=8))
def test_garbage_never_raises_nor_grows_memory(chunks: list[bytes]):
    assert_survives(EnvelopeCodec(max_frame_bytes=200), chunks, most_kept_bytes=204)
