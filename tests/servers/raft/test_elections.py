"""Elections, message by message. Each test quotes the sentence it proves."""

import pytest

from protocols.raft_messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from servers.raft.types import Busy, CoreConfig, HardState, InvariantBroken, NotLeader, Role
from tests.servers.raft.driven_core import DrivenCore, of_type


def vote_request(node: DrivenCore, term: int, *, last=(0, 0), pre=False, force=False, sender=2) -> list[VoteReply]:
    return of_type(node.step(VoteRequest(sender, node.core.node_id, term, *last, pre, force)), VoteReply)


class TestCampaigning:
    def test_a_follower_that_hears_nobody_asks_before_it_raises_its_term(self):
        """Thesis 9.6: "a candidate only increments its term if it first learns from a majority of the cluster
        that they would be willing to grant the candidate their votes"."""
        node = DrivenCore(terms=[1, 1], term=1)
        sent = node.start_prevote()
        assert sent == [VoteRequest(1, peer, 2, 2, 1, True, False) for peer in (2, 3)]
        node.tick(500)
        assert (node.core.term, node.core.role) == (1, Role.PRE_CANDIDATE)

    def test_with_a_majority_of_prevotes_it_campaigns_with_its_own_durable_vote(self):
        node = DrivenCore(terms=[1], term=1)
        node.start_prevote()
        node.core.step(VoteReply(2, 1, 2, True, True))
        ready = node.core.ready()
        assert ready.hard_state == HardState(2, 1)
        assert ready.messages_before == []
        assert ready.messages_after == [VoteRequest(1, peer, 2, 1, 1, False, False) for peer in (2, 3)]

    def test_a_refused_prevote_can_still_be_granted_later_in_the_same_campaign(self):
        node = DrivenCore()
        node.start_prevote()
        node.step(VoteReply(2, 1, 0, True, False))
        asked_again = node.tick(node.core.config.heartbeat_ticks)
        assert VoteRequest(1, 2, 1, 0, 0, True, False) in asked_again
        node.step(VoteReply(2, 1, 1, True, True))
        assert node.core.role is Role.CANDIDATE

    def test_a_prevote_granted_for_another_term_does_not_count(self):
        node = DrivenCore(term=4)
        node.start_prevote()
        node.step(VoteReply(2, 1, 9, True, True))
        assert (node.core.role, node.core.term) == (Role.PRE_CANDIDATE, 4)

    def test_a_vote_of_an_earlier_term_does_not_count(self):
        node = DrivenCore(term=4)
        node.start_prevote()
        node.step(VoteReply(2, 1, 5, True, True))
        node.step(VoteReply(2, 1, 4, False, True))
        assert node.core.role is Role.CANDIDATE
        node.step(VoteReply(2, 1, 5, False, True))
        assert node.core.role is Role.LEADER

    def test_the_same_voter_is_counted_once(self):
        node = DrivenCore(members=5)
        node.start_prevote()
        node.step(*[VoteReply(2, 1, 1, True, True)] * 3)
        assert node.core.role is Role.PRE_CANDIDATE

    def test_a_cluster_of_one_leads_at_once_with_a_durable_vote_and_commits_what_is_durable(self):
        node = DrivenCore(members=1)
        node.core.tick()
        vote = node.core.ready()
        assert (vote.hard_state, vote.role) == (HardState(1, 1), Role.CANDIDATE)
        node.core.persisted(vote)
        node.core.propose(b"x")
        ready = node.core.ready()
        assert (ready.role, ready.committed) == (Role.LEADER, ())
        node.core.persisted(ready)
        assert [entry.data for entry in node.core.ready().committed] == [b"", b"x"]

    @pytest.mark.parametrize("members", [3, 5])
    def test_timeouts_are_spread_and_within_their_bounds(self, members):
        seen = set()
        for node_id in range(1, members + 1):
            node = DrivenCore(node_id, members=members)
            for _ in range(40):
                node.core._reset_election_timer()
                seen.add(node.core._timeout)
        assert min(seen) >= 30
        assert max(seen) <= 60
        assert len(seen) > 20


class TestVoting:
    def test_one_vote_per_term_durable_before_the_answer(self):
        """Raft paper, figure 2: "Updated on stable storage before responding to RPCs"."""
        node = DrivenCore()
        node.core.step(VoteRequest(2, 1, 1, 0, 0, False, False))
        ready = node.core.ready()
        assert ready.hard_state == HardState(1, 2)
        assert (ready.messages_before, ready.messages_after) == ([], [VoteReply(1, 2, 1, False, True)])
        node.core.persisted(ready)
        assert vote_request(node, 1, sender=3) == [VoteReply(1, 3, 1, False, False)]
        assert vote_request(node, 1, sender=2) == [VoteReply(1, 2, 1, False, True)]

    def test_the_vote_survives_a_restart(self):
        node = DrivenCore(term=1, vote=2)
        assert vote_request(node, 1, sender=3) == [VoteReply(1, 3, 1, False, False)]

    @pytest.mark.parametrize(
        ("last", "granted"),
        [((5, 2), True), ((2, 3), True), ((9, 1), False), ((2, 2), False), ((3, 2), True), ((4, 2), True)],
    )
    def test_only_an_up_to_date_candidate_gets_the_vote(self, last, granted):
        """Raft paper, 5.4.1: "the voter denies its vote if its own log is more up-to-date"."""
        for pre in (True, False):
            node = DrivenCore(terms=[1, 2, 2], term=2)
            replies = vote_request(node, 3, last=last, pre=pre)
            assert [reply.granted for reply in replies] == [granted]

    def test_a_prevote_changes_neither_term_nor_vote(self):
        node = DrivenCore(term=3, vote=1)
        assert vote_request(node, 7, pre=True) == [VoteReply(1, 2, 7, True, True)]
        assert (node.core.term, node.core.vote) == (3, 1)

    def test_nobody_votes_while_the_leader_is_alive(self):
        """Thesis 4.2.3: "if a server receives a RequestVote request within the minimum election timeout of hearing
        from a current leader, it does not update its term or grant its vote"."""
        for pre in (True, False):
            node = DrivenCore(term=1)
            node.follow(leader=3, term=1)
            assert vote_request(node, 9, last=(99, 9), pre=pre) == []
            assert node.core.term == 1
            node.tick(29)
            assert vote_request(node, 9, last=(99, 9), pre=pre) == []
            node.core._timeout = 1000
            node.tick(1)
            assert vote_request(node, 9, last=(99, 9), pre=pre)[0].granted

    def test_an_election_the_leader_asked_for_ignores_the_lease(self):
        node = DrivenCore(term=1)
        node.follow(leader=3, term=1)
        assert vote_request(node, 2, last=(99, 1), force=True)[0].granted

    def test_no_vote_for_a_second_candidate_once_the_term_has_a_leader(self):
        node = DrivenCore(term=1)
        node.follow(leader=3, term=1)
        assert not vote_request(node, 1, last=(99, 1))[0].granted


class TestTerms:
    def test_a_higher_term_makes_a_follower_of_anyone(self):
        node = DrivenCore()
        node.elect()
        node.step(AppendReply(2, 1, 9, False, 0, 0, 0))
        assert (node.core.role, node.core.term, node.core.vote) == (Role.FOLLOWER, 9, 0)

    def test_a_deposed_leader_and_a_stuck_candidate_learn_the_term(self):
        """etcd: a node that comes back with a higher term must be able to free itself under PreVote and CheckQuorum."""
        node = DrivenCore(term=9)
        assert node.step(Heartbeat(2, 1, 4, 0, 0)) == [AppendReply(1, 2, 9, False, 0, 0, 0)]
        assert vote_request(node, 5, pre=True) == [VoteReply(1, 2, 9, True, False)]
        assert node.core.leader == 0

    def test_messages_of_strangers_or_for_others_are_ignored(self):
        node = DrivenCore()
        assert node.step(VoteRequest(7, 1, 5, 9, 9, False, False)) == []
        assert node.step(VoteRequest(2, 3, 5, 9, 9, False, False)) == []
        assert node.step(VoteRequest(1, 1, 5, 9, 9, False, False)) == []
        assert node.core.term == 0

    def test_two_leaders_in_one_term_stop_the_node(self):
        node = DrivenCore(term=1)
        node.follow(leader=2, term=1)
        with pytest.raises(InvariantBroken, match="both lead term 1"):
            node.core.step(Append(3, 1, 1, 0, 0, 0, []))

    def test_a_log_newer_than_the_durable_term_is_refused_at_start(self):
        with pytest.raises(InvariantBroken, match="durable term"):
            DrivenCore(term=1, terms=[1, 2])

    @pytest.mark.parametrize(
        "bad",
        [{"node_id": 4, "members": (1, 2, 3)}, {"node_id": 1, "members": (1, 1)}, {"node_id": 0, "members": (0,)}],
    )
    def test_impossible_memberships_are_refused(self, bad):
        with pytest.raises(ValueError, match="member"):
            CoreConfig(**bad)


class TestCheckQuorum:
    def test_a_leader_that_hears_no_quorum_steps_down_within_an_election_timeout(self):
        node = DrivenCore()
        node.elect()
        node.tick(30)
        assert (node.core.role, node.core.leader) == (Role.FOLLOWER, 0)

    def test_one_of_two_followers_is_quorum_enough(self):
        node = DrivenCore()
        node.elect()
        for round_number in range(200):
            node.tick()
            node.step(HeartbeatReply(2, 1, 1, 0))
            assert node.core.role is Role.LEADER, round_number

    def test_in_five_one_follower_is_not(self):
        node = DrivenCore(members=5)
        node.elect()
        for _ in range(31):
            node.tick()
            node.step(HeartbeatReply(2, 1, 1, 0))
        assert node.core.role is not Role.LEADER


class TestTransfer:
    def test_the_most_up_to_date_peer_is_told_to_campaign(self):
        node = DrivenCore()
        node.elect()
        node.acknowledge(3)
        assert node.core.transfer_leadership() == 3
        assert TimeoutNow(1, 3, 1) in node.run()
        with pytest.raises(Busy):
            node.core.propose(b"x")

    def test_a_peer_that_lags_is_brought_up_first(self):
        node = DrivenCore()
        node.elect()
        node.acknowledge(2)
        node.core.propose(b"x")
        node.core.transfer_leadership(2)
        assert of_type(node.run(), TimeoutNow) == []
        assert TimeoutNow(1, 2, 1) in node.acknowledge(2)

    def test_an_attempt_that_fails_is_given_up_after_an_election_timeout(self):
        node = DrivenCore()
        node.elect()
        node.core.transfer_leadership(2)
        for _ in range(30):
            node.tick()
            node.step(HeartbeatReply(3, 1, 1, 0))
        assert node.core.propose(b"x") == (2, 1)

    def test_the_target_campaigns_at_once_without_prevote(self):
        node = DrivenCore(term=1)
        node.follow(leader=2, term=1)
        requests = of_type(node.step(TimeoutNow(2, 1, 1)), VoteRequest)
        assert requests == [VoteRequest(1, peer, 2, 0, 0, False, True) for peer in (2, 3)]

    def test_only_its_leader_can_tell_a_follower_to_campaign(self):
        node = DrivenCore(term=1)
        node.follow(leader=2, term=1)
        assert node.step(TimeoutNow(3, 1, 1)) == []

    def test_bad_requests_are_refused(self):
        node = DrivenCore()
        with pytest.raises(NotLeader):
            node.core.transfer_leadership()
        node.elect()
        with pytest.raises(ValueError, match="not a peer"):
            node.core.transfer_leadership(1)
        alone = DrivenCore(members=1)
        alone.tick()
        with pytest.raises(ValueError, match="nobody"):
            alone.core.transfer_leadership()
