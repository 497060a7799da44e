"""Snapshots on a simulated cluster: the last part of the MIT 6.5840 list, etcd's, and the four regressions."""

import pytest

from protocols.raft_messages import Append, AppendReply, Entry, PeerMessage, SnapshotReply
from servers.raft.core import Core
from tests.raft_simulator.cluster import STORM, Seams
from tests.raft_simulator.disk import SimDisk
from tests.raft_simulator.profile import MS, SECOND
from tests.raft_simulator.scenario import Scenario
from tests.raft_simulator.violation import Violation

SEEDS = range(5)
SNAPSHOTS = {"snapshot_entries": 8, "keep_entries": 2, "snapshot_chunk_bytes": 100}


def base(story: Scenario, node: int) -> int:
    return story.core(node).log.base_index


@pytest.mark.parametrize("seed", SEEDS)
class TestSnapshots:
    def test_snapshot_basic(self, seed):
        """Logs are trimmed as snapshots are taken, and agreement goes on."""
        story = Scenario(seed, **SNAPSHOTS)
        leader = story.elected()
        for _ in range(40):
            story.write(leader)
        story.agreed()
        assert all(base(story, node) > 20 for node in story.nodes)
        assert all(len(story.nodes[node].disk.durable.entries) < 25 for node in story.nodes)
        story.finish()

    @pytest.mark.parametrize("unreliable", [False, True])
    @pytest.mark.parametrize("crash", [False, True])
    def test_snapshot_install(self, seed, unreliable, crash):
        """A follower that was away (cut off or crashed) while the log was trimmed gets the snapshot, also over a bad
        network."""
        network = {"drop": 0.1, "duplicate": 0.1, "late": 0.1, "late_us": 30 * MS} if unreliable else {}
        story = Scenario(seed, **SNAPSHOTS, **network)
        for _ in range(3):
            leader = story.elected()
            away = story.followers(leader)[0]
            behind = story.core(away).last_index
            if crash:
                away.crash()
            else:
                story.disconnect(away)
            for _ in range(25):
                story.write(story.elected(story.others(away)))
            leader = story.elected(story.others(away))
            assert base(story, leader.node_id) > behind
            if crash:
                away.start()
            else:
                story.connect(away)
            story.elected()
            story.agreed()
        story.finish()

    def test_snapshot_all_crash(self, seed):
        """Everybody crashes and restarts from snapshot and log."""
        story = Scenario(seed, **SNAPSHOTS)
        for _ in range(5):
            for _ in range(7):
                written = story.write(story.elected())
            for node in story.nodes.values():
                node.crash()
                node.start()
            read = story.read(story.elected())
            story.wait("the read is answered", lambda read=read: read.reply is not None)
            assert read.reply.value.endswith(written.op.value)
        story.finish()

    def test_snapshot_init(self, seed):
        """A node that restarts from a snapshot and then hears a little does not fall behind it."""
        story = Scenario(seed, **SNAPSHOTS)
        for _ in range(12):
            story.write(story.elected())
        story.agreed()
        for _ in range(2):
            for node in story.nodes.values():
                node.crash()
                node.start()
                assert story.core(node).applied_index >= node.disk.durable.snapshot.index
            story.write(story.elected())
        story.finish()

    def test_a_slow_follower_after_compaction(self, seed):
        """etcd: a follower so slow that the log is trimmed under it, even while its snapshot is on the way, catches
        up in the end."""
        story = Scenario(seed, **(SNAPSHOTS | {"keep_entries": 0, "snapshot_entries": 4}))
        leader = story.elected()
        slow = story.followers(leader)[0]
        slow.slow = 30
        for _ in range(60):
            story.write(leader)
        slow.slow = 1
        story.agreed()
        story.finish()


@pytest.mark.parametrize("seed", SEEDS)
class TestRegressions:
    def test_a_delayed_shorter_append_removes_nothing_acknowledged(self, seed):
        """PySyncObj truncates its log on any shorter AppendEntries, also on one that was overtaken."""
        story = Scenario(seed)
        leader = story.elected()
        follower = story.followers(leader)[0]
        old: list[Append] = []
        deliver = follower.deliver
        follower.deliver = lambda message: (old.append(message) if type(message) is Append else None, deliver(message))
        for _ in range(10):
            story.write(leader)
        story.agreed()
        length = story.core(follower).last_index
        for message in old:
            deliver(message)
        assert story.core(follower).last_index == length
        story.run_for(100 * MS)
        assert follower.disk.durable.last_index == length
        story.finish()

    def test_a_stale_acknowledgement_of_an_earlier_term_commits_nothing(self, seed):
        """PySyncObj's acknowledgements carry no term: one of an earlier term, for an entry since replaced, is counted
        for the new one, and a write that is on one disk only is acknowledged."""
        story = Scenario(seed)
        first = story.elected()
        story.write(first)
        term, index = story.core(first).term, story.core(first).last_index
        story.disconnect(first)
        second = story.elected(story.others(first))
        third = next(node for node in story.followers(second) if node is not first)
        story.disconnect(second)
        write = story.submit(second)
        for late in range(index + 1, story.core(second).last_index + 1):
            second.deliver(AppendReply(third.node_id, second.node_id, term, True, late, 0, 0))
        story.run_for(50 * MS)
        assert not write.acknowledged
        story.finish()

    def test_a_kill_during_a_snapshot_loses_nothing(self, seed):
        """At every step of installing a received snapshot: after the rename and before the log is emptied, too."""

        class DiesInside(SimDisk):
            survivors = 0

            def crash(self) -> None:
                if self.snapshot_pending:
                    # Exactly this many of the waiting writes reach the platter.
                    for write in self._queue[: DiesInside.survivors]:
                        self._apply(*write)
                    self._queue.clear()
                super().crash()

        for DiesInside.survivors in range(5):
            story = Scenario(seed, seams=Seams(disk=DiesInside), **SNAPSHOTS)
            leader = story.elected()
            away = story.followers(leader)[0]
            story.disconnect(away)
            hopeless = story.submit(away)
            for _ in range(25):
                story.write(story.elected(story.others(away)))
            story.connect(away)
            story.wait("the snapshot is being written", lambda away=away: away.disk.snapshot_pending)
            away.crash()
            away.start()
            assert not hopeless.acknowledged
            story.agreed()
            story.finish()

    def test_killing_everybody_during_compaction_loses_nothing_acknowledged(self, seed):
        """The run that convicts PySyncObj: all nodes die while they trim their logs; every acknowledged write is
        still there."""
        for after_us in range(0, 20 * MS, 2 * MS):
            story = Scenario(seed, snapshot_entries=4, keep_entries=0, apply_early=True)
            leader = story.elected()
            acknowledged = [story.write(leader) for _ in range(8)]
            under_way = [story.submit(leader) for _ in range(8)]
            story.run_for(after_us)
            for node in story.nodes.values():
                node.crash()
            for node in story.nodes.values():
                node.start()
            read = story.read(story.elected())
            story.wait("the read is answered", lambda read=read: read.reply is not None)
            for write in [*acknowledged, *(write for write in under_way if write.acknowledged)]:
                assert write.op.value in read.reply.value
            story.finish()


class AnswersEveryAnswer(Core):
    """A chunk for each answer, also for one that came twice."""

    def step(self, message: PeerMessage) -> None:
        if type(message) is SnapshotReply and self.is_leader:
            self._progress[message.sender].offset = message.offset - 1  # whatever it says is news
        super().step(message)


class TestStorm:
    """Seed 7564 of the soak: a link that duplicates a fifth of all messages, and a snapshot in many chunks. Every chunk
    was answered and every answer brought a chunk, so that duplicates bred duplicates (the sorcerer's apprentice of
    TFTP): ten million messages in half a second of the simulator's time, and no end."""

    def install(self, core: type[Core]) -> Scenario:
        story = Scenario(0, seams=Seams(core=core), duplicate=0.2, **{**SNAPSHOTS, "snapshot_chunk_bytes": 10})
        leader = story.elected()
        away = story.followers(leader)[0]
        story.disconnect(away)
        for _ in range(40):
            story.write(leader)
        story.connect(away)
        story.agreed()
        return story

    def test_duplicates_do_not_breed_while_a_snapshot_is_sent(self):
        story = self.install(Core)
        story.finish()

    def test_they_did(self):
        with pytest.raises(Violation, match=STORM):
            self.install(AnswersEveryAnswer)


class TestAppendABA:
    def test_append_aba_race(self):
        """etcd: while a slow disk still writes entry 2 of term 1, a new leader replaces it and a third one brings it
        back; nothing is acknowledged before the disk has the last of the three."""
        story = Scenario(nodes=3)
        story.network.perfect = True
        node = story.nodes[1]
        story.disconnect(1, 2, 3)
        node.slow = 1000
        no_op = Entry(1, 1, b"")
        node.deliver(Append(2, 1, 1, 0, 0, 0, [no_op, Entry(2, 1, b"")]))
        node.deliver(Append(3, 1, 2, 1, 1, 0, [Entry(2, 2, b"")]))
        node.deliver(Append(2, 1, 3, 1, 1, 0, [Entry(2, 1, b"")]))
        sent: list[AppendReply] = []
        sending = story.invariants.sending
        story.invariants.sending = lambda who, message: (sent.append(message), sending(who, message))
        story.run_for(60 * SECOND, lambda: any(type(m) is AppendReply and m.term == 3 and m.ok for m in sent))
        assert sent[-1] == AppendReply(1, 2, 3, True, 2, 0, 0)
        assert node.disk.durable.term_at(2) == 1
        assert node.disk.durable.hard_state.term == 3

    @pytest.mark.parametrize("terms", [(1, 2), (1, 3)])
    def test_an_entry_and_its_replacement_in_one_sync(self, terms):
        """Found by the simulator in about one seed of nine thousand: the answer to the older leader leaves after a
        sync that also replaced what it acknowledges. It names the older term, so no newer leader counts it."""
        old, new = terms
        story = Scenario(nodes=3)
        node = story.nodes[1]
        story.disconnect(1, 2, 3)
        node.slow = 50
        node.deliver(Append(2, 1, old, 0, 0, 0, [Entry(1, old, b"")]))  # keeps the disk busy
        node.deliver(Append(2, 1, old, 1, old, 0, [Entry(2, old, b""), Entry(3, old, b"")]))
        node.deliver(Append(3, 1, new, 1, old, 0, [Entry(2, new, b"")]))
        answers: list[AppendReply] = []
        sending = story.invariants.sending
        story.invariants.sending = lambda who, message: (answers.append(message), sending(who, message))
        story.run_for(1 * SECOND, lambda: len([m for m in answers if type(m) is AppendReply]) == 3)
        acknowledged = [(m.to, m.term, m.index) for m in answers if type(m) is AppendReply]
        assert acknowledged == [(2, old, 1), (2, old, 3), (3, new, 2)]
        assert node.disk.durable.last_index == 2
