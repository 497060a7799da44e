"""Replication, message by message. Each test quotes the sentence it proves."""

import pytest

from protocols.raft_messages import (
    Append,
    AppendReply,
    Entry,
    Heartbeat,
    HeartbeatReply,
    SnapshotChunk,
    SnapshotReply,
    decode_message,
    encode_message,
)
from servers.raft.types import Busy, InvariantBroken, NotLeader, Role, Snapshot
from tests.servers.raft.driven_core import DrivenCore, entries, of_type


def append(node: DrivenCore, prev: tuple[int, int], terms: list[int], *, term=None, commit=0) -> list[AppendReply]:
    term = term or max([node.core.term, prev[1], *terms])
    message = Append(2, 1, term, *prev, commit, entries(prev[0] + 1, *terms))
    return of_type(node.step(message), AppendReply)


class TestFollower:
    def test_entries_are_durable_before_they_are_acknowledged(self):
        node = DrivenCore(term=1)
        node.core.step(Append(2, 1, 1, 0, 0, 0, entries(1, 1, 1)))
        ready = node.core.ready()
        assert ready.entries == entries(1, 1, 1)
        assert ready.messages_before == []
        assert ready.messages_after == [AppendReply(1, 2, 1, True, 2, 0, 0)]

    def test_many_appends_between_two_readys_are_answered_once(self):
        node = DrivenCore(term=1)
        for index in range(1, 9):
            node.core.step(Append(2, 1, 1, index - 1, 1 if index > 1 else 0, 0, entries(index, 1)))
        assert node.run() == [AppendReply(1, 2, 1, True, 8, 0, 0)]

    def test_a_delayed_shorter_append_removes_nothing(self):
        """Raft paper, 5.3: only a conflicting entry is deleted with all that follow it. A shorter Append that
        was overtaken conflicts with nothing (PySyncObj truncates here)."""
        node = DrivenCore(term=1)
        append(node, (0, 0), [1, 1, 1, 1])
        assert append(node, (0, 0), [1, 1])[0].ok
        assert append(node, (1, 1), [])[0].ok
        assert node.log_terms() == [1, 1, 1, 1]

    def test_a_conflict_replaces_the_rest_of_the_log(self):
        node = DrivenCore(term=3, terms=[1, 1, 2, 2])
        assert append(node, (2, 1), [3])[0] == AppendReply(1, 2, 3, True, 3, 0, 0)
        assert node.log_terms() == [1, 1, 3]
        assert node.readys[-1].entries == entries(3, 3)

    def test_a_committed_entry_is_never_replaced(self):
        node = DrivenCore(term=1)
        append(node, (0, 0), [1, 1, 1], commit=3)
        assert append(node, (0, 0), [2, 2], term=2)[0].index == 3
        assert node.log_terms() == [1, 1, 1]
        with pytest.raises(InvariantBroken, match="committed here"):
            node.core._truncate_from(3)

    @pytest.mark.parametrize(
        ("terms", "prev", "hint"),
        [
            ([1, 1], (9, 3), (2, 1)),  # too short: where it ends
            ([1, 2, 2, 2, 2], (5, 1), (1, 1)),  # a whole conflicting term is skipped
            ([1, 1, 3, 3], (4, 2), (2, 1)),
            ([], (4, 2), (0, 0)),
        ],
    )
    def test_a_refusal_says_where_the_logs_may_agree(self, terms, prev, hint):
        """Raft paper, end of 5.3: "the follower can include the term of the conflicting entry and the first index it
        stores for that term"."""
        node = DrivenCore(term=4, terms=terms)
        assert append(node, prev, [4]) == [AppendReply(1, 2, 4, False, prev[0], *hint)]

    def test_commit_never_exceeds_what_this_append_proved(self):
        """Raft paper, figure 2: "set commitIndex = min(leaderCommit, index of last new entry)"."""
        node = DrivenCore(term=2, terms=[1, 1, 1])
        append(node, (1, 1), [], term=2, commit=3)
        assert node.core.commit_index == 1

    def test_a_commit_beyond_an_acknowledged_log_stops_the_node(self):
        node = DrivenCore(term=1)
        with pytest.raises(InvariantBroken, match="which this node acknowledged"):
            node.core.step(Heartbeat(2, 1, 1, 5, 0))

    def test_an_acknowledgement_is_not_sent_to_the_leader_of_another_term(self):
        node = DrivenCore(term=1)
        node.core.step(Append(2, 1, 1, 0, 0, 0, entries(1, 1, 1)))
        node.core.step(Append(3, 1, 2, 0, 0, 0, entries(1, 2)))
        assert of_type(node.run(), AppendReply) == [AppendReply(1, 3, 2, True, 1, 0, 0)]


class TestLeader:
    def test_a_new_leader_appends_a_no_op_of_its_term(self):
        node = DrivenCore(terms=[1, 1], term=1)
        sent = node.elect()
        assert sent == [Append(1, peer, 2, 2, 1, 0, [Entry(3, 2, b"")]) for peer in (2, 3)]

    def test_appends_leave_before_the_leaders_own_fsync_but_it_counts_itself_after(self):
        """Thesis 10.2.1: the leader may write to its disk in parallel with replicating to the followers."""
        node = DrivenCore()
        node.elect()
        node.acknowledge(2)
        node.core.propose(b"x")
        ready = node.core.ready()
        assert len(of_type(ready.messages_before, Append)) == 1  # the other peer is still being probed
        node.core.step(AppendReply(2, 1, 1, True, 2, 0, 0))
        assert node.core.commit_index == 1
        node.core.persisted(ready)
        assert node.core.commit_index == 2

    def test_a_quorum_of_others_is_enough_without_the_leaders_disk(self):
        node = DrivenCore()
        node.elect()
        node.core.propose(b"x")
        node.core.ready()
        node.core.step(AppendReply(2, 1, 1, True, 2, 0, 0))
        node.core.step(AppendReply(3, 1, 1, True, 2, 0, 0))
        assert node.core.commit_index == 2

    def test_entries_of_earlier_terms_are_not_committed_by_counting(self):
        """Raft paper, 5.4.2: "Raft never commits log entries from previous terms by counting replicas"."""
        node = DrivenCore(terms=[1, 2], term=2)
        node.elect()
        node.acknowledge(2, 2)
        assert node.core.commit_index == 0
        node.acknowledge(2, 3)
        assert node.core.commit_index == 3

    def test_a_stale_acknowledgement_of_an_earlier_term_is_ignored(self):
        node = DrivenCore(terms=[1, 1], term=1)
        node.elect()
        node.step(AppendReply(2, 1, 1, True, 3, 0, 0), AppendReply(3, 1, 1, True, 3, 0, 0))
        assert node.core.commit_index == 0
        assert [peer.match_index for peer in node.core.peer_status()] == [0, 0]

    def test_an_older_acknowledgement_of_this_term_takes_nothing_back(self):
        node = DrivenCore()
        node.elect()
        node.core.propose(b"x")
        node.run()
        node.acknowledge(2, 2)
        node.acknowledge(2, 1)
        assert node.core.peer_status()[0].match_index == 2

    def test_proposals_between_two_readys_share_one_append_and_one_list(self):
        node = DrivenCore()
        node.elect()
        node.acknowledge(2)
        node.acknowledge(3)
        for i in range(10):
            node.core.propose(b"%d" % i)
        first, second = of_type(node.run(), Append)
        assert len(first.entries) == 10
        assert first.entries is second.entries

    def test_a_batch_is_bounded_in_bytes_and_in_flight_messages_in_number(self):
        node = DrivenCore(max_append_bytes=100, max_inflight_appends=3)
        node.elect()
        node.acknowledge(2)
        for _ in range(10):
            node.core.propose(b"x" * 90)
        sent = of_type(node.run(), Append)
        assert [message.prev_index for message in sent] == [1, 2]  # the window grows with every acknowledgement
        more = of_type(node.acknowledge(2, 3), Append)
        assert [(message.prev_index, len(message.entries)) for message in more] == [(3, 1), (4, 1), (5, 1)]
        assert of_type(node.run(), Append) == []

    def test_a_link_that_reorders_makes_no_storm(self):
        node = DrivenCore(max_append_bytes=1)
        node.elect()
        node.acknowledge(2)
        for _ in range(64):
            node.core.propose(b"x")
        first = of_type(node.run(), Append)
        answers = [AppendReply(2, 1, 1, False, prev, 1, 1) for prev in range(5, 60)]
        resent = of_type(node.step(*answers), Append)
        assert len(first) + len(resent) <= 4

    def test_probing_sends_one_append_until_it_is_answered(self):
        node = DrivenCore()
        node.elect()
        node.core.propose(b"x")
        node.core.propose(b"y")
        assert of_type(node.run(), Append) == []
        assert len(of_type(node.acknowledge(2, 1), Append)) == 1

    def test_proposals_beyond_the_bound_are_busy_and_not_in_the_log(self):
        node = DrivenCore(max_uncommitted_entries=3)
        node.elect()
        node.core.propose(b"1")
        node.core.propose(b"2")
        with pytest.raises(Busy):
            node.core.propose(b"3")
        assert node.core.last_index == 3
        node.run()
        node.acknowledge(2)
        assert node.core.propose(b"3") == (4, 1)

    def test_bytes_are_bounded_too_and_freed_by_the_commit(self):
        node = DrivenCore(max_uncommitted_bytes=100)
        node.elect()
        node.core.propose(b"x" * 60)
        with pytest.raises(Busy):
            node.core.propose(b"x" * 60)
        node.run()
        node.acknowledge(3)
        node.core.propose(b"x" * 60)

    def test_only_the_leader_takes_proposals_and_an_empty_one_is_our_mistake(self):
        node = DrivenCore()
        node.follow(leader=3, term=1)
        with pytest.raises(NotLeader) as refusal:
            node.core.propose(b"x")
        assert refusal.value.leader == 3
        leader = DrivenCore()
        leader.elect()
        with pytest.raises(ValueError, match="no-op"):
            leader.core.propose(b"")

    def test_a_refusal_skips_a_whole_term_and_the_next_probe_fits(self):
        node = DrivenCore(terms=[1, 3, 3, 3, 3], term=3)
        node.elect()
        sent = node.step(AppendReply(2, 1, 4, False, 5, 4, 2))
        assert [(m.prev_index, m.prev_term) for m in of_type(sent, Append)] == [(1, 1)]

    def test_an_old_refusal_is_ignored(self):
        node = DrivenCore(terms=[1, 1, 1], term=1)
        node.elect()
        node.acknowledge(2)
        assert of_type(node.step(AppendReply(2, 1, 2, False, 3, 0, 0)), Append) == []
        assert node.core.peer_status()[0].state == "replicate"

    def test_a_lost_append_is_noticed_and_sent_again(self):
        node = DrivenCore()
        node.elect()
        node.acknowledge(2)
        node.core.propose(b"lost")
        node.run()
        for _ in range(12):
            sent = node.tick()
            node.step(HeartbeatReply(2, 1, 1, 0))
            nudges = [m for m in of_type(sent, Append) if m.to == 2]
            if nudges:
                break
        assert nudges == [Append(1, 2, 1, 2, 1, 1, [])]
        resent = of_type(node.step(AppendReply(2, 1, 1, False, 2, 1, 1)), Append)
        assert [entry.data for entry in resent[0].entries] == [b"lost"]

    def test_a_broken_link_makes_the_leader_probe(self):
        node = DrivenCore()
        node.elect()
        node.acknowledge(2)
        node.core.propose(b"x")
        node.run()
        node.core.peer_unreachable(2)
        assert node.core.peer_status()[0][1:4] == ("probe", 1, 2)
        assert [m.prev_index for m in of_type(node.tick(20), Append) if m.to == 2][:1] == [1]

    def test_a_silent_peer_is_probed_with_a_header_only(self):
        node = DrivenCore()
        node.elect()
        node.core.propose(b"x" * 1000)
        probes = []
        for _ in range(100):
            probes += [m for m in of_type(node.tick(), Append) if m.to == 2]
            node.acknowledge(3)
        assert len(probes) > 10
        assert [len(probe.entries) for probe in probes[1:]] == [0] * (len(probes) - 1)
        assert of_type(node.acknowledge(2, 0), Append)[0].entries[0].index == 1

    def test_the_commit_index_reaches_idle_followers_within_a_tick(self):
        node = DrivenCore()
        node.elect()
        node.acknowledge(2)
        assert Heartbeat(1, 2, 1, 1, 0) in node.tick()

    def test_a_heartbeat_never_tells_a_commit_the_follower_may_not_have(self):
        node = DrivenCore()
        node.elect()
        node.acknowledge(2)
        assert {m.to: m.commit for m in of_type(node.tick(5), Heartbeat)} == {2: 1, 3: 0}


class TestSnapshots:
    def leader(self, **options) -> DrivenCore:
        """A leader with entries 1..4 applied and trimmed; node 2 is silent, node 3 is not."""
        node = DrivenCore(**options)
        node.elect()
        for _ in range(3):
            node.core.propose(b"x")
        node.run()
        node.acknowledge(3)
        node.snapshot = Snapshot(4, 1, b"0123456789")
        node.core.compact(4)
        return node

    def resent(self, node: DrivenCore) -> set[int]:
        """The offsets of the chunks that it sends while node 2 says nothing."""
        chunks = []
        for _ in range(11):
            chunks += of_type(node.tick(), SnapshotChunk)
            node.step(HeartbeatReply(3, 1, 1, 0))
        return {chunk.offset for chunk in chunks}

    def test_a_follower_behind_the_trimmed_log_gets_the_snapshot_in_chunks(self):
        node = self.leader(snapshot_chunk_bytes=4)
        sent = node.step(AppendReply(2, 1, 1, False, 0, 0, 0))
        chunks = of_type(sent, SnapshotChunk)
        while chunks[-1].offset + len(chunks[-1].data) < chunks[-1].total:
            last = chunks[-1]
            chunks += of_type(node.step(SnapshotReply(2, 1, 1, 4, last.offset + len(last.data))), SnapshotChunk)
        assert b"".join(chunk.data for chunk in chunks) == b"0123456789"
        node.core.propose(b"y")
        node.run()
        after = of_type(node.acknowledge(2, 4), Append)
        assert [m.prev_index for m in after] == [4]

    def test_a_snapshot_overtaken_by_the_next_is_followed_by_it(self):
        node = self.leader()
        node.step(AppendReply(2, 1, 1, False, 0, 0, 0))
        node.core.propose(b"y")
        node.run()
        node.acknowledge(3)
        node.snapshot = Snapshot(5, 1, b"newer")
        node.core.compact(5)
        chunks = of_type(node.acknowledge(2, 4), SnapshotChunk)
        assert [(chunk.index, chunk.offset) for chunk in chunks] == [(5, 0)]

    def test_a_lost_chunk_is_sent_again(self):
        node = self.leader(snapshot_chunk_bytes=4)
        node.step(AppendReply(2, 1, 1, False, 0, 0, 0))
        assert self.resent(node) == {0}

    def test_a_receiver_that_restarted_gets_it_from_the_beginning(self):
        node = self.leader(snapshot_chunk_bytes=4)
        node.step(AppendReply(2, 1, 1, False, 0, 0, 0))
        node.step(SnapshotReply(2, 1, 1, 4, 8))
        assert of_type(node.step(SnapshotReply(2, 1, 1, 4, 0)), SnapshotChunk) == [], "it may be an old answer"
        assert self.resent(node) == {0}

    def test_an_answer_that_comes_twice_brings_one_chunk(self):
        node = self.leader(snapshot_chunk_bytes=4)
        node.step(AppendReply(2, 1, 1, False, 0, 0, 0))
        sent = [node.step(SnapshotReply(2, 1, 1, 4, offset)) for offset in (4, 4, 4, 8, 4, 8)]
        assert [[chunk.offset for chunk in of_type(step, SnapshotChunk)] for step in sent] == [[4], [], [], [8], [], []]

    def test_an_old_answer_does_not_send_it_back_while_it_goes_on(self):
        node = self.leader(snapshot_chunk_bytes=4)
        node.step(AppendReply(2, 1, 1, False, 0, 0, 0))
        node.step(SnapshotReply(2, 1, 1, 4, 4))
        node.step(SnapshotReply(2, 1, 1, 4, 4))
        assert of_type(node.step(SnapshotReply(2, 1, 1, 4, 8)), SnapshotChunk)[0].offset == 8
        assert self.resent(node) == {8}, "the last chunk was lost, and nothing else"

    def chunk(self, data: bytes, offset=0, total=6, index=9, index_term=2) -> SnapshotChunk:
        return SnapshotChunk(2, 1, 2, index, index_term, total, offset, data)

    def test_a_received_snapshot_replaces_the_log_and_is_durable_before_the_answer(self):
        node = DrivenCore(terms=[1, 1, 1], term=1)
        assert node.step(self.chunk(b"abc")) == [SnapshotReply(1, 2, 2, 9, 3)]
        node.core.step(self.chunk(b"def", offset=3))
        ready = node.core.ready()
        assert ready.snapshot == Snapshot(9, 2, b"abcdef")
        assert (ready.messages_before, ready.messages_after) == ([], [AppendReply(1, 2, 2, True, 9, 0, 0)])
        assert (node.core.commit_index, node.core.last_index, node.log_terms()) == (9, 9, [])

    def test_chunks_twice_or_out_of_order_do_no_harm(self):
        node = DrivenCore()
        node.step(self.chunk(b"abc"), self.chunk(b"abc"))
        assert node.step(self.chunk(b"f", offset=5))[0].offset == 3
        assert node.step(self.chunk(b"defg", offset=3))[0].offset == 3  # longer than it said
        node.step(self.chunk(b"def", offset=3))
        assert node.readys[-1].snapshot == Snapshot(9, 2, b"abcdef")

    def test_an_older_snapshot_than_the_commit_is_only_acknowledged(self):
        node = DrivenCore(term=2)
        append(node, (0, 0), [1, 1, 2], commit=3)
        assert node.step(self.chunk(b"abcdef", index=2, index_term=1)) == [AppendReply(1, 2, 2, True, 3, 0, 0)]
        assert node.log_terms() == [1, 1, 2]

    def test_a_snapshot_the_log_already_contains_keeps_what_follows(self):
        """Raft paper, figure 13: "If existing log entry has same index and term as snapshot's last included entry,
        retain log entries following it and reply"."""
        node = DrivenCore(term=2, terms=[1, 2, 2])
        node.step(self.chunk(b"abcdef", index=2))
        assert node.log_terms() == [1, 2, 2]
        assert (node.core.commit_index, node.readys[-1].snapshot) == (2, None)

    def test_a_snapshot_beyond_the_limit_is_not_assembled(self):
        node = DrivenCore(max_snapshot_bytes=5)
        assert node.step(self.chunk(b"abc")) == []

    def test_a_snapshot_beyond_the_limit_is_complained_of_once_by_its_receiver(self):
        node = DrivenCore(max_snapshot_bytes=5)
        for _ in range(3):
            node.step(self.chunk(b"abc"))
        node.step(self.chunk(b"abc", index=10))
        alarms = [alarm for ready in node.readys for alarm in ready.alarms]
        assert len(alarms) == 2
        assert alarms[0] == (
            "this node, which node 2 leads, lacks entries that only the snapshot at entry 9 still has, but its 6 bytes"
            " are above the limit of 5: it stays behind and acknowledges nothing"
        )
        assert "snapshot at entry 10" in alarms[1]
        assert node.step(self.chunk(b"abc", total=5, index=11)) == [SnapshotReply(1, 2, 2, 11, 3)]

    def test_a_snapshot_beyond_the_limit_is_not_sent_and_complained_of_once_by_the_leader(self):
        node = self.leader(max_snapshot_bytes=9)
        sent = node.step(AppendReply(2, 1, 1, False, 0, 0, 0))
        for _ in range(3 * node.core.config.heartbeat_ticks):
            sent += node.tick() + node.step(HeartbeatReply(2, 1, 1, 0), HeartbeatReply(3, 1, 1, 0))
        chunks = of_type(sent, SnapshotChunk)
        assert 2 <= len(chunks) <= 4, "once a heartbeat"
        assert {decode_message(encode_message(chunk)) for chunk in chunks} == {SnapshotChunk(1, 2, 1, 4, 1, 10, 0, b"")}
        [alarm] = [alarm for ready in node.readys for alarm in ready.alarms]
        assert alarm.startswith("node 2 lacks entries that only the snapshot at entry 4 still has, but its 10 bytes")
        node.snapshot = Snapshot(5, 1, b"smaller")
        node.core.propose(b"y")
        node.run()
        node.acknowledge(3)
        node.core.compact(5)
        sent = []
        for _ in range(3 * node.core.config.heartbeat_ticks):
            sent += node.tick() + node.step(HeartbeatReply(2, 1, 1, 0), HeartbeatReply(3, 1, 1, 0))
        assert of_type(sent, SnapshotChunk)[0].index == 5

    def test_the_log_is_never_trimmed_beyond_what_is_applied(self):
        node = DrivenCore(term=1, terms=[1, 1])
        with pytest.raises(InvariantBroken):
            node.core.compact(1)

    def test_a_start_from_a_snapshot_continues_after_it(self):
        node = DrivenCore(term=2, terms=[2, 2], snapshot=Snapshot(7, 1, b"s"))
        assert (node.core.commit_index, node.core.applied_index, node.core.last_index) == (7, 7, 9)
        assert append(node, (7, 1), [2, 2, 2], commit=10)[0].index == 10
        assert [entry.index for entry in node.committed] == [8, 9, 10]


class TestReady:
    def test_readys_may_overlap_but_are_persisted_in_order(self):
        node = DrivenCore()
        node.elect()
        node.core.propose(b"1")
        first = node.core.ready()
        node.core.propose(b"2")
        second = node.core.ready()
        assert ([e.data for e in first.entries], [e.data for e in second.entries]) == ([b"1"], [b"2"])
        with pytest.raises(RuntimeError, match="persisted Ready"):
            node.core.persisted(second)
        node.core.persisted(first)
        node.core.persisted(second)
        assert node.core.log.stable == 3

    def test_a_late_report_about_replaced_entries_is_not_believed(self):
        """etcd's append ABA race: (2, term 1) is written, replaced by (2, term 2), and comes back as (2, term 1);
        the report about the first write says nothing about the third."""
        node = DrivenCore(term=1, terms=[1])
        node.core.step(Append(2, 1, 1, 1, 1, 0, entries(2, 1)))
        first = node.core.ready()
        node.core.step(Append(3, 1, 2, 1, 1, 0, entries(2, 2)))
        second = node.core.ready()
        node.core.step(Append(2, 1, 3, 1, 1, 0, entries(2, 1)))
        third = node.core.ready()
        node.core.persisted(first)
        assert node.core.log.stable == 1
        node.core.persisted(second)
        assert node.core.log.stable == 1
        node.core.persisted(third)
        assert node.core.log.stable == 2

    def test_committed_entries_come_in_bounded_portions(self):
        node = DrivenCore(term=1, terms=[1] * 10, max_committed_entries=4)
        node.step(Append(2, 1, 1, 10, 1, 10, []))
        assert [len(r.committed) for r in node.readys if r.committed] == [4, 4, 2]
        assert [entry.index for entry in node.committed] == list(range(1, 11))

    def test_the_same_calls_give_the_same_readys(self):
        def transcript() -> list[str]:
            node = DrivenCore(members=5)
            node.elect()
            node.core.propose(b"x")
            node.core.read_index(1)
            node.tick(100)
            return [repr(ready) for ready in node.readys]

        assert transcript() == transcript()

    def test_a_leader_with_nothing_to_do_has_no_ready(self):
        node = DrivenCore()
        node.elect()
        assert node.core.role is Role.LEADER
        assert not node.core.has_ready()
