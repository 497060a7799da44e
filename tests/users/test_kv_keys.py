"""How many keys the users of a run share."""

from argparse import Namespace

import pytest

from users.kv_keys import Keyspace, number_of_keys
from users.options import OptionMistake


@pytest.mark.parametrize(
    ("asked", "keys"),
    [
        ({}, 40),
        ({"keys": 8}, 8),
        ({"keys": 8, "keys_per_client": 0.5, "num_users": 20}, 10),
        ({"keys": 8, "keys_per_client": 2.0, "num_users": 3}, 6),
        ({"keys": 8, "keys_per_client": 0.1, "num_users": 3}, 2),
        # A worker knows the number of users of the whole run by its master only.
        ({"keys": 8, "keys_per_client": 1.0, "num_users": None, "run_users": 50}, 50),
        # A load shape has no number of users.
        ({"keys": 8, "keys_per_client": 1.0, "num_users": None, "run_users": None}, 8),
    ],
)
def test_the_number_of_keys_follows_the_clients_if_asked_to(asked: dict[str, object], keys: int) -> None:
    assert number_of_keys(Namespace(**asked)) == keys


def test_a_ratio_that_cannot_be_is_a_mistake() -> None:
    with pytest.raises(OptionMistake, match="keys-per-client"):
        number_of_keys(Namespace(keys_per_client="-1"))


def test_half_of_the_keys_are_for_appends() -> None:
    keyspace = Keyspace("p", 10)
    assert len({keyspace.append_key() for _ in range(1_000)}) == 5
    assert len({keyspace.register_key() for _ in range(1_000)}) == 5
