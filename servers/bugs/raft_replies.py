"""Raft nodes that answer wrongly, late or not at all, over a log that is right."""

import signal
from typing import Any, Final

import gevent

from protocols.kv import BUSY, CAS, ERROR, GET, SERVER_BUSY_TEXT, WRITES, KvReply, KvRequest, encode_request
from servers import serving
from servers.log_lines import log
from servers.raft.client_port import ClientConnection
from servers.raft.node import RaftNode
from servers.raft.state_machine import KvStateMachine
from servers.raft.types import Busy, NotLeader

# One read, refused write, late write in so many.
EVERY_READ: Final = 100
EVERY_REFUSAL: Final = 100
EVERY_LATE: Final = 100
# 5 % of the outcomes stay unknown.
EVERY_UNANSWERED: Final = 20
# Long after its client has given up, and after hundreds of later writes of the same key.
LATE_S: Final = 30.0


class StaleFollowerRead(RaftNode):
    """A follower answers reads from what it has, without asking the leader."""

    def on_request(self, client: ClientConnection, request_id: int, request: KvRequest, payload: bytes) -> None:
        if request.op == GET and not self.core.is_leader:
            client.reply(request_id, self.machine.read(request.key))
        else:
            super().on_request(client, request_id, request, payload)


class MixesUpKeys(KvStateMachine):
    _reads = 0

    def read(self, key: str) -> KvReply:
        self._reads += 1
        if self._reads % EVERY_READ == 0:
            for other, (value, version) in self._keys.items():
                if other != key and value:
                    return super().read(key)._replace(result="OK", value=value, version=version)
        return super().read(key)


class OtherKey(RaftNode):
    """A read is answered with the value of another key."""

    machine_class = MixesUpKeys


class SwapsReplies(ClientConnection):
    """Replies to cas of one key that leave together carry each other's request id."""

    __slots__ = ("_held", "keys")

    def __init__(self, *arguments: Any) -> None:
        self.keys: dict[int, str] = {}  # of cas under way, by request id
        self._held: dict[str, list[tuple[int, KvReply]]] = {}
        super().__init__(*arguments)

    def reply(self, request_id: int, reply: KvReply) -> None:
        key = self.keys.pop(request_id, None)
        if key is None:
            super().reply(request_id, reply)
            return
        if not self._held and not self._replies:
            self._service.has_replies(self)
        self._held.setdefault(key, []).append((request_id, reply))

    def flush(self) -> None:
        held, self._held = self._held, {}
        for replies in held.values():
            ids = [request_id for request_id, _ in replies]
            for request_id, (_, reply) in zip(reversed(ids), replies, strict=True):
                super().reply(request_id, reply)
        super().flush()


class SwappedReplies(RaftNode):
    """Two pipelined replies of the same kind, on the same key, with swapped request ids."""

    client_class = SwapsReplies

    def on_request(self, client: ClientConnection, request_id: int, request: KvRequest, payload: bytes) -> None:
        if request.op == CAS:
            client.keys[request_id] = request.key  # type: ignore[attr-defined]
        super().on_request(client, request_id, request, payload)


class RejectedWriteVisible(RaftNode):
    """A write is refused, and applied all the same."""

    _writes = 0

    def on_request(self, client: ClientConnection, request_id: int, request: KvRequest, payload: bytes) -> None:
        if request.op in WRITES and self.core.is_leader:
            self._writes += 1
            if self._writes % EVERY_REFUSAL == 0 and propose_silently(self, payload):
                client.reply(request_id, KvReply(ERROR, error="write refused"))
                return
        super().on_request(client, request_id, request, payload)


class Unanswered(RaftNode):
    """Some writes are never answered, whatever becomes of them (`keep`)."""

    every = EVERY_UNANSWERED
    _writes = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._chosen: set[tuple[int | None, int | None]] = set()

    def on_request(self, client: ClientConnection, request_id: int, request: KvRequest, payload: bytes) -> None:
        if request.op in WRITES and self.core.is_leader:
            name = request.client_id, request.seq
            if name in self._chosen:
                return  # a retry: not answered either
            self._writes += 1
            if self._writes % self.every == 0:
                self._chosen.add(name)
                self.keep(request)
                return
        super().on_request(client, request_id, request, payload)

    def keep(self, request: KvRequest) -> None:
        propose_silently(self, encode_request(request))


class LateWrite(Unanswered):
    """A write that timed out lands half a minute later, once: that is allowed."""

    every = EVERY_LATE

    def keep(self, request: KvRequest) -> None:
        # Without its session: the client's later writes would overtake it and forbid it.
        gevent.spawn_later(LATE_S, self._land, encode_request(request._replace(client_id=None, seq=None)))

    def _land(self, payload: bytes) -> None:
        if propose_silently(self, payload):
            log.warning("late_write_landed", after_s=LATE_S)


class Livelock(RaftNode):
    """A leader that was not the first refuses all writes, for ever."""

    def on_request(self, client: ClientConnection, request_id: int, request: KvRequest, payload: bytes) -> None:
        if request.op in WRITES and self.core.is_leader and self.core._term_start_index > 1:
            client.reply(request_id, KvReply(BUSY, error=SERVER_BUSY_TEXT))
        else:
            super().on_request(client, request_id, request, payload)


class DeafToTerm(RaftNode):
    """Node 1 does not hear SIGTERM: a fault that silently does not happen."""

    def start(self) -> None:
        super().start()
        if self.options.node_id == 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            serving.STOP_SIGNALS = (signal.SIGINT,)  # type: ignore[assignment]


def propose_silently(node: RaftNode, payload: bytes) -> bool:
    """Have a write applied that nobody waits for; whether it was proposed."""
    try:
        node.core.propose(payload)
    except (NotLeader, Busy):
        return False
    node.wake()
    return True
