"""Length-prefixed frames: layout, limits, and every way of cutting them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError
from protocols.frames import FRAME_TOO_LARGE, MAX_FRAME_BYTES, TRUNCATED, FrameDecoder, encode_frame
from tests.protocols.streams import assert_decodes_however_it_is_cut, assert_survives, cut, cut_places, feed


def test_the_limit_is_the_one_of_the_wire_formats():
    assert MAX_FRAME_BYTES == 1_048_576


@pytest.mark.parametrize(
    ("payload", "wire"),
    [(b"", "00000000"), (b"hi", "000000026869"), (b"\x00\xff", "0000000200ff")],
)
def test_a_frame_is_its_big_endian_length_and_its_bytes(payload: bytes, wire: str):
    assert encode_frame(payload).hex() == wire
    assert FrameDecoder().receive_data(bytes.fromhex(wire)) == [payload]


def test_frames_decode_the_same_however_they_are_cut():
    data = encode_frame(b"first") + encode_frame(b"") + encode_frame(b"x" * 300)
    assert_decodes_however_it_is_cut(FrameDecoder, data, [b"first", b"", b"x" * 300])


def test_good_frames_before_an_oversize_one_are_still_delivered():
    data = encode_frame(b"good") + b"\x00\x10\x00\x01rest"
    assert_decodes_however_it_is_cut(FrameDecoder, data, [b"good"], FRAME_TOO_LARGE)


def test_an_oversize_frame_is_refused_before_any_of_its_body():
    decoder = FrameDecoder()
    decoder.receive_data(b"\xff\xff\xff\xff")
    assert str(decoder.error) == "frame too large: 4294967295 bytes announced, the limit is 1048576"
    assert decoder.pending_bytes == 0


def test_a_frame_of_exactly_the_limit_is_accepted_and_one_byte_more_is_not():
    whole = encode_frame(b"x" * 10, max_frame_bytes=10)
    assert FrameDecoder(max_frame_bytes=10).receive_data(whole) == [b"x" * 10]
    decoder = FrameDecoder(max_frame_bytes=9)
    assert decoder.receive_data(whole) == []
    assert decoder.error is not None


def test_the_largest_frame_goes_through_in_small_pieces():
    payload = bytes(range(256)) * (MAX_FRAME_BYTES // 256)
    wire = encode_frame(payload)
    pieces = [wire[i : i + 4096] for i in range(0, len(wire), 4096)]
    assert feed(FrameDecoder(), pieces) == [payload]


def test_sending_more_than_the_limit_is_our_own_error():
    with pytest.raises(LocalProtocolError, match="1048577 bytes exceeds the limit of 1048576"):
        encode_frame(b"x" * (MAX_FRAME_BYTES + 1))


def test_a_stream_that_ends_inside_a_frame_is_an_error():
    decoder = FrameDecoder()
    assert decoder.receive_data(encode_frame(b"whole") + b"\x00\x00") == [b"whole"]
    decoder.receive_eof()
    assert str(decoder.error) == f"{TRUNCATED}: 2 bytes of it had arrived"


def test_a_stream_that_ends_between_frames_is_none():
    decoder = FrameDecoder()
    decoder.receive_data(encode_frame(b"whole"))
    decoder.receive_eof()
    assert decoder.error is None


def test_a_buffer_that_its_owner_reuses_does_not_change_what_was_decoded():
    buffer = bytearray(encode_frame(b"first"))
    frames = FrameDecoder().receive_data(memoryview(buffer))  # type: ignore[arg-type]
    buffer[:] = bytes(len(buffer))
    assert frames == [b"first"]


@given(st.lists(st.binary(max_size=50)), cut_places)
def test_whatever_is_framed_comes_back_however_it_is_cut(payloads: list[bytes], places: list[int]):
    wire = b"".join(encode_frame(payload) for payload in payloads)
    decoder = FrameDecoder()
    assert feed(decoder, cut(wire, places)) == payloads
    assert decoder.error is None
    assert decoder.pending_bytes == 0


@given(st.lists(st.binary(max_size=100)))
def test_garbage_never_raises_nor_grows_memory(chunks: list[bytes]):
    # A small limit, so that garbage has a chance of announcing something within it.
    assert_survives(FrameDecoder(max_frame_bytes=64), chunks, most_kept_bytes=64 + 4)
