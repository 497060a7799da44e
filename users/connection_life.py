"""A connection's opening and its end: everything about it but the requests.

Each `open` dials anew with a fresh session; those that come while another one connects share its luck. A connection
ends in one of three ways: the server closes, something goes wrong (`_break`), or its user says goodbye and listens a
moment longer for what the server still has to say.
"""

from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent import get_hub
from gevent.event import Event
from greenlet import greenlet  # type: ignore[import-untyped]

from protocols.errors import RemoteProtocolError
from protocols.frames import TRUNCATED
from users.call import Call, fail_all
from users.due_timer import somebody_is_awaited
from users.failures import CheckFailed, ConnectionLost, RequestFailure, ServerRefused
from users.kernel_times import kernel_times
from users.opening import (
    CLOSED_BY_SERVER,
    CONNECT_DEADLINE_S,
    CONNECT_TIMEOUT_S,
    OnAttempt,
    Opener,
    open_once,
)
from users.request_ids import IdSpace, request_ids
from users.sending import Sender
from users.session import Session
from users.strays import OnStray, Strays
from users.transport import Endpoint, TlsFilter

if TYPE_CHECKING:
    import _socket

# At close: time for replies that were under way to show themselves. Most servers close at once in answer to ours.
DRAIN_S: Final = 0.25

REPLY_TIMEOUT_S: Final = 5.0

_CLOSED_INSIDE_REPLY: Final = "connection closed inside a reply"
AFTER_TIMEOUT: Final = "connection dropped after a timeout"
_AFTER_MALFORMED: Final = "connection dropped: another reply on it could not be read"

_READ: Final = 1  # libev's event mask
_NS_PER_S: Final = 1_000_000_000


class ConnectionLife(Sender):
    """Base of `users.connection.Connection`, which has the requests."""

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

    # -- what an owner defines -----------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        """The socket has something to read."""
        raise NotImplementedError

    def _dispatch(self, replies: Any) -> None:
        """Hand each reply to its caller."""
        raise NotImplementedError

    def _cancel(self, request_id: Any, call: Call) -> None:
        """Nobody waits any more for the reply to this request."""
        raise NotImplementedError

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
        self._readable.start(self._on_readable if self._timed is None else self._on_readable_in_time)
        self._gone.clear()
        self.is_open = True

    def _on_readable_in_time(self) -> None:
        """What has come can wait, for it is known when it came; a request that is about to be due cannot."""
        if not somebody_is_awaited():
            self._on_readable()

    def _read_by(self, raw: "_socket.socket") -> Callable[[int], bytes]:
        """Take this socket; what reads it. `_now` is when what was read last had come, or the present."""
        self._sock = raw
        self._sock_send = raw.send
        self._timed = timed = kernel_times(raw, self._kernel_times)
        self._now: Callable[[], int] = monotonic_ns if timed is None else timed.came
        return raw.recv if timed is None else timed.recv

    # -- the end ---------------------------------------------------------------------------------------------

    def _on_eof(self) -> None:
        self.session.receive_eof()
        error = self.session.error
        if error is not None and error.reason != TRUNCATED:
            self._break_malformed(error)
        else:
            ended = self.session.finished or CLOSED_BY_SERVER
            self._break(ConnectionLost(_CLOSED_INSIDE_REPLY if error is not None else ended))

    def _break_malformed(self, error: RemoteProtocolError) -> None:
        kind = self.session.malformed_kind
        self._strays.report(kind, str(error), None, None, request_fails=bool(self._pending))
        text = kind if error.reason == kind else f"{kind}: {error.reason}"
        self._break(ConnectionLost(_AFTER_MALFORMED), oldest=CheckFailed(text))

    def lose(self, failure: RequestFailure) -> None:
        self._break(failure)

    def _break(self, failure: RequestFailure, oldest: RequestFailure | None = None) -> None:
        """The connection is over. `oldest` is the failure of the request that waited longest, if it differs."""
        if not self.is_open:
            return
        if self._refusal is not None:
            failure, oldest = self._refused(self._refusal), None
        pending, self._pending = self._pending, {}
        self._dispose()
        self._fail_all(pending, failure, oldest)

    def _fail_all(self, pending: dict[Any, Call], failure: RequestFailure, oldest: RequestFailure | None) -> None:
        """Tell those who wait, the one that waited longest first."""
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

    def wait_for(self, event: Any, timeout_s: float) -> None:
        """Wait for an event of gevent's, but not longer than this connection lives."""
        gevent.wait([event, self._gone], timeout=timeout_s, count=1)

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
