"""Histories that replies alone do not order, but the versions in them do: each good one has a bad twin."""

import pytest

from records.operations import Operation
from swarmproof.judge.history import read_history
from swarmproof.judge.linearizability import Linearizability, check
from tests.judge.build import append, cas, delete, failed_cas, get, put


def decide(history: list[Operation]) -> Linearizability:
    for number, operation in enumerate(history):
        operation.id = number
    return check(read_history(history))


PAIRS = {
    "an unanswered delete stands before the cas that found the key absent": (
        [put("a", 0, 1, version=1), delete(2), cas(None, "b", 6, 7, version=5), get(None, 8, 9, version=6), delete(3)],
        [put("a", 0, 1, version=1), delete(8), cas(None, "b", 6, 7, version=5), get(None, 8, 9, version=6), delete(8)],
    ),
    "unanswered deletes are taken in the order of their calls": (
        [
            put("a", 0, 1, version=1),
            delete(5),
            delete(2),
            cas(None, "b", 3, 4, version=3),
            cas(None, "c", 8, 9, version=6),
            get("c", 10, 11, version=6),
        ],
        [
            put("a", 0, 1, version=1),
            delete(5),
            delete(6),
            cas(None, "b", 3, 4, version=3),
            cas(None, "c", 8, 9, version=6),
            get("c", 10, 11, version=6),
        ],
    ),
    "a chain of unanswered cas stands before the one that was seen": (
        [
            put("a", 0, 1, version=1),
            delete(2),
            cas(None, "b", 3),
            cas("b", "c", 3),
            cas("c", "d", 8, 9, version=9),
            get("d", 10, 11, version=9),
        ],
        [
            put("a", 0, 1, version=1),
            delete(2),
            cas(None, "b", 3),
            cas("b", "c", 10),
            cas("c", "d", 8, 9, version=9),
            get("d", 10, 11, version=9),
        ],
    ),
    "a failed cas saw a delete that nobody answered": (
        [
            put("a", 0, 1, version=1),
            delete(2),
            delete(2),
            failed_cas("a", "b", None, 5, 6, version=4),
            cas(None, "c", 7, 8, version=5),
            get(None, 9, 10, version=6),
        ],
        [
            put("a", 0, 1, version=1),
            delete(2),
            failed_cas("a", "b", None, 5, 6, version=4),
            cas(None, "c", 7, 8, version=5),
            get(None, 9, 10, version=6),
        ],
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_good_history_is_linearizable_without_a_search(name: str) -> None:
    result = decide(PAIRS[name][0])
    assert not result.findings
    assert not result.unknown
    assert not result.searched


@pytest.mark.parametrize("name", PAIRS)
def test_its_bad_twin_is_not(name: str) -> None:
    assert decide(PAIRS[name][1]).findings


def test_versions_that_lie_only_cost_the_short_way() -> None:
    """The order that they tell is impossible, yet another one explains every reply."""
    told_wrong = [
        put("a", 0, 1, version=9),
        delete(2),
        delete(2),
        cas(None, "b", 3, 4, version=3),
        get(None, 5, 6, version=4),
    ]
    result = decide(told_wrong)
    assert not result.findings
    assert not result.by_version


def test_a_server_that_numbers_a_lie_is_not_believed() -> None:
    """In the order of the versions all is well, but the second put had ended before the read that misses it began."""
    lie = [put("a", 0, 1, version=1), put("b", 2, 3, version=5), delete(4), delete(4), get("a", 6, 7, version=1)]
    assert decide([*lie, get(None, 8, 9, version=7)]).findings


def test_keys_with_appends_are_left_to_their_values() -> None:
    assert not decide([append("a,", 0, 1, version=1), delete(2), append("b,", 3, 4), get("b,", 5, 6)]).by_version
