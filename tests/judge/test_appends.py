"""Lists built by append, alone and mixed with put, cas and delete."""

from collections.abc import Callable

import pytest

from records.operations import Operation
from swarmproof.judge.history import read_history
from swarmproof.judge.linearizability import check
from tests.judge.build import append, cas, delete, get, put
from tests.judge.test_zones import kind_of

PAIRS = {
    "acknowledged appends are read in order": (
        [append("1,", 0, 1), append("2,", 2, 3), get("1,2,", 4, 5)],
        [append("1,", 0, 1), append("2,", 2, 3), get("2,1,", 4, 5)],
    ),
    "appends beside one another may come in any order": (
        [append("1,", 0, 5), append("2,", 0, 5), get("2,1,", 6, 7)],
        [append("1,", 0, 5), append("2,", 0, 5), get("2,1,", 6, 7), get("1,2,", 8, 9)],
    ),
    "an acknowledged append is in every later read": (
        [append("1,", 0, 1), get("1,", 2, 3), append("2,", 4, 5)],
        [append("1,", 0, 1), append("2,", 2, 3), get("1,", 4, 5)],
    ),
    "a lost append with no successor is still lost": (
        [append("1,", 0, 1)],
        [append("1,", 0, 1), get(None, 2, 3)],
    ),
    "an unanswered append may be missing": (
        [append("1,", 0), get(None, 2, 3), get("1,", 50, 51)],
        [append("1,", 0), get("1,", 2, 3), get(None, 50, 51)],
    ),
    "a put replaces the list": (
        [append("1,", 0, 1), put("p;", 2, 3), append("2,", 4, 5), get("p;2,", 6, 7)],
        [append("1,", 0, 1), put("p;", 2, 3), append("2,", 4, 5), get("1,2,", 6, 7)],
    ),
    "an unseen append before a put is no loss": (
        [append("1,", 0, 1), put("p;", 2, 3), get("p;", 4, 5)],
        [put("p;", 0, 1), append("1,", 2, 3), get("p;", 4, 5)],
    ),
    "a cas may demand a whole list": (
        [append("1,", 0, 1), append("2,", 2, 3), cas("1,2,", "c;", 4, 5), get("c;", 6, 7)],
        [append("1,", 0, 1), append("2,", 2, 3), cas("1,", "c;", 4, 5), get("c;", 6, 7)],
    ),
    "parts that are no text can make one": (
        [append(b"1\xc3", 0, 1), append(b"\xa9,", 2, 3), get("1é,", 4, 5)],
        [append(b"1\xc3", 0, 1), append(b"\xa9,", 2, 3), get(b"1\xc3", 4, 5)],
    ),
    "bytes are lists, too": (
        [append(b"1,", 0, 1), append(b"2,", 2, 3), get(b"1,2,", 4, 5)],
        [append(b"1,", 0, 1), append(b"2,", 2, 3), get(b"1,", 4, 5)],
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_good_list_is_linearizable(name: str) -> None:
    assert kind_of(PAIRS[name][0]) == ""


@pytest.mark.parametrize("name", PAIRS)
def test_its_bad_twin_is_not(name: str) -> None:
    assert kind_of(PAIRS[name][1]) != ""


@pytest.mark.parametrize("write", [put, append])
def test_an_empty_value_on_a_key_with_appends_is_left_to_the_search(write: Callable[..., Operation]) -> None:
    good = check(read_history([write("", 0, 1), get("", 2, 3), append("1,", 4, 5), get("1,", 6, 7)]))
    assert (len(good.searched), good.findings) == (1, {})
    bad = check(read_history([write("", 0, 1), get("", 2, 3), append("1,", 4, 5), get("", 6, 7)]))
    assert bad.findings
    assert kind_of([append("1,", 0, 1, status="fail"), get("", 2, 3)]) == "phantom read"


def test_a_token_that_occurs_twice_was_applied_twice() -> None:
    assert kind_of([append("1,", 0, 1), append("2,", 2, 3), get("1,2,1,", 4, 5)]) == "applied twice"


def test_a_token_after_two_puts_was_applied_twice() -> None:
    history = [put("p;", 0, 1), append("1,", 2, 9), get("p;1,", 3, 4), put("q;", 5, 6), get("q;1,", 7, 8)]
    assert kind_of(history) == "applied twice"


def test_a_cut_token_is_a_phantom() -> None:
    assert kind_of([append("123,", 0, 1), get("12", 2, 3)]) == "phantom read"


def test_a_refused_append_that_shows_up_is_an_aborted_read() -> None:
    history = [append("1,", 0, 1), append("2,", 2, 3, status="fail"), get("1,2,", 4, 5)]
    assert kind_of(history) == "aborted read"


def test_two_readers_that_disagree_are_shown_both() -> None:
    history = [append("1,", 0, 5), append("2,", 0, 5), get("1,2,", 6, 7), get("2,", 8, 9)]
    columns = read_history(history)
    (finding,) = check(columns).findings.values()
    assert finding.kind == "disagreeing reads"
    assert {int(columns.id[row]) for row in finding.rows[:2]} == {history[2].id, history[3].id}


def test_tokens_that_begin_one_another_go_to_the_search() -> None:
    good = [append("1", 0, 1), append("11", 2, 3), get("111", 4, 5)]
    bad = [append("1", 0, 1), append("11", 2, 3), get("1111", 4, 5)]
    assert check(read_history(good)).searched
    assert not check(read_history(good)).findings
    assert check(read_history(bad)).findings


def test_a_list_begun_after_a_delete_is_placed_by_its_version() -> None:
    good = [
        append("1,", 0, 1, version=1),
        delete(2, 3, version=2),
        append("2,", 4, 5, version=3),
        get("2,", 6, 7, version=3),
    ]
    assert kind_of(good) == ""
    assert check(read_history([*good[:3], get("1,2,", 6, 7, version=3)])).findings
