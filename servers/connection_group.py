"""The connections of one server together: who is let in, whose time is over, how many there were, how they all end."""

import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent

from servers.arguments import IDLE_TIMEOUT_S, MAX_HELD_BYTES, WRITE_TIMEOUT_S
from servers.connection import AT_CAPACITY, MAX_LINGERING, SERVER_STOPPING, Connection, Refused

LINGER_S = 1.0  # a peer that got its last reply needs a round trip to close, not more
# One connection's replies, while it is not read from: a received batch and what timers still bring.
MAX_PENDING_BYTES = 8 * 1024 * 1024
SWEEPS_PER_TIMEOUT = 5  # a timeout is noticed at most a fifth late
MAX_SWEEP_INTERVAL_S = 1.0
MIN_SWEEP_INTERVAL_S = 0.02
DRAIN_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server allows its clients. Seconds and bytes."""

    max_clients: int
    idle_timeout_s: float = IDLE_TIMEOUT_S
    write_timeout_s: float = WRITE_TIMEOUT_S
    max_held_bytes: int = MAX_HELD_BYTES
    max_pending_bytes: int = MAX_PENDING_BYTES
    linger_s: float = LINGER_S


class ConnectionGroup:
    """The connections of one server: admits them, sweeps their deadlines, counts them, drains them at the end.

    `connect(group, sock, address)` makes a connection of the server's own kind. `refusal` is what a client beyond
    `max_clients` is told before its connection is closed (nothing when empty); with `refuse_requests` it is told so
    in answer to its first bytes, because an HTTP client takes no answer to a request that it has not made yet.
    """

    def __init__(
        self,
        limits: Limits,
        connect: "Callable[[ConnectionGroup, socket.socket, Any], object]",
        refusal: bytes = b"",
        refuse_requests: bool = False,
    ) -> None:
        self.limits = limits
        self.connections: set[Connection] = set()
        self.lingering: set[Connection] = set()
        self.opened = 0
        self.refused = 0
        self.received_bytes = 0
        self.held_bytes = 0  # replies that slow readers have not taken yet
        self.closed: Counter[str] = Counter()  # by reason, one of servers.connection's or a protocol error's
        self._connect = connect
        self.refusal = refusal
        self._refuse_requests = refuse_requests
        shortest_s = min(limits.idle_timeout_s, limits.write_timeout_s, limits.linger_s)
        interval_s = min(MAX_SWEEP_INTERVAL_S, max(MIN_SWEEP_INTERVAL_S, shortest_s / SWEEPS_PER_TIMEOUT))
        self._timer = gevent.get_hub().loop.timer(interval_s, interval_s)
        self._timer.start(self._sweep)

    def accept(self, sock: socket.socket, address: Any) -> None:
        """For an Acceptor: serve the new connection, or refuse it when the server is full."""
        if len(self.connections) >= self.limits.max_clients:
            self.refused += 1
            refused = Refused(self, sock, address)
            if len(self.lingering) > MAX_LINGERING:
                refused.abort(AT_CAPACITY)
            elif not self._refuse_requests:
                refused.refuse()
            return
        self.opened += 1
        self._connect(self, sock, address)

    def drain(self) -> None:
        """Let every connection say its last (see `Connection.stopping`) and wait until all are closed.

        Blocks a greenlet; the caller bounds it. `abort_all` ends what is left.
        """
        for connection in list(self.connections):
            connection.stopping()
        while self.connections or self.lingering:
            gevent.sleep(DRAIN_POLL_S)

    def abort_all(self) -> None:
        self._timer.stop()
        for connection in [*self.connections, *self.lingering]:
            connection.abort(SERVER_STOPPING)

    def _sweep(self) -> None:
        now_s = time.monotonic()
        for connection in [*self.connections, *self.lingering]:
            try:
                connection.check_deadlines(now_s)
            except Exception as error:
                connection.failed(error)
