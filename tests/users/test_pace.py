"""Think time, however a scenario takes it, is no part of a response time."""

import csv
from pathlib import Path

from tests.locustfiles.runs import run_locust
from tests.processes import ServerProcess

SCENARIO = str(Path(__file__).with_name("pace_scenario.py"))


def test_think_time_is_not_counted_however_it_is_taken(tmp_path: Path) -> None:
    with ServerProcess("envelope") as server:
        result = run_locust(SCENARIO, tmp_path, "--host", f"tcp://127.0.0.1:{server.port}", users=3)
    assert result.exit_code == 0, result.log
    with (result.run.path / "requests.csv").open(newline="") as file:
        median_us = {
            row["operation"]: float(row["p50_us"]) for row in csv.DictReader(file) if row["time"] == "response"
        }
    for name in ("by wait_time", "by task set", "by itself"):
        assert result.requests(name) > 5
        # A tenth of a second of thinking would show; a loaded machine's own delays are far below.
        assert median_us[f"envelope {name}"] < 50_000
