"""The truth that the accuracy benchmark holds its figures against, where it can be computed by hand."""

import numpy as np
import pytest

from benchmarks.accuracy import Case, is_right, percentiles, true_us

MS = 1000.0
#: A server that answers in 1 ms and freezes 2 s once in 60 s.
OPEN = Case("frozen", "constant:1", is_open=True, seconds=60.0, freeze_s=2.0)
CLOSED = Case("frozen", "constant:1", is_open=False, seconds=60.0, freeze_s=2.0, think_s=0.019)
ALWAYS_1_MS = np.array([1 * MS])


def test_open_load_at_a_thousand_a_second_has_p99_of_1_4_s_and_p99_9_of_1_94_s() -> None:
    truth = percentiles(true_us(OPEN, ALWAYS_1_MS, 60_000))
    assert truth[50.0] == 1 * MS
    assert truth[99.0] == pytest.approx(1400 * MS, rel=0.01)
    assert truth[99.9] == pytest.approx(1940 * MS, rel=0.01)


def test_closed_load_of_twenty_users_shows_1_ms_for_both() -> None:
    truth = percentiles(true_us(CLOSED, ALWAYS_1_MS, 59_000))
    assert (truth[99.0], truth[99.9]) == (1 * MS, 1 * MS)
    assert truth[99.99] > 1900 * MS  # twenty requests of all


def test_right_is_within_one_percent_or_50_us() -> None:
    assert is_right(1049, 1000, OPEN)
    assert not is_right(1051, 1000, OPEN)
    assert is_right(100_990, 100_000, OPEN)
    assert not is_right(98_990, 100_000, OPEN)


def test_where_in_its_cycle_the_freeze_met_a_user_is_nobodys_choice() -> None:
    assert is_right(1_985_000, 2_000_000, CLOSED)
    assert not is_right(1_950_000, 2_000_000, CLOSED)
    assert not is_right(1_960_000, 2_000_000, OPEN)
