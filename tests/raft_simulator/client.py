"""Clients as the product's own behave: one session each, retries under the same number, three outcomes."""

from random import Random
from typing import TYPE_CHECKING

from protocols.kv import APPEND, CAS, CAS_FAILED, GET, NOT_FOUND, OK, PUT, KvReply, KvRequest
from tests.raft_simulator.linearizability import Op
from tests.raft_simulator.profile import MS

if TYPE_CHECKING:
    from tests.raft_simulator.cluster import Cluster

# Longer than a healthy request ever takes, shorter than an outage: retries do happen.
ATTEMPT_TIMEOUT_US = 150 * MS
MAX_ATTEMPTS = 6
RETRY_PAUSE_US = 20 * MS


class SimClient:
    def __init__(self, client_id: int, cluster: "Cluster", rng: Random) -> None:
        self.client_id = client_id
        self.cluster = cluster
        self.rng = rng
        self.seq = 0
        self.target = rng.randint(1, cluster.profile.nodes)
        self.op: Op | None = None
        self.request: KvRequest | None = None
        self.attempt = 0
        self.invoked_at_commit = 0
        self.last_seen: dict[str, str | None] = {}
        self.completed = 0
        self.stopped = False

    def start(self) -> None:
        longest = self.cluster.profile.think_us[1]
        self.cluster.schedule(self.rng.randint(0, longest), self._next)

    def _next(self) -> None:
        if self.stopped:
            return
        rng = self.rng
        key = f"k{rng.randrange(self.cluster.profile.keys)}"
        kind = rng.choice((PUT, GET, GET, APPEND, APPEND, CAS))
        self.invoke(kind, key)

    def invoke(self, kind: str, key: str) -> None:
        """Begin one operation; it is in the history from here on."""
        self.seq += 1
        name = f"{self.client_id}.{self.seq};"
        expect = self.last_seen.get(key) if kind == CAS else None
        value = None if kind == GET else name
        self.op = Op(self.client_id, kind, key, value, expect, self.cluster.now_us)
        self.cluster.history.append(self.op)
        self.invoked_at_commit = self.cluster.invariants.acknowledged_index
        session = (None, None) if kind == GET else (self.client_id, self.seq)
        self.request = KvRequest(kind, key, value, expect, *session)
        self.attempt = 0
        self.cluster.note(-self.client_id, "asks %s %s %s", kind, key, value)
        self._try()

    def _try(self) -> None:
        self.attempt += 1
        op, attempt, request, target = self.op, self.attempt, self.request, self.target
        assert request is not None
        cluster = self.cluster

        def answer(reply: KvReply) -> None:
            cluster.network.send(target, -self.client_id, lambda r: self._answered(op, attempt, target, r), reply)

        node = cluster.nodes[target]
        cluster.network.send(-self.client_id, target, lambda r: node.request(r, answer), request)
        cluster.schedule(ATTEMPT_TIMEOUT_US, lambda: self._timed_out(op, attempt))

    def _timed_out(self, op: Op | None, attempt: int) -> None:
        if self.op is op and self.attempt == attempt:
            self._another_node()
            self._retry()

    def _another_node(self) -> None:
        self.target = self.rng.randint(1, self.cluster.profile.nodes)

    def _retry(self) -> None:
        if self.attempt >= MAX_ATTEMPTS:
            self.cluster.note(-self.client_id, "gives up: unknown")
            self._finish()
        else:
            self._try()

    def _answered(self, op: Op | None, attempt: int, target: int, reply: KvReply) -> None:
        if self.op is not op or op is None or op.return_us is not None:
            return
        if reply.result in {OK, NOT_FOUND, CAS_FAILED}:
            op.return_us = self.cluster.now_us
            op.ok = reply.result != CAS_FAILED
            if op.kind == GET or reply.result == CAS_FAILED:
                op.seen = reply.value  # type: ignore[assignment]
                self.last_seen[op.key] = op.seen
                self.cluster.invariants.read_served(self, op, reply)
            else:
                self.last_seen[op.key] = op.value
            self.cluster.note(-self.client_id, "gets %s %r from n%d", reply.result, reply.value, target)
            self.completed += 1
            self._finish()
        elif attempt == self.attempt:
            # Refused or unknown: again, elsewhere, under the same number. (For NOT_LEADER `version` names the leader.)
            if reply.result == "NOT_LEADER" and reply.version:
                self.target = reply.version
            else:
                self._another_node()
            self.attempt += 1  # answers and the timer of the old attempt no longer count
            attempt = self.attempt
            self.cluster.schedule(
                RETRY_PAUSE_US, lambda: self._retry() if (self.op, self.attempt) == (op, attempt) else None
            )

    def _finish(self) -> None:
        self.op = None
        if not self.stopped:
            self.cluster.schedule(self.rng.randint(*self.cluster.profile.think_us), self._next)
