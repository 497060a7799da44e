"""Tasks run as Locust runs them, and Locust's table says the same whether or not anybody listens to its event."""

import re
from pathlib import Path

import pytest

from tests.locustfiles.runs import LocustRun, run_locust
from tests.processes import ServerProcess

SCENARIO = str(Path(__file__).with_name("tasks_scenario.py"))


def ran(result: LocustRun) -> dict[str, int]:
    return {name: int(number) for name, number in re.findall(r"RAN (.+) (\d+)\s", result.log)}


@pytest.mark.parametrize("options", [(), ("--listen",), ("--depth", "4")])
def test_plain_nested_scheduled_and_raising_tasks_run_as_locust_runs_them(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    with ServerProcess("envelope") as server:
        host = ("--host", f"tcp://127.0.0.1:{server.port}", *options)
        result = run_locust(SCENARIO, tmp_path, *host, users=3)
    counted = ran(result)
    # Three to one to one.
    assert counted["often"] > 100, result.log[-2000:]
    assert counted["often"] / counted["seldom"] == pytest.approx(3, rel=0.5)
    assert counted["often"] / counted["nested"] == pytest.approx(3, rel=0.5)
    assert counted["extra"] == 1
    assert "ValueError: of a task" in result.log
    # The last one may have been stopped while it waited for its reply, and so may each lane's.
    lanes = 4 if "--depth" in options else 1
    assert 0 <= counted["think"] - counted["waits"] <= lanes
    table = {name: (int(n), int(size)) for name, n, size in re.findall(r"TABLE (\w+) (\d+) (\d+)", result.log)}
    for name, size in (("often", 5), ("seldom", 6), ("nested", 1)):
        number, length = table[name]
        assert counted[name] - 2 * lanes <= number <= counted[name]
        assert length == size * number
        if "--listen" in options:
            assert counted[f"heard {name}"] == number
