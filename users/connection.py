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
from time import monotonic_ns
from typing import Any, Final

import gevent
from gevent import getcurrent

from users.call import Call
from users.connection_life import AFTER_TIMEOUT, ConnectionLife
from users.failures import ConnectionLost, ReplyTimeout
from users.opening import CLOSED_BY_SERVER, loss
from users.sending import MAX_UNSENT_BYTES

__all__ = ["MAX_UNSENT_BYTES", "Call", "Connection"]

# One recv: the kernel's default receive buffer holds about twice this much; larger replies take several.
RECV_BYTES: Final = 65_536

_WRITE: Final = 2  # libev's event mask
_NS_PER_S: Final = 1_000_000_000


class Connection(ConnectionLife):
    """A connection to `endpoint` that comes back: each `open` dials anew with a fresh session.

    `timeout_s` bounds the wait for each reply. With `kernel_times` the kernel says when one came, if it can. Used by
    any number of greenlets of one thread.
    """

    __slots__ = ()

    @property
    def in_flight(self) -> int:
        return len(self._pending)

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

    def was_disturbed_by_us(self) -> None:
        """The server answered what is no request (a ping); for those who foretell replies."""

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
                call.unread_ns = max(0, timed.unread_ns - (call.return_ns - now_ns))
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
                self._break(ConnectionLost(AFTER_TIMEOUT), oldest=ReplyTimeout())
                return
            del self._pending[request_id]
            self._strays.overdue(request_id, call.call_ns, self._answered_call_ns)
            call.fail(request_id, ReplyTimeout())
            if not self.is_open:
                return
