"""JSON in and out: exact numbers, bounded depth, and one kind of error for everything else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.json_text import MAX_DEPTH, BadJson, dump_json, load_json

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "number",
    [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**25 + 1, 10**300 + 1, -(10**300) - 1],
)
def test_integers_are_exact_at_any_size(number: int):
    assert load_json(str(number)) == number
    assert dump_json(number) == str(number).encode()
    assert load_json(dump_json({"id": number, "deep": [{"x": number}]})) == {"id": number, "deep": [{"x": number}]}


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000, "-" + "9" * 100_000, "1e400", "-1e999999999"])
def test_numbers_beyond_a_double_are_refused(text: str):
    with pytest.raises(BadJson):
        load_json(text)


def test_a_long_fraction_is_still_a_number():
    assert load_json("0." + "1" * 10_000) == pytest.approx(1 / 9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "nul",
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "1.",
        "'a'",
        "[1,]",
        '{"a":1,}',
        '"\x01"',
        "1 2",
        "\ufeff1",
    ],
)
def test_what_is_not_json_is_refused(text: str):
    with pytest.raises(BadJson):
        load_json(text)
    with pytest.raises(BadJson):
        load_json(text.encode())


@pytest.mark.parametrize(
    "data", [b"\xff", b'"\xc3"', b'"\xed\xa0\x80"', '"a"'.encode("utf-16"), b'"\\ud800"', b'"\\udc00\\ud800"']
)
def test_what_is_not_unicode_is_refused(data: bytes):
    with pytest.raises(BadJson):
        load_json(data)


def test_a_lone_surrogate_is_refused_in_both_directions():
    with pytest.raises(BadJson):
        load_json('"\ud800"')
    with pytest.raises(BadJson):
        dump_json("\ud800")
    with pytest.raises(BadJson):
        dump_json(["\ud800", 2**70])


def test_nesting_is_accepted_up_to_the_limit_and_refused_beyond():
    value = load_json(nested(MAX_DEPTH))
    assert dump_json(value) == nested(MAX_DEPTH).encode()
    with pytest.raises(BadJson, match="deeper than 128"):
        load_json(nested(MAX_DEPTH + 1))
    with pytest.raises(BadJson, match="deeper than 128"):
        dump_json([value])


@pytest.mark.parametrize("depth", [255, 1023, 1024, 1025, 10_000, 500_000])
def test_a_depth_bomb_is_refused(depth: int):
    with pytest.raises(BadJson):
        load_json(nested(depth))
    with pytest.raises(BadJson):
        load_json('{"a":' * depth + "1" + "}" * depth)


def test_many_brackets_side_by_side_are_not_deep():
    wide = "[" + ",".join(["[]", "{}"] * 1000) + "]"
    assert dump_json(load_json(wide)) == wide.encode()
    in_text = json.dumps("[" * 1000)
    assert dump_json(load_json(in_text)) == in_text.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, float("-inf")], {"a": [None, float("nan")]}])
def test_a_number_that_json_lacks_is_refused_and_not_sent_as_null(value: object):
    with pytest.raises(BadJson):
        dump_json(value)


def test_nulls_that_are_meant_are_sent():
    assert dump_json({"a": None, "b": [None]}) == b'{"a":null,"b":[null]}'
    assert dump_json({"a": None}, nulls=1) == b'{"a":null}'


def endless() -> list[object]:
    loop: list[object] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize("value", [b"bytes", {1: 2}, object(), {1, 2}, endless()])
def test_what_json_cannot_carry_is_refused(value: object):
    with pytest.raises(BadJson):
        dump_json(value)


def test_a_repeated_member_counts_once_and_the_last_one_wins():
    assert load_json('{"id":1,"id":2}') == {"id": 2}
    assert load_json('{"id":1,"id":123456789012345678901234567890}') == {"id": 123456789012345678901234567890}


@given(json_values)
def test_every_value_comes_back(value: object):
    # Integers beyond a double's range are refused on the way in; hypothesis does not make them.
    assert load_json(dump_json(value)) == value


@given(st.binary(max_size=100) | st.text(max_size=100) | st.text('[]{}",:0123456789eE+-.\\u\ud800', max_size=100))
def test_garbage_is_a_value_or_bad_json(text: str | bytes):
    try:
        value = load_json(text)
    except BadJson:
        return
    assert load_json(dump_json(value)) == value
