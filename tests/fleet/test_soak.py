"""The soak of a fleet in short: it looks at every process, says flat for a flat one, and sees what grows."""

import re
import subprocess
import sys

import pytest

from benchmarks.soak_fleet import Sample, judge
from tests.processes import ROOT


def samples(grows: str = "", by: float = 0.0) -> list[Sample]:
    """Sixty samples of one process; one quantity grows by so much altogether."""
    found = []
    for number in range(60):
        values = {"rss_mb": 80.0, "fds": 20.0, "threads": 3.0, "greenlets": 40.0}
        if grows:
            values[grows] += by * number / 60
        found.append(Sample("worker-1", number * 0.5, **values))
    return found


def test_what_stays_is_flat() -> None:
    assert all(one.is_flat for one in judge(samples(), 30.0))


@pytest.mark.parametrize(("quantity", "by"), [("rss_mb", 30.0), ("fds", 12.0), ("threads", 9.0), ("greenlets", 40.0)])
def test_what_grows_is_not(quantity: str, by: float) -> None:
    assert [one.quantity for one in judge(samples(quantity, by), 30.0) if not one.is_flat] == [quantity]


def test_what_grows_while_it_starts_is_flat_afterwards() -> None:
    starting = [one._replace(rss_mb=20.0 + number * 10) for number, one in enumerate(samples()[:6])]
    assert all(one.is_flat for one in judge(starting + samples()[6:], 30.0))


def test_a_fleet_is_flat_for_twenty_seconds() -> None:
    command = [sys.executable, "-m", "benchmarks.soak_fleet", "--duration", "20s", "--users", "10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(set(re.findall(r"^((?:master|worker)-\d+)", done.stdout, re.MULTILINE))) == 3
    assert done.stdout.splitlines()[-1].endswith("in 20 s: flat")
