"""Links between the nodes of a cluster: who may speak, and how messages travel.

Each node dials every peer and sends on the connection it dialled; it receives on those that it accepted. Both ends
say hello and prove that they know the cluster's secret before anything else counts (protocols/raft_messages.py):

    dialler   hello ->                         who speaks, of which cluster, to whom, a nonce
    acceptor          <- hello, proof
    dialler   proof ->
    dialler   messages -> ...                  each sealed with a MAC under a key of this connection

The secret is never sent. The seal means that what a faulty or hostile link changes on the way is noticed, and the
link begun anew, before a bit of it reaches the log.
"""

import hashlib
import hmac
import os
import random
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import gevent
import gevent.socket

from protocols.errors import RemoteProtocolError
from protocols.frames import MAX_FRAME_BYTES, FrameDecoder, encode_frame
from protocols.raft_messages import (
    NONCE_BYTES,
    PEER_VERSION,
    PeerHello,
    PeerMessage,
    decode_hello,
    decode_message,
    decode_proof,
    encode_hello,
    encode_proof,
    prove,
    verify,
)
from servers.connection import RECEIVED_VIEW, WRITE, Connection
from servers.connection_group import ConnectionGroup
from servers.log_lines import log

SEAL_BYTES: Final = 16
# What waits for a peer that does not read. The core bounds what is in flight; this bounds what it cannot know of.
MAX_QUEUE_BYTES: Final = 32 * 1024 * 1024
# A peer that restarts is back within this: short enough that an election does not wait for it.
REDIAL_MIN_S: Final = 0.05
REDIAL_MAX_S: Final = 0.5
HANDSHAKE_S: Final = 2.0
# A link on which nothing sent is acknowledged for so long is broken: dial again.
UNACKNOWLEDGED_MS: Final = 5000
RECEIVE_BYTES: Final = 4096

REFUSED_CLUSTER: Final = "another cluster"
REFUSED_PEER: Final = "not a configured peer"
REFUSED_ADDRESSEE: Final = "meant for another node"
REFUSED_PROOF: Final = "wrong secret"
REFUSED_SEAL: Final = "wrong seal"


class Membership:
    """What a node must know to tell its peers from everybody else. The secret stays in here."""

    def __init__(self, node_id: int, members: tuple[int, ...], cluster_id: str, secret: bytes) -> None:
        self.node_id = node_id
        self.members = members
        self.cluster_id = cluster_id
        self._secret = secret

    def __repr__(self) -> str:
        return f"Membership(n{self.node_id} of {self.cluster_id!r})"

    def hello_to(self, peer: int) -> PeerHello:
        return PeerHello(PEER_VERSION, self.cluster_id, self.node_id, peer, os.urandom(NONCE_BYTES))

    def mistake_in(self, hello: PeerHello) -> str | None:
        """Why we do not speak with the sender of a hello, or None."""
        if hello.cluster_id != self.cluster_id:
            return REFUSED_CLUSTER
        if hello.sender not in self.members or hello.sender == self.node_id:
            return REFUSED_PEER
        return REFUSED_ADDRESSEE if hello.to != self.node_id else None

    def proof(self, mine: PeerHello, theirs: PeerHello) -> bytes:
        return encode_frame(encode_proof(prove(self._secret, mine, theirs)))

    def proves(self, payload: bytes, mine: PeerHello, theirs: PeerHello) -> bool:
        return verify(self._secret, decode_proof(payload), mine, theirs)

    def seal_key(self, dialler: PeerHello, acceptor: PeerHello) -> bytes:
        """A key that only this connection has: both nonces are in it."""
        text = b"seal" + encode_hello(dialler) + encode_hello(acceptor)
        return hmac.digest(self._secret, text, hashlib.sha256)


def seal(key: bytes, payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=SEAL_BYTES, key=key).digest()


class PeerLink:
    """The connection that this node dials to one peer; it is dialled again whenever it breaks.

    `send` never blocks and never fails: a message to a peer that cannot be reached is lost, which Raft expects.
    `on_broken(peer)` tells the core that what was in flight is probably lost.
    """

    def __init__(
        self,
        membership: Membership,
        peer: int,
        address: tuple[str, int],
        on_broken: Callable[[int], None],
    ) -> None:
        self.peer = peer
        self.address = address
        self.connected = False
        self.dropped = 0
        self._membership = membership
        self._on_broken = on_broken
        self._sock: Any = None
        self._key = b""
        self._queue: deque[bytes] = deque()  # frames; of the first, `_sent` bytes have left
        self._queued_bytes = 0
        self._sent = 0
        self._writer: Any = None
        self._complaint = ""
        self._greenlet: Any = None

    def start(self) -> None:
        self._greenlet = gevent.spawn(self._keep_dialling)

    def stop(self) -> None:
        if self._greenlet is not None:
            self._greenlet.kill()
        self._disconnect()

    def send(self, payloads: list[bytes]) -> None:
        """Send encoded messages, all in one go when the kernel takes them."""
        if not self.connected:
            self.dropped += len(payloads)
            return
        key = self._key
        frames = [encode_frame(seal(key, payload) + payload) for payload in payloads]
        if not self._queue:
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._lost(error.strerror or str(error))
                return
            if sent == len(data):
                return
            while sent >= len(frames[0]):
                sent -= len(frames.pop(0))
            self._sent = sent
            self._writer.start(self._write)
        for frame in frames:
            self._queue.append(frame)
            self._queued_bytes += len(frame)
        while self._queued_bytes > MAX_QUEUE_BYTES and len(self._queue) > 1:
            # The oldest goes first, but not one that the peer has already seen the beginning of.
            place = 1 if self._sent else 0
            self._queued_bytes -= len(self._queue[place])
            del self._queue[place]
            self.dropped += 1

    def _write(self) -> None:
        try:
            while self._queue:
                frame = self._queue[0]
                sent = self._sock.send(memoryview(frame)[self._sent :] if self._sent else frame)
                self._sent += sent
                if self._sent < len(frame):
                    return
                self._queue.popleft()
                self._queued_bytes -= len(frame)
                self._sent = 0
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error.strerror or str(error))
            return
        self._writer.stop()

    def _keep_dialling(self) -> None:
        pause_s = REDIAL_MIN_S
        while True:
            try:
                sock, key = self._dial()
            except (OSError, RemoteProtocolError, EOFError) as error:
                self._complain(getattr(error, "strerror", None) or str(error) or type(error).__name__)
                # Jitter: nodes that lost each other at the same time do not all come back at the same time.
                gevent.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, REDIAL_MAX_S)
                continue
            pause_s = REDIAL_MIN_S
            self._connect(sock, key)
            self._wait_for_the_end(sock)

    def _dial(self) -> tuple[gevent.socket.socket, bytes]:
        membership = self._membership
        with gevent.Timeout(HANDSHAKE_S, TimeoutError("no answer to our hello")):
            sock = gevent.socket.create_connection(self.address, timeout=HANDSHAKE_S)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                mine = membership.hello_to(self.peer)
                sock.sendall(encode_frame(encode_hello(mine)))
                frames = _frames_of(sock, 2)
                theirs = decode_hello(frames[0])
                refusal = membership.mistake_in(theirs)
                if refusal is None and theirs.sender != self.peer:
                    refusal = f"node n{theirs.sender} answers there"
                if refusal is None and not membership.proves(frames[1], mine, theirs):
                    refusal = REFUSED_PROOF
                if refusal is not None:
                    raise RemoteProtocolError("refused", refusal)
                sock.sendall(membership.proof(mine, theirs))
                sock.settimeout(None)
                return sock, membership.seal_key(mine, theirs)
            except BaseException:
                sock.close()
                raise

    def _connect(self, sock: gevent.socket.socket, key: bytes) -> None:
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        self._sock = _plain(sock)
        self._key = key
        self._writer = gevent.get_hub().loop.io(self._sock.fileno(), WRITE)
        self.connected = True
        self._complaint = ""
        log.info("peer_connected", peer=f"n{self.peer}", address=f"{self.address[0]}:{self.address[1]}")

    def _wait_for_the_end(self, sock: gevent.socket.socket) -> None:
        """The peer says nothing on this connection; what can be read is its end."""
        try:
            while self.connected and sock.recv(RECEIVE_BYTES):
                pass
            reason = "closed by the peer"
        except OSError as error:
            reason = error.strerror or str(error)
        finally:
            sock.close()
        self._lost(reason)

    def _lost(self, reason: str) -> None:
        if self.connected:
            self._disconnect()
            log.warning("peer_lost", peer=f"n{self.peer}", reason=reason)
            self._on_broken(self.peer)

    def _disconnect(self) -> None:
        self.connected = False
        if self._writer is not None:
            self._writer.stop()
            self._writer.close()
            self._writer = None
        if self._sock is not None:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)  # wakes the greenlet that waits for the end
            except OSError:
                pass  # it had ended already
            self._sock.close()
            self._sock = None
        self._queue.clear()
        self._queued_bytes = self._sent = 0

    def _complain(self, reason: str) -> None:
        """Say what is wrong with a link once, not at every attempt."""
        if reason != self._complaint:
            self._complaint = reason
            address = f"{self.address[0]}:{self.address[1]}"
            log.info("peer_unreachable", peer=f"n{self.peer}", address=address, reason=reason)


class PeerConnection(Connection):
    """A connection that a peer dialled: hello, proof, then messages for `on_message`."""

    __slots__ = ("_decoder", "_key", "_membership", "_mine", "_on_message", "_theirs")

    def __init__(
        self,
        group: ConnectionGroup,
        sock: socket.socket,
        address: Any,
        membership: Membership,
        on_message: Callable[[PeerMessage], None],
    ) -> None:
        self._decoder = FrameDecoder(MAX_FRAME_BYTES)
        self._membership = membership
        self._on_message = on_message
        self._mine: PeerHello | None = None
        self._theirs: PeerHello | None = None
        self._key = b""
        super().__init__(group, sock, address)

    def received(self, count: int) -> None:
        try:
            for frame in self._decoder.receive_data(bytes(RECEIVED_VIEW[:count])):
                self.messages += 1
                if self._key:
                    self._message(frame)
                else:
                    self._handshake(frame)
            if self._decoder.error is not None:
                raise self._decoder.error
        except RemoteProtocolError as error:
            sender = f"n{self._theirs.sender}" if self._theirs is not None else "?"
            log.warning("peer_refused", peer=self.peer, sender=sender, reason=error.reason, detail=error.detail)
            self.abort(error.reason)

    def inside_message(self) -> bool:
        return self._decoder.pending_bytes > 0

    def idle(self, now_s: float) -> None:
        if self._key:
            self.last_message_s = now_s  # followers have little to say to each other
        else:
            super().idle(now_s)

    def stopping(self) -> None:
        self.abort("server stopping")

    def _handshake(self, frame: bytes) -> None:
        membership = self._membership
        if self._mine is None or self._theirs is None:
            hello = decode_hello(frame)
            self._theirs = hello
            refusal = membership.mistake_in(hello)
            if refusal is not None:
                raise RemoteProtocolError(refusal, f"n{hello.sender} of {hello.cluster_id!r} to n{hello.to}")
            self._mine = membership.hello_to(hello.sender)
            self.send(encode_frame(encode_hello(self._mine)) + membership.proof(self._mine, hello))
            return
        if not membership.proves(frame, self._mine, self._theirs):
            raise RemoteProtocolError(REFUSED_PROOF)
        self._key = membership.seal_key(self._theirs, self._mine)
        self.last_message_s = time.monotonic()
        log.info("peer_accepted", peer=f"n{self._theirs.sender}", address=self.peer)

    def _message(self, frame: bytes) -> None:
        payload = frame[SEAL_BYTES:]
        if not hmac.compare_digest(frame[:SEAL_BYTES], seal(self._key, payload)):
            raise RemoteProtocolError(REFUSED_SEAL)
        message = decode_message(payload)
        if self._theirs is None or message.sender != self._theirs.sender:
            raise RemoteProtocolError(REFUSED_PEER, f"a message of n{message.sender}")
        self._on_message(message)


def _frames_of(sock: gevent.socket.socket, wanted: int) -> list[bytes]:
    decoder = FrameDecoder(1024)  # a hello and a proof are far smaller
    frames: list[bytes] = []
    while len(frames) < wanted:
        data = sock.recv(RECEIVE_BYTES)
        if not data:
            raise EOFError("closed the connection during the handshake: see its log for the reason")
        frames += decoder.receive_data(data)
        if decoder.error is not None:
            raise decoder.error
    return frames


def _plain(sock: gevent.socket.socket) -> socket.socket:
    """The same connection as a socket that never waits."""
    plain = socket.socket(sock.family, sock.type, sock.proto, os.dup(sock.fileno()))
    plain.setblocking(False)
    return plain
