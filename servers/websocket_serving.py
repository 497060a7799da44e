"""What every WebSocket server here shares: connections on `protocols.websocket`, their options, their counters.

A server is a function from message to reply:

    def answer(message: Text | Binary) -> str | bytes | None | Refusal: ...

    return serve_websocket("websocket_echo", arguments, answer)

Everything that one `recv` brought is answered with one `send`. Protocol violations close with their RFC 6455 code
(1002, 1007, 1009), bad handshakes are answered by HTTP (400, 403, 426), one beyond `--max-clients` with 503, a plain
GET /health with 200. A quiet client is pinged and closed when it does not answer; SIGTERM closes with 1001.
"""

import argparse
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from websockets.frames import Frame, Opcode

from protocols.websocket import (
    MAX_MESSAGE_BYTES,
    Binary,
    Closed,
    Event,
    HttpAnswer,
    Opened,
    Text,
    WebSocketServer,
)
from protocols.websocket_events import GOING_AWAY, INTERNAL_ERROR
from servers.arguments import add_connection_limits, add_metrics_port, count, seconds, server_parser, size_bytes
from servers.connection import (
    CLIENT_CLOSED,
    CLOSED_INSIDE_MESSAGE,
    OPEN,
    PLAIN_HTTP,
    RECEIVE_BYTES,
    RECEIVED_VIEW,
    SERVER_STOPPING,
    Connection,
)
from servers.connection_group import ConnectionGroup, Limits
from servers.log_lines import log
from servers.metrics import ConnectionCollector, CounterSource, serve_metrics
from servers.serving import Acceptor, OnConnection, listen, serve_until_stopped
from servers.tls import TlsSocket, server_context
from servers.workers import Worker, serve_in_workers

MAX_CLIENTS = 10_000  # idle connections are what WebSockets are for
HANDSHAKE_TIMEOUT_S = 10.0  # a handshake is one small request; slower is a slow loris
# The defaults of the `websockets` library: most clients that we meet answer in this rhythm.
PING_INTERVAL_S = 20.0
PING_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 1.0  # how long SIGTERM waits for a client's close frame; the whole drain has 2 s
# One kilobyte of deflate may hold a megabyte of message, which takes some milliseconds: what one recv brought is
# inflated piece by piece, and when this one client has had so much of the loop's time, the others have their turn.
INFLATE_STEP_BYTES = 1024
INFLATE_TURN_S = 0.005
MAX_WORKERS = 64

# Why a connection ended, beside the reasons of servers.connection and protocols.websocket_events.
HANDSHAKE_TIMEOUT = "handshake timeout"
PING_TIMEOUT = "ping timeout"
CLOSE_TIMEOUT = "close timeout"

REFUSED_AT_CAPACITY = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 19\r\n\r\nserver at capacity\n"
)
BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 24\r\n\r\nbad websocket handshake\n"
)


class Refusal(NamedTuple):
    """Instead of a reply: close with this code and reason (at most 123 bytes)."""

    code: int
    reason: str


_MESSAGES = (Text, Binary)  # a tuple made once: `Text | Binary` would be made anew for each message

Reply = str | bytes | None | Refusal
Answer = Callable[[Text | Binary], Reply]


class WebSocketService:
    """What the connections of one server share: options, answer function, counters.

    A server with more to share (sessions, buckets) subclasses it, and WebSocketConnection for what belongs to one
    client; `metrics_here` makes GET /metrics answer on the server's own port too.
    """

    metrics_here = False

    def __init__(
        self,
        name: str,
        arguments: argparse.Namespace,
        answer: Answer,
        connection_class: "type[WebSocketConnection] | None" = None,
    ) -> None:
        self.name = name
        self.answer = answer
        self.messages = 0
        self.replies = 0
        self.opened = 0
        self.new_protocol = partial(
            WebSocketServer,
            arguments.max_message_bytes,
            subprotocols=arguments.subprotocol or None,
            origins=arguments.allow_origin or None,
            compression=arguments.compression,
            respond=self._respond,
        )
        self.handshake_timeout_s: float = arguments.handshake_timeout
        self.ping_interval_s: float = arguments.ping_interval
        self.ping_timeout_s: float = arguments.ping_timeout
        self.step_bytes = INFLATE_STEP_BYTES if arguments.compression else RECEIVE_BYTES
        shortest_s = min(self.handshake_timeout_s, self.ping_interval_s, self.ping_timeout_s)
        self.group = ConnectionGroup(
            Limits(arguments.max_clients, shortest_s, arguments.write_timeout),
            connect=partial(connection_class or WebSocketConnection, self),
            refusal=REFUSED_AT_CAPACITY,
            refuse_requests=True,
        )
        self.registry = CollectorRegistry()
        self.registry.register(ConnectionCollector(name, self.group))
        self.registry.register(CounterSource(self.counters))
        self.set_up(arguments)

    def set_up(self, arguments: argparse.Namespace) -> None:
        """What a kind of server has beyond this: its part of `__init__`."""

    def counters(self) -> dict[str, tuple[str, float]]:
        return {
            f"{self.name}_handshakes": ("Connections whose handshake was completed.", self.opened),
            f"{self.name}_messages": ("Messages received.", self.messages),
            f"{self.name}_replies": ("Messages sent.", self.replies),
        }

    def _respond(self, path: str, headers: Mapping[str, str]) -> HttpAnswer | None:
        if path == "/health" and "upgrade" not in headers:
            return HttpAnswer(200, "ok\n")
        if self.metrics_here and path == "/metrics" and "upgrade" not in headers:
            return HttpAnswer(200, generate_latest(self.registry).decode(), CONTENT_TYPE_LATEST)
        return None


class WebSocketConnection(Connection):
    """One client, from handshake to closing handshake."""

    __slots__ = (
        "_begun",
        "_closing_s",
        "_leaves",
        "_next_turn",
        "_opened_s",
        "_pinged_s",
        "_rest",
        "_websocket",
        "service",
    )

    def __init__(self, service: WebSocketService, group: ConnectionGroup, sock: socket.socket, address: Any) -> None:
        self.service = service
        self._websocket = service.new_protocol()
        self._begun = False  # whether anything has arrived at all
        self._opened_s = 0.0  # 0 = not yet
        self._pinged_s = 0.0  # since when a pong is due, 0 = none is
        self._closing_s = 0.0  # since when a close frame is due, 0 = none is
        self._rest = b""  # what one recv brought and is still to be inflated; nothing more is read before that
        self._next_turn: Any = None
        self._leaves = False  # the server stops when the rest is answered
        super().__init__(group, sock, address)

    def inside_message(self) -> bool:
        return self._begun and (self._opened_s == 0.0 or self._websocket.pending_bytes > 0)

    def received(self, count: int) -> None:
        self._begun = True
        if count <= self.service.step_bytes:
            self._handle(self._websocket.receive_data(bytes(RECEIVED_VIEW[:count])))
        else:
            self._take_turn(bytes(RECEIVED_VIEW[:count]))

    def _take_turn(self, data: bytes) -> None:
        """Answer piece by piece, and leave the rest to a later turn of the loop when this one has been long enough."""
        step, until_s = self.service.step_bytes, time.monotonic() + INFLATE_TURN_S
        for start in range(0, len(data), step):
            if start and time.monotonic() >= until_s:
                self._rest = data[start:]
                self._read.stop()
                self._call_next_turn()
                return
            self._handle(self._websocket.receive_data(data[start : start + step]))
            if self.state != OPEN:
                return

    def _call_next_turn(self) -> None:
        # A timer, not a callback: gevent runs many callbacks before it looks at the other clients' sockets.
        if self._next_turn is None:
            self._next_turn = self._loop.timer(0)
            self._next_turn.start(self._go_on)

    def _go_on(self) -> None:
        self._next_turn.close()
        self._next_turn = None
        if self.state != OPEN or self._pending:
            return  # over, or the client must read first
        rest, self._rest = self._rest, b""
        try:
            self._take_turn(rest)
            if self._rest or self.state != OPEN:
                return
            if not self._pending:
                self._read.start(self._readable)
            if self._leaves:
                self.stopping()
        except Exception as error:
            self.failed(error)

    def _writable(self) -> None:
        super()._writable()
        if self._rest and self.state == OPEN and not self._pending:
            self._read.stop()
            self._call_next_turn()

    def read_once(self) -> None:
        if not self._rest and not self._leaves:
            super().read_once()

    def end_of_stream(self) -> None:
        if not self._begun:
            self.finish(CLIENT_CLOSED)  # somebody looked whether the port is open
            return
        reason = CLOSED_INSIDE_MESSAGE if self.inside_message() else CLIENT_CLOSED
        events = self._websocket.receive_eof()
        if self._websocket.error is None:
            self.finish(reason)
        self._handle(events)

    def stopping(self) -> None:
        self.read_once()
        if self._rest:
            self._leaves = True
        elif self.state == OPEN and not self._say_close(GOING_AWAY, SERVER_STOPPING):
            self.finish(SERVER_STOPPING)

    def check_deadlines(self, now_s: float) -> None:
        service = self.service
        if self.state != OPEN or self._pending:
            pass
        elif self._closing_s:
            if now_s - self._closing_s > CLOSE_TIMEOUT_S:
                self.abort(CLOSE_TIMEOUT)
        elif self._rest:
            pass  # it is we who have not read
        elif not self._opened_s:
            if now_s - self.last_message_s > service.handshake_timeout_s:
                self.finish(HANDSHAKE_TIMEOUT)
        elif self._pinged_s:
            if now_s - self._pinged_s > service.ping_timeout_s:
                self._say_close(INTERNAL_ERROR, PING_TIMEOUT)  # 1011, as the `websockets` library does
                self.finish(PING_TIMEOUT)
        elif now_s - self.last_message_s > service.ping_interval_s and self._websocket.open:
            self._pinged_s = now_s
            self._websocket.send_ping()
            self._flush()
        super().check_deadlines(now_s)

    def idle(self, now_s: float) -> None:
        """Pings do this work."""

    # What a server with state for each client overrides.

    def answer(self, message: Text | Binary) -> Reply:
        return self.service.answer(message)

    def opened(self, event: Opened) -> None:
        """The handshake is through."""

    def _handle(self, events: list[Event]) -> None:
        """Answer what has arrived, with one send; then see whether that was the end."""
        service, websocket = self.service, self._websocket
        closed: Closed | None = None
        late = b""
        for event in events:
            if isinstance(event, _MESSAGES):
                self.messages += 1
                service.messages += 1
                if websocket.open:
                    self._reply(self.answer(event))
                elif not self._closing_s:
                    late += self._late_reply(self.answer(event))
            elif isinstance(event, Closed):
                closed = event
            elif isinstance(event, Opened):
                self._opened_s = time.monotonic()
                service.opened += 1
                self.opened(event)
        if events:
            self.last_message_s = time.monotonic()
            self._pinged_s = 0.0
        self._flush(late)
        error = websocket.error
        if error is not None:
            # What a handshake is refused for is quoted behind a colon: no log line holds what a client sent.
            self.finish(error.reason, error.detail.partition(":")[0])
        elif websocket.close_now or closed is not None:
            self.finish(CLIENT_CLOSED if self._opened_s else PLAIN_HTTP)

    def _reply(self, reply: Reply) -> None:
        if isinstance(reply, str):
            self._websocket.send_text(reply)
        elif isinstance(reply, bytes):
            self._websocket.send_binary(reply)
        elif reply is not None:
            self._websocket.send_close(reply.code, reply.reason)
            self._closing_s = time.monotonic()
            log.warning("message_refused", peer=self.peer, code=reply.code, reason=reply.reason)
            return
        else:
            return
        self.service.replies += 1

    def _late_reply(self, reply: Reply) -> bytes:
        """A reply to a message that came in one piece with a close frame, or with what broke the protocol.

        The connection has queued its own close frame already. The client still gets what it asked for before
        that; the frame is made here, since the connection rightly sends no message behind a close.
        """
        if reply is None or isinstance(reply, Refusal):
            return b""
        self.service.replies += 1
        if isinstance(reply, str):
            return Frame(Opcode.TEXT, reply.encode()).serialize(mask=False)
        return Frame(Opcode.BINARY, reply).serialize(mask=False)

    def _say_close(self, code: int, reason: str) -> bool:
        """Begin the closing handshake; False when there is none to begin."""
        if not self._websocket.open:
            return False
        self._websocket.send_close(code, reason)
        self._closing_s = time.monotonic()
        self._flush()
        return True

    def _flush(self, first: bytes = b"") -> None:
        data = self._websocket.data_to_send()
        if first:
            data.insert(0, first)
        if data:
            self.send(data[0] if len(data) == 1 else b"".join(data))
        elif not self._opened_s and self._websocket.error is not None:
            self.send(BAD_REQUEST)  # what is no HTTP at all gets no answer from the library


def websocket_parser(name: str, summary: str, default_port: int) -> argparse.ArgumentParser:
    """The options that all WebSocket servers have."""
    parser = server_parser(
        name, summary, f"python -m servers.{name} --port {default_port} --max-clients 20000", default_port
    )
    limits = add_connection_limits(parser, max_clients=MAX_CLIENTS, idle=False)
    limits.add_argument(
        "--max-message-bytes",
        type=size_bytes,
        default=MAX_MESSAGE_BYTES,
        metavar="N",
        help="largest message, all its fragments, after decompression; a larger one is closed with 1009",
    )
    limits.add_argument(
        "--handshake-timeout", type=seconds, default=HANDSHAKE_TIMEOUT_S, metavar="S", help="for the opening handshake"
    )
    limits.add_argument(
        "--ping-interval",
        type=seconds,
        default=PING_INTERVAL_S,
        metavar="S",
        help="ping a client that was quiet for S seconds",
    )
    limits.add_argument(
        "--ping-timeout",
        type=seconds,
        default=PING_TIMEOUT_S,
        metavar="S",
        help="close a client that answered no ping for S seconds",
    )
    parser.add_argument("--compression", action="store_true", help="accept permessage-deflate when a client offers it")
    parser.add_argument(
        "--subprotocol", action="append", metavar="NAME", help="a subprotocol to serve (repeatable; default: none)"
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        metavar="ORIGIN",
        help="an Origin to accept (repeatable; default: any or none)",
    )
    parser.add_argument(
        "--workers", type=count, default=1, metavar="N", help="processes that share the port (limits apply to each)"
    )
    parser.add_argument("--certificate", metavar="FILE", help="serve wss:// with this PEM certificate (chain)")
    parser.add_argument("--key", metavar="FILE", help="its private key in PEM, when the certificate's file has none")
    add_metrics_port(parser)
    return parser


def serve_websocket(
    name: str,
    arguments: argparse.Namespace,
    answer: Answer,
    connection_class: type[WebSocketConnection] | None = None,
    service_class: type[WebSocketService] = WebSocketService,
) -> int:
    """Serve until SIGTERM; returns the exit code. Raises CannotServe."""
    log.set_level(arguments.log_level)
    context = server_context(arguments.certificate, arguments.key) if arguments.certificate else None

    def serve(sock: socket.socket, worker: Worker | None = None) -> int:
        service = service_class(name, arguments, answer, connection_class)
        group = service.group
        accept: OnConnection = group.accept
        if context is not None:

            def accept(client: Any, address: Any) -> None:
                group.accept(cast(socket.socket, TlsSocket(client, context)), address)

        serve_metrics(arguments, service.registry, group, worker)
        announce = worker.announce if worker else None
        code = serve_until_stopped(name, [Acceptor(sock, accept)], drain=group.drain, announce=announce)
        group.abort_all()
        return code

    if arguments.workers > 1:
        workers = min(arguments.workers, MAX_WORKERS)
        return serve_in_workers(
            name, arguments.host, arguments.port, workers, serve, metrics_port=arguments.metrics_port
        )
    return serve(listen(arguments.host, arguments.port))
