"""Writes down every change of leader that the supervisor sees, for the ribbon under the charts."""

from collections.abc import Sequence

from records.leadership import Leader, append_leader
from records.run_directory import RunDirectory
from swarmproof.targets.cluster import ClusterTarget


class LeadershipLog:
    """Asked to look often; writes only what has changed."""

    def __init__(self, run: RunDirectory, clusters: Sequence[ClusterTarget]) -> None:
        self._run = run
        self._clusters = clusters
        self._last: dict[str, tuple[str | None, int]] = {}

    def look(self, now_ns: int) -> None:
        """Compare with what was seen last. A leader counts from when its node first said so, nobody from now."""
        for cluster in self._clusters:
            found = cluster.leader()
            last_leader, last_term = self._last.get(cluster.name, ("", 0))
            if found is None:
                change = Leader(now_ns, cluster.name, None, last_term)
            else:
                change = Leader(found.since_ns, cluster.name, cluster.member_of(found.node).name, found.term)
            if (change.leader, change.term) != (last_leader, last_term):
                # One that was out of sight for a moment leads again from now, not from its first day.
                again = last_leader is None and change.term == last_term
                self._last[cluster.name] = (change.leader, change.term)
                append_leader(self._run, Leader(now_ns, *_rest(change)) if again else change)


def _rest(change: Leader) -> tuple[str, str | None, int]:
    return change.cluster, change.leader, change.term
