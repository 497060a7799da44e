"""The mix of a key-value workload: what may be written, and how often each task is then chosen."""

from collections import Counter

import pytest

from users.kv_mix import DEFAULT_MIX, parse_mix, tasks_of


def test_the_default_is_mostly_append_and_cas() -> None:
    mix = parse_mix(DEFAULT_MIX)
    assert mix["append"] + mix["cas"] > 2 * (mix["put"] + mix["delete"])
    assert set(mix) == {"append", "get", "cas", "put", "delete"}


def test_what_is_not_named_is_never_chosen_and_blanks_do_not_matter() -> None:
    assert parse_mix(" append = 2 , get=1") == {"append": 2, "get": 1}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is not one of append"),
        ("append", "'append' is not one of"),
        ("increment=1", "'increment=1' is not one of"),
        ("get=1,get=2", "get is in the mix twice"),
        ("get=-1", "the weight of get must be a whole number"),
        ("get=1.5", "the weight of get must be a whole number"),
        ("get=99999", "the weight of get must be a whole number"),
        ("get=0,put=0", "nothing in the mix has a weight"),
    ],
)
def test_a_mix_that_cannot_be_is_refused_in_a_sentence(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_mix(text)


def test_tasks_come_as_often_as_they_weigh_and_share_their_operation() -> None:
    def one(user: object) -> None: ...
    def other(user: object) -> None: ...
    def write(user: object) -> None: ...

    counts = Counter(tasks_of({"get": 3, "put": 1}, {"get": [one, other], "put": [write]}))
    assert counts == {one: 3, other: 3, write: 2}
