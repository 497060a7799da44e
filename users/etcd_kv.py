"""The key-value client on etcd: the same operations, history and outcomes as with our own cluster, over HTTP.

Every member takes writes and forwards them to the leader, so a client stays with the node that it believes to lead
only to spare the trip. What etcd says it did not propose is `fail`; all other errors, timeouts and resets are `info`.
"""

from typing import Any

from protocols.etcd import EtcdCodec
from protocols.kv import STATUS, KvReply, KvRequest
from users.connection import Call
from users.failures import ReplyTimeout, RequestFailure
from users.kv_cluster import Cluster, KvAnswer, KvSession, Node
from users.raft_kv import RaftKvClient
from users.session import Session


class EtcdSession(KvSession):
    """One keep-alive connection. Replies come in the order of the requests."""

    def __init__(self) -> None:
        self.codec: Any = EtcdCodec()

    def output(self) -> bytes:
        """The later rounds of operations that take several."""
        data: bytes = self.codec.data_to_send()
        return data

    def receive_eof(self) -> None:
        self.codec.receive_eof()

    def notice(self, reply: KvAnswer) -> str | None:
        return None


class EtcdCluster(Cluster):
    """Members are numbered by their place in the host, as the supervisor numbers them; etcd's own ids are random."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._member_ids: dict[int, Node] = {}
        for number, node in enumerate(self.nodes, start=1):
            node.id = number

    def _ask_status(self, node: Node) -> None:
        connection = node.connection
        request_id = connection.next_id()
        try:
            data = connection.session.codec.encode(request_id, KvRequest(STATUS))  # type: ignore[attr-defined]
            reply: KvReply = connection.exchange(request_id, data, Call()).reply
        except RequestFailure:
            return
        if reply.status is None:
            return
        self._member_ids[reply.status.id] = node
        if self.leader is None and reply.status.leader is not None:
            self.leader = self._member_ids.get(reply.status.leader.id)


class EtcdKvClient(RaftKvClient):
    """`put`, `get`, `append`, `cas`, `delete` on etcd."""

    cluster_class = EtcdCluster
    names_tombstones = False

    def _attempt(self, request: KvRequest, node: Node, attempts: Any) -> KvReply | None:
        reply = super()._attempt(request, node, attempts)
        if reply is None and isinstance(attempts.failure, ReplyTimeout):
            # The next request would wait behind this one: HTTP answers in order.
            node.connection.drop()
        return reply

    def _session(self) -> Session:
        return EtcdSession()
