"""A healthy cluster of three real nodes: every operation, every refusal, and guests who do not belong."""

import os
import socket
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from protocols import kv
from protocols.envelope import EnvelopeCodec, MsgType
from protocols.frames import FrameDecoder, encode_frame
from protocols.kv import KvRequest
from protocols.raft_messages import (
    NONCE_BYTES,
    PEER_VERSION,
    Heartbeat,
    PeerHello,
    decode_hello,
    encode_hello,
    encode_message,
    encode_proof,
    prove,
)
from servers.raft.peers import Membership, seal
from tests.processes import wait_until
from tests.servers.raft.cluster import ANSWER_DEADLINE_S, Cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(3, tmp_path_factory.mktemp("cluster"), "--metrics-port", "0") as cluster:
        yield cluster


def follower_of(cluster: Cluster) -> int:
    return next(node for node in cluster.ids if node != cluster.leader())


def test_all_nodes_agree_on_one_leader(cluster: Cluster) -> None:
    leader = cluster.leader()

    def agreed() -> bool:
        seen = [cluster.status(node) for node in cluster.ids]
        return all(status is not None and status.leader is not None and status.leader.id == leader for status in seen)

    wait_until(agreed, "agreement on the leader")
    status = cluster.status(leader)
    assert status is not None
    assert (status.id, status.role, status.term > 0) == (leader, "leader", True)
    assert [(member.id, member.address) for member in status.members] == [
        (node, f"127.0.0.1:{cluster.ports[node]}") for node in cluster.ids
    ]


def test_every_write_at_the_leader_is_read_at_every_node(cluster: Cluster) -> None:
    leader = cluster.leader()
    steps = [
        (KvRequest(kv.PUT, "every", "a"), kv.OK, "a"),
        (KvRequest(kv.APPEND, "every", "b"), kv.OK, "ab"),
        (KvRequest(kv.CAS, "every", b"\x00", expect="ab"), kv.OK, b"\x00"),
        (KvRequest(kv.CAS, "every", "no", expect="ab"), kv.CAS_FAILED, b"\x00"),
        (KvRequest(kv.DELETE, "every"), kv.OK, None),
        (KvRequest(kv.CAS, "every", "again", expect=None), kv.OK, "again"),
    ]
    version = 0
    for request, result, value in steps:
        reply = cluster.call(leader, request)
        assert reply.result == result
        assert reply.version is not None
        assert reply.version > version or result == kv.CAS_FAILED
        version = reply.version
        for node in cluster.ids:
            read = cluster.call(node, KvRequest(kv.GET, "every"))
            assert read == kv.KvReply(kv.NOT_FOUND if value is None else kv.OK, value, version)


def test_a_follower_refuses_a_write_and_names_the_leader(cluster: Cluster) -> None:
    leader, follower = cluster.leader(), follower_of(cluster)
    reply = cluster.call(follower, KvRequest(kv.PUT, "refused", "v"))
    assert reply.result == kv.NOT_LEADER
    assert reply.leader == kv.Leader(leader, f"127.0.0.1:{cluster.ports[leader]}")
    assert reply.error == f"not leader, try node {leader}"
    assert cluster.call(leader, KvRequest(kv.GET, "refused")).result == kv.NOT_FOUND


def test_a_stale_read_is_answered_at_once_by_any_node(cluster: Cluster) -> None:
    cluster.call(cluster.leader(), KvRequest(kv.PUT, "stale", "v"))
    for node in cluster.ids:
        wait_until(
            lambda node=node: cluster.call(node, KvRequest(kv.GET, "stale", stale=True)).value == "v",  # type: ignore[misc]
            f"n{node} to apply the write",
        )


def test_a_retried_write_is_applied_once(cluster: Cluster) -> None:
    append = KvRequest(kv.APPEND, "retried", "x", client_id=77, seq=1)
    first = cluster.call(cluster.leader(), append)
    second = cluster.call(cluster.leader(), append)
    assert (second.result, second.version, second.replayed) == (kv.OK, first.version, True)
    assert cluster.call(cluster.leader(), KvRequest(kv.GET, "retried")).value == "x"


def test_pipelined_requests_are_each_answered_under_their_own_id(cluster: Cluster) -> None:
    with cluster.connect(cluster.leader()) as connection:
        sent = []
        for number in range(200):
            sent.append((connection.send(KvRequest(kv.PUT, f"pipe{number}", str(number))), None))
            sent.append((connection.send(KvRequest(kv.GET, "stale", stale=True)), None))
        for request_id, _ in reversed(sent):
            assert connection.reply_to(request_id).result in (kv.OK, kv.NOT_FOUND)
        for number in range(0, 200, 37):
            assert connection.call(KvRequest(kv.GET, f"pipe{number}")).value == str(number)


def test_a_bad_request_is_an_error_and_the_connection_goes_on(cluster: Cluster) -> None:
    with cluster.connect(cluster.leader()) as connection:
        codec = EnvelopeCodec()
        bad = kv.encode_request(KvRequest(kv.PUT, "k" * 200, "v"))
        too_long = bad.replace(b"\xd9\xc8" + b"k" * 200, b"\xda\x01\x01" + b"k" * 257)
        for request_id, payload, error in (
            (1001, too_long, "key longer than 256 bytes"),
            (1002, b"\xc1", "malformed request"),
            (1003, kv.encode_request(KvRequest(kv.STATUS)).replace(b"status", b"sticks"), "unknown operation"),
        ):
            connection.sock.sendall(codec.encode(request_id, payload, MsgType.KV))
            reply = connection.reply_to(request_id)
            assert (reply.result, reply.error) == (kv.ERROR, error)
        assert connection.call(KvRequest(kv.PUT, "k" * 256, "v" * 65536)).result == kv.OK
        assert connection.call(KvRequest(kv.GET, "k" * 256)).value == "v" * 65536


def test_a_wrong_envelope_version_is_told_so_and_disconnected(cluster: Cluster) -> None:
    with cluster.connect(cluster.leader()) as connection:
        payload = kv.encode_request(KvRequest(kv.STATUS))
        connection.sock.sendall(EnvelopeCodec().encode(9, payload, MsgType.KV, version=2))
        data = read_to_the_end(connection.sock)
        [envelope] = EnvelopeCodec().receive_data(data)
        assert (envelope.msg_type, envelope.request_id, envelope.version) == (MsgType.ERROR, 9, 1)
        assert envelope.payload == b"unsupported protocol version"


GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: raft\r\n\r\n",
    b"\xff" * 1000,
    b"\x00\x00\x00\x05hello",
    b"\x00\x00\x00\x00" * 50,
    os.urandom(1000),
    encode_frame(b"\xdd\xff\xff\xff\xff"),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_on_either_port_ends_that_connection_alone(cluster: Cluster, garbage: bytes) -> None:
    leader = cluster.leader()
    with cluster.connect(leader) as good:
        for port in (cluster.ports[leader], cluster.peer_ports[leader]):
            with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_DEADLINE_S) as bad:
                bad.sendall(garbage)
                bad.shutdown(socket.SHUT_WR)
                read_to_the_end(bad)
        assert good.call(KvRequest(kv.PUT, "after garbage", "v")).result == kv.OK
    assert cluster.leader() == leader


def read_to_the_end(sock: socket.socket) -> bytes:
    received = b""
    try:
        while data := sock.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


class Guest:
    """Somebody at a node's peer port who speaks the protocol, rightly or wrongly."""

    def __init__(self, cluster: Cluster, node: int, **wrong: object) -> None:
        self.node = node
        secret = wrong.get("secret", cluster.secret_file.read_bytes())
        assert isinstance(secret, bytes)
        self.secret = secret
        sender = next(other for other in cluster.ids if other not in (node, cluster.leader()))
        fields = {"cluster_id": "test", "sender": sender, "to": node} | {
            name: value for name, value in wrong.items() if name != "secret"
        }
        self.hello = PeerHello(PEER_VERSION, nonce=os.urandom(NONCE_BYTES), **fields)  # type: ignore[arg-type]
        self.sock = socket.create_connection(("127.0.0.1", cluster.peer_ports[node]), timeout=ANSWER_DEADLINE_S)
        self.sock.sendall(encode_frame(encode_hello(self.hello)))

    def prove(self) -> bytes:
        """Finish the handshake as well as the secret allows; returns the key for seals."""
        decoder = FrameDecoder()
        frames: list[bytes] = []
        while len(frames) < 2:
            data = self.sock.recv(65536)
            assert data, "refused before the proof"
            frames += decoder.receive_data(data)
        theirs = decode_hello(frames[0])
        self.sock.sendall(encode_frame(encode_proof(prove(self.secret, self.hello, theirs))))
        return Membership(self.hello.sender, (), self.hello.cluster_id, self.secret).seal_key(self.hello, theirs)

    def is_dismissed(self) -> bool:
        read_to_the_end(self.sock)
        self.sock.close()
        return True


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"cluster_id": "other"}, "another cluster"),
        ({"sender": 9}, "not a configured peer"),
        ({"to": 8}, "meant for another node"),
    ],
)
def test_a_peer_that_does_not_belong_is_refused_by_name(
    cluster: Cluster, wrong: dict[str, object], reason: str
) -> None:
    leader = cluster.leader()
    assert Guest(cluster, leader, **wrong).is_dismissed()
    cluster.processes[leader].wait_for_log("peer_refused peer=127.0.0.1:")
    wait_until(lambda: reason in cluster.processes[leader].log(), f"{reason} in the log")


def test_a_peer_with_another_secret_is_refused(cluster: Cluster) -> None:
    leader = cluster.leader()
    guest = Guest(cluster, leader, secret=b"not the secret of this cluster")
    guest.prove()
    assert guest.is_dismissed()
    cluster.processes[leader].wait_for_log('reason="wrong secret"')


def sealed(message: bytes, key: bytes) -> bytes:
    return seal(key, message) + message


def with_a_flipped_bit(message: bytes, key: bytes) -> bytes:
    frame = bytearray(sealed(message, key))
    frame[-1] ^= 1
    return bytes(frame)


def without_seal(message: bytes, key: bytes) -> bytes:
    return message


@pytest.mark.parametrize("spoil", [with_a_flipped_bit, without_seal])
def test_a_message_changed_on_its_way_never_reaches_the_core(
    cluster: Cluster, spoil: Callable[[bytes, bytes], bytes]
) -> None:
    """The message would depose the leader: it claims a term far in the future."""
    leader = cluster.leader()
    guest = Guest(cluster, leader)
    key = guest.prove()
    message = encode_message(Heartbeat(guest.hello.sender, leader, 10**6, 0, 0))
    guest.sock.sendall(encode_frame(spoil(message, key)))
    assert guest.is_dismissed()
    cluster.processes[leader].wait_for_log('reason="wrong seal"')
    status = cluster.status(leader)
    assert status is not None
    assert status.term < 10**6


def test_the_metrics_tell_role_term_and_how_long_the_disk_takes(cluster: Cluster) -> None:
    leader = cluster.leader()
    line = cluster.processes[leader].wait_for_log("metrics_listening")
    address = line.rsplit("address=", 1)[1]
    text = urllib.request.urlopen(f"http://{address}/metrics", timeout=ANSWER_DEADLINE_S).read().decode()
    status = cluster.status(leader)
    assert status is not None
    assert 'raft_role{role="leader"} 1.0' in text
    assert f"raft_term {float(status.term)}" in text
    assert "raft_fsync_seconds_bucket" in text
    assert "raft_elections_total 1.0" in text


def test_the_secret_stays_out_of_the_logs(cluster: Cluster) -> None:
    for process in cluster.processes.values():
        assert cluster.secret_file.read_text() not in process.log()


def test_a_client_that_has_said_all_still_hears_every_reply(cluster: Cluster) -> None:
    with cluster.connect(cluster.leader()) as connection:
        sent = [connection.send(KvRequest(kv.PUT, f"last{number}", "v")) for number in range(50)]
        connection.sock.shutdown(socket.SHUT_WR)
        assert all(connection.reply_to(request_id).result == kv.OK for request_id in sent)
        assert read_to_the_end(connection.sock) == b""
