"""A server that freezes, as docs/open-load.md tells it: open load sees it in its percentiles, closed load hides it.

Scaled to 0.8 s in eight, at 100 requests a second: of the requests that are due in the freeze, those due at its begin
wait for all of it. So (0.8 - x) / 8 of all requests wait for longer than x, which puts p99 at 0.72 s and p95 at 0.4 s.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from records.histogram import lowest_equivalent_us
from records.latency import LatencyStore
from tests.locustfiles.runs import run_locust
from tests.processes import ROOT, Process
from tests.users.test_open_load import load_of

FREEZE_S, SECONDS, RATE_PER_S, USERS = 0.8, 8, 100, 4
SCENARIO = str(ROOT / "tests" / "users" / "freeze_scenario.py")
#: A machine that is busy itself lets requests wait for less than this.
LONG_US = 400_000


@contextmanager
def freezing_server(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.targets.delays", "--delays", "constant:1"]
    server = Process([*command, "--freeze", f"3:{FREEZE_S}", "--log", str(folder / "delays.npy")])
    try:
        yield "tcp://" + server.read_line(30).split()[-1]
    finally:
        server.close()


def waited_long(folder: Path, *options: str) -> tuple[int, int]:
    """How many requests waited for long, of how many."""
    folder.mkdir()
    with freezing_server(folder) as host:
        result = run_locust(SCENARIO, folder, "--host", host, *options, users=USERS, seconds=SECONDS)
    histogram = LatencyStore.load(result.run).histogram("envelope echo")
    if "--rate" in options:
        load = load_of(result.run)
        assert load["dropped"] == 0
        assert load["issued"] + load["unissued"] >= RATE_PER_S * (SECONDS - 2)
    return int(histogram.counts[lowest_equivalent_us(histogram.indices) >= LONG_US].sum()), histogram.total


def test_open_load_sees_the_freeze_and_closed_load_meets_it_once_for_each_user(tmp_path: Path) -> None:
    lanes = str(int(RATE_PER_S * FREEZE_S / USERS * 1.5))
    seen, of_all = waited_long(tmp_path / "open", "--rate", str(RATE_PER_S), "--depth", lanes)
    # Due in the first half of the freeze: forty. They are far more than one in a hundred, so p99 tells.
    assert seen >= RATE_PER_S * (FREEZE_S - LONG_US / 1e6) * 0.9
    assert seen / of_all > 0.03
    met, _ = waited_long(tmp_path / "closed")
    assert USERS * 0.5 <= met < seen / 2
