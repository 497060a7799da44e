"""Rates as people write them."""

import pytest

from records.rates import MAX_STAGES, Stage, parse_stages, show_stages


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("5000", [Stage(5000, 5000, None)]),
        ("5,000/s", [Stage(5000, 5000, None)]),
        ("120/m", [Stage(2, 2, None)]),
        ("0..5000 in 30s", [Stage(0, 5000, 30)]),
        ("0 .. 60/m in 1m30s", [Stage(0, 1, 90)]),
        (
            "1000 for 10s then 2000 for 250ms then 500",
            [Stage(1000, 1000, 10), Stage(2000, 2000, 0.25), Stage(500, 500, None)],
        ),
        (
            "0..1,000 in 1s, 1_000 for 1h; 1000..0 in 10s",
            [Stage(0, 1000, 1), Stage(1000, 1000, 3600), Stage(1000, 0, 10)],
        ),
        ("0 for 5s then 10", [Stage(0, 0, 5), Stage(10, 10, None)]),
    ],
)
def test_a_rate_is_a_list_of_stages_and_can_be_written_again(text: str, stages: list[Stage]) -> None:
    assert parse_stages(text) == tuple(stages)
    assert parse_stages(show_stages(tuple(stages))) == tuple(stages)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fast", "'fast' is not a rate; write it such as 2000/s"),
        ("", "is not a rate"),
        ("-5", "is not a rate"),
        ("nan", "is not a rate"),
        ("1e9", "is not a rate"),
        ("0", "is not a rate"),
        ("0 for 10s", "is not a rate"),
        ("5/d", "is not a rate"),
        ("0..5000", "needs a duration"),
        ("0..5000 in soon", "'soon' in the rate '0..5000 in soon' is not a duration"),
        ("5 for 0s", "lasts no time"),
        ("5 then 10 for 1s", "only the last stage may be without a duration"),
        ("99999999", "above 10,000,000 a second"),
        (" then ".join(["5 for 1s"] * (MAX_STAGES + 1)), "stages is too long"),
    ],
)
def test_what_is_no_rate_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"rate|stage|ramp") as caught:
        parse_stages(text)
    assert sentence in str(caught.value)
