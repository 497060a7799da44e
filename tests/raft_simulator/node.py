"""The simulated shell: what servers/raft/node.py does with sockets and threads, done with events.

A Ready's early messages leave at once; its disk work waits for the one disk, several Readys share a sync, and only
after it do ``persisted`` and the late messages follow. A crash can fall anywhere in between.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from protocols.kv import BUSY, GET, NOT_LEADER, UNKNOWN, KvReply, KvRequest, decode_request, encode_request
from protocols.raft_messages import PeerMessage
from servers.raft.core import Core
from servers.raft.types import Busy, CoreConfig, NotLeader, Ready, Snapshot
from tests.raft_simulator.disk import DiskError, PowerLoss, SimDisk
from tests.raft_simulator.profile import MS

if TYPE_CHECKING:
    from tests.raft_simulator.cluster import Cluster

Answer = Callable[[KvReply], None]


class SimNode:
    def __init__(self, node_id: int, cluster: "Cluster", rng: Random) -> None:
        self.node_id = node_id
        self.cluster = cluster
        self.rng = rng
        self.disk: SimDisk = cluster.seams.disk(rng)
        self.core: Core | None = None
        self.machine: Any = None
        self.paused = False
        # How many times slower than they should be its disk and its clock are.
        self.slow = 1
        self.clock = 1
        self.life = 0
        self._mailbox: list[Callable[[], None]] = []
        self._writing = False
        self._saving = False
        self._queue: list[Ready] = []
        self._proposals: dict[int, tuple[int, Answer]] = {}
        self._reads: dict[int, tuple[KvRequest, Answer]] = {}
        self._ripe_reads: list[tuple[int, KvRequest, Answer]] = []
        self._next_context = 0

    @property
    def alive(self) -> bool:
        return self.core is not None

    # --- life and death ----------------------------------------------------------------------------------------

    def start(self) -> None:
        profile = self.cluster.profile
        image = self.disk.durable
        snapshot = image.snapshot
        self.life += 1
        self.machine = self.cluster.seams.machine(profile.max_sessions)
        if snapshot is not None:
            self.machine.restore(snapshot.data)
        core = self.cluster.seams.core(
            CoreConfig(
                self.node_id,
                tuple(range(1, profile.nodes + 1)),
                *profile.election_ticks,
                heartbeat_ticks=profile.heartbeat_ticks,
                max_append_bytes=profile.max_append_bytes,
                max_inflight_appends=profile.max_inflight_appends,
                snapshot_chunk_bytes=profile.snapshot_chunk_bytes,
                max_uncommitted_entries=profile.max_uncommitted_entries,
            ),
            image.hard_state,
            snapshot.index if snapshot else 0,
            snapshot.term if snapshot else 0,
            list(image.entries),
            Random(self.rng.getrandbits(64)),
            load_snapshot=self._newest_snapshot,
        )
        self.core = core
        self._writing = self._saving = False
        self._queue, self._mailbox = [], []
        self._proposals, self._reads, self._ripe_reads = {}, {}, []
        self.cluster.note(
            self.node_id, "starts with term %d, log %d..%d", core.term, core.log.base_index, core.last_index
        )
        self.cluster.invariants.started(self)
        self._schedule_tick()

    def crash(self, restart: bool = False) -> None:
        """Die; whoever killed the node restarts it, unless it is to come back by itself."""
        if self.core is not None:
            self.core = None
            if restart:
                self.cluster.schedule(self.rng.randint(1, 200) * MS, lambda: self.cluster.start(self))
            self.paused = False
            self.disk.crash()
            self.cluster.invariants.crashed(self)
            self.cluster.note(self.node_id, "crashes; its disk has log ..%d", self.disk.durable.last_index)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            mailbox, self._mailbox = self._mailbox, []
            for event in mailbox:
                event()

    def _newest_snapshot(self) -> Snapshot:
        snapshot = self.disk.durable.snapshot
        assert snapshot is not None
        return snapshot

    def _schedule_tick(self) -> None:
        life = self.life
        # Clocks of different nodes drift apart by some percent.
        tick_us = self.cluster.tick_us * self.clock + self.rng.randint(-400, 400)

        def tick() -> None:
            if self.life == life and self.core is not None:
                if not self.paused:
                    self.core.tick()
                    self._pump()
                self._schedule_tick()

        self.cluster.schedule(tick_us, tick)

    def _guarded(self, event: Callable[[], None]) -> Callable[[], None]:
        """The event happens in this life only, and waits while the process is stopped."""
        life = self.life

        def run() -> None:
            if self.life != life or self.core is None:
                return
            if self.paused:
                self._mailbox.append(run)
            else:
                event()

        return run

    # --- what arrives ------------------------------------------------------------------------------------------

    def deliver(self, message: PeerMessage) -> None:
        def step() -> None:
            assert self.core is not None
            self.cluster.note(self.node_id, "hears %r", message)
            self.core.step(message)
            self._pump()

        if self.core is not None:
            self._guarded(step)()

    def request(self, request: KvRequest, answer: Answer) -> None:
        """A client's request arrived."""
        if self.core is not None:
            self._guarded(lambda: self._serve(request, answer))()

    def _serve(self, request: KvRequest, answer: Answer) -> None:
        core = self.core
        assert core is not None
        try:
            if request.op == GET:
                self._next_context += 1
                core.read_index(self._next_context)
                self._reads[self._next_context] = (request, answer)
            else:
                index, term = core.propose(encode_request(request))
                self._proposals[index] = (term, answer)
        except NotLeader:
            answer(KvReply(NOT_LEADER, version=core.leader))
        except Busy:
            answer(KvReply(BUSY))
        self._pump()

    def transfer(self) -> None:
        if self.core is not None and self.core.is_leader and self.core.peers and not self.paused:
            self.core.transfer_leadership()
            self._pump()

    # --- Readys ------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        core = self.core
        assert core is not None
        invariants = self.cluster.invariants
        while core.has_ready():
            ready = core.ready()
            invariants.handed_over(self, ready)
            self._send(ready.messages_before)
            if ready.must_sync:
                self._write(ready)
            self._queue.append(ready)
            if self.cluster.profile.apply_early:
                self._apply(ready)
            for context, index, ok in ready.read_states:
                request, answer = self._reads.pop(context)
                if ok:
                    self._ripe_reads.append((index, request, answer))
                else:
                    answer(KvReply(UNKNOWN))
            if not core.is_leader and self._proposals:
                for _, answer in self._proposals.values():
                    answer(KvReply(UNKNOWN))
                self._proposals = {}
            self._serve_reads()
            self._finish_writes()
            if self.core is None:
                return
        invariants.check(self)

    def _write(self, ready: Ready) -> None:
        disk = self.disk
        if ready.hard_state is not None:
            disk.write_hard_state(ready.hard_state)
        if ready.snapshot is not None:
            disk.write_snapshot(ready.snapshot)
            disk.drop_log(ready.snapshot.index, ready.snapshot.term)
        if ready.entries:
            disk.write_entries(ready.entries)

    def _finish_writes(self) -> None:
        """Start a sync if there is something to sync, or finish at once if there is not."""
        if self._writing:
            return
        while self._queue and not self._queue[0].must_sync:
            self._finish(self._queue.pop(0))
        if not self._queue:
            return
        self._writing = True
        group, writes = len(self._queue), self.disk.pending
        shortest, longest = self.cluster.profile.disk_us
        delay_us = self.rng.randint(shortest, longest) * self.slow
        self.cluster.schedule(delay_us, self._guarded(lambda: self._synced(group, writes)))

    def _synced(self, group: int, writes: int) -> None:
        self._writing = False
        try:
            self.disk.sync(writes)
        except PowerLoss:
            self.cluster.note(self.node_id, "loses power while it writes")
            self.crash(restart=True)
            return
        except DiskError:
            if not self.cluster.seams.serves_after_disk_error:
                self.cluster.note(self.node_id, "stops: fsync failed")
                self.crash()
                return
        if self.rng.random() < self.cluster.crash_before_send:
            self.cluster.note(self.node_id, "dies between its disk and its network")
            self.crash()
            return
        for _ in range(group):
            self._finish(self._queue.pop(0))
        self._pump()

    def _finish(self, ready: Ready) -> None:
        core = self.core
        assert core is not None
        core.persisted(ready)
        self._send(ready.messages_after)
        if not self.cluster.profile.apply_early:
            self._apply(ready)
            self._serve_reads()

    def _send(self, messages: list[PeerMessage]) -> None:
        for message in messages:
            self.cluster.invariants.sending(self, message)
            target = self.cluster.nodes[message.to]
            self.cluster.network.send(self.node_id, message.to, target.deliver, message)

    # --- the state machine -------------------------------------------------------------------------------------

    def _apply(self, ready: Ready) -> None:
        core = self.core
        assert core is not None
        if ready.snapshot is not None:
            self.machine.restore(ready.snapshot.data)
            core.applied(ready.snapshot.index)
            self.cluster.invariants.restored(self)
        for entry in ready.committed:
            request = decode_request(entry.data) if entry.data else None
            reply = self.machine.apply(entry, request)
            core.applied(entry.index)
            self.cluster.invariants.applied(self, entry, request, reply)
            waiting = self._proposals.pop(entry.index, None)
            if waiting is not None:
                term, answer = waiting
                if term == entry.term:
                    self.cluster.invariants.acknowledging(self, entry)
                    answer(reply)
                else:
                    answer(KvReply(UNKNOWN))
        every = self.cluster.profile.snapshot_entries
        if (
            every
            and not self._saving
            and core.applied_index - core.log.base_index >= every + self.cluster.profile.keep_entries
        ):
            self._take_snapshot()

    def _take_snapshot(self) -> None:
        """The state as it is now; writing it to the disk takes a while, and the node goes on meanwhile."""
        core = self.core
        assert core is not None
        index = core.applied_index
        snapshot = Snapshot(index, core.log.term_at(index), self.machine.snapshot())
        self._saving = True
        delay_us = self.rng.randint(*self.cluster.profile.disk_us) * self.slow
        self.cluster.schedule(delay_us, self._guarded(lambda: self._save_snapshot(snapshot)))

    def _save_snapshot(self, snapshot: Snapshot) -> None:
        core = self.core
        assert core is not None
        self._saving = False
        saved = self.disk.durable.snapshot
        if self.disk.snapshot_pending or (saved is not None and saved.index >= snapshot.index):
            return  # the leader sent a newer one meanwhile
        try:
            self.disk.save_snapshot(snapshot)
        except PowerLoss:
            self.cluster.note(self.node_id, "loses power while it saves a snapshot")
            self.crash(restart=True)
            return
        except DiskError:
            self.cluster.note(self.node_id, "stops: its snapshot could not be saved")
            self.crash()
            return
        trim_to = snapshot.index - self.cluster.profile.keep_entries
        if trim_to > core.log.base_index:
            self.disk.trim(trim_to, core.log.term_at(trim_to))
            core.compact(trim_to)
        self.cluster.invariants.snapshot_saved(self, snapshot)

    def _serve_reads(self) -> None:
        core = self.core
        assert core is not None
        if self._ripe_reads:
            waiting = []
            for index, request, answer in self._ripe_reads:
                if index <= core.applied_index:
                    answer(self.machine.read(request.key))
                else:
                    waiting.append((index, request, answer))
            self._ripe_reads = waiting
