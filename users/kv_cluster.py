"""A cluster as one user sees it: a connection to each node, and who is believed to lead.

The belief comes from three sources: a node's NOT_LEADER hint, its answer to `status` when the connection is made,
and plain trying. It is only ever a hint: a node that is not the leader says so, and nothing is lost but a trip.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from protocols.envelope import SERVER_AT_CAPACITY
from protocols.errors import RemoteProtocolError
from protocols.kv import BUSY, ERROR, STATUS, KvCodec, KvReply, KvRequest, Leader
from users.call import Call
from users.connection import Connection
from users.failures import ConnectFailed, RequestFailure
from users.opening import OnAttempt
from users.session import Session
from users.transport import Endpoint

# One try to connect to one node: another node may be there at once.
NODE_CONNECT_TIMEOUT_S: Final = 1.0


class KvAnswer(NamedTuple):
    """A reply and the id of its request."""

    request_id: int
    reply: KvReply


class KvSession(Session):
    """Key-value replies on one connection."""

    # A node may hold a request back for as long as it has no quorum.
    answers_always = False

    def __init__(self) -> None:
        self.codec = KvCodec()

    @property
    def error(self) -> RemoteProtocolError | None:  # type: ignore[override]
        return self.codec.error

    def receive_data(self, data: bytes) -> Sequence[KvAnswer]:
        return [KvAnswer(request_id, reply) for request_id, reply in self.codec.receive_data(data)]

    def notice(self, reply: KvAnswer) -> str | None:
        if reply.request_id != 0 or reply.reply.result not in (ERROR, BUSY):
            return None
        return reply.reply.error if reply.reply.error == SERVER_AT_CAPACITY.decode() else "server error"

    def example(self, reply: KvAnswer) -> bytes:
        return repr(reply.reply).encode()


class Node:
    """One node: its address, the connection to it, and the number it gave itself (None until it said)."""

    __slots__ = ("address", "connection", "id", "last_failure_ns")

    def __init__(self, address: str, connection: Connection) -> None:
        self.address = address
        self.connection = connection
        self.id: int | None = None


class Cluster:
    """The nodes of one user; shared by its lanes."""

    def __init__(self, addresses: Sequence[tuple[str, int]], connect: Callable[[Endpoint], Connection]) -> None:
        endpoints = [Endpoint(host, port) for host, port in addresses]
        self.nodes = [Node(endpoint.address, connect(endpoint)) for endpoint in endpoints]
        # Users start at different nodes, so that a cluster without a known leader is asked evenly.
        self.leader: Node | None = None
        self._next = random.randrange(len(self.nodes))
        self._call = Call()

    def any_node(self) -> Node:
        """A node at random: reads are answered everywhere."""
        return random.choice(self.nodes)

    def node_to_try(self) -> Node:
        """The believed leader, or the next node in turn."""
        if self.leader is not None:
            return self.leader
        self._next = (self._next + 1) % len(self.nodes)
        return self.nodes[self._next]

    def doubt(self, node: Node) -> None:
        """This node did not do what a leader does."""
        if self.leader is node:
            self.leader = None

    def follow(self, hint: Leader | None, told_by: Node) -> bool:
        """Believe a NOT_LEADER hint. False when it names nobody that this user can reach."""
        self.doubt(told_by)
        if hint is None:
            return False
        # By number first: a hint's address is the cluster's own, and ours may be a proxy's.
        for node in self.nodes:
            if node is not told_by and (node.id == hint.id if node.id is not None else node.address == hint.address):
                self.leader = node
                return True
        return False

    def open(self, node: Node, on_attempt: OnAttempt | None = None) -> None:
        """Connect to a node if need be, and ask who it is. Raises ConnectFailed after one try."""
        connection = node.connection
        if connection.is_open:
            return
        connection.open(deadline_s=0, attempt_timeout_s=NODE_CONNECT_TIMEOUT_S, on_attempt=on_attempt)
        self._ask_status(node)
        if not connection.is_open:
            raise ConnectFailed("connection closed by server")

    def _ask_status(self, node: Node) -> None:
        connection = node.connection
        request_id = connection.next_id()
        try:
            data = connection.session.codec.encode(request_id, KvRequest(STATUS))  # type: ignore[attr-defined]
            reply: Any = connection.exchange(request_id, data, Call()).reply
        except RequestFailure:
            return
        if reply.status is None:
            return  # a server without `status`: its number stays unknown
        node.id = reply.status.id
        if self.leader is None and reply.status.leader is not None:
            for other in self.nodes:
                if other.id == reply.status.leader.id:
                    self.leader = other

    def close(self) -> None:
        for node in self.nodes:
            node.connection.close()
