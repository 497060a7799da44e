"""The judge against the exhaustive reference, on random small histories of every kind."""

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from records.operations import Operation
from tests.judge.agreement import compare, run
from tests.judge.histories import FLAVOURS, Shape, random_history, true_history
from tests.judge.reference import is_linearizable


def test_thousands_of_seeded_histories_agree() -> None:
    tallies = run(4000, seed=11)
    assert {tally["histories"] for tally in tallies.values()} == {500}
    tally = sum(tallies.values(), Counter())
    assert tally["linearizable"] > 500
    assert tally["not linearizable"] > 500
    assert tally["by search"] > 100
    assert tally["by versions"] > 10


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_true_histories_are_never_flagged(flavour: str) -> None:
    for seed in range(150):
        assert compare(true_history(random.Random(seed), flavour, Shape(operations=7, keys=2)))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_kind_has_histories_of_both_sorts(flavour: str) -> None:
    answers = {is_linearizable(random_history(random.Random(seed), flavour)) for seed in range(80)}
    assert answers == {True, False}


values = st.sampled_from([None, "", "1,", "2,", "3,", "1,2,", "2,1,", "1,2,3,"])


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    """Any operation at all, not one that a store would have answered."""
    op = draw(st.sampled_from(["put", "get", "cas", "append", "delete"]))
    call = draw(st.integers(0, 9))
    status = draw(st.sampled_from(["ok", "ok", "ok", "info", "fail"]))
    made = Operation(id=0, client=1, op=op, key="k", call_ns=call, status=status)
    if op in ("put", "cas", "append"):
        made.value = draw(st.sampled_from(["", "1,", "2,", "3,"]))
    if op == "cas":
        made.expect = draw(values)
    if status == "ok":
        made.return_ns = call + draw(st.integers(0, 5))
        made.version = draw(st.one_of(st.none(), st.integers(1, 4)))
        if op == "get":
            made.out = draw(values)
        if op == "cas":
            made.ok = draw(st.booleans())
            made.out = None if made.ok else draw(values)
    return made


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(operations(), max_size=6))
def test_arbitrary_histories_agree(history: list[Operation]) -> None:
    for number, op in enumerate(history):
        op.id = number
    compare(history)
