"""One Raft node: the shell that gives the core its sockets, clock and disk.

Everything happens in gevent's hub, in turns. Watchers hand what has arrived to the core at once; then one turn does
what the core asks for: one broadcast, one write and one fdatasync for all proposals that came in, then what is
committed is applied, and every client with something to hear gets one send. While the disk works, what arrives
waits in the kernel's buffers and makes the next batch larger: group commit without a timer.

The disk works inside the turn. In gevent's thread pool it was measured to be no faster with 64 clients and a fifth
slower with one: what the loop could do meanwhile is done by the next batch anyway. A leader whose disk stalls for an
election timeout loses its leadership, and so it should.

A fault of the disk, or of Raft itself, stops the process: a node that cannot keep a promise must not speak.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, Final, NamedTuple, NoReturn

import gevent

from protocols.kv import (
    BUSY,
    GET,
    NOT_LEADER,
    OK,
    SERVER_BUSY_TEXT,
    STATUS,
    UNKNOWN,
    KvReply,
    KvRequest,
    KvStatus,
    Leader,
)
from protocols.raft_messages import MessageEncoder, PeerMessage
from servers.connection import OPEN
from servers.log_lines import log
from servers.raft.client_port import ClientConnection
from servers.raft.core import Core
from servers.raft.log import DiskFailed, DurableLog
from servers.raft.peers import PeerLink
from servers.raft.state_machine import KvStateMachine
from servers.raft.types import Busy, CoreConfig, Entry, HardState, NotLeader, Ready, Role, Snapshot

# Ticks that are due after a pause (SIGSTOP, a starved machine) are not made up for beyond this: the time away says
# nothing about the peers, whose messages are still in the socket's buffer.
MAX_TICKS_AT_ONCE: Final = 5
# A write that is not committed, or a read that is not confirmed, after this time is answered UNKNOWN.
REQUEST_TIMEOUT_S: Final = 5.0
# A read that meets an election waits for its end instead of sending the client round the cluster.
READ_PATIENCE_S: Final = 1.0
# Entries kept in the log behind a snapshot, so that a follower that is a little behind needs no snapshot.
MAX_SNAPSHOT_MARGIN: Final = 5000
# Leadership is handed over within this at SIGTERM, or not.
TRANSFER_S: Final = 1.0
EXIT_FAILED: Final = 4

UNKNOWN_LOST: Final = "leadership was lost after the write was proposed: it may or may not be applied"
UNKNOWN_LATE: Final = "no quorum confirmed in time: it may or may not be applied"
READ_LATE: Final = "no quorum confirmed the read in time"
READ_BEHIND: Final = "this node did not catch up with the confirmed index in time"


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What distinguishes one node from another. `clients` are the client addresses of all members."""

    node_id: int
    clients: dict[int, str]
    tick_s: float
    snapshot_entries: int
    request_timeout_s: float = REQUEST_TIMEOUT_S


class _Proposal(NamedTuple):
    term: int
    client: ClientConnection
    request_id: int
    request: KvRequest
    deadline_s: float


class _Read(NamedTuple):
    client: ClientConnection
    request_id: int
    key: str
    patience_ends_s: float


class _ConfirmedReads(NamedTuple):
    """Reads that may be served once `read_index` is applied."""

    read_index: int
    deadline_s: float
    reads: list[_Read]


class RaftNode:
    """The shell around one Core. `links` are added before `start`."""

    #: What it is made of; another class in one of these places makes another node (servers/bugs).
    core_class: ClassVar[type[Core]] = Core
    machine_class: ClassVar[type[KvStateMachine]] = KvStateMachine
    client_class: ClassVar[type[ClientConnection]] = ClientConnection

    def __init__(
        self,
        options: NodeOptions,
        config: CoreConfig,
        opened: tuple[DurableLog, HardState, Snapshot | None, list[Entry]],
        *,
        observe_sync_s: Callable[[float], None] = lambda seconds: None,
        on_failure: Callable[[str], NoReturn] | None = None,
    ) -> None:
        """`opened` is what DurableLog.open returned. Raises SnapshotUnreadable, InvariantBroken."""
        durable, hard_state, snapshot, entries = opened
        self.options = options
        self.machine = self.machine_class()
        self.links: dict[int, PeerLink] = {}
        self.elections_begun = 0
        self.leader_changes = 0
        self.snapshots_saved = 0
        self.writes_proposed = 0
        self.reads_served = 0
        self._log = durable
        self._observe_sync_s = observe_sync_s
        self._fail = on_failure or _exit_failed
        self._snapshot_index = 0
        if snapshot is not None:
            self.machine.restore(snapshot.data)
            self._snapshot_index = snapshot.index
        self.core = self.core_class(
            config,
            hard_state,
            self._snapshot_index,
            snapshot.term if snapshot is not None else 0,
            entries,
            Random(),  # seeded by the system: contexts must not repeat after a restart
            load_snapshot=durable.load_snapshot,
        )
        self._encoder = MessageEncoder()
        self._role = Role.FOLLOWER
        self._term = hard_state.term
        self._leader = 0
        # Writes that wait to be committed, by index (ascending); and reads, by the stages they pass.
        self._proposals: dict[int, _Proposal] = {}
        self._new_reads: list[_Read] = []
        self._asked_reads: dict[int, tuple[float, list[_Read]]] = {}  # by context: deadline and reads
        self._confirmed_reads: deque[_ConfirmedReads] = deque()
        self._next_context = 1
        self._clients_with_replies: list[ClientConnection] = []
        self._turn_due = False
        self._saving_snapshot = False
        self._loop: Any = gevent.get_hub().loop
        self._timer: Any = None
        self._next_tick_s = 0.0

    @property
    def log_size_bytes(self) -> int:
        return self._log.size_bytes

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        for link in self.links.values():
            link.start()
        self._next_tick_s = time.monotonic() + self.options.tick_s
        self._timer = self._loop.timer(self.options.tick_s, self.options.tick_s)
        self._timer.start(self._guarded, self._on_timer)

    def hand_over(self) -> None:
        """Give leadership away before stopping; blocks a greenlet for at most TRANSFER_S."""
        if self.core.is_leader and self.links:
            log.info("handing_over_leadership", term=self.core.term)
            self.core.transfer_leadership()
            self.wake()
            deadline_s = time.monotonic() + TRANSFER_S
            while self.core.is_leader and time.monotonic() < deadline_s:
                gevent.sleep(self.options.tick_s)
        self._answer_all_waiting(UNKNOWN_LOST)
        self._flush_clients()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        for link in self.links.values():
            link.stop()
        while self._saving_snapshot:
            gevent.sleep(self.options.tick_s)
        self._log.close()

    def wake(self) -> None:
        """Have a turn once everything that has arrived by now is handed to the core."""
        if not self._turn_due:
            self._turn_due = True
            self._loop.run_callback(self._guarded, self._turn)

    def _guarded(self, step: Callable[..., None], *arguments: Any) -> None:
        """Run a step of the node; whatever goes wrong in it ends the process."""
        try:
            step(*arguments)
        except DiskFailed as error:
            self._fail(str(error))
        except Exception as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"
            self._fail(f"{type(error).__name__} at {where}: {error}")

    # --- what arrives --------------------------------------------------------------------------------------------

    def on_message(self, message: PeerMessage) -> None:
        """From a peer that has proved itself."""
        self._guarded(self.core.step, message)
        self.wake()

    def on_broken_link(self, peer: int) -> None:
        self._guarded(self.core.peer_unreachable, peer)
        self.wake()

    def on_request(self, client: ClientConnection, request_id: int, request: KvRequest, payload: bytes) -> None:
        op = request.op
        if op == GET:
            if request.stale:
                client.reply(request_id, self.machine.read(request.key))
            else:
                patience_ends_s = time.monotonic() + READ_PATIENCE_S
                self._new_reads.append(_Read(client, request_id, request.key, patience_ends_s))
                self.wake()
        elif op == STATUS:
            client.reply(request_id, KvReply(OK, status=self.status()))
        else:
            try:
                index, term = self.core.propose(payload)
            except NotLeader as error:
                client.reply(request_id, self._not_leader(error.leader))
            except Busy:
                client.reply(request_id, KvReply(BUSY, error=SERVER_BUSY_TEXT))
            else:
                deadline_s = time.monotonic() + self.options.request_timeout_s
                self._proposals[index] = _Proposal(term, client, request_id, request, deadline_s)
                self.writes_proposed += 1
                self.wake()

    def has_replies(self, client: ClientConnection) -> None:
        self._clients_with_replies.append(client)
        self.wake()

    def status(self) -> KvStatus:
        core, clients = self.core, self.options.clients
        return KvStatus(
            self.options.node_id,
            core.role.name.lower(),
            core.term,
            self._leader_address(core.leader),
            core.commit_index,
            self.machine.applied_index,
            core.last_index,
            tuple(Leader(node_id, address) for node_id, address in sorted(clients.items())),
        )

    def _on_timer(self) -> None:
        now_s = time.monotonic()
        tick_s = self.options.tick_s
        due = int((now_s - self._next_tick_s) / tick_s) + 1
        if due <= 0:
            return
        self._next_tick_s += due * tick_s
        for _ in range(min(due, MAX_TICKS_AT_ONCE)):
            self.core.tick()
        if self._proposals or self._asked_reads or self._confirmed_reads:
            self._expire(now_s)
        if self.core.has_ready() or self._clients_with_replies or self._new_reads:
            self.wake()

    # --- a turn --------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._turn_due = False
        if self._new_reads:
            self._ask_for_reads()
        core = self.core
        while core.has_ready():
            ready = core.ready()
            self._send(ready.messages_before)
            if ready.must_sync:
                self._persist(ready)
            core.persisted(ready)
            self._send(ready.messages_after)
            if ready.snapshot is not None:
                self._restore(ready.snapshot)
            if ready.committed:
                self._apply(ready)
            for context, index, ok in ready.read_states:
                self._on_read_state(context, index, ok)
            if ready.role is not self._role or ready.term != self._term or ready.leader != self._leader:
                self._on_change(ready)
            for alarm in ready.alarms:
                log.error("alarm", reason=alarm)
        if self._confirmed_reads:
            self._serve_reads()
        self._flush_clients()
        if self.machine.applied_index - self._snapshot_index >= self.options.snapshot_entries:
            self._save_snapshot()

    def _send(self, messages: list[PeerMessage]) -> None:
        if not messages:
            return
        encode = self._encoder.encode
        if len(messages) == 1:
            message = messages[0]
            self.links[message.to].send([encode(message)])
            return
        outgoing: dict[int, list[bytes]] = {}
        for message in messages:
            outgoing.setdefault(message.to, []).append(encode(message))
        for peer, payloads in outgoing.items():
            self.links[peer].send(payloads)

    def _persist(self, ready: Ready) -> None:
        begun_s = time.perf_counter()
        if ready.snapshot is not None:
            self._log.append(ready.hard_state, [])
            self._log.install_snapshot(ready.snapshot)
            self._log.append(None, ready.entries)
        else:
            self._log.append(ready.hard_state, ready.entries)
        self._log.sync()
        self._observe_sync_s(time.perf_counter() - begun_s)

    def _restore(self, snapshot: Snapshot) -> None:
        self.machine.restore(snapshot.data)
        self._snapshot_index = snapshot.index
        self.core.applied(snapshot.index)
        log.info("snapshot_installed", index=snapshot.index, term=snapshot.term, size_bytes=len(snapshot.data))

    def _apply(self, ready: Ready) -> None:
        apply, proposals = self.machine.apply, self._proposals
        for entry in ready.committed:
            proposal = proposals.pop(entry.index, None) if proposals else None
            if proposal is None:
                apply(entry)
            elif proposal.term == entry.term:
                proposal.client.reply(proposal.request_id, apply(entry, proposal.request))
            else:
                # Another leader's entry stands in its place: ours is gone for good.
                apply(entry)
                proposal.client.reply(proposal.request_id, self._not_leader(ready.leader))
        self.core.applied(self.machine.applied_index)

    def _on_change(self, ready: Ready) -> None:
        if ready.role is not self._role:
            if ready.role is Role.CANDIDATE:
                self.elections_begun += 1
            log.info("role_changed", role=ready.role.name.lower(), term=ready.term)
        if ready.leader != self._leader and ready.leader:
            self.leader_changes += 1
            log.info("leader_changed", leader=f"n{ready.leader}", term=ready.term)
        if self._role is Role.LEADER and (ready.role is not Role.LEADER or ready.term != self._term):
            self._answer_all_waiting(UNKNOWN_LOST)
        self._role, self._term, self._leader = ready.role, ready.term, ready.leader

    # --- reads ---------------------------------------------------------------------------------------------------

    def _ask_for_reads(self) -> None:
        reads, self._new_reads = self._new_reads, []
        context = self._next_context
        self._next_context += 1
        try:
            self.core.read_index(context)
        except NotLeader:
            self._ask_again(reads)  # at the next tick
        except Busy:
            for read in reads:
                read.client.reply(read.request_id, KvReply(BUSY, error=SERVER_BUSY_TEXT))
        else:
            self._asked_reads[context] = (time.monotonic() + self.options.request_timeout_s, reads)

    def _ask_again(self, reads: list[_Read]) -> None:
        """Nobody could answer these: keep them while they have patience."""
        now_s = time.monotonic()
        for read in reads:
            if read.patience_ends_s > now_s and read.client.state == OPEN:
                self._new_reads.append(read)
            else:
                read.client.reply(read.request_id, self._not_leader(self.core.leader))

    def _on_read_state(self, context: int, index: int, ok: bool) -> None:
        deadline_s, reads = self._asked_reads.pop(context, (0.0, []))
        if ok:
            self._confirmed_reads.append(_ConfirmedReads(index, deadline_s, reads))
        else:
            self._ask_again(reads)

    def _serve_reads(self) -> None:
        confirmed, applied_index = self._confirmed_reads, self.machine.applied_index
        for _ in range(len(confirmed)):
            batch = confirmed.popleft()
            if batch.read_index > applied_index:
                confirmed.append(batch)
                continue
            self.reads_served += len(batch.reads)
            for client, request_id, key, _ in batch.reads:
                client.reply(request_id, self.machine.read(key))

    # --- answers -------------------------------------------------------------------------------------------------

    def _flush_clients(self) -> None:
        clients, self._clients_with_replies = self._clients_with_replies, []
        for client in clients:
            client.flush()

    def _not_leader(self, leader: int) -> KvReply:
        return KvReply(NOT_LEADER, leader=self._leader_address(leader), error=str(NotLeader(leader)))

    def _leader_address(self, leader: int) -> Leader | None:
        address = self.options.clients.get(leader)
        return Leader(leader, address) if address is not None else None

    def _expire(self, now_s: float) -> None:
        """Deadlines of proposals and of questions ascend: the oldest is the first."""
        while self._proposals:
            index, proposal = next(iter(self._proposals.items()))
            if proposal.deadline_s > now_s:
                break
            del self._proposals[index]
            proposal.client.reply(proposal.request_id, KvReply(UNKNOWN, error=UNKNOWN_LATE))
        while self._asked_reads:
            context, (deadline_s, reads) = next(iter(self._asked_reads.items()))
            if deadline_s > now_s:
                break
            del self._asked_reads[context]
            for read in reads:
                read.client.reply(read.request_id, KvReply(UNKNOWN, error=READ_LATE))
        # A node that was cut off after the confirmation may never apply that index.
        for _ in range(len(self._confirmed_reads)):
            batch = self._confirmed_reads.popleft()
            if batch.deadline_s > now_s:
                self._confirmed_reads.append(batch)
                continue
            for read in batch.reads:
                read.client.reply(read.request_id, KvReply(UNKNOWN, error=READ_BEHIND))

    def _answer_all_waiting(self, error: str) -> None:
        proposals, self._proposals = self._proposals, {}
        for proposal in proposals.values():
            proposal.client.reply(proposal.request_id, KvReply(UNKNOWN, error=error))

    # --- snapshots -----------------------------------------------------------------------------------------------

    def _save_snapshot(self) -> None:
        """Write the state in the background; when it is durable, trim the log."""
        if self._saving_snapshot:
            return
        index = self.machine.applied_index
        self._saving_snapshot = True
        self._snapshot_index = index
        gevent.spawn(self._guarded, self._write_snapshot, index, self.core.log.term_at(index), self.machine.freeze())

    def _write_snapshot(self, index: int, term: int, parts: Iterator[bytes]) -> None:
        try:
            begun_s = time.perf_counter()
            packed = []
            for part in parts:
                packed.append(part)
                gevent.sleep(0)  # the turns go on meanwhile
            snapshot = Snapshot(index, term, b"".join(packed))
            gevent.get_hub().threadpool.apply(self._log.save_snapshot, (snapshot,))
            taken_s = time.perf_counter() - begun_s
        finally:
            self._saving_snapshot = False
        margin = min(MAX_SNAPSHOT_MARGIN, self.options.snapshot_entries)
        trim_index = snapshot.index - margin
        if trim_index > self.core.log.base_index:
            self.core.compact(trim_index)
        self._log.compact(trim_index)
        self.snapshots_saved += 1
        log.info("snapshot_saved", index=snapshot.index, size_bytes=len(snapshot.data), taken_s=taken_s)


def _exit_failed(reason: str) -> NoReturn:
    """Stop at once: nothing more may be said, to nobody."""
    log.error("node_failed", reason=reason)
    print(reason, file=sys.stderr, flush=True)
    os._exit(EXIT_FAILED)
