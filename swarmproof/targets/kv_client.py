"""The supervisor's own key-value client: plain blocking sockets on the sans-I/O codec, one connection, one thread.

It asks for status, writes the probe after a fault, and reads every key back at the end. It is not the load: users
have their own.
"""

import itertools
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from protocols.errors import RemoteProtocolError
from protocols.kv import (
    BUSY,
    ERROR,
    NOT_LEADER,
    STATUS,
    UNKNOWN,
    KvCodec,
    KvReply,
    KvRequest,
    KvStatus,
)

RECEIVE_BYTES = 64 * 1024
CALL_TIMEOUT_S = 2.0
PIPELINE_DEPTH = 64  # a read-back of many keys is bound by the node, not by round trips
RETRY_AFTER_S = 0.005  # between attempts at a write while the cluster elects

# Replies after which the same write may be sent again, to another node or later.
TRY_AGAIN = frozenset({NOT_LEADER, BUSY, UNKNOWN})


class KvUnavailable(Exception):
    """No usable answer: refused, reset, timed out, or not the protocol. Whether a write was applied is unknown."""


class Written(NamedTuple):
    """How a write ended. `reply` None = no definite answer within the time: unknown."""

    reply: KvReply | None
    node: int | None
    attempts: int


class KvConnection:
    """One connection to one node; it connects when first used, and again after an error.

    >>> with KvConnection("127.0.0.1", 9001) as node:
    ...     node.call(KvRequest("get", "k"))
    KvReply(result='NOT_FOUND', ...)
    """

    def __init__(self, host: str, port: int, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self.host = host
        self.port = port
        self.timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._codec = self._new_codec()
        self._ids = itertools.count(secrets.randbits(32) << 16)

    def __enter__(self) -> "KvConnection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def status(self) -> KvStatus:
        """What the node says about itself. Errors: KvUnavailable."""
        reply = self.call(KvRequest(STATUS))
        if reply.status is None:
            raise KvUnavailable(f"{self.host}:{self.port} answered {reply.result} to status")
        return reply.status

    def call(self, request: KvRequest, timeout_s: float | None = None) -> KvReply:
        """Send one request, give its reply. Errors: KvUnavailable, and the connection is closed."""
        for _, reply in self.call_many([request], timeout_s=timeout_s):
            return reply
        raise KvUnavailable(f"{self.host}:{self.port} did not answer")

    def call_many(
        self,
        requests: Sequence[KvRequest],
        *,
        depth: int = PIPELINE_DEPTH,
        timeout_s: float | None = None,
        on_send: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[int, KvReply]]:
        """Pipeline requests, at most `depth` in flight; yields (position, reply) as replies come.

        `on_send(position)` is called before the bytes leave. `timeout_s` bounds each wait for a reply. Errors:
        KvUnavailable; the replies that were not yielded are unknown then.
        """
        wait_s = self.timeout_s if timeout_s is None else timeout_s
        pending: dict[int, int] = {}
        position = 0
        try:
            self._connected(wait_s)  # first of all: a codec belongs to its connection
            while position < len(requests) or pending:
                batch = bytearray()
                while position < len(requests) and len(pending) < depth:
                    request_id = next(self._ids)
                    pending[request_id] = position
                    if on_send is not None:
                        on_send(position)
                    batch += self._codec.encode(request_id, requests[position])
                    position += 1
                if batch:
                    self._connected(wait_s).sendall(batch)
                for request_id, reply in self._receive(time.monotonic() + wait_s):
                    sent = pending.pop(request_id, None)
                    if sent is None:
                        raise KvUnavailable(f"{self.host}:{self.port} answered a request that was not asked")
                    yield sent, reply
        except (OSError, KvUnavailable) as error:
            self.close()
            if isinstance(error, KvUnavailable):
                raise
            raise KvUnavailable(f"{self.host}:{self.port}: {error}") from error
        except GeneratorExit:
            if pending:  # replies under way must not meet the next call
                self.close()
            raise

    def _new_codec(self) -> Any:
        """A fresh codec for a new connection: something with the face of KvCodec."""
        return KvCodec()

    def _connected(self, timeout_s: float) -> socket.socket:
        if self._socket is None:
            self._codec = self._new_codec()
            connection = socket.create_connection((self.host, self.port), timeout_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = connection
        self._socket.settimeout(timeout_s)
        return self._socket

    def _send_more(self) -> None:
        """For protocols in which a reply may take several rounds."""

    def _receive(self, deadline: float) -> list[tuple[int, KvReply]]:
        assert self._socket is not None
        while True:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                raise KvUnavailable(f"{self.host}:{self.port} closed the connection")
            replies: list[tuple[int, KvReply]] = self._codec.receive_data(data)
            self._send_more()
            if self._codec.error is not None and not replies:
                error: RemoteProtocolError = self._codec.error
                raise KvUnavailable(f"{self.host}:{self.port} does not speak the protocol: {error}")
            if replies:
                return replies


def write_somewhere(
    connections: dict[int, KvConnection],
    request: KvRequest,
    *,
    choose: Callable[[], int | None],
    within_s: float,
    attempt_timeout_s: float = 0.5,
    give_up: Callable[[], bool] = lambda: False,
) -> Written:
    """Send one idempotent write until a node gives a definite answer. `choose` names the node to try next.

    The request must carry client_id and seq: it may arrive more than once, and is applied once.
    """
    deadline = time.monotonic() + within_s
    attempts = 0
    while time.monotonic() < deadline and not give_up():
        node = choose()
        if node is not None:
            attempts += 1
            try:
                reply = connections[node].call(request, attempt_timeout_s)
            except KvUnavailable:
                pass
            else:
                if reply.result not in TRY_AGAIN:
                    return Written(reply if reply.result != ERROR else None, node, attempts)
        time.sleep(RETRY_AFTER_S)
    return Written(None, None, attempts)
