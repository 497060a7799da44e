"""The shipped shell itself, in process: what it says leaves after what it depends on is durable; every read ends."""

import gevent
import pytest

from protocols import kv
from protocols.kv import KvRequest
from protocols.raft_messages import Append, Entry, PeerMessage, ReadReply, ReadRequest
from servers.raft.node import READ_BEHIND, RaftNode
from servers.raft.types import Ready
from tests.processes import CONDITION_DEADLINE_S
from tests.servers.raft.driven_shell import Shell, ShellClient, ShellCluster, disorder_in


def play(node_class: type[RaftNode] = RaftNode) -> ShellCluster:
    """Three nodes: an election, writes, a leader cut off while it writes, its return, a follower so far behind that it
    gets a snapshot."""
    shells = ShellCluster(3, node_class, snapshot_entries=10)
    first = shells.elect()
    for number in range(5):
        assert shells.write(first, f"k{number}", "v").result == kv.OK
    shells.away = {first.node.options.node_id}
    ShellClient(first).ask(999, KvRequest(kv.PUT, "lost", "v"))
    second = shells.elect()
    for number in range(40):
        assert shells.write(second, f"k{number}", "w").result == kv.OK
    for _ in range(1000):
        if second.node.core.log.base_index > first.node.core.last_index:
            break
        gevent.sleep(0.001)
        shells.write(second, "k", "another")
    shells.away = set()
    for _ in range(1000):
        shells.run()
        if first.node.machine.applied_index == second.node.machine.applied_index:
            return shells
    raise AssertionError("the node that was away did not catch up")


class SendsBeforeItPersists(RaftNode):
    def _persist(self, ready: Ready) -> None:
        self._send(ready.messages_after)
        ready.messages_after = []
        super()._persist(ready)


class NeverSyncs(RaftNode):
    def _persist(self, ready: Ready) -> None:
        self._log.append(ready.hard_state, ready.entries)


class ForgetsTheHardState(RaftNode):
    def _persist(self, ready: Ready) -> None:
        ready.hard_state = None
        super()._persist(ready)


def test_every_ready_is_persisted_before_what_depends_on_it_leaves() -> None:
    shells = play()
    assert disorder_in(shells.events, quorum=2) is None
    readys = [event.ready for _, event in shells.events if hasattr(event, "ready")]
    assert any(ready.snapshot for ready in readys), "no snapshot was installed"
    assert sum(bool(ready.must_sync and ready.messages_after) for ready in readys) > 20


@pytest.mark.parametrize("mutant", [SendsBeforeItPersists, NeverSyncs, ForgetsTheHardState])
def test_a_shell_that_speaks_too_early_is_caught(mutant: type[RaftNode]) -> None:
    shells = ShellCluster(3, mutant)
    leader = shells.elect()
    shells.write(leader, "k", "v")
    assert "before its sync" in (disorder_in(shells.events, quorum=2) or "nothing noticed")


def test_a_confirmed_read_that_the_node_never_catches_up_to_is_answered_all_the_same() -> None:
    """Cut off between the leader's confirmation and the entries it waits for."""
    sent: list[PeerMessage] = []
    shell = Shell(1, (1, 2, 3), lambda event: None, sent.append, request_timeout_s=0.05)
    node = shell.node
    node.on_message(Append(2, 1, 1, 0, 0, 0, [Entry(1, 1, b"")]))
    client = ShellClient(shell)
    client.ask(7, KvRequest(kv.GET, "k"))
    gevent.sleep(0)
    [question] = [message for message in sent if type(message) is ReadRequest]
    node.on_message(ReadReply(2, 1, 1, question.context, 5, True))
    gevent.sleep(0)
    assert not client.replies
    node.links.clear()
    node.start()
    try:
        with gevent.Timeout(CONDITION_DEADLINE_S):
            while not client.replies:
                gevent.sleep(0.005)
    finally:
        node.stop()
    assert client.replies[7] == kv.KvReply(kv.UNKNOWN, error=READ_BEHIND)
