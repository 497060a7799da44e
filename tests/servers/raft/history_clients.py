"""Clients in threads that use a cluster of real nodes and write down what they were told, for the checker.

history = History()
clients = [HistoryClient(number, cluster, history) for number in (1, 2)]
...                                     # kill and restart nodes
for client in clients: client.finish()
history.check()                         # AssertionError with the operations that no order explains
"""

import random
import threading
import time

from protocols import kv
from protocols.kv import KvReply, KvRequest
from tests.raft_simulator.linearizability import Op, linearizable
from tests.servers.raft.cluster import Cluster, KvConnection

# Longer than an election, so that only a node that cannot answer is given up.
ATTEMPT_TIMEOUT_S = 0.8
OPERATION_TIMEOUT_S = 4.0
RETRY_PAUSE_S = 0.02
THINK_S = 0.01
JOIN_DEADLINE_S = 30.0


def now_us() -> int:
    return time.monotonic_ns() // 1000


class History:
    """Operations of all clients. `key` is the key that they use now; a new one keeps each key's history short."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.key = "k0"

    def done(self, since_us: int = 0) -> int:
        """How many operations that were called after `since_us` have an answer."""
        return sum(op.call_us >= since_us and op.return_us is not None for op in list(self.ops))

    def used_keys(self) -> list[str]:
        return sorted({op.key for op in self.ops})

    def check(self) -> None:
        for key in self.used_keys():
            ops = [op for op in self.ops if op.key == key]
            listed = "\n".join(map(str, ops))
            assert linearizable(ops), f"no order explains these answers for {key}:\n{listed}"


class HistoryClient:
    """One session at a time: a thread that reads at any node and writes at the leader, and retries under one number."""

    def __init__(self, client_id: int, cluster: Cluster, history: History) -> None:
        self.failure: BaseException | None = None
        self._client_id = client_id
        self._cluster = cluster
        self._history = history
        self._rng = random.Random(client_id)
        self._seq = 0
        self._leader = cluster.ids[0]
        self._connections: dict[int, KvConnection] = {}
        self._stop = threading.Event()
        self._last_seen: dict[str, str | None] = {}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def finish(self) -> None:
        """Let the present operation end. Raises what ended the thread too early."""
        self._stop.set()
        self._thread.join(JOIN_DEADLINE_S)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            while not self._stop.wait(THINK_S):
                self._operate()
        except BaseException as error:
            self.failure = error
        finally:
            for node in list(self._connections):
                self._disconnect(node)

    def _operate(self) -> None:
        self._seq += 1
        key = self._history.key
        kind = self._rng.choice((kv.PUT, kv.GET, kv.GET, kv.APPEND, kv.CAS))
        value = None if kind == kv.GET else f"{self._client_id}.{self._seq};"
        expect = self._last_seen.get(key) if kind == kv.CAS else None
        session = (None, None) if kind == kv.GET else (self._client_id, self._seq)
        request = KvRequest(kind, key, value, expect, *session)
        op = Op(self._client_id, kind, key, value, expect, now_us())
        self._history.ops.append(op)
        deadline_s = time.monotonic() + OPERATION_TIMEOUT_S
        while time.monotonic() < deadline_s:
            reply = self._attempt(request)
            if reply is not None and reply.result in (kv.OK, kv.NOT_FOUND, kv.CAS_FAILED):
                op.ok = reply.result != kv.CAS_FAILED
                op.seen = reply.value  # type: ignore[assignment]
                told = reply.value if kind == kv.GET or not op.ok else value
                self._last_seen[key] = told  # type: ignore[assignment]
                op.return_us = now_us()
                return
            assert reply is None or reply.result in (kv.NOT_LEADER, kv.BUSY, kv.UNKNOWN), reply
            time.sleep(RETRY_PAUSE_S)

    def _attempt(self, request: KvRequest) -> KvReply | None:
        """None: no answer, so nobody knows."""
        node = self._rng.choice(self._cluster.ids) if request.op == kv.GET else self._leader
        try:
            connection = self._connections.get(node)
            if connection is None:
                connection = self._connections[node] = KvConnection(self._cluster.address(node), ATTEMPT_TIMEOUT_S)
            reply = connection.call(request)
        except (OSError, EOFError):
            self._disconnect(node)
            self._leader = self._rng.choice(self._cluster.ids)
            return None
        if reply.result == kv.NOT_LEADER:
            self._leader = reply.leader.id if reply.leader is not None else self._rng.choice(self._cluster.ids)
        return reply

    def _disconnect(self, node: int) -> None:
        connection = self._connections.pop(node, None)
        if connection is not None:
            connection.close()
