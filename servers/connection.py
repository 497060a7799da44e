"""Event-driven connections: one socket, one read watcher in gevent's hub, no greenlet.

A request costs one wake-up, one `recv_into` a shared buffer and one `send`; there is no switch into a greenlet and
no `recv` that finds nothing. That keeps a reference server cheaper than the load generator that measures it, and a
connection small enough for tens of thousands of them.

A server subclasses Connection and overrides `received`; what every connection needs is here:

    OPEN       reads, answers; stops reading while a reply waits for a slow reader (back-pressure)
    FLUSHING   has said its last; closes when that has left
    LINGERING  has shut down its sending side and discards what still comes, until the peer closes too: closing a
               socket with unread bytes sends a reset, which destroys the reply that is on its way
    CLOSED

Nothing a peer does raises out of here, and every way to hold a connection has a deadline that one sweep checks.
"""

import errno
import socket
import time
from typing import TYPE_CHECKING, Any

import gevent

from servers.log_lines import log
from servers.serving import READ, address_text

if TYPE_CHECKING:
    from servers.connection_group import ConnectionGroup

WRITE = 2  # libev's event mask
RECEIVE_BYTES = 256 * 1024  # one recv takes what a pipelining client has sent in one scheduling turn
MAX_LINGERING = 1000  # under a flood beyond that, connections close at once

OPEN, FLUSHING, LINGERING, CLOSED = range(4)

# Why a connection ended: stable texts, they are metric labels.
CLIENT_CLOSED = "client closed"
CLIENT_RESET = "client reset"
CLOSED_INSIDE_MESSAGE = "closed inside a message"
RESET_INSIDE_MESSAGE = "reset inside a message"
IDLE_TIMEOUT = "idle timeout"
WRITE_TIMEOUT = "write timeout"
TOO_MUCH_PENDING = "client does not read"
AT_CAPACITY = "server at capacity"
SERVER_STOPPING = "server stopping"
PLAIN_HTTP = "plain HTTP"
INTERNAL_ERROR = "internal error"
# The ends that are nobody's fault: not worth a line at the usual level.
_UNREMARKABLE = frozenset({CLIENT_CLOSED, CLIENT_RESET, PLAIN_HTTP, SERVER_STOPPING})
_RESETS = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN})

# All connections of the process receive into this one: a callback is done with it before the next one runs.
RECEIVED = bytearray(RECEIVE_BYTES)
RECEIVED_VIEW = memoryview(RECEIVED)


class Connection:
    """One client. Subclasses override `received`, and `ended` or `stopping` where they need to."""

    __slots__ = (
        "_deadline_s",
        "_loop",
        "_pending",
        "_read",
        "_receive_into",
        "_send",
        "_write",
        "address",
        "group",
        "last_message_s",
        "messages",
        "reason",
        "sock",
        "state",
    )

    def __init__(self, group: "ConnectionGroup", sock: socket.socket, address: Any) -> None:
        self.group = group
        self.sock = sock
        self.address = address
        self.state = OPEN
        self.reason = ""
        self.messages = 0  # complete messages received
        self.last_message_s = time.monotonic()
        self._pending = bytearray()
        self._deadline_s = 0.0  # of the pending write, or of the lingering; 0 = none
        self._receive_into = sock.recv_into
        self._send = sock.send
        self._loop = gevent.get_hub().loop
        self._read: Any = self._loop.io(sock.fileno(), READ)
        self._write: Any = None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass  # reset before we came to it: the first recv says so
        self._join()
        self._read.start(self._readable)

    def _join(self) -> None:
        self.group.connections.add(self)

    @property
    def peer(self) -> str:
        return address_text(self.address)

    @property
    def pending_bytes(self) -> int:
        """Of replies that the client has not taken yet."""
        return len(self._pending)

    # What a server overrides.

    def received(self, count: int) -> None:
        """`count` bytes have arrived in RECEIVED[:count]; whoever keeps them copies them.

        Sets `last_message_s` when a message is complete: bytes alone do not count as life, or a peer that sends
        one now and then would hold its place for ever.
        """
        raise NotImplementedError

    def inside_message(self) -> bool:
        """Whether the beginning of a message is here and its end is not."""
        return False

    def end_of_stream(self) -> None:
        """The client has closed its sending side and everything it sent has been handled."""
        self.finish(CLOSED_INSIDE_MESSAGE if self.inside_message() else CLIENT_CLOSED)

    def stopping(self) -> None:
        """The server ends: answer what has arrived, then close."""
        self.read_once()
        if self.state == OPEN:
            self.finish(SERVER_STOPPING)

    def idle(self, now_s: float) -> None:
        """No complete message for the idle timeout."""
        self.finish(IDLE_TIMEOUT)

    def under_way(self) -> bool:
        """Whether a reply is still to come for a request already received."""
        return False

    def ended(self) -> None:
        """The connection is closed, `reason` says why. Called once."""

    # What a server calls.

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send now what the kernel takes, keep a copy of the rest and stop reading until it has left."""
        if self._pending:
            self._keep(data)
            return
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(error)
            return
        if sent != len(data):
            self._keep(memoryview(data)[sent:])

    def finish(self, reason: str, detail: str = "") -> None:
        """Close after what was sent has left, without a reset that would destroy it on the way.

        `reason` is stable text (a metric label), `detail` the particulars for the log.
        """
        if self.state != OPEN:
            return
        self._end(reason, detail)
        self.state = FLUSHING
        self._read.stop()
        self.linger_when_done()

    def linger_when_done(self) -> None:
        """To be called when the last reply under way has been sent."""
        if self.state == FLUSHING and not self._pending and not self.under_way():
            self._linger()

    def abort(self, reason: str) -> None:
        """Close at once."""
        if self.state == CLOSED:
            return
        if self.state == OPEN:
            self._end(reason)
        self.state = CLOSED
        self.group.held_bytes -= len(self._pending)
        self._pending.clear()
        for watcher in (self._read, self._write):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._read = self._write = None
        self.sock.close()
        self.group.connections.discard(self)
        self.group.lingering.discard(self)
        self.group.closed[self.reason] += 1
        self.ended()

    def read_once(self) -> None:
        """Handle what has arrived already, if it may be read now."""
        if self.state == OPEN and not self._pending:
            self._readable()

    def failed(self, error: Exception) -> None:
        """Our own bug: say where (never what the message held), give up this connection and no other."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"
        log.error("internal_error", peer=self.peer, error=type(error).__name__, where=where)
        self.abort(INTERNAL_ERROR)

    def check_deadlines(self, now_s: float) -> None:
        """Called by the group's sweep."""
        if self._deadline_s and now_s > self._deadline_s:
            if self.state == FLUSHING:  # it was to end anyway, but did not even take its last reply
                self.reason = WRITE_TIMEOUT
            self.abort(WRITE_TIMEOUT)
        elif (
            self.state == OPEN and not self._pending and now_s - self.last_message_s > self.group.limits.idle_timeout_s
        ):
            self.idle(now_s)

    def _end(self, reason: str, detail: str = "") -> None:
        """The one line about the end of this connection, at the moment that it is decided."""
        self.reason = reason
        say = log.debug if reason in _UNREMARKABLE else log.warning
        more = {"detail": detail} if detail else {}
        say("connection_closed", peer=self.peer, reason=reason, messages=self.messages, **more)

    # The two watchers.

    def _readable(self) -> None:
        try:
            count = self._receive_into(RECEIVED)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        if self.state != OPEN:  # lingering: what still comes is discarded
            if not count:
                self.abort(self.reason)  # the peer has closed too: the end of lingering
            return
        try:
            if count:
                self.group.received_bytes += count
                self.received(count)
            else:
                self._read.stop()  # level-triggered: an end of stream stays readable
                self.end_of_stream()
        except Exception as error:
            self.failed(error)

    def _writable(self) -> None:
        pending = self._pending
        try:
            sent = self._send(pending)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        self.group.held_bytes -= sent
        del pending[:sent]
        if pending:
            return
        self._write.stop()
        self._deadline_s = 0.0
        if self.state == FLUSHING:
            self.linger_when_done()
        else:
            self.last_message_s = time.monotonic()  # it was we who did not read
            self._read.start(self._readable)

    def _keep(self, data: bytes | bytearray | memoryview) -> None:
        if self.state == CLOSED or not data:
            return
        if len(self._pending) + len(data) > self.group.limits.max_pending_bytes:
            self.abort(TOO_MUCH_PENDING)
            return
        if not self._pending:
            self._read.stop()
            if self._write is None:
                self._write = self._loop.io(self.sock.fileno(), WRITE)
            self._write.start(self._writable)
            self._deadline_s = time.monotonic() + self.group.limits.write_timeout_s
        self._pending += data
        self.group.held_bytes += len(data)

    def _lost(self, error: OSError) -> None:
        if error.errno in _RESETS:
            self.abort(RESET_INSIDE_MESSAGE if self.inside_message() else CLIENT_RESET)
        else:
            self.abort(f"socket error {errno.errorcode.get(error.errno or 0, '?')}")

    def _linger(self) -> None:
        self.state = LINGERING
        self.group.connections.discard(self)
        if len(self.group.lingering) >= MAX_LINGERING:
            self.abort(self.reason)
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort(self.reason)
            return
        self.group.lingering.add(self)
        self._deadline_s = time.monotonic() + self.group.limits.linger_s
        self._read.start(self._readable)
        self._readable()  # most peers that ended the stream themselves have nothing more to say


class Refused(Connection):
    """A client beyond `max_clients`: it is told so and not served; it does not take a place."""

    __slots__ = ()

    def _join(self) -> None:
        self.group.lingering.add(self)

    def refuse(self) -> None:
        self.send(self.group.refusal)
        self.finish(AT_CAPACITY)

    def received(self, count: int) -> None:
        self.refuse()

    def check_deadlines(self, now_s: float) -> None:
        if self.state == OPEN and now_s - self.last_message_s > self.group.limits.linger_s:
            self.abort(AT_CAPACITY)
        else:
            super().check_deadlines(now_s)
