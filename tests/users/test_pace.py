"""Think time, however a scenario takes it, is no part of a response time."""

import csv
import time
from pathlib import Path
from time import monotonic_ns

import gevent

from records.recorder import recorder
from tests.locustfiles.runs import run_locust
from tests.processes import ServerProcess
from users.pace import Pace

SCENARIO = str(Path(__file__).with_name("pace_scenario.py"))


def test_think_time_is_not_counted_however_it_is_taken(tmp_path: Path) -> None:
    with ServerProcess("envelope") as server:
        result = run_locust(SCENARIO, tmp_path, "--host", f"tcp://127.0.0.1:{server.port}", users=5)
    assert result.exit_code == 0, result.log
    with (result.run.path / "requests.csv").open(newline="") as file:
        median_us = {
            row["operation"]: float(row["p50_us"]) for row in csv.DictReader(file) if row["time"] == "response"
        }
    for name in ("by wait_time", "by task set", "by itself", "by both", "by other tasks"):
        assert result.requests(name) > 5
        # A tenth of a second of thinking would show; a loaded machine's own delays are far below.
        assert median_us[f"envelope {name}"] < 50_000


MS = 1_000_000


def thought_ns(pace: Pace, seconds: float) -> int:
    before_ns = recorder.think_ns
    pace.think(seconds)
    return recorder.think_ns - before_ns


def test_thinking_begins_with_the_reply() -> None:
    """Not when Locust comes to it: that would be added to every cycle of every user."""
    pace = Pace()
    replied_ns = monotonic_ns() - 30 * MS
    pace.returned(replied_ns)
    assert thought_ns(pace, 0.05) == 50 * MS
    assert monotonic_ns() >= replied_ns + 50 * MS
    assert pace.intended() == replied_ns + 50 * MS
    replied_ns = monotonic_ns() - 5 * MS
    pace.returned(replied_ns)
    pace.think(0.001)  # it is over already: the others have their turn, and this caller is late
    assert pace.intended() == replied_ns + 1 * MS


def test_it_begins_after_a_pause_of_the_task_itself_which_was_thinking_too() -> None:
    pace = Pace()
    replied_ns = monotonic_ns()
    pace.returned(replied_ns)
    gevent.sleep(0.08)
    begun_ns = monotonic_ns()
    thought = thought_ns(pace, 0.01)
    assert pace.intended() >= begun_ns + 10 * MS
    assert thought == pace.intended() - replied_ns


def test_a_generator_that_stood_still_after_the_reply_has_not_thought() -> None:
    pace = Pace()
    replied_ns = monotonic_ns()
    pace.returned(replied_ns)
    time.sleep(0.08)  # a garbage collection, or another caller of the same turn
    assert thought_ns(pace, 0.01) == 10 * MS
    assert pace.intended() == replied_ns + 10 * MS
    pace.returned(replied_ns)
    time.sleep(0.08)
    assert pace.intended() == replied_ns


def test_without_a_reply_it_begins_when_it_is_asked_for() -> None:
    """Tasks that make no request do not use up the think times after them."""
    pace = Pace()
    pace.returned(monotonic_ns())
    pace.think(0.001)
    for _ in range(3):
        time.sleep(0.02)  # what the task does
        begun_ns = monotonic_ns()
        pace.think(0.01)
        assert monotonic_ns() >= begun_ns + 10 * MS
    assert monotonic_ns() - pace.intended() < 20 * MS, "the next request is not late by all of them"
