"""A small server on plain sockets, in a thread of the test: the ground that the misbehaving servers stand on.

It knows nothing of the project's codecs, like a server written by somebody else. Misdeeds are planted evenly:
every `every`-th request suffers the next kind in turn, until `quota` of each kind are done; then it is honest,
so that a run can end quietly and every misdeed has had its time to be noticed.
"""

import selectors
import socket
import threading
from collections import Counter
from typing import Any, Self


class Peer:
    """One client: what it sent and has not been used, and what is still to be sent to it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()
        self.unsent = bytearray()
        self.state: dict[str, Any] = {}
        self.closing = False


class MisbehavingServer:
    """`with MyServer(kinds=["flip"], every=10, quota=20) as server:` serves on `server.port`."""

    def __init__(self, kinds: tuple[str, ...] = (), every: int = 20, quota: int = 15) -> None:
        self.kinds = list(kinds)
        self.every = every
        self.quota = quota
        self.planted: Counter[str] = Counter()
        self.requests = 0
        self.peers: dict[int, Peer] = {}
        self._turn = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    # -- for subclasses

    def on_data(self, peer: Peer) -> None:
        """Use `peer.received`; answer with `send`."""
        raise NotImplementedError

    def misdeed(self, *, possible: tuple[str, ...] | None = None) -> str:
        """Called once for each request: the misdeed that it shall suffer, or ""."""
        self.requests += 1
        if not self.kinds or self.requests % self.every:
            return ""
        for _ in self.kinds:
            kind = self.kinds[self._turn % len(self.kinds)]
            self._turn += 1
            if self.planted[kind] < self.quota and (possible is None or kind in possible):
                self.planted[kind] += 1
                return kind
        return ""

    @property
    def is_done(self) -> bool:
        """Every misdeed has been planted as often as asked."""
        return all(self.planted[kind] >= self.quota for kind in self.kinds)

    def send(self, peer: Peer, data: bytes) -> None:
        peer.unsent += data
        self._flush(peer)

    def close(self, peer: Peer) -> None:
        """Close once all is sent."""
        peer.closing = True
        self._flush(peer)

    def another(self, peer: Peer) -> Peer | None:
        """Some other client that is there."""
        return next((other for other in self.peers.values() if other is not peer and not other.closing), None)

    # -- the loop

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake.send(b"x")
        self._thread.join(10)
        assert not self._thread.is_alive(), "the misbehaving server did not stop"
        for peer in self.peers.values():
            peer.sock.close()
        for sock in (self._listener, self._wake, self._woken):
            sock.close()
        self._selector.close()

    def _serve(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        while True:
            for key, mask in self._selector.select():
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                    continue
                peer = self.peers.get(key.fd)
                if peer is not None and mask & selectors.EVENT_WRITE:
                    self._flush(peer)
                if peer is not None and mask & selectors.EVENT_READ and key.fd in self.peers:
                    self._read(peer)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(sock)
        self.peers[sock.fileno()] = peer
        self._selector.register(sock, selectors.EVENT_READ)

    def _read(self, peer: Peer) -> None:
        try:
            data = peer.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(peer)
            return
        peer.received += data
        self.on_data(peer)

    def _flush(self, peer: Peer) -> None:
        if peer.sock.fileno() not in self.peers:
            return
        try:
            if peer.unsent:
                del peer.unsent[: peer.sock.send(peer.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(peer)
            return
        if peer.closing and not peer.unsent:
            self._drop(peer)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.unsent else 0)
        self._selector.modify(peer.sock, wanted)

    def _drop(self, peer: Peer) -> None:
        self.peers.pop(peer.sock.fileno(), None)
        self._selector.unregister(peer.sock)
        peer.sock.close()
