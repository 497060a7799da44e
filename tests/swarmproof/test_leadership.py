"""Changes of leader, as the supervisor sees them, are on file; what stays the same is not."""

from pathlib import Path
from typing import Any, cast

from records.leadership import Leader, read_leaders
from records.run_directory import RunDirectory
from swarmproof.leadership import LeadershipLog
from swarmproof.targets.cluster import ClusterMember, ClusterTarget
from swarmproof.targets.raft_watch import Leadership


class _Member:
    def __init__(self, node_id: int) -> None:
        self.name = f"n{node_id}"


class _Cluster:
    """Says what it is told to say."""

    name = "raft"
    found: Leadership | None = None

    def leader(self) -> Leadership | None:
        return self.found

    def member_of(self, node_id: int) -> ClusterMember:
        return cast("Any", _Member(node_id))


def test_only_changes_are_written_and_a_leader_counts_from_when_it_was_first_seen(tmp_path: Path) -> None:
    run, cluster = RunDirectory.create(tmp_path, "x"), _Cluster()
    log = LeadershipLog(run, [cast("ClusterTarget", cluster)])
    for now_ns, found in (
        (10, Leadership(1, 1, 7)),
        (20, Leadership(1, 1, 7)),
        (30, None),
        (40, None),
        (50, Leadership(2, 2, 45)),
        (60, None),
        (70, Leadership(2, 2, 45)),
    ):
        cluster.found = found
        log.look(now_ns)
    assert read_leaders(run) == [
        Leader(7, "raft", "n1", 1),
        Leader(30, "raft", None, 1),
        Leader(45, "raft", "n2", 2),
        Leader(60, "raft", None, 2),
        Leader(70, "raft", "n2", 2),  # it was only out of sight: it leads again from now
    ]


def test_lines_of_something_else_are_left_out(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "x")
    assert read_leaders(run) == []
    good = '{"at_ns": 5, "cluster": "raft", "leader": null, "term": 3}'
    run.file("leadership.jsonl").write_bytes(b'\xff\n[1]\n{"at_ns": "5"}\n' + good.encode() + b'\n{"at_ns": 6, "clu')
    assert read_leaders(run) == [Leader(5, "raft", None, 3)]
