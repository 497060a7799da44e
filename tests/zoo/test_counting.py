"""What counts as caught, and what as a false alarm."""

from pathlib import Path

from swarmproof.judge.verdict import INVALID, MISSED, UNKNOWN, VALID
from swarmproof.zoo.catalogue import CATALOGUE
from swarmproof.zoo.healthy import Tally, count
from swarmproof.zoo.run import Outcome, Row, count_bug, count_twin, line_of
from swarmproof.zoo.table import markdown


def outcome(verdict: str, directory: Path = Path(), **checks: str) -> Outcome:
    return Outcome(verdict, 0, {"protocol": VALID, "linearizability": VALID} | checks, "a sentence", directory)


def row(name: str) -> Row:
    return Row(CATALOGUE[name])


def test_a_bug_is_caught_when_the_right_check_says_what_it_must() -> None:
    split = row("split-brain")
    count_bug(split, outcome(INVALID, linearizability=INVALID), 1)
    assert (split.caught, split.runs, split.by, split.sentence) == (1, 1, {"linearizability": 1}, "a sentence")
    assert split.holds


def test_a_complaint_of_another_check_is_no_catch() -> None:
    split = row("split-brain")
    count_bug(split, outcome(INVALID, protocol=INVALID), 1)
    assert (split.caught, split.runs) == (0, 1)
    assert not split.holds
    assert "seed 1: invalid" in split.missed[0]


def test_a_silent_fault_is_caught_by_unknown_and_not_by_valid() -> None:
    silent = row("silent-fault")
    count_bug(silent, outcome(UNKNOWN, faults=UNKNOWN), 1)
    count_bug(silent, outcome(VALID, faults=VALID), 2)
    assert (silent.caught, silent.runs) == (1, 2)


def test_a_freeze_is_caught_by_a_missed_threshold_of_a_correct_run() -> None:
    freeze = row("freeze")
    count_bug(freeze, outcome(VALID, thresholds=MISSED), 1)
    count_bug(freeze, outcome(INVALID, thresholds=MISSED, protocol=INVALID), 2)
    assert (freeze.caught, freeze.runs) == (1, 2)


def test_the_hot_key_must_be_decided_also_when_the_generator_could_not_keep_up() -> None:
    hot = row("hot-key")
    count_bug(hot, outcome(UNKNOWN, generator=UNKNOWN), 1)
    count_bug(hot, outcome(UNKNOWN, linearizability=UNKNOWN), 2)
    assert (hot.caught, hot.runs) == (1, 2)


def test_an_allowed_oddity_must_have_happened_to_count(tmp_path: Path) -> None:
    late = row("late-write")
    log = tmp_path / "nodes" / "n1" / "log"
    log.parent.mkdir(parents=True)
    log.write_text("nothing happened\n")
    count_bug(late, outcome(VALID, tmp_path), 1)
    log.write_text("WARNING late_write_landed after_s=2.5\n")
    count_bug(late, outcome(VALID, tmp_path), 2)
    assert (late.caught, late.runs) == (1, 2)


def test_a_healthy_twin_is_flagged_by_invalid_and_by_the_accusation_of_its_bug() -> None:
    silent = row("silent-fault")
    count_twin(silent, outcome(VALID), 1)
    count_twin(silent, outcome(UNKNOWN, generator=UNKNOWN), 2)
    assert silent.twins_flagged == 0
    count_twin(silent, outcome(UNKNOWN, faults=UNKNOWN), 3)
    count_twin(silent, outcome(INVALID, protocol=INVALID), 4)
    assert (silent.twins, silent.twins_flagged, silent.twins_valid) == (4, 2, 1)
    assert not silent.holds


def test_nineteen_of_twenty_hold_and_eighteen_do_not() -> None:
    for caught, holds in ((19, True), (18, False)):
        split = row("split-brain")
        for seed in range(20):
            count_bug(split, outcome(INVALID, linearizability=INVALID if seed < caught else VALID), seed)
        assert split.holds is holds


def test_the_table_keeps_its_columns_whatever_a_sentence_holds() -> None:
    split = row("split-brain")
    count_bug(split, Outcome(INVALID, 1, {"linearizability": INVALID}, "a | b", Path()), 1)
    assert "a \\| b" in markdown([split])
    split.sentence = 'returned "…0123456789abcdef0123456789abcdef", and "…1234ab," and "…789abc"'
    assert 'returned "…abcdef", and "…1234ab," and "…789abc"' in markdown([split])
    assert "caught 1/1 (linearizability 1)" in line_of(split)


def test_a_healthy_run_called_invalid_is_a_false_alarm_and_an_unknown_one_is_told(tmp_path: Path) -> None:
    tally = Tally("raft")
    assert count(tally, outcome(VALID, tmp_path), 1) == ""
    assert count(tally, outcome(UNKNOWN, tmp_path), 2) == "a sentence"
    assert count(tally, outcome(INVALID, tmp_path), 3) == "a sentence"
    count(tally, outcome("no verdict", tmp_path), 4)
    assert (tally.runs, tally.valid, tally.unknown, tally.false_alarms, tally.failed) == (4, 1, 1, 1, 1)
    assert [note.split(",")[0] for note in tally.notes] == ["seed 2: unknown", "seed 3: invalid", "seed 4: no verdict"]
