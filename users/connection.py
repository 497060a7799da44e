"""The connection core: many requests in flight on one socket, every reply matched to its request.

    caller greenlets --exchange()--> pending map --one send--> socket
                     <--switch()---- pending map <--one recv-- read watcher, always on

The reader is not a greenlet but a callback of gevent's event loop on the socket. It takes what one `recv`
brings, parses all of it, and switches straight into each caller that was waiting for one of the replies.
While it does so the connection is *corked*: what those callers send next is gathered and leaves in a single
`send` when the last of them waits again. One caller pays one recv, one send and one switch for a round trip;
sixteen callers share the recv and the send.

Because the reader never sleeps, nothing the server says goes unheard: a duplicate, a late or an unasked reply
is seen when it arrives, also while the connection idles, and when it closes (`close` drains for a moment).

A request ends in exactly one way: a reply, a timeout, the loss of the connection, or its caller is killed.
"""

import ssl
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent import get_hub, getcurrent
from gevent.event import Event
from greenlet import greenlet  # type: ignore[import-untyped]

from protocols.errors import RemoteProtocolError
from protocols.frames import TRUNCATED
from users.call import Call, fail_all
from users.failures import CheckFailed, ConnectionLost, ReplyTimeout, RequestFailure, ServerRefused
from users.kernel_times import kernel_times
from users.opening import (
    CLOSED_BY_SERVER,
    CONNECT_DEADLINE_S,
    CONNECT_TIMEOUT_S,
    OnAttempt,
    Opener,
    loss,
    open_once,
)
from users.request_ids import IdSpace, request_ids
from users.sending import MAX_UNSENT_BYTES, Sender
from users.session import Session
from users.strays import OnStray, Strays
from users.transport import Endpoint, TlsFilter

if TYPE_CHECKING:
    import _socket

__all__ = ["CLOSED_INSIDE_REPLY", "DRAIN_S", "MAX_UNSENT_BYTES", "REPLY_TIMEOUT_S", "Call", "Connection"]

# One recv: the kernel's default receive buffer holds about twice this much; larger replies take several.
RECV_BYTES: Final = 65_536
# At close: time for replies that were under way to show themselves. Most servers close at once in answer to ours.
DRAIN_S: Final = 0.25

REPLY_TIMEOUT_S: Final = 5.0

_READ: Final = 1  # libev's event masks
_WRITE: Final = 2
_NS_PER_S: Final = 1_000_000_000

CLOSED_INSIDE_REPLY: Final = "connection closed inside a reply"
_AFTER_MALFORMED: Final = "connection dropped: another reply on it could not be read"
_AFTER_TIMEOUT: Final = "connection dropped after a timeout"


class Connection(Sender):
    """A connection to `endpoint` that comes back: each `open` dials anew with a fresh session.

    `timeout_s` bounds the wait for each reply. With `kernel_times` the kernel says when one came, if it can. Used by
    any number of greenlets of one thread.
    """

    # Slots, here and in the engine's exchanges: with thousands of connections what counts is how much memory each of
    # them touches in a round trip, and a dictionary of sixty attributes is spread over forty cache lines.
    __slots__ = (
        "_answered_call_ns",
        "_by_id",
        "_corked",
        "_gone",
        "_id",
        "_id_mask",
        "_id_step",
        "_ids",
        "_judge",
        "_kernel_times",
        "_lane",
        "_loop",
        "_new_session",
        "_now",
        "_on_stray",
        "_opener",
        "_out",
        "_output",
        "_pending",
        "_readable",
        "_receive",
        "_recv",
        "_refusal",
        "_sock",
        "_strays",
        "_timed",
        "_timeout_ns",
        "_timer",
        "_timer_runs",
        "_wait",
        "_writable",
        "endpoint",
        "is_open",
        "session",
        "timeout_s",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        new_session: Callable[[], Session],
        *,
        timeout_s: float = REPLY_TIMEOUT_S,
        on_stray: OnStray | None = None,
        ids: IdSpace = request_ids,
        kernel_times: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.is_open = False
        self.session: Session
        self._readable: Any
        self._timer: Any
        self._recv: Callable[[int], bytes]
        self._new_session = new_session
        self._on_stray = on_stray
        self._kernel_times = kernel_times
        self._ids = ids
        self._id_step, self._id_mask = ids.step, ids.mask
        self._lane = -1
        self._id = 0
        self._timeout_ns = int(timeout_s * _NS_PER_S)
        self._opener = Opener()
        self._gone = Event()
        self._gone.set()
        self._reset()

    def _reset(self) -> None:
        self._pending: dict[Any, Call] = {}
        self._answered_call_ns = 0  # when the request that was answered last had been sent
        self._out: list[bytes] = []
        self._unsent = bytearray()
        self._writing = False
        self._corked = False
        self._timer_runs = False
        self._refusal: str | None = None

    @property
    def label(self) -> str:
        """Which connection a record speaks of: the server's address and a number of this process."""
        return f"{self.endpoint.address}#{self._lane}"

    @property
    def in_flight(self) -> int:
        return len(self._pending)

    # -- opening ---------------------------------------------------------------------------------------------

    def open(
        self,
        deadline_s: float = CONNECT_DEADLINE_S,
        attempt_timeout_s: float = CONNECT_TIMEOUT_S,
        on_attempt: OnAttempt | None = None,
    ) -> None:
        """Connect, trying again until `deadline_s` is over; `on_attempt` hears of each attempt.

        Callers that come while another one connects wait for it and share its luck. Raises ConnectFailed.
        """
        self._opener.open(self._dial, deadline_s, attempt_timeout_s, on_attempt)

    def _dial(self, timeout_s: float) -> None:
        session = self._new_session()
        opened = open_once(self.endpoint, session, timeout_s)
        self._start(opened.sock, opened.tls, session)
        if opened.replies:
            self._dispatch(opened.replies)

    def _start(self, raw: "_socket.socket", tls: TlsFilter | None, session: Session) -> None:
        self._reset()
        hub = get_hub()
        self.session = session
        self._receive = session.receive_data
        # Most protocols never speak by themselves: they are not asked on every recv.
        self._output = session.output if type(session).output is not Session.output else None
        self._by_id = session.matches_by_id
        self._judge = session.judge
        self._tls = tls
        self._lane, self._id = self._ids.new_lane()
        self._strays = Strays(session, self._ids, self._lane, self.label, self._on_stray)
        self._recv = self._read_by(raw)
        self._loop = hub.loop
        # Straight to the hub: gevent's own `switch` first looks for hooks that no greenlet of ours has.
        self._wait = greenlet.switch.__get__(hub)
        self._timer = hub.loop.timer(0)
        self._writable: Any = None
        self._readable = hub.loop.io(raw.fileno(), _READ)
        self._readable.start(self._on_readable)
        self._gone.clear()
        self.is_open = True

    def _read_by(self, raw: "_socket.socket") -> Callable[[int], bytes]:
        """Take this socket; what reads it. `_now` is when what was read last had come, or the present."""
        self._sock = raw
        self._sock_send = raw.send
        self._timed = timed = kernel_times(raw, self._kernel_times)
        self._now: Callable[[], int] = monotonic_ns if timed is None else timed.came
        return raw.recv if timed is None else timed.recv

    def next_id(self) -> int:
        """A request id that no other request of this process has or will have. Only while open."""
        request_id = self._id = (self._id + self._id_step) & self._id_mask
        return request_id

    @property
    def last_id(self) -> int:
        """The id that was issued last."""
        return self._id

    # -- requests --------------------------------------------------------------------------------------------

    def exchange(self, request_id: Any, data: bytes, call: Call) -> Any:
        """Send `data` and wait for the reply with `request_id`; only while open, `call` is the caller's own.

        Sets `call.call_ns` before the first byte and `call.return_ns` when the reply is there (or the wait is
        over). Raises ReplyTimeout, ConnectionLost, CheckFailed (the stream became unreadable).
        """
        if self._unsent and len(self._unsent) > MAX_UNSENT_BYTES:
            self._wait_until_sent()
        if not self.is_open:
            raise ConnectionLost(CLOSED_BY_SERVER)
        pending = self._pending
        call.greenlet = getcurrent()
        call.request_id = request_id
        call.error = None
        pending[request_id] = call
        call.call_ns = monotonic_ns()
        if not self._timer_runs:
            self._start_timer(self._timeout_ns)
        try:
            if self._corked:
                self._out.append(data)
            else:
                self.send(data)
            self._wait()
        except BaseException:  # killed, or the caller's own gevent.Timeout
            call.greenlet = None
            call.return_ns = monotonic_ns()
            self._cancel(request_id, call)
            raise
        if call.error is not None:
            raise call.error
        return call.reply

    def _cancel(self, request_id: Any, call: Call) -> None:
        if request_id not in self._pending:
            return
        if self._by_id:
            del self._pending[request_id]
            self._strays.cancelled(request_id)
        else:
            # Its reply still comes in its turn: an empty place waits for it.
            self._pending[request_id] = place = Call()
            place.request_id, place.call_ns = request_id, call.call_ns

    def post(self, request_id: Any, data: bytes) -> None:
        """Send `data` that need not be answered (a reply to it is ignored). Raises ConnectionLost."""
        if len(self._unsent) > MAX_UNSENT_BYTES:
            self._wait_until_sent()
        self._strays.cancelled(request_id)
        if self._corked:
            self._out.append(data)
        else:
            self.send(data)
        if not self.is_open:
            raise ConnectionLost(CLOSED_BY_SERVER)

    def watch_writing(self, wanted: bool) -> None:
        if wanted:
            self._writable = self._loop.io(self._sock.fileno(), _WRITE)
            self._writable.start(self.on_writable)
        else:
            self._writable.close()
            self._writable = None

    def lose(self, failure: RequestFailure) -> None:
        self._break(failure)

    def was_disturbed_by_us(self) -> None:
        """The server answered what is no request (a ping); for those who foretell replies."""

    def wait_for(self, event: Any, timeout_s: float) -> None:
        """Wait for an event of gevent's, but not longer than this connection lives."""
        gevent.wait([event, self._gone], timeout=timeout_s, count=1)

    def _wait_until_sent(self) -> None:
        give_up_ns = monotonic_ns() + self._timeout_ns
        while self.is_open and len(self._unsent) > MAX_UNSENT_BYTES:
            if monotonic_ns() > give_up_ns:
                self._break(ConnectionLost("the server stopped reading"))
            else:
                gevent.sleep(0.001)
        if not self.is_open:
            raise ConnectionLost(CLOSED_BY_SERVER)

    # -- replies (in the event loop) -------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            data = self._recv(RECV_BYTES)
            if data and self._tls is not None:
                plain = self._tls.receive(data)
                if not plain:
                    return
                data = plain
        except BlockingIOError:
            return
        except ssl.SSLError:
            self._break(ConnectionLost("TLS failed"))
            return
        except OSError as error:
            self._break(ConnectionLost(loss(error)))
            return
        if not data:
            self._on_eof()
            return
        replies = self._receive(data)
        if replies:
            self._dispatch(replies)
        if self.is_open:
            if self._judge.error is not None:
                self._break_malformed(self._judge.error)
            elif self._output is not None:
                chatter = self._output()
                if chatter:
                    self.send(chatter)
                if self.session.finished:
                    self._break(ConnectionLost(self.session.finished))

    def _dispatch(self, replies: Any) -> None:
        """Hand each reply to its caller, corked; all replies are matched before the first caller runs."""
        now_ns = self._now()
        timed = self._timed
        pop = self._pending.pop
        calls = []
        for reply in replies:
            call = pop(reply.request_id, None)
            if call is None:
                call = self._owner(reply)
                if call is None:
                    continue
            call.return_ns = now_ns
            if timed is not None:
                call.return_ns = max(now_ns, call.call_ns)
                call.unread_ns = timed.unread_ns
            call.reply = reply
            calls.append(call)
        if not calls:
            return
        self._answered_call_ns = calls[-1].call_ns
        self._corked = True
        try:
            for call in calls:
                # A caller that an earlier one of this batch made stop waiting has no greenlet any more.
                caller = call.greenlet
                if caller is not None:
                    call.greenlet = None
                    caller.switch()
        finally:
            self._corked = False
            out = self._out
            if out and self.is_open:
                data = out[0] if len(out) == 1 else b"".join(out)
                out.clear()
                self.send(data)

    def _owner(self, reply: Any) -> Call | None:
        """The call that a reply without a known id belongs to, taken out of the pending map. None: nobody's."""
        pending = self._pending
        oldest = next(iter(pending), None)
        if reply.request_id is not None or oldest is None:
            notice = self.session.notice(reply)
            if notice is not None:
                self._refusal = notice
                return None
            if not self._strays.explain(reply, self.last_id, oldest is not None):
                return None
        return pending.pop(oldest)

    # -- timeouts --------------------------------------------------------------------------------------------

    def _start_timer(self, delay_ns: int) -> None:
        # One timer for all requests, armed for the oldest: no timer is started and stopped per request.
        self._timer_runs = True
        self._timer.close()
        self._timer = self._loop.timer(max(delay_ns, 1_000_000) / _NS_PER_S)
        self._timer.start(self._on_timer)

    def _on_timer(self) -> None:
        self._timer_runs = False
        # After a pause of this process the event loop calls timers before it reads: the reply may be here already.
        if self._pending:
            self._on_readable()
        now_ns = monotonic_ns()
        while self._pending:
            request_id, call = next(iter(self._pending.items()))
            wait_ns = call.call_ns + self._timeout_ns - now_ns
            if wait_ns > 0:
                self._start_timer(wait_ns)
                return
            if not self._by_id:
                # Whose reply comes next cannot be known any more.
                self._break(ConnectionLost(_AFTER_TIMEOUT), oldest=ReplyTimeout())
                return
            del self._pending[request_id]
            self._strays.overdue(request_id, call.call_ns, self._answered_call_ns)
            call.fail(request_id, ReplyTimeout())
            if not self.is_open:
                return

    # -- the end ---------------------------------------------------------------------------------------------

    def _on_eof(self) -> None:
        self.session.receive_eof()
        error = self.session.error
        if error is not None and error.reason != TRUNCATED:
            self._break_malformed(error)
        else:
            ended = self.session.finished or CLOSED_BY_SERVER
            self._break(ConnectionLost(CLOSED_INSIDE_REPLY if error is not None else ended))

    def _break_malformed(self, error: RemoteProtocolError) -> None:
        kind = self.session.malformed_kind
        self._strays.report(kind, str(error), None, None, request_fails=bool(self._pending))
        text = kind if error.reason == kind else f"{kind}: {error.reason}"
        self._break(ConnectionLost(_AFTER_MALFORMED), oldest=CheckFailed(text))

    def _break(self, failure: RequestFailure, oldest: RequestFailure | None = None) -> None:
        """The connection is over. `oldest` is the failure of the request that waited longest, if it differs."""
        if not self.is_open:
            return
        if self._refusal is not None:
            failure, oldest = self._refused(self._refusal), None
        pending, self._pending = self._pending, {}
        self._dispose()
        if pending:
            failed = [(call, request_id, failure) for request_id, call in pending.items()]
            if oldest is not None:
                failed[0] = (failed[0][0], failed[0][1], oldest)
            # The breaker may be a caller itself: the others are woken by the loop.
            self._loop.run_callback(fail_all, failed)

    def _refused(self, notice: str) -> RequestFailure:
        """What a notice means for the requests under way: only a server that never began has surely done nothing."""
        if notice == self.session.turned_away and not self._answered_call_ns:
            return ServerRefused(notice)
        return ConnectionLost(notice)

    def _dispose(self) -> None:
        self.is_open = False
        self._readable.close()
        self._timer.close()
        self._stop_writing()
        self._unsent.clear()
        self._out.clear()
        self._sock.close()
        self._gone.set()

    def drop(self) -> None:
        """Close now, without listening on: for a connection whose state is unknown."""
        self._break(ConnectionLost("connection dropped"))

    def close(self, drain_s: float = DRAIN_S) -> None:
        """Say goodbye, listen on for at most `drain_s`, close. Requests still under way count as cancelled."""
        if not self.is_open:
            return
        try:
            self._say_goodbye()
            if drain_s > 0 and self.is_open:
                self._gone.wait(drain_s)
        finally:
            self._forget()

    def close_later(self, drain_s: float = DRAIN_S) -> None:
        """The same without waiting: the connection listens on by itself. It is not opened again."""
        if self.is_open:
            self._say_goodbye()
        if self.is_open:
            self._timer.close()
            self._timer = self._loop.timer(drain_s)
            self._timer.start(self._forget)

    def _say_goodbye(self) -> None:
        for request_id, call in list(self._pending.items()):
            self._cancel(request_id, call)
        farewell = self.session.closing()
        if farewell:
            self.send(farewell)
        if self.is_open and not self._unsent and self._tls is None:
            _half_close(self._sock)

    def _forget(self) -> None:
        self._strays.give_up(self._answered_call_ns)
        self._break(ConnectionLost("connection closed by the user"))


def _half_close(sock: "_socket.socket") -> None:
    try:
        sock.shutdown(1)  # SHUT_WR: the server sees the end and closes, after what it still had to say
    except OSError:
        pass  # it was faster
