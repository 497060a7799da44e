"""Real RaftNodes in the test's own process, and a record of all that they do, in order.

The node's log is the real one on a disk in memory; links and clients only write down what they are given. Nothing
moves by itself: the test ticks, delivers and asks, so a story takes milliseconds.

    shells = ShellCluster(3)
    leader = shells.elect()
    shells.write(leader, "k", "v")
    assert disorder_in(shells.events, quorum=2) is None
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn

import gevent

from protocols import kv
from protocols.kv import KvReply, KvRequest, encode_request
from protocols.raft_messages import AppendReply, PeerMessage, VoteReply, decode_message, encode_message
from servers.connection import OPEN
from servers.raft.core import Core
from servers.raft.log import DurableLog
from servers.raft.node import NodeOptions, RaftNode
from servers.raft.types import CoreConfig, Entry, HardState, Ready, Snapshot
from tests.servers.raft.simulated_disk import SimulatedDisk

TICK_S = 0.01


class HandedOver(NamedTuple):
    """The core handed this Ready to the shell."""

    ready: Ready


class Persisted(NamedTuple):
    """The shell said that this Ready is durable."""

    ready: Ready


class Written(NamedTuple):
    """Given to the log: durable only after the next Synced."""

    hard_state: HardState | None
    entries: Sequence[Entry]
    snapshot: Snapshot | None


class Synced(NamedTuple):
    pass


class Sent(NamedTuple):
    message: PeerMessage


class Answered(NamedTuple):
    """A reply left for a client."""

    request_id: int
    reply: KvReply


Event = HandedOver | Persisted | Written | Synced | Sent | Answered
Record = Callable[[Event], None]


class _Core(Core):
    record: Record

    def ready(self) -> Ready:
        ready = super().ready()
        # A copy: what the shell does to the lists must not change what it was asked for.
        messages = {"messages_before": ready.messages_before[:], "messages_after": ready.messages_after[:]}
        self.record(HandedOver(replace(ready, **messages)))  # type: ignore[arg-type]
        return ready

    def persisted(self, ready: Ready) -> None:
        self.record(Persisted(ready))
        super().persisted(ready)


class _Log(DurableLog):
    record: Record

    def append(self, hard_state: HardState | None, entries: list[Entry]) -> None:
        self.record(Written(hard_state, list(entries), None))
        super().append(hard_state, entries)

    def install_snapshot(self, snapshot: Snapshot) -> None:
        self.record(Written(None, (), snapshot))
        super().install_snapshot(snapshot)

    def sync(self) -> None:
        super().sync()
        self.record(Synced())


class _Link:
    """Everything a node sends to one peer."""

    dropped = 0

    def __init__(self, record: Record, deliver: Callable[[PeerMessage], None]) -> None:
        self._record = record
        self._deliver = deliver

    def send(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            message = decode_message(payload)
            self._record(Sent(message))
            self._deliver(message)


class ShellClient:
    """A client of one node; replies count when they leave, not when they are queued."""

    state = OPEN

    def __init__(self, shell: "Shell") -> None:
        self._shell = shell
        self._queued: list[Answered] = []
        self.replies: dict[int, KvReply] = {}

    def reply(self, request_id: int, reply: KvReply) -> None:
        if not self._queued:
            self._shell.node.has_replies(self)  # type: ignore[arg-type]
        self._queued.append(Answered(request_id, reply))

    def flush(self) -> None:
        queued, self._queued = self._queued, []
        for answered in queued:
            self._shell.record(answered)
            assert answered.request_id not in self.replies, "a second reply to one request"
            self.replies[answered.request_id] = answered.reply

    def ask(self, request_id: int, request: KvRequest) -> None:
        self._shell.node.on_request(self, request_id, request, encode_request(request))  # type: ignore[arg-type]


class Shell:
    def __init__(
        self,
        node_id: int,
        members: Sequence[int],
        record: Record,
        deliver: Callable[[PeerMessage], None],
        node_class: type[RaftNode] = RaftNode,
        *,
        snapshot_entries: int = 1000,
        request_timeout_s: float = 60.0,
    ) -> None:
        self.record = record
        self.failures: list[str] = []

        class Node(node_class):  # type: ignore[valid-type, misc]
            core_class: ClassVar[type[Core]] = _Core

        def fail(reason: str) -> NoReturn:
            self.failures.append(reason)
            raise SystemExit(reason)

        opened: Any = _Log.open(Path(f"/n{node_id}"), node_id, "shells", files=SimulatedDisk())
        opened[0].record = record
        self.node: RaftNode = Node(
            NodeOptions(node_id, dict.fromkeys(members, "nowhere"), TICK_S, snapshot_entries, request_timeout_s),
            CoreConfig(node_id, tuple(members)),
            opened,
            on_failure=fail,
        )
        self.node.core.record = record  # type: ignore[attr-defined]
        for peer in members:
            if peer != node_id:
                self.node.links[peer] = _Link(record, deliver)  # type: ignore[assignment]

    def tick(self) -> None:
        self.node.core.tick()
        self.node.wake()


class ShellCluster:
    """Nodes 1..size. Messages wait in `inbox` until `run`; those to and from nodes in `away` are lost."""

    def __init__(self, size: int, node_class: type[RaftNode] = RaftNode, *, snapshot_entries: int = 1000) -> None:
        self.events: list[tuple[int, Event]] = []
        self.inbox: list[PeerMessage] = []
        self.away: set[int] = set()
        members = range(1, size + 1)
        self.shells = {
            node_id: Shell(
                node_id,
                members,
                lambda event, node_id=node_id: self.events.append((node_id, event)),  # type: ignore[misc]
                self.inbox.append,
                node_class,
                snapshot_entries=snapshot_entries,
            )
            for node_id in members
        }
        self._next_id = 0

    def run(self, ticks: int = 1) -> None:
        """Let time pass, and deliver what is on its way until nobody says anything more."""
        for _ in range(ticks):
            for shell in self.shells.values():
                shell.tick()
            gevent.sleep(0)
            while self.inbox:
                waiting = self.inbox[:]
                self.inbox.clear()
                for message in waiting:
                    if message.to not in self.away and message.sender not in self.away:
                        self.shells[message.to].node.on_message(message)
                gevent.sleep(0)
        assert not any(shell.failures for shell in self.shells.values()), [s.failures for s in self.shells.values()]

    def elect(self) -> Shell:
        """Tick until one of those that are not away leads."""
        for _ in range(1000):
            self.run()
            for node_id, shell in self.shells.items():
                if node_id not in self.away and shell.node.core.is_leader:
                    return shell
        raise AssertionError("no leader")

    def write(self, shell: Shell, key: str, value: str) -> KvReply:
        """A write carried through at one node."""
        self._next_id += 1
        client = ShellClient(shell)
        client.ask(self._next_id, KvRequest(kv.PUT, key, value))
        for _ in range(100):
            self.run()
            if client.replies:
                return client.replies[self._next_id]
        raise AssertionError(f"no answer to the write of {key}")


class _Seen:
    """What the judge knows of one node."""

    def __init__(self) -> None:
        self.written: list[Written] = []
        self.hard_state = HardState(0, 0)
        self.last_index = 0
        self.before: Counter[bytes] = Counter()
        self.after: Counter[bytes] = Counter()
        self.owes: Ready | None = None  # handed over and not yet durable

    def sync(self) -> None:
        for written in self.written:
            if written.hard_state is not None:
                self.hard_state = written.hard_state
            if written.snapshot is not None:
                self.last_index = written.snapshot.index
            if written.entries:
                self.last_index = written.entries[-1].index
        if self.owes is not None and self._holds(self.owes):
            self.owes = None
        self.written = []

    def _holds(self, ready: Ready) -> bool:
        entries = [entry for written in self.written for entry in written.entries]
        return (
            (ready.hard_state is None or self.hard_state == ready.hard_state)
            and entries == ready.entries
            and (ready.snapshot is None or any(written.snapshot == ready.snapshot for written in self.written))
        )


def disorder_in(events: Sequence[tuple[int, Event]], quorum: int) -> str | None:
    """The first thing that was said before it was true, or None: a message, `persisted` or a reply before its sync."""
    nodes: dict[int, _Seen] = {}
    for node_id, event in events:
        seen = nodes.setdefault(node_id, _Seen())
        match event:
            case HandedOver(ready):
                if seen.owes is not None:
                    return f"n{node_id} takes the next Ready before it persisted the last"
                seen.owes = ready if ready.must_sync else None
                seen.before = Counter(map(encode_message, ready.messages_before))
                seen.after = Counter(map(encode_message, ready.messages_after))
            case Written():
                seen.written.append(event)
            case Synced():
                seen.sync()
            case Persisted():
                if seen.owes is not None:
                    return f"n{node_id} calls a Ready persisted before its sync"
            case Sent(message):
                data = encode_message(message)
                if seen.before[data]:
                    seen.before[data] -= 1
                elif not seen.after[data]:
                    return f"n{node_id} sends {message!r}, which is in no Ready"
                elif seen.owes is not None:
                    return f"n{node_id} sends {message!r} before its sync"
                else:
                    seen.after[data] -= 1
                if why := _unfounded(seen, message):
                    return f"n{node_id} sends {message!r} but {why}"
            case Answered(_, reply):
                if reply.result == kv.OK and reply.value is None and reply.version is not None:
                    durable = [number for number, other in nodes.items() if other.last_index >= reply.version]
                    if len(durable) < quorum:
                        return f"n{node_id} acknowledges entry {reply.version}, durable only at {durable}"
    return None


def _unfounded(seen: _Seen, message: PeerMessage) -> str:
    """Whatever the core says may leave early: a vote and an acknowledgement need what they promise on the disk."""
    if type(message) is AppendReply and message.ok and message.index > seen.last_index:
        return f"its disk ends at {seen.last_index}"
    votes = type(message) is VoteReply and message.granted and not message.pre
    if votes and seen.hard_state != (message.term, message.to):
        return f"its disk holds {seen.hard_state}"
    return ""
