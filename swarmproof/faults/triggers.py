"""Moments that are not times: after so many operations, or when so many requests are in flight on the leader."""

import threading
from collections.abc import Callable, Sequence

from swarmproof.faults.schedule import FaultSpec
from swarmproof.targets.base import Target
from swarmproof.targets.cluster import ClusterTarget

# The load reports what it has done once a second; requests in flight come and go between two looks.
LOOK_AGAIN_S = 0.01


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
