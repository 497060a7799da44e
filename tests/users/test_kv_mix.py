"""The mix of a key-value workload: what may be written, and how often each task is then chosen."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from users.kv_mix import DEFAULT_MIX, parse_mix, tasks_of
from users.raft_kv import RaftKvUser


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


class _Client:
    """Notes what it is asked to do."""

    def __init__(self, *, names_tombstones: bool) -> None:
        self.names_tombstones = names_tombstones
        self.asked: list[str] = []

    def new_id(self) -> int:
        return 1

    def put(self, key: str, value: str) -> None:
        self.asked.append("put")

    def delete(self, key: str) -> None:
        self.asked.append("delete")


@pytest.mark.parametrize(
    ("names_tombstones", "mix", "does"),
    [
        (True, DEFAULT_MIX, "delete"),
        (True, "delete=1", "delete"),
        (False, "delete=1", "delete"),
        (False, "put=1,delete=3", "delete"),
        (False, DEFAULT_MIX, "put"),
    ],
)
def test_a_delete_is_one_unless_only_the_default_asks_for_it_where_they_are_hard_to_judge(
    names_tombstones: bool, mix: str, does: str
) -> None:
    client: Any = _Client(names_tombstones=names_tombstones)
    options = SimpleNamespace(mix=mix)
    user: Any = RaftKvUser.__new__(RaftKvUser)
    user.environment, user.client = SimpleNamespace(parsed_options=options), client
    user.configure(options)
    user.delete_register()
    assert client.asked == [does]
