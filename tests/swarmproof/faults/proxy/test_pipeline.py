"""Bytes through toxics, without sockets and clocks."""

import random

from hypothesis import given
from hypothesis import strategies as st

from protocols.frames import FrameDecoder, encode_frame
from swarmproof.faults.proxy.pipeline import Exchange, FrameTracker, Pipeline
from swarmproof.faults.proxy.toxics import parse_toxics

LATER_S = 1000.0


def pipeline(*toxics: str, exchange: Exchange | None = None, seed: int = 1) -> Pipeline:
    return Pipeline(parse_toxics(toxics), random.Random(seed), exchange or Exchange(), skip_bytes=0)


def everything(pipe: Pipeline, now_s: float = LATER_S) -> bytes:
    data = b""
    while part := pipe.ready(now_s):
        data += part
    return data


def frames_of(data: bytes) -> list[bytes]:
    return FrameDecoder().receive_data(data)


def test_latency_holds_bytes_back_and_keeps_their_order() -> None:
    pipe = pipeline("latency=50ms±40ms")
    for number in range(20):
        pipe.feed(bytes([number]), 1.0)
    assert pipe.ready(1.009) == b""
    due_s = pipe.next_due_s()
    assert due_s is not None
    assert 1.01 <= due_s <= 1.09
    assert everything(pipe, 1.091) == bytes(range(20))
    assert pipe.next_due_s() is None


def test_jitter_differs_with_the_seed_only() -> None:
    dues = []
    for seed in (1, 1, 2):
        pipe = pipeline("latency=50ms±40ms", seed=seed)
        pipe.feed(b"x", 0.0)
        dues.append(pipe.next_due_s())
    assert dues[0] == dues[1] != dues[2]


def test_bandwidth_spreads_bytes_over_time() -> None:
    pipe = pipeline("bandwidth=1000/s")
    pipe.feed(bytes(500), 0.0)
    assert 200 <= len(everything(pipe, 0.25)) <= 260
    assert len(everything(pipe, 0.51)) >= 240
    assert pipe.held_bytes == 0


def test_a_slicer_lets_pieces_out_one_by_one() -> None:
    pipe = pipeline("slicer=4/10ms")
    pipe.feed(b"abcdefghij", 0.0)
    assert [pipe.ready(at_s) for at_s in (0.0, 0.005, 0.011, 0.021)] == [b"abcd", b"", b"efgh", b"ij"]


def test_limit_data_ends_the_stream_after_so_many_bytes() -> None:
    pipe = pipeline("limit_data=10")
    pipe.feed(b"123456", 0.0)
    assert not pipe.ended
    pipe.feed(b"789abcdef", 0.0)
    assert everything(pipe) == b"123456789a"
    assert pipe.ended
    assert pipe.lost_bytes == 5


def test_corrupt_flips_one_bit_of_a_piece() -> None:
    pipe = pipeline("corrupt=100%")
    sent = bytes(3000)
    pipe.feed(sent, 0.0)
    got = everything(pipe)
    assert len(got) == len(sent)
    assert sum(byte.bit_count() for byte in got) == pipe.changed == 3


def test_duplicate_repeats_whole_frames() -> None:
    pipe = pipeline("duplicate=100%")
    stream = encode_frame(b"one") + encode_frame(b"two")
    for byte in stream:  # frames are put together however they arrive
        pipe.feed(bytes([byte]), 0.0)
    assert frames_of(everything(pipe)) == [b"one", b"one", b"two", b"two"]


def test_reorder_changes_neighbours_and_the_last_one_does_not_wait_for_ever() -> None:
    pipe = pipeline("reorder=100%")
    for word in (b"one", b"two", b"three"):
        pipe.feed(encode_frame(word), 0.0)
    assert frames_of(pipe.ready(0.0)) == [b"two", b"one"]
    assert frames_of(everything(pipe)) == [b"three"]


def test_swap_gives_a_frame_to_another_stream() -> None:
    exchange = Exchange()
    first, second = pipeline("swap=100%", exchange=exchange), pipeline("swap=100%", exchange=exchange)
    first.feed(encode_frame(b"for first"), 0.0)
    assert first.ready(0.0) == b""
    second.feed(encode_frame(b"for second"), 0.0)
    assert frames_of(first.ready(0.0)) == [b"for second"]
    assert frames_of(second.ready(0.0)) == [b"for first"]
    first.feed(encode_frame(b"alone"), 1.0)
    assert frames_of(everything(first)) == [b"alone"]


def test_a_share_of_the_frames_is_dropped() -> None:
    pipe = pipeline("drop=50%")
    for number in range(200):
        pipe.feed(encode_frame(b"%d" % number), 0.0)
    left = frames_of(everything(pipe))
    assert 60 < len(left) < 140
    assert left == sorted(left, key=int)


def test_what_was_held_is_released_in_order() -> None:
    pipe = pipeline("latency=1h", "reorder=100%")
    pipe.feed(encode_frame(b"one") + encode_frame(b"two") + encode_frame(b"three") + b"\0\0", 0.0)
    assert pipe.ready(1.0) == b""
    data = pipe.release()
    assert data.endswith(b"\0\0")
    assert frames_of(data[:-2]) == [b"two", b"one", b"three"]
    assert pipe.held_bytes == 0


def test_a_stream_without_frames_is_passed_on_as_it_is() -> None:
    pipe = pipeline("duplicate=100%")
    pipe.feed(b"\xff\xff\xff\xffGET / HTTP/1.1", 0.0)
    pipe.feed(b" and more", 0.0)
    assert everything(pipe) == b"\xff\xff\xff\xffGET / HTTP/1.1 and more"


def test_a_pipeline_that_begins_inside_a_frame_waits_for_the_next_one() -> None:
    frame = encode_frame(b"begun before")
    pipe = Pipeline(parse_toxics(["duplicate=100%"]), random.Random(1), Exchange(), skip_bytes=len(frame) - 6)
    pipe.feed(frame[6:] + encode_frame(b"next"), 0.0)
    data = frame[:6] + everything(pipe)
    assert frames_of(data) == [b"begun before", b"next", b"next"]


@given(st.lists(st.binary(max_size=40), max_size=20), st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_the_tracker_finds_the_boundaries_however_the_bytes_are_cut(words: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(encode_frame, words))
    tracker = FrameTracker()
    position = turn = 0
    boundaries = {0}
    for word in words:
        boundaries.add(max(boundaries) + 4 + len(word))
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        tracker.skip(stream[position : position + step])
        position, turn = min(position + step, len(stream)), turn + 1
        rest = tracker.rest_bytes
        if rest is not None and position in boundaries:
            assert rest == 0
        if rest:
            assert position + rest in boundaries


@given(st.lists(st.binary(max_size=60), max_size=20), st.integers(0, 99))
def test_toxics_that_only_delay_lose_and_change_nothing(parts: list[bytes], seed: int) -> None:
    pipe = pipeline("latency=5ms±5ms", "jitter=2ms", "slicer=7/1ms", "bandwidth=10KB/s", seed=seed)
    for number, part in enumerate(parts):
        pipe.feed(part, number / 1000)
    assert everything(pipe) == b"".join(parts)
    assert pipe.held_bytes == 0
