"""The line of progress once a second: rates of whole seconds, wherever within a second the load began."""

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from records.latency import LatencyRecorder, LatencyStore
from records.offered import Offered
from swarmproof.fleet.health import Health
from swarmproof.fleet.progress_line import progress_line

MS = 1_000_000
S = 1_000_000_000


def line_after(seconds: float, begin_ns: int, hung_s: float, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of a load of 1000 a second for `seconds`, `hung_s` later."""
    due_ns = begin_ns + np.arange(round(seconds * 1000), dtype=np.int64) * MS
    recorder = LatencyRecorder()
    if len(due_ns):
        recorder.record_runs("envelope echo", due_ns, due_ns, due_ns, None)
    store = LatencyStore(start_ns=begin_ns)
    store.add(recorder.take())
    monkeypatch.setattr(time, "monotonic_ns", lambda: begin_ns + round((seconds + hung_s) * S))
    runner = SimpleNamespace(state="running", user_count=3, errors={})
    parts = progress_line(runner, store, begin_ns, health=Health(), offered=Offered(), lost_workers=0)
    while True:
        try:
            next(parts)
        except StopIteration as end:
            return dict(end.value)


@pytest.mark.parametrize("begin_ms", [100, 500, 900])
def test_rates_are_right_from_the_first_whole_second_on(begin_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in (2, 3.05, 7.4):
        line = line_after(seconds, 100 * S + begin_ms * MS, 0, monkeypatch)
        assert line["rate"] == pytest.approx(1000)
        assert line["operations"]["envelope echo"]["rate"] == pytest.approx(1000, rel=0.001)


def test_a_load_that_hangs_is_seen_to_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    assert line_after(5, 100 * S, 2, monkeypatch)["rate"] == pytest.approx(1000 / 3)
    assert line_after(5, 100 * S, 4, monkeypatch)["rate"] == 0


def test_before_anything_has_ended_rates_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    line = line_after(0, 100 * S, 0.5, monkeypatch)
    assert (line["rate"], line["count"], line["operations"]) == (0, 0, {})
