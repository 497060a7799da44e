"""Operations as columns."""

import pytest

from records.operations import HistoryError
from swarmproof.judge.history import CAS, FAILED_CAS, NEVER, NONE, read_history
from tests.judge.build import cas, failed_cas, get, put


def test_values_become_nodes_of_their_key() -> None:
    history = read_history([put("a", 0, 1), get("a", 2, 3), get("a", 2, 3, key="other"), get(None, 4, 5)])
    assert history.keys == ["k", "other"]
    assert history.wrote[0] == history.before[1] != history.before[2]
    assert history.before[3] == history.initial[0]
    assert history.wrote.tolist()[1:] == [NONE] * 3


def test_an_unanswered_operation_returns_never() -> None:
    history = read_history([put("a", 0), cas(None, "b", 1)])
    assert history.ret.tolist() == [NEVER, NEVER]


def test_a_failed_cas_is_a_read_and_a_successful_one_a_write() -> None:
    history = read_history([cas("a", "b", 0, 1), failed_cas("a", "b", "c", 2, 3)])
    assert history.kind.tolist() == [CAS, FAILED_CAS]
    assert history.is_read.tolist() == [False, True]
    assert history.is_write.tolist() == [True, False]


def test_a_clock_error_widens_every_interval_on_both_sides() -> None:
    operations = [put("a", 100, 110, process="far"), put("b", 120, process="far"), get("a", 100, 110, process="here")]
    history = read_history(operations, widen_ns={"far": 5})
    assert history.call.tolist() == [95, 115, 100]
    assert history.ret.tolist() == [115, NEVER, 110]


def test_more_rows_than_fit_a_chunk_stay_in_order() -> None:
    history = read_history(put(f"v{n}", n, n + 1) for n in range(70_000))
    assert history.call.tolist() == list(range(70_000))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 1 << 70},
        {"client": 1 << 64},
        {"op": "increment"},
        {"status": "maybe"},
        {"key": ["k"]},
        {"version": "new"},
    ],
)
def test_what_is_no_operation_is_refused_in_a_sentence(changes: dict) -> None:
    operation = put("a", 0, 1)
    for name, value in changes.items():
        setattr(operation, name, value)
    with pytest.raises(HistoryError, match="the history holds"):
        read_history([operation])
