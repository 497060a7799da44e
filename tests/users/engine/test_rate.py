"""Open load in the engine: the schedule goes on while the server does not answer, and the waiting is counted."""

import time
from pathlib import Path
from typing import Any

import pytest

from records.latency import RESPONSE, SERVICE, LatencyStore
from tests.dishonest.envelope_server import EnvelopeServer
from tests.dishonest.tcp import Peer
from tests.locustfiles.runs import run_locust

RATE_PER_S = 200
FREEZE_S = 1.0
USERS = 4


class FreezingServer(EnvelopeServer):
    """Answers at once, but stands still for a second, once, when it has answered a while."""

    frozen = False

    def on_data(self, peer: Peer) -> None:
        if self.requests > RATE_PER_S and not self.frozen:
            self.frozen = True
            time.sleep(FREEZE_S)
        super().on_data(peer)


def at_least(store: LatencyStore, kind: str, seconds: float) -> int:
    """How many echoes took so long."""
    histogram = store.histogram("envelope echo", kind)
    total = histogram.total
    slow = 0
    for number in range(1, total + 1):
        if histogram.percentile_us(100 * (total - number + 0.5) / total) < seconds * 1e6:
            break
        slow = number
    return slow


@pytest.mark.parametrize("depth", [1, 4])
def test_arrivals_during_a_freeze_wait_and_are_all_served(tmp_path: Path, depth: int) -> None:
    with FreezingServer() as server:
        host = ("--host", f"tcp://127.0.0.1:{server.port}", "--engine")
        options = (*host, "--rate", str(RATE_PER_S), "--depth", str(depth))
        result = run_locust("envelope", tmp_path, *options, users=USERS, seconds=6)
    assert server.frozen
    assert result.exit_code == 0, result.log
    load: dict[str, Any] = result.run.read_json("run.json")["load"]
    store = LatencyStore.load(result.run)
    # Every arrival is one request, none too many, none lost: the freeze is caught up with.
    assert load["issued"] == sum(store.outcomes("envelope echo"))
    assert load["dropped"] == 0
    offered = load["issued"] + load["unissued"]
    assert RATE_PER_S * 4 <= offered <= RATE_PER_S * 6
    assert result.requests("echo") == store.summary("envelope echo").count
    # Half of the arrivals in the second of the freeze waited half of it or longer, whether or not they could be
    # sent. Only those that were under way then felt it as service time.
    waited, served_slowly = (at_least(store, kind, FREEZE_S / 2) for kind in (RESPONSE, SERVICE))
    assert waited >= RATE_PER_S * FREEZE_S / 2 * 0.8
    assert 1 <= served_slowly <= USERS * depth + waited // 4  # a starved machine has a freeze of its own at times
