"""What the connections of the tool-call server share: who may come, sessions, stored replies, limits, counters."""

import argparse
import hmac
import time
from collections import Counter, OrderedDict

from prometheus_client import Gauge, Histogram

from protocols.tool_call import RETRY_AFTER_S
from servers.token_bucket import Buckets, TokenBucket, take_all
from servers.websocket_serving import WebSocketService

# The original's limits.
MAX_SESSION_CALLS = 8
MAX_CALLS = 24
MAX_ADDRESS_CONNECTIONS = 10
SESSION_BUCKET = (50, 5)  # capacity, per second
ADDRESS_BUCKET = (100, 10)
GLOBAL_BUCKET = (1000, 100)
# With --no-limits calls in flight are bounded all the same, by what a load test of one machine needs.
MAX_UNLIMITED_CALLS = 100_000
CALL_TIMEOUT_S = 300.0  # the original's
# Sessions and addresses that are remembered: far more than the connections of one server.
MAX_REMEMBERED = 50_000
# Replies kept to answer a repeated request_id. The original keeps them 300 s.
MAX_STORED_REPLIES = 10_000
MAX_STORED_BYTES = 64 * 1024 * 1024
REPLY_KEPT_S = 300.0
LATENCY_BUCKETS_S = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class StoredReplies:
    """The last replies by (session, request id): oldest forgotten first, bounded in number, bytes and age."""

    def __init__(
        self, most: int = MAX_STORED_REPLIES, most_bytes: int = MAX_STORED_BYTES, kept_s: float = REPLY_KEPT_S
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._kept_s = kept_s
        self._replies: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, session: str, request_id: str, now_s: float) -> str | None:
        stored = self._replies.get((session, request_id))
        if stored is None or now_s - stored[1] > self._kept_s:
            return None
        return stored[0]

    def put(self, session: str, request_id: str, reply: str, now_s: float) -> None:
        if len(reply) > self._most_bytes // 8:
            return  # one reply must not push out all others
        old = self._replies.pop((session, request_id), None)
        if old is not None:
            self._bytes -= len(old[0])
        self._replies[session, request_id] = (reply, now_s)
        self._bytes += len(reply)
        while len(self._replies) > self._most or self._bytes > self._most_bytes:
            _, (dropped, _) = self._replies.popitem(last=False)
            self._bytes -= len(dropped)


class Session:
    """One client as it names itself, over any number of connections."""

    __slots__ = ("calls", "connections", "id")

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.calls = 0  # in flight
        self.connections = 0


class ToolService(WebSocketService):
    """See the module; `arguments` are those of `servers.websocket_tools.__main__`."""

    metrics_here = True

    def set_up(self, arguments: argparse.Namespace) -> None:
        limited = not arguments.no_limits
        self.token: str | None = arguments.token
        self.hello_timeout_s: float = arguments.hello_timeout
        self.call_timeout_s: float = arguments.call_timeout
        self.max_call_bytes: int = arguments.max_call_bytes
        self.max_session_calls: int = arguments.max_session_calls if limited else MAX_UNLIMITED_CALLS
        self.max_calls: int = arguments.max_calls if limited else MAX_UNLIMITED_CALLS
        self.max_address_connections: int | None = arguments.max_address_connections if limited else None
        self.limited = limited
        self._session_buckets = Buckets(arguments.session_burst, arguments.session_rate, most=MAX_REMEMBERED)
        self._address_buckets = Buckets(arguments.address_burst, arguments.address_rate, most=MAX_REMEMBERED)
        self._global_bucket = TokenBucket(arguments.global_burst, arguments.global_rate, now_s=time.monotonic())
        self.addresses: Counter[str] = Counter()  # open connections of each
        self.sessions: OrderedDict[str, Session] = OrderedDict()
        self.stored = StoredReplies(arguments.max_stored_replies, arguments.max_stored_bytes, arguments.keep_replies)
        self.in_flight: dict[bytes, str] = {}  # call_key -> request id
        self.calls = 0
        self.failed_hellos: Counter[str] = Counter()
        self.hello_timeouts = 0
        self.reconnections = 0
        self.failed = 0
        self.expired = 0
        self.deduplicated = 0
        self.retries_asked = 0
        self.refused: Counter[str] = Counter()  # by limit
        self.results = 0
        self.latency = Histogram(
            f"{self.name}_call_seconds",
            "From call_tool read to call_tool_res written.",
            registry=self.registry,
            buckets=LATENCY_BUCKETS_S,
        )
        queued = Gauge(f"{self.name}_messages_queued", "Calls in flight.", registry=self.registry)
        queued.set_function(lambda: float(self.calls))
        queue = Gauge(f"{self.name}_queue_bytes", "Bytes that slow readers have not taken.", registry=self.registry)
        queue.set_function(lambda: float(self.group.held_bytes))

    def authorized(self, token: str) -> bool:
        if self.token is None:
            return True
        # In constant time, or an attacker could learn the token letter by letter.
        return hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self.token.encode())

    def session(self, session_id: str) -> Session:
        """The session of this id, known or new."""
        session = self.sessions.get(session_id)
        if session is not None:
            self.reconnections += 1
            self.sessions.move_to_end(session_id)
            return session
        session = self.sessions[session_id] = Session(session_id)
        if len(self.sessions) > MAX_REMEMBERED:
            self.sessions.popitem(last=False)
        return session

    def lets_through(self, session: Session, address: str, now_s: float) -> bool:
        """Whether the token buckets allow one more request; takes its tokens."""
        if not self.limited:
            return True
        buckets = [
            self._session_buckets.get(session.id, now_s),
            self._address_buckets.get(address, now_s),
            self._global_bucket,
        ]
        return take_all(buckets, now_s)

    def over_capacity(self, limit: str) -> dict[str, int]:
        """Count a refusal; the details that go with OVER_CAPACITY."""
        self.refused[limit] += 1
        self.retries_asked += 1
        return {"retry_after_secs": RETRY_AFTER_S}

    def counters(self) -> dict[str, tuple[str, float]]:
        name = self.name
        more = {
            "connections_failed": ("Hellos that failed.", sum(self.failed_hellos.values())),
            "connections_timeouts": ("Connections without a hello in time.", self.hello_timeouts),
            "reconnections": ("Hellos of a session that was here before.", self.reconnections),
            "messages_sent": ("Messages of the dialect sent, of every op.", self.replies),
            "messages_failed": ("Requests answered with an error.", self.failed),
            "messages_expired": ("Calls that took longer than the call timeout.", self.expired),
            "messages_deduplicated": (
                "Calls answered from a stored reply, or refused as identical.",
                self.deduplicated,
            ),
            "calls": ("Calls answered, with outputs or an error.", self.results),
            "retries_asked": ("Calls told to come again later.", self.retries_asked),
            "refused_rate": ("Requests refused by a token bucket.", self.refused["rate"]),
            "refused_in_flight": ("Calls refused because too many are in flight.", self.refused["in flight"]),
            "refused_address": ("Connections beyond those of one address.", self.refused["address"]),
        }
        return super().counters() | {f"{name}_{key}": value for key, value in more.items()}
