"""Who leads, and since when: one thread per node asks for its status, rarely in quiet times, every 15 ms in an outage.

A node that does not answer is unknown, not a follower. Where several claim to lead (a paused leader that woke up, for
one), the highest term is believed: raft elects at most one leader per term.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from protocols.kv import KvStatus
from swarmproof.targets.kv_client import KvConnection, KvUnavailable

QUIET_INTERVAL_S = 0.2
OUTAGE_INTERVAL_S = 0.015  # faults.md asks for 20 ms at most
ANSWER_WITHIN_S = 0.25  # longer than any healthy answer, shorter than an election
FRESH_WITHIN_S = 1.0

LEADER = "leader"


class Leadership(NamedTuple):
    """One node leading one term, seen for the first time at `since_ns` (monotonic)."""

    node: int
    term: int
    since_ns: int


class RaftWatch:
    """Polls all nodes of one cluster until closed. `addresses`: node id -> (host, port); `connect`: how to ask one."""

    def __init__(
        self,
        addresses: Mapping[int, tuple[str, int]],
        connect: Callable[[str, int, float], KvConnection] = KvConnection,
    ) -> None:
        self.addresses = dict(addresses)
        self._connect = connect
        self._views: dict[int, tuple[KvStatus, int]] = {}
        self._leaders: dict[tuple[int, int], int] = {}
        self._changed = threading.Condition()
        self._urgent = 0
        self._closed = False
        self._wake = {node: threading.Event() for node in addresses}
        self._threads = [
            threading.Thread(target=self._poll, args=(node,), name=f"watch-n{node}", daemon=True) for node in addresses
        ]
        for thread in self._threads:
            thread.start()

    def status(self, node: int, since_ns: int = 0) -> KvStatus | None:
        """The node's latest status, None when it does not answer (or has not since `since_ns`)."""
        with self._changed:
            view = self._views.get(node)
            return self._fresh(node) if view is not None and view[1] >= since_ns else None

    def leader(self) -> Leadership | None:
        """The leader of the highest term, None while there is none."""
        with self._changed:
            return self._leader()

    def term(self) -> int:
        """The highest term that any answering node knows."""
        with self._changed:
            return max((status.term for node in self._views if (status := self._fresh(node))), default=0)

    def wait_for_leader(
        self, timeout_s: float, *, after_ns: int = 0, not_node: int | None = None, min_term: int = 0
    ) -> Leadership | None:
        """Wait for a leader first seen after `after_ns`, other than `not_node`, of at least `min_term`."""
        deadline = time.monotonic() + timeout_s
        with self.urgently(), self._changed:
            while True:
                found = self._leader()
                if (
                    found is not None
                    and found.since_ns >= after_ns
                    and found.node != not_node
                    and found.term >= min_term
                ):
                    return found
                left_s = deadline - time.monotonic()
                if left_s <= 0 or self._closed:
                    return None
                self._changed.wait(min(left_s, OUTAGE_INTERVAL_S))

    @contextlib.contextmanager
    def urgently(self) -> Iterator[None]:
        """Poll every OUTAGE_INTERVAL_S within this block."""
        with self._changed:
            self._urgent += 1
        for wake in self._wake.values():
            wake.set()
        try:
            yield
        finally:
            with self._changed:
                self._urgent -= 1

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for wake in self._wake.values():
            wake.set()
        for thread in self._threads:
            thread.join(2 * ANSWER_WITHIN_S + 1)

    # Internals. The first two are called under the lock.

    def _fresh(self, node: int) -> KvStatus | None:
        view = self._views.get(node)
        if view is None or time.monotonic_ns() - view[1] > FRESH_WITHIN_S * 1e9:
            return None
        return view[0]

    def _leader(self) -> Leadership | None:
        best: Leadership | None = None
        for node in self._views:
            status = self._fresh(node)
            if status is not None and status.role == LEADER and (best is None or status.term > best.term):
                best = Leadership(node, status.term, self._leaders[node, status.term])
        return best

    def _poll(self, node: int) -> None:
        host, port = self.addresses[node]
        wake = self._wake[node]
        with self._connect(host, port, ANSWER_WITHIN_S) as connection:
            while not self._closed:
                asked_ns = time.monotonic_ns()
                try:
                    status: KvStatus | None = connection.status()
                except KvUnavailable:
                    status = None
                self._see(node, status, asked_ns)
                wake.wait(OUTAGE_INTERVAL_S if self._urgent else QUIET_INTERVAL_S)
                wake.clear()

    def _see(self, node: int, status: KvStatus | None, asked_ns: int) -> None:
        now_ns = time.monotonic_ns()
        with self._changed:
            if status is None:
                self._views.pop(node, None)
            else:
                self._views[node] = (status, asked_ns)  # it said so at some time after it was asked
                if status.role == LEADER:
                    self._leaders.setdefault((node, status.term), now_ns)
            self._changed.notify_all()
