"""The sentences: who did what, when, and why it cannot have happened."""

import pytest

from records.operations import Operation
from swarmproof.judge import check_history
from tests.judge.build import append, cas, delete, failed_cas, get, put

S = 1_000_000_000

SENTENCES = [
    (
        [append("7;", 1 * S, 2 * S, node=2), get(None, 3 * S, 4 * S, node=1)],
        'n2 acknowledged append "7;" to key k at 1.000 s; the read at n1 at 2.000 s, which began later, '
        "does not contain it: an acknowledged write was lost",
    ),
    (
        [put("a", 1 * S, 2 * S), put("b", 3 * S, 4 * S), get("b", 5 * S, 6 * S), get("a", 7 * S, 8 * S)],
        'the server acknowledged put "b" to key k at 3.000 s; the read at 6.000 s, which began later, '
        'still shows "a": a stale read',
    ),
    (
        [put("a", 0, 1 * S), get("zzz", 2 * S, 3 * S, node=3)],
        'the read at n3 at 2.000 s of key k returned "zzz", which nobody wrote to that key',
    ),
    (
        [put("a", 0, 1 * S, key="other"), get("a", 2 * S, 3 * S)],
        'the read at 2.000 s of key k returned "a", which nobody wrote to that key; it was written to key other: '
        "a reply of another key",
    ),
    (
        [put("a", 0, 1 * S), failed_cas("a", "b", "b", 2 * S, 3 * S, client=4)],
        'the failed cas at 2.000 s of key k returned "b", the very value that it was to write itself: it got the reply '
        "of another request (replies crossed)",
    ),
    (
        [put("a", 0, 1 * S), failed_cas("a", "b", "a", 2 * S, 3 * S, client=4), get("b", 4 * S, 5 * S)],
        'the read at 4.000 s of key k returned "b", which only the cas by client 4 at 2.000 s was to write, and that '
        "was told that it had failed: replies crossed, or a refused write became visible",
    ),
    (
        [put("a", 0, 1 * S), failed_cas("a", "b", "a", 2 * S, 3 * S, node=2), get("a", 4 * S, 5 * S)],
        'the failed cas at n2 at 2.000 s of key k returned "a", the very value that it demanded: it cannot have failed',
    ),
    (
        [put("a", 0, 1 * S, status="fail", client=5), get("a", 2 * S, 3 * S)],
        'the read at 2.000 s of key k returned "a", but the put "a" by client 5 at 0.000 s had been refused: '
        "a rejected write became visible",
    ),
    (
        [put("a", 0, 1 * S), cas("a", "b", 2 * S, 3 * S, client=1), cas("a", "c", 2 * S, 3 * S, client=2)],
        'the cas "a" to "b" by client 1 at 2.000 s and the cas "a" to "c" by client 2 at 2.000 s both followed from '
        "the same version of key k: two leaders accepted a write each (split brain)",
    ),
    (
        [append("1;", 0, 1 * S), append("2;", 2 * S, 3 * S), get("1;2;1;", 4 * S, 5 * S)],
        'the append "1;" by client 1 at 0.000 s occurs twice in what was read (the read at 4.000 s of key k '
        'returned "1;2;1;"): applied twice',
    ),
    (
        [get("a", 0, 1 * S), put("a", 2 * S, 3 * S)],
        'the read at 0.000 s of key k returned "a" before the put "a" by client 1 at 2.000 s had begun: '
        "a read from the future",
    ),
]


@pytest.mark.parametrize(("history", "sentence"), SENTENCES)
def test_the_sentence(history: list[Operation], sentence: str) -> None:
    example = check_history(history).counterexample
    assert example is not None
    assert example["sentence"] == sentence


def test_a_long_value_is_shown_by_its_end() -> None:
    tokens = [f"{n:04};" for n in range(40)]
    history = [append(token, n * S, n * S + 1) for n, token in enumerate(tokens)]
    history.append(get("".join(tokens[:-1]), 100 * S, 101 * S))
    example = check_history(history).counterexample
    assert example is not None
    assert example["sentence"].count("…") <= 1
    assert len(example["sentence"]) < 300
    assert example["operations"][-1]["out"].endswith("0038;")


def test_operations_are_in_order_of_their_calls_and_unanswered_ones_have_no_end() -> None:
    history = [put("a", 0), get("a", 5 * S, 6 * S), delete(7 * S, 8 * S), get("a", 9 * S, 10 * S)]
    example = check_history(history).counterexample
    assert example is not None
    calls = [operation["call_s"] for operation in example["operations"]]
    assert calls == sorted(calls)
    assert any(operation["return_s"] is None for operation in example["operations"]) or len(calls) < 4


def test_a_bare_history_is_judged_without_the_checks_that_need_a_run() -> None:
    verdict = check_history([put("a", 0, 1), get("a", 2, 3)])
    assert [check.name for check in verdict.checks] == ["linearizability"]
    assert verdict.exit_code == 0
    assert check_history([]).exit_code == 2
