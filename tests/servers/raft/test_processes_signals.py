"""SIGKILL, SIGTERM and SIGSTOP of leader, follower, majority and all, again and again, while clients work.

Without a majority nothing is answered; with one, work goes on; afterwards every node tells the same, and the history
of all clients is linearizable.
"""

import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from protocols import kv
from protocols.kv import KvRequest
from tests.processes import wait_until
from tests.raft_simulator.linearizability import Op
from tests.servers.raft.cluster import Cluster
from tests.servers.raft.history_clients import History, HistoryClient, now_us

STRIKES = ("leader", "follower", "majority", "leader", "all")
# Longer than the longest election timeout (600 ms): whoever could be elected would be.
AWAY_S = 0.8
# Answers that show that work goes on.
PROGRESS = 8


def victims_of(cluster: Cluster, strike: str) -> list[int]:
    leader = cluster.leader()
    followers = [node for node in cluster.ids if node != leader]
    return {
        "leader": [leader],
        "follower": followers[:1],
        "majority": [leader, *followers[1:]],
        "all": cluster.ids,
    }[strike]


def strike_down(cluster: Cluster, number: signal.Signals, victims: Sequence[int]) -> None:
    for node in victims:
        cluster.processes[node].signal(number)
    expected = 0 if number == signal.SIGTERM else -signal.SIGKILL
    for node in victims:
        process = cluster.processes[node]
        if number == signal.SIGSTOP:
            wait_until(lambda process=process: is_stopped(process.pid), f"n{node} to stand still")  # type: ignore[misc]
        else:
            assert process.wait() == expected, process.log_tail()


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def bring_back(cluster: Cluster, number: signal.Signals, victims: Sequence[int]) -> None:
    if number == signal.SIGSTOP:
        for node in victims:
            cluster.resume(node)
    else:
        cluster.start(*victims)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP], ids=lambda number: number.name)
def test_signals_at_leader_follower_majority_and_all_lose_nothing(tmp_path: Path, number: signal.Signals) -> None:
    history = History()
    with Cluster(3, tmp_path, "--request-timeout", "1") as cluster:
        clients = [HistoryClient(client_id, cluster, history) for client_id in (1, 2)]
        try:
            for turn, strike in enumerate(STRIKES):
                await_progress(history, f"work before turn {turn}, {strike}")
                victims = victims_of(cluster, strike)
                strike_down(cluster, number, victims)
                struck_us = now_us()
                if len(victims) == 1:
                    await_progress(history, f"work without the {strike}")
                else:
                    time.sleep(AWAY_S)
                    assert history.done(struck_us) == 0, f"answered without a majority, turn {turn}"
                history.key = f"k{turn + 1}"
                bring_back(cluster, number, victims)
            await_progress(history, "work at the end")
        finally:
            for client in clients:
                client.finish()
        read_everything_everywhere(cluster, history)
        await_agreement(cluster)
    history.check()


def await_progress(history: History, what: str) -> None:
    begun_us = now_us()
    wait_until(lambda: history.done(begun_us) >= PROGRESS, what)


def read_everything_everywhere(cluster: Cluster, history: History) -> None:
    for key in history.used_keys():
        for node in cluster.ids:
            op = Op(100 + node, kv.GET, key, None, None, now_us())
            value = cluster.read(node, key).value
            assert value is None or isinstance(value, str)
            op.seen, op.ok, op.return_us = value, True, now_us()
            history.ops.append(op)


def await_agreement(cluster: Cluster) -> None:
    """All nodes name one leader and one term, and have applied the same."""

    def agreed() -> bool:
        seen = [cluster.status(node) for node in cluster.ids]
        told = {
            (status.leader, status.term, status.applied_index, status.commit_index, status.last_log_index)
            for status in seen
            if status is not None
        }
        return None not in seen and len(told) == 1 and sum(s is not None and s.role == "leader" for s in seen) == 1

    wait_until(agreed, "agreement of all nodes")
    assert cluster.call(cluster.leader(), KvRequest(kv.STATUS)).result == kv.OK
