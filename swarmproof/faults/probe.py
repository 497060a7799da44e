"""The probe: one write per outage, sent as soon as somebody leads, to know when writes are acknowledged again.

It writes to a key of its own, which users do not touch, in a session of its own: the same write goes out again until it
is acknowledged, and is applied once. It stands in the history like every other operation.
"""

import itertools
import secrets
import threading
import time
from collections.abc import Callable

from protocols.kv import OK, PUT, KvRequest
from swarmproof.history import PROBE_CLIENT, SupervisorHistory
from swarmproof.targets.cluster import ClusterTarget
from swarmproof.targets.kv_client import write_somewhere

PROBE_KEY = "swarmproof-probe"
# Longer than a round trip with an fsync on a busy disk, shorter than an election: a node that died is left soon.
ATTEMPT_TIMEOUT_S = 0.25


class Probe:
    """Writes to one cluster, one write at a time."""

    def __init__(self, cluster: ClusterTarget, history: SupervisorHistory, key: str = PROBE_KEY) -> None:
        self._cluster = cluster
        self._history = history
        self._key = key
        self._session = secrets.randbits(64)
        self._numbers = itertools.count(1)
        self._busy = threading.Lock()

    def first_acknowledged_ns(
        self, within_s: float, *, avoid: Callable[[], set[int]], give_up: Callable[[], bool]
    ) -> int | None:
        """Write until acknowledged; the time (monotonic ns) of the acknowledgement, None when there was none.

        `avoid` names the nodes under a fault: a leader that stands still accepts connections and never answers.
        """

        def choose() -> int | None:
            leader = self._cluster.leader()
            return leader.node if leader is not None and leader.node not in avoid() else None

        with self._busy:
            number = next(self._numbers)
            value = f"probe-{self._session:016x}-{number}"  # unique, as every written value
            request = KvRequest(PUT, self._key, value, client_id=self._session, seq=number)
            connections = {member.node_id: member.connect(ATTEMPT_TIMEOUT_S) for member in self._cluster.members}
            identity = self._history.invoke(PROBE_CLIENT, request)
            try:
                written = write_somewhere(
                    connections,
                    request,
                    choose=choose,
                    within_s=within_s,
                    attempt_timeout_s=ATTEMPT_TIMEOUT_S,
                    give_up=give_up,
                )
                now_ns = time.monotonic_ns()
                acknowledged = written.reply is not None and written.reply.result == OK
                self._history.complete(
                    identity,
                    written.reply if acknowledged else None,
                    node=written.node,
                    attempts=max(written.attempts, 1),
                )
                self._history.flush()
            finally:
                for connection in connections.values():
                    connection.close()
            return now_ns if acknowledged else None
