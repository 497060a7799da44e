"""Agreement on a simulated cluster: the middle part of the MIT 6.5840 list, and etcd's replication cases."""

import pytest

from protocols.kv import UNKNOWN
from protocols.raft_messages import Append, encode_message
from tests.raft_simulator.network import SimNetwork
from tests.raft_simulator.profile import CRASHES, MS, SECOND
from tests.raft_simulator.scenario import Scenario

SEEDS = range(5)


class Counted(SimNetwork):
    """Counts what Raft sends, by kind, and the bytes of the entries on the wire."""

    kinds: dict[str, int]
    append_bytes: int

    def watch(self) -> None:
        self.kinds, self.append_bytes = {}, 0

    def send(self, source, target, deliver, message):
        kind = type(message).__name__
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if type(message) is Append:
            self.append_bytes += len(encode_message(message))
        super().send(source, target, deliver, message)


def counted(story: Scenario) -> Counted:
    story.network.__class__ = Counted
    story.network.watch()
    return story.network


@pytest.mark.parametrize("seed", SEEDS)
class TestBasicAgreement:
    def test_basic_agreement(self, seed):
        """What is acknowledged is applied by everybody, in one order."""
        story = Scenario(seed, nodes=5)
        leader = story.elected()
        for _ in range(3):
            story.write(leader)
        story.agreed()
        story.finish()

    def test_rpc_bytes(self, seed):
        """Each command is sent to each peer just once: the bytes on the wire are about (n - 1) times the commands.
        (Links are in order here, as TCP's are; what is overtaken is refused and sent again.)"""
        story = Scenario(seed, delay_us=(1000, 1001))
        leader = story.elected()
        story.write(leader)
        network = counted(story)
        sizes = 0
        for number in range(10):
            text = f"{number}:" + "x" * 5000
            story.write(leader, text)
            sizes += len(text)
        assert 2 * sizes <= network.append_bytes <= 2.05 * sizes
        story.finish()

    def test_rpc_counts(self, seed):
        """Few messages: an election costs one exchange per peer and round, an idle cluster only heartbeats, and
        commands proposed together travel together."""
        story = Scenario(seed)
        network = counted(story)
        story.elected()
        assert network.kinds.get("VoteRequest", 0) <= 16
        leader = story.elected()
        story.run_for(1 * SECOND)
        network.watch()
        story.run_for(1 * SECOND)
        idle = network.kinds
        assert set(idle) == {"Heartbeat", "HeartbeatReply"}
        assert idle["Heartbeat"] <= 2 * (1000 // 30) + 4
        network.watch()
        writes = [story.submit(leader) for _ in range(50)]
        story.wait("all are acknowledged", lambda: writes[-1].acknowledged)
        assert network.kinds["Append"] <= 2 * 14
        story.finish()

    def test_concurrent_starts(self, seed):
        """Commands submitted at the same time get different places and are all applied, none twice."""
        story = Scenario(seed)
        leader = story.elected()
        writes = [story.submit(leader) for _ in range(20)]
        story.wait("all are acknowledged", lambda: all(write.acknowledged for write in writes))
        assert len({write.reply.version for write in writes}) == 20
        read = story.read(leader)
        story.wait("the read is answered", lambda: read.acknowledged)
        assert read.reply.value == "".join(write.op.value for write in writes)
        story.finish()


@pytest.mark.parametrize("seed", SEEDS)
class TestFailures:
    def test_follower_failure(self, seed):
        """Agreement goes on while followers fail one by one, and stops without a majority."""
        story = Scenario(seed)
        leader = story.elected()
        first, second = story.followers(leader)
        story.disconnect(first)
        story.write(leader)
        story.disconnect(second)
        lost = story.submit(leader)
        story.run_for(1 * SECOND)
        assert lost.reply is not None
        assert lost.reply.result == UNKNOWN
        story.finish()

    def test_leader_failure(self, seed):
        """When the leader fails a new one goes on; when that fails too, nobody acknowledges anything."""
        story = Scenario(seed)
        first = story.elected()
        story.disconnect(first)
        second = story.elected(story.others(first))
        story.write(second)
        story.disconnect(second)
        pending = [story.submit(node) for node in story.nodes.values()]
        story.run_for(1 * SECOND)
        assert not any(write.acknowledged for write in pending)
        story.finish()

    def test_fail_agree(self, seed):
        """A follower that reconnects catches up."""
        story = Scenario(seed)
        leader = story.elected()
        away = story.followers(leader)[0]
        story.disconnect(away)
        for _ in range(5):
            story.write(leader)
        story.run_for(1 * SECOND)
        story.connect(away)
        story.write(leader)
        story.agreed()
        story.finish()

    def test_fail_no_agree(self, seed):
        """No agreement while three of five are away; afterwards the cluster goes on."""
        story = Scenario(seed, nodes=5)
        leader = story.elected()
        story.write(leader)
        away = story.followers(leader)[:3]
        story.disconnect(*away)
        hopeless = story.submit(leader)
        story.run_for(1 * SECOND)
        assert not hopeless.acknowledged
        story.connect(*away)
        story.write(story.elected())
        story.finish()

    def test_rejoin_of_a_partitioned_leader(self, seed):
        """Entries that a cut-off leader collected are replaced when it comes back; then it can lead again."""
        story = Scenario(seed)
        first = story.elected()
        story.write(first)
        story.disconnect(first)
        lost = [story.submit(first) for _ in range(3)]
        second = story.elected(story.others(first))
        story.write(second)
        story.disconnect(second)
        story.connect(first)
        third = story.elected(story.others(second))
        story.write(third)
        story.connect(second)
        story.agreed()
        assert not any(write.acknowledged for write in lost)
        story.finish()

    def test_fast_backup_over_incorrect_logs(self, seed):
        """Raft paper, end of 5.3: two leaders collect fifty wrong entries each; agreement costs a few messages per
        term, not one per entry."""
        story = Scenario(seed, nodes=5)
        first = story.elected()
        story.write(first)
        partner, *rest = story.followers(first)
        story.disconnect(*rest)
        for _ in range(50):
            story.submit(first)
        story.run_for(60 * MS)
        story.disconnect(first, partner)
        story.connect(*rest)
        second = story.elected([node.node_id for node in rest])
        for _ in range(50):
            story.submit(second)
        story.run_for(500 * MS)
        story.connect(*story.nodes)
        story.elected()
        network = counted(story)
        story.agreed()
        story.write(story.elected())
        story.agreed()
        assert network.kinds["Append"] < 60
        story.finish()


@pytest.mark.parametrize("seed", SEEDS)
class TestPersistence:
    def test_persist_1_everybody_restarts(self, seed):
        story = Scenario(seed)
        for _ in range(3):
            written = story.write(story.elected())
            for node in story.nodes.values():
                node.crash()
            for node in story.nodes.values():
                node.start()
            read = story.read(story.elected())
            story.wait("the read is answered", lambda read=read: read.reply is not None)
            assert read.reply.value.endswith(written.op.value)
        story.finish()

    def test_persist_2_majorities_come_and_go(self, seed):
        """More log persistence: different majorities make progress in turn."""
        story = Scenario(seed, nodes=5)
        for start in range(1, 6):
            sleeping = [(start + i) % 5 + 1 for i in (0, 1)]
            for node in sleeping:
                story.nodes[node].crash()
            story.write(story.elected([i for i in story.nodes if i not in sleeping]))
            for node in sleeping:
                story.nodes[node].start()
        story.agreed()
        story.finish()

    def test_persist_3_a_crashed_leader_and_a_follower_restart_in_a_partition(self, seed):
        story = Scenario(seed)
        leader = story.elected()
        story.write(leader)
        follower, other = story.followers(leader)
        story.disconnect(other)
        story.write(leader)
        for node in (leader, follower):
            node.crash()
            node.start()
        story.connect(other)
        story.write(story.elected())
        story.finish()


class TestFigure8:
    @pytest.mark.parametrize("seed", range(8))
    def test_figure_8(self, seed):
        """Raft paper, figure 8: leaders die before or just after they replicate, again and again; no entry of an
        earlier term is taken for committed too early."""
        story = Scenario(seed, nodes=5, max_append_bytes=1, max_inflight_appends=1, trouble_us=0)
        for _ in range(40):
            leader = story.leader()
            if leader is not None:
                story.submit(leader)
            story.run_for(story.rng.randint(5, 150) * MS)
            if leader is not None and leader.alive and sum(n.alive for n in story.nodes.values()) > 3:
                leader.crash()
            dead = [node for node in story.nodes.values() if not node.alive]
            if len(dead) > 1 or (dead and story.rng.random() < 0.5):
                story.rng.choice(dead).start()
        story.finish()

    @pytest.mark.parametrize("seed", range(8))
    def test_figure_8_unreliable(self, seed):
        """The same while messages are lost, late and out of order."""
        story = Scenario(
            seed,
            nodes=5,
            max_append_bytes=1,
            drop=0.1,
            late=0.3,
            late_us=200 * MS,
            duplicate=0.1,
            delay_us=(200, 20 * MS),
        )
        for _ in range(40):
            leader = story.leader()
            if leader is not None:
                story.submit(leader)
                if story.rng.random() < 0.4:
                    story.disconnect(leader)
            story.run_for(story.rng.randint(5, 100) * MS)
            if story.rng.random() < 0.5:
                story.connect(*story.nodes)
        story.finish()


class TestUnreliable:
    @pytest.mark.parametrize("seed", range(10))
    def test_unreliable_agreement(self, seed):
        story = Scenario(seed, nodes=5, clients=5, drop=0.1, delay_us=(200, 27 * MS), trouble_us=1 * SECOND)
        story.run()
        assert sum(client.completed for client in story.clients) > 10

    @pytest.mark.parametrize("seed", range(10))
    @pytest.mark.parametrize("drop", [0.0, 0.1])
    def test_churn(self, seed, drop):
        """Nodes crash, come back and are cut off all the time while clients write; every write that was acknowledged
        is there in the end (the history is linearizable, each request applied once)."""
        story = Scenario(
            seed,
            nodes=5,
            clients=3,
            drop=drop,
            duplicate=drop,
            late=drop,
            trouble_us=2 * SECOND,
            trouble_every_us=100 * MS,
            troubles=(*CRASHES, "isolate", "heal", "heal"),
        )
        story.run()
        assert story.invariants.max_commit > 3


@pytest.mark.parametrize("seed", SEEDS)
class TestReplicationStates:
    def test_lagging_commit(self, seed):
        """etcd: a follower that has the entries but not the commit index learns it by the next heartbeat, and a read
        there waits for it."""
        story = Scenario(seed)
        leader = story.elected()
        written = story.write(leader)
        follower = story.followers(leader)[0]
        read = story.read(follower)
        story.wait("the read is answered", lambda: read.acknowledged, 50 * MS)
        assert read.reply.value == written.op.value
        story.run_for(40 * MS)
        assert {story.core(node).commit_index for node in story.nodes} == {story.core(leader).commit_index}
        story.finish()

    def test_probe_and_replicate(self, seed):
        """etcd: an unreachable follower is probed, one that answers is replicated to; in flight stays bounded."""
        story = Scenario(seed, max_append_bytes=1, max_inflight_appends=4)
        leader = story.elected()
        story.write(leader)
        away = story.followers(leader)[0]
        story.disconnect(away)
        for _ in range(30):
            story.submit(leader)
        story.run_for(200 * MS)
        status = {peer.node_id: peer for peer in story.core(leader).peer_status()}
        assert status[away.node_id].inflight <= 4
        story.core(leader).peer_unreachable(away.node_id)
        status = {peer.node_id: peer for peer in story.core(leader).peer_status()}
        assert (status[away.node_id].state, status[away.node_id].inflight) == ("probe", 0)
        story.connect(away)
        story.agreed()
        story.wait(
            "both are replicated to",
            lambda: {peer.state for peer in story.core(leader).peer_status()} == {"replicate"},
            200 * MS,
        )
        story.finish()

    def test_a_full_queue_is_a_definite_refusal(self, seed):
        story = Scenario(seed, max_uncommitted_entries=5)
        leader = story.elected()
        story.write(leader)
        story.disconnect(leader)
        writes = [story.submit(leader) for _ in range(8)]
        assert [write.reply.result for write in writes if write.reply] == ["BUSY"] * 3
        story.finish()
