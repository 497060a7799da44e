"""How other tools are measured: by the difference of two runs; and no figure without every reply as it should be."""

from collections.abc import Iterator

import pytest

from benchmarks import peers
from benchmarks.peers import Peer, Place, Ran, Row


@pytest.fixture(autouse=True)
def _floor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(peers, "floor_us", lambda: 10.0)
    return


def tool(*, failures: int = 0, missing: str = "", checked: bool = True) -> Peer:
    """Starts in 2 s of processor time and then needs 30 us for each round trip."""

    def run(place: Place, rounds: int) -> Ran:
        assert place.folder.is_dir()
        count = rounds * peers.USERS
        return Ran(2.0 + count * 30e-6, count, failures)

    return Peer("tool", "echo", "id", run, few=100, per_s=1000.0, is_checked=checked, missing=lambda: missing)


def test_what_a_tool_needs_to_start_is_not_counted() -> None:
    row = peers.measure(tool(), 1, 3.0)
    assert row.cpu_us == pytest.approx(30.0)
    assert row.floors == pytest.approx(3.0)


def test_a_tool_that_is_not_there_is_skipped_with_the_command_that_installs_it() -> None:
    row = peers.measure(tool(missing="no tool; apt-get install tool"), 1, 3.0)
    assert (row.cpu_us, row.why) == (None, "skipped: no tool; apt-get install tool")
    assert "| tool | | | | skipped: no tool; apt-get install tool |" in peers.table([row])


def test_a_run_with_wrong_replies_is_no_figure() -> None:
    row = peers.measure(tool(failures=3), 1, 3.0)
    assert (row.cpu_us, row.why) == (None, "no figure: 62000 round trips, 3 failures")


def test_a_tool_that_breaks_is_told_and_does_not_end_the_table() -> None:
    def broken(place: Place, rounds: int) -> Ran:
        raise RuntimeError("tool ended with 1: no such plan")

    row = peers.measure(Peer("tool", "echo", "id", broken, 1, 1.0), 1, 3.0)
    assert row.why == "failed: tool ended with 1: no such plan"


def test_the_claim_is_about_our_dearest_and_the_cheapest_that_checks() -> None:
    ours = [Row("fast", "id", True, 5.0, floor_us=10.0), Row("dear", "id", True, 9.0, floor_us=10.0)]
    theirs = [
        Row("careful", "id", True, 21.0, floor_us=10.0),
        Row("careless", "nothing", False, 2.0, floor_us=10.0),
        Row("absent", "id", True, None, "skipped"),
    ]
    assert peers.claim(ours, theirs).startswith("careful costs 2.3 times what dear does")
    assert peers.claim(ours, theirs).endswith("ok")
    assert peers.claim([Row("dear", "id", True, 11.0, floor_us=10.0)], theirs).endswith("MISSED")
    assert peers.claim(ours, theirs[2:]) == "nothing to compare"
