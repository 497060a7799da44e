"""The supervisor's client against nodes that misbehave: always KvUnavailable, never a hang or another exception."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from protocols.envelope import EnvelopeCodec, MsgType
from protocols.kv import GET, NOT_LEADER, OK, PUT, KvReply, KvRequest, encode_reply
from swarmproof.targets.kv_client import KvConnection, KvUnavailable, Written, write_somewhere
from swarmproof.targets.ports import free_ports

Answer = Callable[[socket.socket, int], None]
READ = KvRequest(GET, "k")
WRITE = KvRequest(PUT, "k", "v", client_id=1, seq=1)


class FakeNode:
    """Answers every request by calling `answer(socket, request_id)`."""

    def __init__(self, answer: Answer) -> None:
        self.requests = 0
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        codec = EnvelopeCodec()
        with connection:
            try:
                while data := connection.recv(65536):
                    for envelope in codec.receive_data(data):
                        self.requests += 1
                        self._answer(connection, envelope.request_id)
            except OSError:
                return


def reply_bytes(request_id: int, reply: KvReply) -> bytes:
    return EnvelopeCodec().encode(request_id, encode_reply(reply), msg_type=MsgType.KV)


@pytest.fixture
def node() -> Iterator[Callable[[Answer], FakeNode]]:
    nodes: list[FakeNode] = []

    def make(answer: Answer) -> FakeNode:
        nodes.append(FakeNode(answer))
        return nodes[-1]

    yield make
    for made in nodes:
        made.close()


def fails(port: int, words: str, timeout_s: float = 10.0) -> None:
    with KvConnection("127.0.0.1", port, timeout_s) as connection, pytest.raises(KvUnavailable, match=words):
        connection.call(READ)


def test_a_port_where_nothing_listens_is_refused() -> None:
    fails(free_ports(1)[0], "refused")


def test_a_node_that_never_answers_times_out(node: Callable[[Answer], FakeNode]) -> None:
    fails(node(lambda connection, _: None).port, "timed out", 0.1)


def test_a_node_that_closes_is_unavailable(node: Callable[[Answer], FakeNode]) -> None:
    fails(node(lambda connection, _: connection.shutdown(socket.SHUT_RDWR)).port, "closed the connection")


def test_a_node_that_sends_garbage_is_unavailable(node: Callable[[Answer], FakeNode]) -> None:
    fails(node(lambda connection, _: connection.sendall(b"\xff" * 100)).port, "does not speak the protocol")


def test_a_reply_to_a_request_that_was_not_asked_is_not_believed(node: Callable[[Answer], FakeNode]) -> None:
    fails(node(lambda c, request_id: c.sendall(reply_bytes(request_id + 1, KvReply(OK)))).port, "was not asked")


def test_after_a_timeout_the_late_reply_does_not_meet_the_next_request(node: Callable[[Answer], FakeNode]) -> None:
    held: list[tuple[socket.socket, int]] = []

    def answer(connection: socket.socket, request_id: int) -> None:
        if not held:
            held.append((connection, request_id))
            return
        connection.sendall(reply_bytes(request_id, KvReply(OK, "right")))

    with KvConnection("127.0.0.1", node(answer).port, 10.0) as connection:
        with pytest.raises(KvUnavailable):
            connection.call(READ, 0.1)
        try:
            held[0][0].sendall(reply_bytes(held[0][1], KvReply(OK, "late")))
        except OSError:
            pass
        assert connection.call(READ).value == "right"


def test_a_write_goes_on_to_the_next_node_until_one_is_definite(node: Callable[[Answer], FakeNode]) -> None:
    follower = node(lambda c, request_id: c.sendall(reply_bytes(request_id, KvReply(NOT_LEADER))))
    leader = node(lambda c, request_id: c.sendall(reply_bytes(request_id, KvReply(OK, version=7))))
    order = iter([None, 1, 3, 1, 2])
    connections = {
        1: KvConnection("127.0.0.1", follower.port),
        2: KvConnection("127.0.0.1", leader.port),
        3: KvConnection("127.0.0.1", free_ports(1)[0]),
    }
    written = write_somewhere(connections, WRITE, choose=lambda: next(order), within_s=30.0)
    for connection in connections.values():
        connection.close()
    assert written == Written(KvReply(OK, version=7), 2, 4)


def test_a_write_that_nobody_takes_is_unknown() -> None:
    assert write_somewhere({}, WRITE, choose=lambda: None, within_s=0.05) == Written(None, None, 0)
    assert write_somewhere({}, WRITE, choose=lambda: None, within_s=1e9, give_up=lambda: True).reply is None
