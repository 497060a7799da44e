"""Moments that are not times: after so many operations, when so many requests are in flight on the leader, or while
writes are being committed."""

import threading
import time
from collections.abc import Callable, Sequence

from protocols.kv import KvStatus
from swarmproof.durations import show_s
from swarmproof.faults.schedule import FaultSpec
from swarmproof.targets.base import Target
from swarmproof.targets.cluster import ClusterTarget

# The load reports what it has done once a second; requests in flight come and go between two looks.
LOOK_AGAIN_S = 0.01
# A generator that stood still for a moment, or clients that look for the leader, are back by then. Without load at
# all a fault strikes all the same: that it met none is for the judge to say.
LOAD_WITHIN_S = 1.0
# Two looks and the answers to them; what takes longer is worth a word in the record.
AT_ONCE_S = 0.1


class NotReached(Exception):
    """The load ended first; the text is the sentence for the record."""


class Moment:
    """What a fault waits for beyond its time. A fault that waits for nothing passes at once."""

    def __init__(self, spec: FaultSpec, targets: Sequence[Target], operations: Callable[[], int]) -> None:
        self._spec = spec
        self._targets = targets
        self._operations = operations

    def wait(self, ending: threading.Event) -> str:
        """What was seen, for the record; "" when nothing was waited for. Errors: NotReached."""
        if self._spec.after_operations is not None:
            return self._wait_for(self._spec.after_operations, self._operations, "operations were done", ending)
        if self._spec.in_flight is not None:
            cluster = next((target for target in self._targets if isinstance(target, ClusterTarget)), None)
            if cluster is None or cluster.watch is None:
                raise NotReached("there is no leader on which requests could be in flight")
            with cluster.watch.urgently():
                return self._wait_for(
                    self._spec.in_flight, lambda: in_flight(cluster), "writes were in flight on the leader", ending
                )
        return ""

    @staticmethod
    def _wait_for(wanted: int, look: Callable[[], int], words: str, ending: threading.Event) -> str:
        most = 0
        while True:
            seen = look()
            if seen >= wanted:
                return f"{seen} {words} ({wanted} were asked for)"
            most = max(most, seen)
            if ending.wait(LOOK_AGAIN_S):
                raise NotReached(f"at most {most} {words} before the load ended, and {wanted} were asked for")


def in_flight(cluster: ClusterTarget) -> int:
    """Writes in the leader's log that are not committed yet: what its clients wait for."""
    leader = cluster.leader()
    status = cluster.watch.status(leader.node) if leader is not None and cluster.watch is not None else None
    return max(status.last_log_index - status.commit_index, 0) if status is not None else 0


def await_commits(cluster: ClusterTarget, give_up: Callable[[], bool], within_s: float = LOAD_WITHIN_S) -> str:
    """Wait until the leader commits entries between two looks at it; what was waited for, "" when it did at once.

    A kill in a moment without writes puts none at risk, and proves nothing.
    """
    watch = cluster.watch
    if watch is None:
        return ""
    began = time.monotonic()
    first: KvStatus | None = None
    with watch.urgently():
        began_ns = time.monotonic_ns()
        while time.monotonic() - began < within_s and not give_up():
            leader = cluster.leader()
            status = watch.status(leader.node, began_ns) if leader is not None else None
            if status is not None and first is not None and status.id == first.id:
                if status.commit_index > first.commit_index:
                    waited_s = time.monotonic() - began
                    return f"waited {show_s(waited_s)} for writes to be committed" if waited_s > AT_ONCE_S else ""
            elif status is not None:
                first = status
            time.sleep(LOOK_AGAIN_S)
    return f"no write was committed in the {show_s(time.monotonic() - began)} before it"
