"""Request ids: unique, spread out, and traceable to the lane they were born in."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from users.request_ids import IdSpace, Origin


@pytest.mark.parametrize("bits", [64, 53])
def test_ids_of_all_lanes_are_distinct_and_tell_their_origin(bits: int) -> None:
    ids = IdSpace(bits)
    seen = set()
    for _ in range(50):
        lane, value = ids.new_lane()
        for number in range(1, 200):
            value = (value + ids.step) & ids.mask
            assert ids.origin(value) == Origin(lane, number)
            seen.add(value)
    assert len(seen) == 50 * 199


def test_ids_fill_the_whole_range() -> None:
    ids = IdSpace()
    _, value = ids.new_lane()
    values = [(value + number * ids.step) & ids.mask for number in range(1, 1000)]
    sixteenths = {value >> 60 for value in values}
    assert len(sixteenths) == 16


@given(st.integers(min_value=-1, max_value=(1 << 65)))
def test_an_id_from_elsewhere_belongs_to_no_lane(value: int) -> None:
    ids = IdSpace()
    ids.new_lane()
    origin = ids.origin(value)
    assert origin is None or origin.lane == 0


@given(st.integers(min_value=0, max_value=63))
def test_a_flipped_bit_makes_an_id_of_nobody(bit: int) -> None:
    ids = IdSpace()
    lane, value = ids.new_lane()
    origin = ids.origin(((value + ids.step) & ids.mask) ^ (1 << bit))
    assert origin is None or origin.number > 1_000_000 or origin.lane != lane


def test_a_forked_worker_has_ids_of_its_own() -> None:
    from users.request_ids import request_ids

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, request_ids.new_lane()[1].to_bytes(8, "big"))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = int.from_bytes(os.read(reading, 8), "big")
    os.close(reading)
    os.close(writing)
    assert theirs != request_ids.new_lane()[1]
