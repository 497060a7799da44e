"""Elections: PreVote, votes, leases, CheckQuorum and the handing over of leadership.

A node that misses its leader first asks whether it would win (PreVote), so that a node cut off for a while cannot
depose a working leader with a term it counted up alone. A node that heard from a leader within the shortest
election timeout does not vote at all (CheckQuorum's other half), unless the leader itself asked for the election.
"""

from protocols.raft_messages import TimeoutNow, VoteReply, VoteRequest
from servers.raft.core_state import CANDIDATE, FOLLOWER, LEADER, NOBODY, PRE_CANDIDATE, CoreState
from servers.raft.types import NotLeader


class Elections(CoreState):
    # --- campaigning -------------------------------------------------------------------------------------------

    def _campaign(self) -> None:
        """The election timer ran out."""
        self.become_pre_candidate()
        if self.quorum == 1:
            self._start_election(force=False)
        else:
            self._ask_for_votes(pre=True, force=False)

    def _start_election(self, force: bool) -> None:
        self.become_candidate()
        self._ask_for_votes(pre=False, force=force)

    def _own_vote_durable(self) -> None:
        """Called by persisted(): in a cluster of one our own vote decides, and it counts once it is on disk."""
        if self.role is CANDIDATE and self.quorum == 1 and self._durable_term == self.term:
            self.become_leader()

    def _ask_for_votes(self, pre: bool, force: bool) -> None:
        # A pre-vote changes nothing durable; a real request stands for our own durable vote.
        out = self._before if pre else self._after
        term = self.term + 1 if pre else self.term
        log = self.log
        for peer in self.peers:
            if not self._votes.get(peer):
                out.append(VoteRequest(self.node_id, peer, term, log.last_index, log.last_term, pre, force))
        self._dirty = True

    def _tick_follower(self) -> None:
        self._elapsed += 1
        if self._elapsed >= self._timeout:
            self._campaign()
        elif self.role is PRE_CANDIDATE and self._elapsed % self.config.heartbeat_ticks == 0:
            # Those who refused may only have been waiting for the old leader's lease to run out: asking again soon
            # saves a whole election timeout, and a pre-vote disturbs nobody.
            self._ask_for_votes(pre=True, force=False)

    # --- voting ------------------------------------------------------------------------------------------------

    def _in_lease(self) -> bool:
        """Whether we have a leader that was heard within the shortest election timeout."""
        return self.role is LEADER or (self.leader != NOBODY and self._elapsed < self.config.election_ticks_min)

    def _may_vote(self, candidate: int) -> bool:
        """One vote per term, and none once a leader of this term is known."""
        return self.vote == candidate or (self.vote == NOBODY and self.leader == NOBODY)

    def _on_vote_request(self, message: VoteRequest) -> None:
        """The term is at least ours (a real request of a higher term has already made us a follower)."""
        fresh = self.log.up_to_date(message.last_index, message.last_term)
        if message.pre:
            granted = fresh and message.term > self.term
            term = message.term if granted else self.term
            self._send_when_term_durable(VoteReply(self.node_id, message.sender, term, True, granted))
            return
        granted = fresh and self._may_vote(message.sender)
        if granted:
            self.vote = message.sender
            self._reset_election_timer()
        # Raft paper, figure 2: the vote is updated on stable storage before responding.
        self._after.append(VoteReply(self.node_id, message.sender, self.term, False, granted))

    def _on_vote_reply(self, message: VoteReply) -> None:
        wanted_role = PRE_CANDIDATE if message.pre else CANDIDATE
        if self.role is not wanted_role or (message.pre and message.granted and message.term != self.term + 1):
            return
        self._votes[message.sender] = message.granted or self._votes.get(message.sender, False)
        if sum(self._votes.values()) < self.quorum:
            return
        if message.pre:
            self._start_election(force=False)
        else:
            self.become_leader()

    # --- keeping and giving up leadership ----------------------------------------------------------------------

    def _check_quorum(self) -> None:
        """Step down when no quorum was heard for an election timeout: somebody else may lead by now."""
        heard = sorted((progress.heard_at for progress in self._progress_in_order), reverse=True)
        others_needed = self.quorum - 1
        if others_needed and self.now - heard[others_needed - 1] >= self.config.election_ticks_min:
            self.become_follower(self.term, NOBODY)

    def transfer_leadership(self, to: int | None = None) -> int:
        """Hand leadership to ``to``, or to the most up-to-date peer that answers; returns the node chosen.

        Proposals are refused as Busy until it leads, or until an election timeout has passed and the attempt is
        given up. Raises NotLeader, and ValueError for somebody who is not a peer.
        """
        if self.role is not LEADER:
            raise NotLeader(self.leader)
        if to is None:
            ranked = sorted(self._progress_in_order, key=lambda p: (-p.match, self.now - p.heard_at, p.node_id))
            if not ranked:
                raise ValueError("a cluster of one node has nobody to lead instead")
            to = ranked[0].node_id
        if to not in self._progress:
            raise ValueError(f"node {to} is not a peer of node {self.node_id}")
        self._transfer_to = to
        self._transfer_deadline = self.now + self.config.election_ticks_min
        self._finish_transfer()
        self._dirty = True
        return to

    def _finish_transfer(self) -> None:
        """Thesis 3.10: once the target's log matches ours, it need not wait for its election timer."""
        if self._progress[self._transfer_to].match == self.log.last_index:
            self._before.append(TimeoutNow(self.node_id, self._transfer_to, self.term))
            self._dirty = True

    def _on_timeout_now(self, message: TimeoutNow) -> None:
        if self.role is FOLLOWER and self.leader == message.sender:
            self._start_election(force=True)
