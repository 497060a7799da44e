"""Little's law: what was measured fills the users' time, or the run says that it does not."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from records.recorder import recorder
from swarmproof.fleet.little import LittlesLaw
from swarmproof.generator import generator_lines
from tests.locustfiles.runs import run_locust
from tests.processes import ServerProcess

MS = 1_000_000
S = 1_000_000_000


def delta_of(count: int, response_ms: float) -> dict[str, Any]:
    """What a recorder gives for so many requests of equal length."""
    recorder.latency.reset()
    end_ns = 10 * S
    for _ in range(count):
        recorder.latency.record("envelope echo", end_ns - int(response_ms * MS), end_ns, end_ns)
        recorder.latency.record("envelope connect", 0, 0, end_ns)
    return recorder.latency.take()


def watched(response_ms: float, think_ms: float = 0.0, *, counts: int = 100, seconds: int = 10) -> dict[str, Any]:
    """The law over ten users that make `counts` requests a second."""
    law = LittlesLaw()
    for second in range(seconds + 1):
        law.gather(delta_of(counts, response_ms))
        law.look(10, 10, int(second * counts * think_ms * MS), second * S)
    facts: dict[str, Any] = law.facts()["little"]
    return facts


def test_it_holds_when_responses_fill_the_time() -> None:
    facts = watched(100.0)
    assert facts["holds"] is True
    assert (facts["lanes"], facts["rate"], facts["found"]) == (10.0, 100.0, 10.0)


def test_it_holds_when_think_time_fills_the_rest() -> None:
    assert watched(30.0, 70.0)["holds"] is True


def test_it_does_not_hold_when_time_was_lost_in_the_generator() -> None:
    facts = watched(3.0)
    assert facts["holds"] is False
    assert "DOES NOT HOLD" in facts["text"]


def test_a_run_of_a_few_requests_says_nothing() -> None:
    assert watched(100.0, seconds=2)["holds"] is None


def test_time_in_which_users_come_and_go_is_not_looked_at() -> None:
    law = LittlesLaw()
    for second, users in enumerate((1, 2, 3, 3, 4)):
        law.gather(delta_of(10, 50.0))
        law.look(users, users, 0, second * S)
    assert law.facts()["little"]["seconds"] == 1.0


def test_workers_add_up() -> None:
    master = LittlesLaw()
    for name in ("one", "two"):
        law = LittlesLaw()
        for second in range(11):
            law.gather(delta_of(100, 100.0))
            law.look(10, 10, 0, second * S)
        master.add(name, law.take())
    facts = master.facts()["little"]
    assert (facts["lanes"], facts["rate"], facts["holds"]) == (20.0, 200.0, True)


@pytest.mark.parametrize("options", [("--processes", "2"), ("--engine", "--depth", "2")], ids=["workers", "engine"])
def test_a_closed_load_prints_it(tmp_path: Path, options: tuple[str, ...]) -> None:
    with ServerProcess("envelope") as server:
        result = run_locust("envelope", tmp_path, "--host", f"tcp://127.0.0.1:{server.port}", *options, seconds=7)
    load = json.loads(result.run.file("run.json").read_text())["load"]
    little = load["little"]
    # How well it holds is the machine's; what has to be right is what was added up.
    assert little["found"] == pytest.approx(
        little["rate"] * (little["response_ms"] + little["think_ms"]) / 1e3, rel=0.01
    )
    assert 0.5 < little["found"] / little["lanes"] < 1.1
    assert any(re.match(r"Little's law .* of \S+ users$", line) for line in generator_lines(load))


def test_an_open_load_has_none(tmp_path: Path) -> None:
    with ServerProcess("envelope") as server:
        host = f"tcp://127.0.0.1:{server.port}"
        result = run_locust("envelope", tmp_path, "--host", host, "--rate", "20", seconds=3)
    assert "little" not in json.loads(result.run.file("run.json").read_text())["load"]
