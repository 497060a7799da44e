"""The zone algorithm on histories small enough to draw. Each good history has a bad twin."""

import pytest

from records.operations import Operation
from swarmproof.judge.history import read_history
from swarmproof.judge.linearizability import check
from tests.judge.build import cas, failed_cas, get, put


def kind_of(history: list[Operation]) -> str:
    """ "" when linearizable, else the kind of what was found; never by search."""
    result = check(read_history(history))
    assert not result.searched
    assert not result.unknown
    return next((finding.kind for finding in result.findings.values()), "")


PAIRS = {
    "a read after a write sees it": (
        [put("a", 0, 1), get("a", 2, 3)],
        [put("a", 0, 1), get(None, 2, 3)],
    ),
    "intervals are closed: equal times overlap": (
        [put("a", 0, 2), get(None, 2, 3)],
        [put("a", 0, 1), get(None, 2, 3)],
    ),
    "a read beside a write may see either": (
        [put("a", 0, 1), put("b", 2, 9), get("a", 3, 4), get("b", 5, 6)],
        [put("a", 0, 1), put("b", 2, 9), get("b", 3, 4), get("a", 5, 6)],
    ),
    "a read from the future": (
        [get("a", 0, 5), put("a", 4, 6)],
        [get("a", 0, 3), put("a", 4, 6)],
    ),
    "two values cannot take turns": (
        [put("a", 0, 9), put("b", 0, 9), get("a", 1, 2), get("b", 3, 4), get("b", 5, 6)],
        [put("a", 0, 9), put("b", 0, 9), get("a", 1, 2), get("b", 3, 4), get("a", 5, 6)],
    ),
    "an unread write must fit between two reads of another": (
        [put("a", 0, 1), get("a", 2, 3), put("b", 4, 9), get("a", 6, 7)],
        [put("a", 0, 1), get("a", 2, 3), put("b", 4, 5), get("a", 6, 7)],
    ),
    "a write that was never answered may land 30 s later": (
        [put("a", 0, 1), put("b", 2), get("a", 10, 11), get("b", 40, 41)],
        [put("a", 0, 1), put("b", 2), get("b", 10, 11), get("a", 40, 41)],
    ),
    "a cas chain is read in its order": (
        [put("a", 0, 1), cas("a", "b", 2, 3), cas("b", "c", 4, 5), get("c", 6, 7)],
        [put("a", 0, 1), cas("a", "b", 2, 3), cas("b", "c", 4, 5), get("b", 6, 7)],
    ),
    "a failed cas is a read of what it saw": (
        [put("a", 0, 1), failed_cas("x", "b", "a", 2, 3)],
        [put("a", 0, 1), put("c", 2, 3), failed_cas("x", "b", "a", 4, 5)],
    ),
    "a read by an unanswered cas makes its write live": (
        [put("a", 0), cas("a", "b", 1), get("b", 5, 6)],
        [put("a", 7), cas("a", "b", 1), get("b", 5, 6)],
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_good_history_is_linearizable(name: str) -> None:
    assert kind_of(PAIRS[name][0]) == ""


@pytest.mark.parametrize("name", PAIRS)
def test_its_bad_twin_is_not(name: str) -> None:
    assert kind_of(PAIRS[name][1]) != ""


def test_a_value_that_nobody_wrote_is_a_phantom() -> None:
    assert kind_of([put("a", 0, 1), get("zzz", 2, 3)]) == "phantom read"


def test_a_value_of_another_key_is_a_phantom() -> None:
    assert kind_of([put("a", 0, 1, key="k1"), get("a", 2, 3, key="k2")]) == "phantom read"


def test_a_refused_write_that_is_read_is_an_aborted_read() -> None:
    assert kind_of([put("a", 0, 1, status="fail"), get("a", 2, 3)]) == "aborted read"
    assert kind_of([put("a", 0, 1, status="fail"), get(None, 2, 3)]) == ""


def test_two_cas_from_one_version_are_a_split_brain() -> None:
    history = [put("a", 0, 1), cas("a", "b", 2, 3), cas("a", "c", 2, 3)]
    assert kind_of(history) == "split brain"
    history[2] = cas("a", "c", 2)  # never answered and never seen: it may not have happened
    assert kind_of(history) == ""


def test_two_unanswered_cas_that_were_both_seen_are_a_split_brain() -> None:
    history = [put("a", 0, 1), cas("a", "b", 2), cas("a", "c", 2), get("b", 5, 6), get("c", 7, 8)]
    assert kind_of(history) == "split brain"


def test_a_cas_cycle_cannot_begin() -> None:
    assert kind_of([cas("b", "a", 0, 9), cas("a", "b", 0, 9)]) == "cas cycle"


def test_a_stale_read_is_never_held_against_the_store() -> None:
    assert kind_of([put("a", 0, 1), get(None, 5, 6, stale=True)]) == ""


@pytest.mark.parametrize("seen", ["a", None])
def test_a_cas_cannot_fail_and_have_seen_what_it_demanded(seen: str | None) -> None:
    before = [put("a", 0, 1), get("a", 6, 7)] if seen else [get(None, 6, 7)]
    assert kind_of([*before, failed_cas(seen, "x", seen, 4, 5)]) == "refused match"
    assert kind_of([*before, failed_cas("other", "x", seen, 4, 5)]) == ""


def test_text_and_its_bytes_are_one_value() -> None:
    """etcd keeps bytes: what was put as b"a" may be told as "a"."""
    assert kind_of([put(b"a", 0, 1), get("a", 2, 3)]) == ""
    assert kind_of([put("a", 0, 1), cas(b"a", b"\xff", 2, 3), get(b"\xff", 4, 5)]) == ""
    assert kind_of([put(b"a", 0, 1), get("b", 2, 3)]) == "phantom read"
    assert kind_of([put(b"a", 0, 1), put("b", 2, 3), get("a", 4, 5)]) != ""


def test_a_store_that_tells_text_from_bytes_may_refuse_one_for_the_other() -> None:
    assert kind_of([put("a", 0, 1), failed_cas(b"a", "x", "a", 2, 3)]) == ""


def test_a_lying_refusal_convicts_also_where_the_search_would_decide() -> None:
    """Values written twice go to the search, which knows nothing of what a failed cas demanded."""
    reused = [put("a", 0, 1), put("a", 2, 3)]
    assert kind_of([*reused, failed_cas("a", "x", "a", 4, 5)]) == "refused match"
    twin = check(read_history([*reused, failed_cas("b", "x", "a", 4, 5)]))
    assert twin.searched
    assert not twin.findings


def test_a_thousand_nested_cas_are_laid_out() -> None:
    chain = [cas(None if n == 0 else f"v{n - 1}", f"v{n}", 10 * n, 10 * n + 5) for n in range(1000)]
    assert kind_of([*chain, get("v999", 20_000, 20_001)]) == ""
    assert kind_of([*chain, get("v998", 20_000, 20_001)]) == "order"


def test_keys_do_not_disturb_one_another() -> None:
    history = [put(f"v{n}", n, n + 1, key=f"k{n}") for n in range(50)]
    history += [get(f"v{n}", 100, 101, key=f"k{n}") for n in range(50) if n != 7]
    history.append(get(None, 100, 101, key="k7"))
    result = check(read_history(history))
    columns = read_history(history)
    assert [columns.keys[key] for key in result.findings] == ["k7"]


def test_an_empty_history_holds_nothing() -> None:
    assert kind_of([]) == ""
