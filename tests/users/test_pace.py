"""Think time, however a scenario takes it, is no part of a response time."""

import csv
from pathlib import Path
from time import monotonic_ns

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


def test_thinking_begins_with_the_reply() -> None:
    """Not when Locust comes to it: that would be added to every cycle of every user."""
    pace = Pace()
    replied_ns = monotonic_ns() - 30_000_000
    pace.returned(replied_ns)
    pace.think(0.05)
    assert monotonic_ns() >= replied_ns + 50_000_000
    assert pace.intended() == replied_ns + 50_000_000
    replied_ns = monotonic_ns() - 5_000_000
    pace.returned(replied_ns)
    pace.think(0.001)  # it is over already: the others have their turn, and this caller is late
    assert pace.intended() == replied_ns + 1_000_000


def test_it_begins_after_a_pause_of_the_task_itself() -> None:
    pace = Pace()
    pace.returned(monotonic_ns() - 10_000_000_000)
    begun_ns = monotonic_ns()
    pace.think(0.01)
    assert pace.intended() >= begun_ns + 10_000_000
