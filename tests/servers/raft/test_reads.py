"""ReadIndex, message by message. Each test quotes the sentence it proves."""

import pytest

from protocols.raft_messages import Append, Heartbeat, HeartbeatReply, ReadReply, ReadRequest
from servers.raft.types import Busy, NotLeader, ReadState
from tests.servers.raft.driven_core import DrivenCore, entries, of_type


def leader(members: int = 3) -> DrivenCore:
    """A leader of term 1 that has committed its no-op at index 1."""
    node = DrivenCore(members=members)
    node.elect()
    for peer in node.core.peers:
        node.acknowledge(peer)
    return node


class TestLeaderReads:
    def test_a_read_waits_for_a_quorum_to_confirm_the_leader(self):
        """Thesis 6.4: the leader "needs to make sure it has not been superseded by a newer leader of which it is
        unaware. It issues a new round of heartbeats and waits for their acknowledgments from a majority"."""
        node = leader()
        node.core.read_index(7)
        assert [m.round for m in of_type(node.run(), Heartbeat)] == [1, 1]
        assert node.reads == []
        node.step(HeartbeatReply(3, 1, 1, 1))
        assert node.reads == [ReadState(7, 1, True)]

    def test_in_five_nodes_two_confirmations_are_needed(self):
        node = leader(members=5)
        node.core.read_index(7)
        node.run()
        node.step(HeartbeatReply(3, 1, 1, 1), HeartbeatReply(3, 1, 1, 1))
        assert node.reads == []
        node.step(HeartbeatReply(4, 1, 1, 1))
        assert node.reads == [ReadState(7, 1, True)]

    def test_the_answer_to_an_older_heartbeat_confirms_nothing(self):
        node = leader()
        node.core.read_index(1)
        node.run()
        node.step(HeartbeatReply(2, 1, 1, 1))
        node.core.read_index(2)
        node.run()
        node.step(HeartbeatReply(2, 1, 1, 1), HeartbeatReply(3, 1, 1, 1))
        assert node.reads == [ReadState(1, 1, True)]

    def test_reads_that_arrive_during_a_round_share_the_next_one(self):
        node = leader()
        node.core.read_index(1)
        node.run()
        for context in range(2, 50):
            node.core.read_index(context)
        assert of_type(node.run(), Heartbeat) == []
        rounds = of_type(node.step(HeartbeatReply(2, 1, 1, 1)), Heartbeat)
        assert [m.round for m in rounds] == [2, 2]
        node.step(HeartbeatReply(2, 1, 1, 2))
        assert [state.context for state in node.reads] == list(range(1, 50))

    def test_no_read_before_the_first_commit_of_the_term(self):
        """Thesis 6.4: "If the leader has not yet marked an entry from its current term committed, it waits until it
        has done so"."""
        node = DrivenCore(terms=[1], term=1)
        node.elect()
        node.core.read_index(7)
        assert of_type(node.run(), Heartbeat) == []
        rounds = of_type(node.acknowledge(2), Heartbeat)
        assert rounds
        node.step(HeartbeatReply(2, 1, 2, 1))
        assert node.reads == [ReadState(7, 2, True)]

    def test_a_lost_round_is_repeated_by_the_next_heartbeat(self):
        node = leader()
        node.core.read_index(7)
        node.run()
        again = of_type(node.tick(5), Heartbeat)
        assert {m.round for m in again} == {1}
        node.step(HeartbeatReply(2, 1, 1, 1))
        assert node.reads[0].ok

    def test_losing_leadership_fails_every_waiting_read(self):
        node = leader()
        node.core.read_index(1)
        node.run()
        node.core.read_index(2)
        node.step(ReadRequest(2, 1, 1, 99))
        sent = node.step(Append(3, 1, 2, 0, 0, 0, []))
        assert sorted(node.reads) == [ReadState(1, 0, False), ReadState(2, 0, False)]
        assert ReadReply(1, 2, 2, 99, 0, False) in sent

    def test_a_cluster_of_one_needs_no_round(self):
        node = DrivenCore(members=1)
        node.tick()
        node.core.read_index(7)
        node.run()
        assert node.reads == [ReadState(7, 1, True)]

    def test_reads_beyond_the_bound_are_busy(self):
        node = DrivenCore(max_pending_reads=2)
        node.elect()
        node.core.read_index(1)
        node.core.read_index(2)
        with pytest.raises(Busy):
            node.core.read_index(3)


class TestFollowerReads:
    def follower(self) -> DrivenCore:
        node = DrivenCore(term=1)
        node.step(Append(2, 1, 1, 0, 0, 1, entries(1, 1, 1)))
        return node

    def test_all_reads_since_the_last_ready_are_one_question(self):
        node = self.follower()
        for context in (1, 2, 3):
            node.core.read_index(context)
        (question,) = node.run()
        assert type(question) is ReadRequest
        node.step(ReadReply(2, 1, 1, question.context, 2, True))
        assert node.reads == [ReadState(context, 2, True) for context in (1, 2, 3)]

    def test_the_answer_also_tells_what_is_committed(self):
        node = self.follower()
        node.core.read_index(1)
        (question,) = node.run()
        node.step(ReadReply(2, 1, 1, question.context, 2, True))
        assert [entry.index for entry in node.committed] == [1, 2]

    def test_an_answer_to_another_question_is_ignored(self):
        node = self.follower()
        node.core.read_index(1)
        (question,) = node.run()
        node.step(ReadReply(2, 1, 1, question.context + 1, 1, True), ReadReply(2, 1, 1, 0, 1, True))
        assert node.reads == []

    def test_contexts_do_not_repeat_over_restarts(self):
        """A delayed answer to a question of an earlier life would make a read stale."""
        contexts = set()
        for node_id in (1, 2):  # the driven core seeds its generator with the id
            node = DrivenCore(node_id, term=1)
            node.follow(leader=3, term=1)
            node.core.read_index(1)
            contexts.add(node.run()[0].context)
        assert len(contexts) == 2

    def test_a_question_without_an_answer_fails_after_an_election_timeout(self):
        node = self.follower()
        node.core.read_index(1)
        node.run()
        for _ in range(60):
            node.step(Heartbeat(2, 1, 1, 1, 0))
            node.tick()
        assert node.reads == [ReadState(1, 0, False)]

    def test_a_new_leader_fails_the_questions_to_the_old_one(self):
        node = self.follower()
        node.core.read_index(1)
        node.run()
        node.step(Append(3, 1, 2, 0, 0, 0, []))
        assert node.reads == [ReadState(1, 0, False)]

    def test_without_a_leader_the_read_is_refused(self):
        with pytest.raises(NotLeader):
            DrivenCore().core.read_index(1)

    def test_a_leader_answers_a_follower_after_its_round(self):
        node = leader()
        node.step(ReadRequest(2, 1, 1, 42))
        sent = node.step(HeartbeatReply(3, 1, 1, 1))
        assert ReadReply(1, 2, 1, 42, 1, True) in sent

    def test_a_follower_that_is_asked_says_no(self):
        node = self.follower()
        assert node.step(ReadRequest(3, 1, 1, 42)) == [ReadReply(1, 3, 1, 42, 0, False)]
