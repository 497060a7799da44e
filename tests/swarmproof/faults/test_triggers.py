"""A kill during a load strikes while writes are being committed, so that there is something to lose."""

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest

from protocols.kv import PUT, KvRequest
from swarmproof.faults.triggers import await_commits
from swarmproof.targets.raft import RaftTarget


def never() -> bool:
    return False


@pytest.fixture
def writer(cluster: RaftTarget) -> Iterator[Callable[[], None]]:
    """Begins to write to the leader, one write after the other, when it is called."""
    ended = threading.Event()

    def write() -> None:
        led = cluster.leader()
        assert led is not None
        with cluster.member_of(led.node).connect() as connection:
            for number in itertools.count(1):
                if ended.is_set():
                    return
                connection.call(KvRequest(PUT, "k", f"v{number}", client_id=1, seq=number))

    thread = threading.Thread(target=write)
    yield thread.start
    ended.set()
    if thread.ident is not None:
        thread.join()


def test_a_kill_waits_until_writes_are_committed(cluster: RaftTarget, writer: Callable[[], None]) -> None:
    later = threading.Timer(0.5, writer)
    later.start()
    seen = await_commits(cluster, never, within_s=30.0)
    later.join()
    assert seen.endswith("for writes to be committed")


def test_without_any_load_it_strikes_all_the_same_and_says_so(cluster: RaftTarget) -> None:
    assert await_commits(cluster, never, within_s=0.3).startswith("no write was committed in the 0.3")


def test_it_does_not_wait_for_a_load_that_is_given_up(cluster: RaftTarget) -> None:
    assert await_commits(cluster, lambda: True, within_s=300.0).startswith("no write was committed")
