"""Users of a Raft key-value store, whose every operation goes into the history that the judge reads (seed 004).

An operation ends in one of three ways, and when in doubt it is `info`:

    ok      a node answered it: OK, NOT_FOUND, CAS_FAILED
    fail    surely not applied: every attempt was refused before it was proposed, or never sent
    info    some attempt may have been applied, now or later: a timeout, a lost connection, UNKNOWN

Retries keep the client id and sequence number, so the cluster applies the operation once, and the history keeps
one record. It is written before the first byte leaves: what was sent is in the history, whatever happens to us.
"""

import itertools
import random
from collections import deque
from time import monotonic_ns
from typing import Any, ClassVar, Final, Self

import gevent

from protocols.errors import LocalProtocolError
from protocols.host import Host
from protocols.kv import (
    APPEND,
    BUSY,
    CAS,
    CAS_FAILED,
    DELETE,
    ERROR,
    GET,
    NOT_FOUND,
    NOT_LEADER,
    OK,
    PUT,
    UNKNOWN,
    WRITES,
    KvReply,
    KvRequest,
    Value,
)
from records import operations
from records.recorder import recorder
from records.violations import TYPE
from users import options
from users.client import BUSY_BACKOFF_MAX_S, BUSY_BACKOFF_S, BUSY_RETRIES, Client
from users.failures import CheckFailed, ConnectFailed, ConnectionLost, ReplyTimeout, RequestFailure, ServerRefused
from users.kv_cluster import Cluster, KvSession, Node
from users.kv_keys import Keyspace
from users.kv_mix import DEFAULT_MIX
from users.protocol_user import ProtocolUser
from users.request_ids import request_ids
from users.session import Session
from users.transport import Endpoint

# One node gets this long for one attempt, then another is asked: a paused leader never answers, and the rest of
# the cluster elects a new one in less.
ATTEMPT_TIMEOUT_S: Final = 1.0
# Between attempts that found no leader: an election takes some hundred milliseconds.
NO_LEADER_PAUSE_S: Final = 0.02
NO_LEADER_PAUSE_MAX_S: Final = 0.2

_NS_PER_S: Final = 1_000_000_000

# What each operation may be answered with, besides the refusals.
_RESULTS: Final = {
    PUT: {OK},
    APPEND: {OK},
    CAS: {OK, CAS_FAILED},
    DELETE: {OK, NOT_FOUND},
    GET: {OK, NOT_FOUND},
}

NO_LEADER: Final = "no leader was found in time"
OUTCOME_UNKNOWN: Final = "outcome unknown"

options.offer("payload_bytes", "depth", "timeout", "engine")
options.offer("keys", "keys_per_client", "mix", "reads", "read_back", "stale_reads")

_client_numbers = itertools.count()


class OutcomeUnknown(RequestFailure):
    """The operation may or may not have been applied."""


class _Attempts:
    """What is known of one operation while it is tried."""

    __slots__ = ("doubtful", "failure", "first_call_ns", "node", "number", "refusals")

    def __init__(self) -> None:
        self.number = 0
        self.refusals = 0  # nodes in a row that could not be connected to
        self.first_call_ns = 0
        self.doubtful = False  # some attempt may have been applied
        self.failure: RequestFailure | None = None  # of the last attempt
        self.node: Node | None = None  # the last that was asked


class RaftKvClient(Client):
    """`put`, `get`, `append`, `cas`, `delete`. Each gives the reply of the cluster, or None (see the failure table)."""

    request_type = "kv"
    fixed_timeout_s = ATTEMPT_TIMEOUT_S
    cluster_class: ClassVar[type[Cluster]] = Cluster
    #: Does a read of an absent key name the delete that it saw? Where not, keys with many deletes are hard to judge.
    names_tombstones: ClassVar[bool] = True

    def __init__(self, user: Any, target: Host) -> None:
        self._target = target
        self.deadline_s: float = options.value(user.environment.parsed_options, "timeout")
        self.read_back: int = options.value(user.environment.parsed_options, "read_back")
        host, port = target.addresses[0]
        super().__init__(user, Endpoint(host, port))
        self.cluster = self.cluster_class(target.addresses, self._connection_to)
        self._begin_session()

    def _begin_session(self) -> None:
        # One session for each lane: the cluster remembers the last sequence number of a client, so a client has
        # one operation under way at a time.
        _, self.client_id = request_ids.new_lane()
        self._seq = 0
        self._number = next(_client_numbers)
        self._acknowledged_by: Node | None = None  # its last write
        self._written: deque[str] = deque(maxlen=self.read_back)

    def for_lane(self, user: Any) -> Self:
        lane = super().for_lane(user)
        lane._begin_session()
        return lane

    def close(self) -> None:
        self.cluster.close()

    def connect(self) -> None:
        """Connect to a node that answers. A failure is not recorded: the operations will tell."""
        for node in self.cluster.nodes:
            try:
                self.cluster.open(node)
            except ConnectFailed:
                continue

    # -- operations ------------------------------------------------------------------------------------------------

    def put(self, key: str, value: Value) -> KvReply | None:
        return self._write(KvRequest(PUT, key, value))

    def append(self, key: str, value: Value) -> KvReply | None:
        return self._write(KvRequest(APPEND, key, value))

    def cas(self, key: str, expect: Value | None, value: Value) -> KvReply | None:
        """Write `value` if the key holds `expect` (None: is absent). A reply CAS_FAILED is a success of the cluster."""
        return self._write(KvRequest(CAS, key, value, expect))

    def delete(self, key: str) -> KvReply | None:
        return self._write(KvRequest(DELETE, key))

    def get(self, key: str, *, stale: bool = False, anywhere: bool = True, final: bool = False) -> KvReply | None:
        """Read. `anywhere`: at a random node instead of the leader; `stale`: that node's own state, not judged."""
        return self._operate(KvRequest(GET, key, stale=stale), anywhere=anywhere or stale, final=final)

    def new_id(self) -> int:
        """A number that no other request of this run has: written values embed it, so that they are unique."""
        self._seq += 1
        return (self.client_id + self._seq * request_ids.step) & request_ids.mask

    def _write(self, request: KvRequest) -> KvReply | None:
        before = self._acknowledged_by
        reply = self._operate(request)
        if reply is not None:
            after = self._acknowledged_by
            if before is not None and after is not before:
                self._read_back(request.key)
            self._written.append(request.key)
        return reply

    def _read_back(self, key: str) -> None:
        """Another node leads: are the writes still there that the one before acknowledged last?"""
        for written in dict.fromkeys([*self._written, key]):
            self.get(written, anywhere=False)
        self._written.clear()

    # -- one operation ---------------------------------------------------------------------------------------------

    def _operate(self, request: KvRequest, *, anywhere: bool = False, final: bool = False) -> KvReply | None:
        pace = self.pace
        intended_ns = pace.intended()
        if self.recording.refuses():
            pace.refused()
            return None
        op = request.op
        name = "get stale" if request.stale else op
        if op in WRITES:
            self._seq += 1
            request = request._replace(client_id=self.client_id, seq=self._seq)
        history = recorder.operations
        identity = 0
        if history is not None:
            identity = history.invoke(
                self._number, op, request.key, request.value, request.expect, stale=request.stale, final=final
            )
        attempts = _Attempts()
        try:
            reply = self._try(request, anywhere, attempts, intended_ns)
        except BaseException:  # stopped: the history keeps it open, which is `info`
            self.recording.cancelled(name, intended_ns)
            raise
        answered = reply is not None and attempts.failure is None
        return_ns = self._call.return_ns if answered else monotonic_ns()
        pace.returned(return_ns, self._call.unread_ns if answered else 0)
        call_ns = attempts.first_call_ns or intended_ns
        status = operations.OK if answered else operations.INFO if attempts.doubtful else operations.FAIL
        if history is not None and history is recorder.operations:
            self._complete(history, identity, request, status, return_ns=return_ns, reply=reply, attempts=attempts)
        if answered and reply is not None:
            if op in WRITES:
                self._acknowledged_by = attempts.node
            length = len(reply.value) if reply.value is not None else 0
            self.recording.succeeded(name, intended_ns, call_ns, return_ns, length=length, response=reply)
            return reply
        failure = attempts.failure or ConnectFailed(NO_LEADER)
        if attempts.doubtful and not isinstance(failure, CheckFailed):
            failure = OutcomeUnknown(f"{OUTCOME_UNKNOWN}: {failure.text}")
        self.recording.failed(name, intended_ns, call_ns, return_ns, failure, unknown=attempts.doubtful)
        return None

    @staticmethod
    def _complete(
        history: Any,
        identity: int,
        request: KvRequest,
        status: str,
        *,
        return_ns: int,
        reply: KvReply | None,
        attempts: _Attempts,
    ) -> None:
        if status != operations.OK or reply is None:
            text = attempts.failure.text if attempts.failure is not None else NO_LEADER
            history.complete(identity, status, return_ns=return_ns, attempts=attempts.number, error=text)
            return
        node = attempts.node.id if attempts.node is not None else None
        history.complete(
            identity,
            status,
            return_ns=return_ns,
            out=reply.value if request.op in (GET, CAS) else None,
            ok=reply.result == OK if request.op == CAS else None,
            version=reply.version,
            node=node,
            attempts=attempts.number,
        )

    def _try(self, request: KvRequest, anywhere: bool, attempts: _Attempts, intended_ns: int) -> KvReply | None:
        """Attempt after attempt until one is answered, one is surely wrong, or the time is over."""
        deadline_ns = monotonic_ns() + int(self.deadline_s * _NS_PER_S)
        cluster = self.cluster
        pause_s, busy, follow_at_once = NO_LEADER_PAUSE_S, 0, False
        while True:
            node = cluster.any_node() if anywhere else cluster.node_to_try()
            attempts.number += 1
            attempts.failure = None
            followed, follow_at_once = follow_at_once, False
            reply = self._attempt(request, node, attempts)
            if reply is not None:
                result = reply.result
                if result == NOT_LEADER:
                    attempts.failure = ServerRefused(NO_LEADER)
                    # A second hint in a row is from a cluster that is electing: no race between its nodes.
                    follow_at_once = cluster.follow(reply.leader, node) and not followed
                elif result == UNKNOWN:
                    attempts.doubtful = True
                    attempts.failure = ServerRefused("the leader lost its leadership")
                    cluster.doubt(node)
                elif result == BUSY:
                    attempts.failure = ServerRefused("server busy", busy=True)
                    if busy == BUSY_RETRIES:
                        return None
                    pause_s = min(BUSY_BACKOFF_S * 2**busy, BUSY_BACKOFF_MAX_S)
                    busy += 1
                elif result == ERROR:
                    attempts.failure = ServerRefused(_stable_error(reply.error))
                    return None
                elif result not in _RESULTS[request.op]:
                    attempts.failure = self._wrong_result(request, reply, node)
                    attempts.doubtful = True
                    return None
                else:
                    if request.op in WRITES and cluster.leader is None:
                        cluster.leader = node
                    return reply
            elif isinstance(attempts.failure, CheckFailed):
                return None
            else:
                cluster.doubt(node)
                self._tell_if_none_is_reachable(attempts, intended_ns)
            if monotonic_ns() >= deadline_ns:
                return None
            if not follow_at_once:
                gevent.sleep(pause_s)
                pause_s = min(pause_s * 2, NO_LEADER_PAUSE_MAX_S)

    def _tell_if_none_is_reachable(self, attempts: _Attempts, intended_ns: int) -> None:
        """One node that refuses is the weather; all of them in a row is a cluster that is not there: a failure."""
        if not isinstance(attempts.failure, ConnectFailed):
            attempts.refusals = 0
            return
        attempts.refusals += 1
        if attempts.refusals == len(self.cluster.nodes):
            attempts.refusals = 0
            self.recording.failed("connect", intended_ns, intended_ns, monotonic_ns(), attempts.failure)

    def _on_connect(self, started_ns: int, ended_ns: int, failure: ConnectFailed | None) -> None:
        if failure is None:  # one that fails is told of when all nodes do
            self.recording.succeeded("connect", started_ns, started_ns, ended_ns)

    def _attempt(self, request: KvRequest, node: Node, attempts: _Attempts) -> KvReply | None:
        """Send it to one node. None when nothing came back; `attempts` then knows why, and whether it may count."""
        connection = node.connection
        attempts.node = node
        call = self._call
        call.call_ns = 0
        try:
            self.cluster.open(node, self._on_connect)
            request_id = connection.next_id()
            data = connection.session.codec.encode(request_id, request)  # type: ignore[attr-defined]
            reply: KvReply = connection.exchange(request_id, data, call).reply
        except ConnectFailed as failure:
            attempts.failure = failure
            return None
        except LocalProtocolError as mistake:  # a key or value above the limits: never sent
            attempts.failure = CheckFailed(str(mistake))
            return None
        except (ReplyTimeout, ConnectionLost, CheckFailed) as failure:
            attempts.failure = failure
            attempts.doubtful = True
            return None
        except ServerRefused as failure:  # at capacity: it closed before it did anything
            attempts.failure = failure
            return None
        finally:
            attempts.first_call_ns = attempts.first_call_ns or call.call_ns
        return reply

    def _wrong_result(self, request: KvRequest, reply: KvReply, node: Node) -> CheckFailed:
        self.recording.violation(
            TYPE,
            request.op,
            f"{reply.result} in answer to {request.op}",
            request_id=self._call.request_id,
            connection=node.connection.label,
            got=repr(reply).encode(),
        )
        return CheckFailed(TYPE)

    def _session(self) -> Session:
        return KvSession()


class RaftKvUser(ProtocolUser):
    """Abstract user with a `RaftKvClient` as `client` and the run's keys as `keys`.

    The host may be of another store: etcd://... gives a client that speaks to etcd, under the same workload.
    """

    abstract = True
    client_class: ClassVar[type[Client]] = RaftKvClient
    schemes = ("kv", "etcd")
    host = "kv://127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003"
    client: RaftKvClient

    def configure(self, parsed_options: Any) -> None:
        self.keys = Keyspace.of_run(self.environment)
        self._payload_bytes: int = options.payload_bytes(parsed_options)
        self._mix_was_chosen: bool = options.value(parsed_options, "mix") != DEFAULT_MIX
        self._stale_share: float = options.value(parsed_options, "stale_reads") / 100
        self._anywhere: bool = options.value(parsed_options, "reads") == "anywhere"

    def _make_client(self, target: Host) -> Client:
        if target.scheme == "etcd":
            from users.etcd_kv import EtcdKvClient  # which builds on this module

            return EtcdKvClient(self, target)
        return RaftKvClient(self, target)

    # -- what a workload is made of ----------------------------------------------------------------------------------

    def unique_value(self) -> str:
        """A value that no other write of the run has, `--payload-bytes` long (16 at least)."""
        start = f"{self.client.new_id():016x}"
        filler = self._payload_bytes - len(start)
        return start + random.randbytes((filler + 1) // 2).hex()[:filler] if filler > 0 else start

    def append_token(self) -> None:
        """Append a unique token to a key of the append family."""
        key = self.keys.append_key()
        if self.client.append(key, f"{self.client.new_id():016x},") is None:
            self.keys.retire(key)  # full, perhaps; the next generation costs nothing

    def read_appended(self) -> None:
        """Read a key of the append family, anywhere in the cluster."""
        key = self.keys.append_key()
        reply = self._read(key)
        if reply is not None:
            self.keys.appended(key, reply.value)

    def put_register(self) -> None:
        """Overwrite a register."""
        key, value = self.keys.register_key(), self.unique_value()
        if self.client.put(key, value) is not None:
            self.keys.saw(key, value)

    def cas_register(self) -> None:
        """Swap a register from what was last seen in it."""
        key, value = self.keys.register_key(), self.unique_value()
        reply = self.client.cas(key, self.keys.last_seen(key), value)
        if reply is not None:
            self.keys.saw(key, value if reply.result == OK else reply.value)

    def read_register(self) -> None:
        """Read a register, anywhere in the cluster."""
        key = self.keys.register_key()
        reply = self._read(key)
        if reply is not None:
            self.keys.saw(key, reply.value)

    def delete_register(self) -> None:
        """Delete a register. Where deletes cannot be told apart, one of the default mix overwrites it instead."""
        if not self.client.names_tombstones and not self._mix_was_chosen:
            self.put_register()
            return
        key = self.keys.register_key()
        if self.client.delete(key) is not None:
            self.keys.saw(key, None)

    def _read(self, key: str) -> KvReply | None:
        return self.client.get(key, stale=random.random() < self._stale_share, anywhere=self._anywhere)


def _stable_error(text: str) -> str:
    return text if 0 < len(text) <= 80 and text.isprintable() and not any(map(str.isdigit, text)) else "server error"
