"""Durations, periods and rates as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmproof.durations import parse_duration_s, parse_period_s, parse_rate_per_s, show_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("250ms", 0.25),
        ("1m30s", 90),
        ("2h", 7200),
        ("1.5 s", 1.5),
        ("10", 10),
        (3, 3),
        (0.5, 0.5),
        ("10us", 1e-5),
    ],
)
def test_a_duration_has_a_unit_or_is_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", " ", "s", "5 x", "-3s", -1, "1m2", "5s!", "1..5s", "soon", True])
def test_what_is_no_duration_is_a_sentence_with_an_example(text: str | float) -> None:
    with pytest.raises(ValueError, match="such as 250ms, 5s or 1m30s"):
        parse_duration_s(text)


@pytest.mark.parametrize("text", ["20s ± 2s", "20s +- 2s", "20s+/-2s", "20 s±2000ms"])
def test_a_period_may_have_jitter(text: str) -> None:
    assert parse_period_s(text) == (20.0, 2.0)


def test_a_period_without_jitter_has_none() -> None:
    assert parse_period_s("20s") == (20.0, 0.0)
    assert parse_period_s(20) == (20.0, 0.0)


@pytest.mark.parametrize("text", ["0s", "2s ± 2s", "2s ± 1s ± 1s", "± 2s", "20s ±"])
def test_what_is_no_period_is_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"period|shorter|more than one|missing"):
        parse_period_s(text)


@pytest.mark.parametrize(
    ("text", "rate"), [("2000/s", 2000), ("2,000/s", 2000), ("120/m", 2), ("3600/h", 1), (5, 5), ("0.5/s", 0.5)]
)
def test_a_rate_is_per_second_unless_it_says_otherwise(text: str | float, rate: float) -> None:
    assert parse_rate_per_s(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "0/s", "-1/s", "fast", "5/x", "5/", "nan", "inf/s", True])
def test_what_is_no_rate_is_a_sentence(text: str | float) -> None:
    with pytest.raises(ValueError, match="write it such as 2000/s"):
        parse_rate_per_s(text)


@given(st.text(max_size=40))
def test_garbage_is_a_value_error_and_nothing_else(text: str) -> None:
    for parse in (parse_duration_s, parse_period_s, parse_rate_per_s):
        try:
            parse(text)
        except ValueError:
            pass


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.414, "0.41 s"), (5, "5 s"), (12.34, "12.3 s"), (90, "1 min 30 s"), (120, "2 min")]
)
def test_a_duration_is_shown_in_few_digits(seconds: float, text: str) -> None:
    assert show_s(seconds) == text
