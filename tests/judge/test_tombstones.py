"""Deletes: with versions each absent has a name; without, the search decides."""

from swarmproof.judge.history import read_history
from swarmproof.judge.linearizability import check
from tests.judge.build import cas, delete, get, put


def answer(history: list) -> str:
    result = check(read_history(history))
    assert not result.unknown
    return "no" if result.findings else "yes"


def searched(history: list) -> bool:
    return bool(check(read_history(history)).searched)


def test_a_named_tombstone_is_as_good_as_a_value() -> None:
    history = [
        put("a", 0, 1, version=1),
        delete(2, 3, version=2),
        put("b", 4, 5, version=3),
        delete(6, 7, version=4),
        get(None, 8, 9, version=4),
    ]
    assert answer(history) == "yes"
    assert not searched(history)
    history[-1] = get(None, 8, 9, version=2)  # the older of the two: a stale read that its value does not show
    assert answer(history) == "no"


def test_an_unanswered_delete_is_recognised_by_the_version_that_only_it_can_have() -> None:
    history = [put("a", 0, 1, version=1), delete(2), get(None, 8, 9, version=2), put("b", 10, 11, version=3)]
    assert answer(history) == "yes"
    assert not searched(history)
    assert answer([*history, get(None, 12, 13, version=2)]) == "no"


def test_deletes_without_names_go_to_the_search() -> None:
    history = [put("a", 0, 1), delete(2, 3), get(None, 4, 5), put("b", 6, 7), delete(8, 9), get(None, 10, 11)]
    assert answer(history) == "yes"
    assert searched(history)


def test_what_is_wrong_without_the_uncertain_part_needs_no_search() -> None:
    history = [put("a", 0, 1), delete(2, 3), get(None, 4, 5), put("b", 6, 7), get("a", 8, 9)]
    assert answer(history) == "no"
    assert not searched(history)


def test_a_lost_delete_is_found() -> None:
    assert answer([put("a", 0, 1), delete(2, 3), get("a", 4, 5)]) == "no"
    assert answer([put("a", 0, 1), delete(2), get("a", 4, 5)]) == "yes"


def test_a_cas_on_absent_follows_from_the_delete_before_it() -> None:
    history = [
        cas(None, "a", 0, 1, version=1),
        delete(2, 3, version=2),
        cas(None, "b", 4, 5, version=3),
        get("b", 6, 7, version=3),
    ]
    assert answer(history) == "yes"
    assert not searched(history)
    assert answer([history[0], history[2], history[3]]) == "no"


def test_a_reader_before_the_first_write_names_no_version() -> None:
    history = [get(None, 0, 1), put("a", 2, 3, version=1), delete(4, 5, version=2), get(None, 6, 7, version=2)]
    assert answer(history) == "yes"
    assert not searched(history)


def test_versions_of_nought_mean_no_name() -> None:
    history = [put("a", 0, 1, version=0), delete(2, 3, version=0), get(None, 4, 5, version=0)]
    assert answer(history) == "yes"
