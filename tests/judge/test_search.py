"""The bounded general search, and its honesty about its bounds."""

import pytest

from swarmproof.judge import UNKNOWN, Limits, check_history
from swarmproof.judge.history import read_history
from swarmproof.judge.linearizability import check
from swarmproof.judge.search import LINEARIZABLE, SearchResult, search
from tests.judge.build import append, delete, get, put


def test_values_written_twice_are_decided_by_search() -> None:
    good = [put("a", 0, 1), put("b", 2, 3), put("a", 4, 5), get("a", 6, 7)]
    bad = [put("a", 0, 1), put("a", 2, 3), put("b", 4, 5), get("a", 6, 7)]
    assert check(read_history(good)).searched
    assert not check(read_history(good)).findings
    assert check(read_history(bad)).findings


@pytest.mark.parametrize(
    ("limits", "word"),
    [(Limits(key_time_s=0.05), "time"), (Limits(key_memory_bytes=100_000), "memory")],
)
def test_beyond_its_bounds_the_answer_is_unknown(limits: Limits, word: str) -> None:
    history = [append(f"{n % 3}" * (1 + n % 4), 0, 100) for n in range(40)] + [get("x", 200, 201)]
    verdict = check_history(history, limits=limits)
    assert verdict.verdict == UNKNOWN
    assert verdict.exit_code == 2
    assert verdict.unknown_keys == ["k"]
    assert word in verdict.check("linearizability").reason


def test_nothing_to_order_is_linearizable() -> None:
    assert search([]) == SearchResult(LINEARIZABLE)


def test_a_refusal_names_operations_near_the_dead_end() -> None:
    history = [delete(0, 1), put("a", 2, 3), delete(4, 5), put("a", 6, 7), get(None, 8, 9)]
    result = check(read_history(history))
    (finding,) = result.findings.values()
    assert result.searched
    assert 1 <= len(finding.rows) <= 4


def test_a_long_quiet_history_is_no_burden() -> None:
    history = []
    for n in range(1500):
        history += [put("same", 10 * n, 10 * n + 3), get("same", 10 * n + 5, 10 * n + 7)]
    result = check(read_history(history))
    assert result.searched
    assert not result.findings
    assert not result.unknown
