"""From words to due times: the same seed gives the same schedule, and every mistake is a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmproof.faults.schedule import MAX_SCHEDULED, FaultMistake, FaultSpec, build_schedule, parse_fault

EVERY_20S = FaultSpec("kill", "leader", every_s=20.0, jitter_s=2.0, heal_after_s=5.0)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("kill leader @10s restart 5s", FaultSpec("kill", "leader", at_s=10.0, heal_after_s=5.0)),
        ("kill leader @10s restart after 5s", FaultSpec("kill", "leader", at_s=10.0, heal_after_s=5.0)),
        ("kill leader at 10s", FaultSpec("kill", "leader", at_s=10.0)),
        ("KILL leader @ 1m30s", FaultSpec("kill", "leader", at_s=90.0)),
        ("pause node 2 @500ms for 3s", FaultSpec("pause", "n2", at_s=0.5, heal_after_s=3.0)),
        ("term all every 20s ± 2s count 3", FaultSpec("term", "all", every_s=20.0, jitter_s=2.0, count=3)),
        ("kill envelope @5s every 10s", FaultSpec("kill", "envelope", at_s=5.0, every_s=10.0)),
    ],
)
def test_a_fault_reads_like_a_sentence(text: str, spec: FaultSpec) -> None:
    assert parse_fault(text) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a fault"),
        ("kill", "is not a fault"),
        ("explode leader @1s", "there is no fault 'explode'; there are: kill, term, pause"),
        ("kill leader", "has no time"),
        ("kill @10s", "names no target"),
        ("kill leader @soon", "is not a duration"),
        ("kill leader @1s @2s", "stands twice"),
        ("kill leader @1s count 0", "at least 1"),
        ("kill leader @1s count 2", "needs `every`"),
        ("kill leader @1s count many", "in the fault"),
        ("kill leader @1s restart", "a duration is missing"),
        ("kill leader every 2s ± 3s", "shorter than the period"),
    ],
)
def test_a_fault_that_is_none_is_a_sentence(text: str, words: str) -> None:
    with pytest.raises(FaultMistake, match=words):
        parse_fault(text)


@given(
    st.lists(
        st.sampled_from(["kill", "leader", "@", "@1s", "every", "±", "2s", "restart", "count", "3", "x"]), max_size=9
    )
)
def test_any_order_of_words_is_a_fault_or_a_sentence(words: list[str]) -> None:
    try:
        parse_fault(" ".join(words))
    except FaultMistake:
        pass


def test_a_period_strikes_on_a_grid_that_does_not_drift() -> None:
    dues = [fault.due_s for fault in build_schedule([EVERY_20S], 7, 1000.0)]
    assert len(dues) in (49, 50)  # the jitter decides whether the fiftieth is before the end
    assert all(abs(due - 20 * (position + 1)) <= 2 for position, due in enumerate(dues))
    assert len({round(due % 1, 2) for due in dues}) > 5, "the jitter does not jitter"


def test_the_same_seed_gives_the_same_schedule_and_another_seed_another() -> None:
    assert build_schedule([EVERY_20S], 7, 100.0) == build_schedule([EVERY_20S], 7, 100.0)
    assert build_schedule([EVERY_20S], 7, 100.0) != build_schedule([EVERY_20S], 8, 100.0)


def test_another_fault_in_the_plan_does_not_move_the_first() -> None:
    alone = build_schedule([EVERY_20S], 7, 100.0)
    both = build_schedule([EVERY_20S, FaultSpec("pause", "follower", at_s=33.0)], 7, 100.0)
    assert [f.due_s for f in both if f.spec is EVERY_20S] == [f.due_s for f in alone]
    assert [f.id for f in both] == list(range(1, len(both) + 1))
    assert [f.due_s for f in both] == sorted(f.due_s for f in both)


def test_a_repeated_fault_does_not_begin_in_the_last_moments() -> None:
    dues = [fault.due_s for fault in build_schedule([FaultSpec("kill", "leader", every_s=10.0)], 1, 31.0)]
    assert dues == [10.0, 20.0]


def test_at_and_every_and_count_are_first_period_and_number() -> None:
    spec = FaultSpec("kill", "leader", at_s=8.0, every_s=11.0, count=2)
    assert [fault.due_s for fault in build_schedule([spec], 1, 30.0)] == [8.0, 19.0]


def test_a_time_after_the_run_stays_in_the_schedule_to_be_reported() -> None:
    assert len(build_schedule([FaultSpec("kill", "leader", at_s=99.0)], 1, 30.0)) == 1


def test_a_period_without_an_end_is_refused() -> None:
    with pytest.raises(FaultMistake, match="never ends without a run time"):
        build_schedule([EVERY_20S], 1, None)
    bounded = FaultSpec("kill", "leader", every_s=1.0, count=3)
    assert len(build_schedule([bounded], 1, None)) == 3


def test_a_period_that_is_far_too_short_is_refused() -> None:
    with pytest.raises(FaultMistake, match=f"more than {MAX_SCHEDULED} times"):
        build_schedule([FaultSpec("kill", "leader", every_s=0.001)], 1, 86_400.0)


def test_a_fault_describes_itself() -> None:
    assert EVERY_20S.describe() == "kill leader every 20 s ± 2 s, restart after 5 s"
    assert FaultSpec("pause", "n1", at_s=1.0, heal_after_s=2.0).describe() == "pause n1 @1 s, for 2 s"
