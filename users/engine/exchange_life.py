"""An exchange's beginning and end, and its connection in the engine: everything about it but the requests.

What was under way when a connection is lost is failed in portions: each failure goes through Locust's events, and
those of a deep pipeline would hold up the other connections.
"""

import os
from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, ClassVar, Final

from gevent.event import Event
from gevent.lock import BoundedSemaphore

from users.client import Client
from users.connection import Connection
from users.engine.descriptors import BY_DESCRIPTOR, through_tls
from users.engine.loop import Engine
from users.engine.request import Ready, Request
from users.engine.turns import Turns
from users.failures import ConnectFailed, RequestFailure
from users.session import Session
from users.statistics import Tally
from users.strays import Strays
from users.transport import TlsFilter

if TYPE_CHECKING:
    import _socket

# Requests failed in one go: each takes some ten microseconds.
MAX_FAILURES: Final = 64

# Connections that are being opened at the same time in one process; the others wait their turn. More would only
# wait in the server's queue, where their timeouts run.
MAX_DIALLING: Final = 128
_dialling = BoundedSemaphore(MAX_DIALLING)


class ExchangeLife(Connection):
    """Base of `users.engine.exchange.Exchange`, which has the requests."""

    #: What a record says that could not be sent because there was no connection.
    first_name: ClassVar[str] = "request"

    __slots__ = (
        "_backing_off",
        "_breaker",
        "_columns",
        "_depth",
        "_engine",
        "_fd",
        "_instant",
        "_is_stopping",
        "_lost",
        "_ready",
        "_tallies",
        "_turns",
        "at_full_throttle",
        "client",
        "finished",
        "recording",
        "wanted",
    )

    def __init__(self, engine: Engine, client: Client, depth: int, turns: Turns) -> None:
        given = client.connection
        super().__init__(
            given.endpoint,
            client._session,
            timeout_s=given.timeout_s,
            on_stray=given._on_stray,
            kernel_times=given._kernel_times,
        )
        self.client: Any = client
        self.recording = client.recording
        self.wanted = Event()  # set while a place is ready and there is no connection
        self.finished = Event()  # set when no place has work left, after `finish`
        self._engine = engine
        self._columns = engine.columns
        self._turns = turns
        self._breaker = self.recording.breaker
        self._instant = self.at_full_throttle = turns.instant and self._breaker is None
        self._depth = depth
        self._ready: list[Ready] = []
        self._backing_off: set[Request] = set()
        # Requests whose connection is gone and which are still to be told so: (request, why, since when).
        self._lost: deque[tuple[Request, RequestFailure, int]] = deque()
        self._is_stopping = False
        self._tallies: dict[tuple[str, int], Tally] = {}
        self._fd = -1

    # -- what an exchange defines --------------------------------------------------------------------------------

    def next_request(self, intended_ns: int) -> Request:
        """What to ask next."""
        raise NotImplementedError

    def go(self, ready: list[Ready]) -> None:
        """These places may send; called outside of `receive`."""
        raise NotImplementedError

    def receive(self, data: bytes) -> bytes:
        """What one recv brought. Returns what to send: the next requests, and what the protocol itself says."""
        raise NotImplementedError

    def is_overdue(self, now_ns: int) -> bool:
        """Whether the oldest request has waited too long."""
        raise NotImplementedError

    def sweep(self, now_ns: int) -> None:
        """Fail what has waited too long."""
        raise NotImplementedError

    def _settle(self, replies: Any, now_ns: int) -> None:
        """Match, check and record replies."""
        raise NotImplementedError

    def _failed(self, request: Request, failure: RequestFailure, now_ns: int) -> None:
        """Record a failure, or try again later."""
        raise NotImplementedError

    # -- its life ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """All places are free, as of now."""
        now_ns = monotonic_ns()
        self.wanted.set()  # connect now, also if the first request is due later
        self.go([(intended_ns, None) for intended_ns in self._turns.first(self, self._depth, now_ns)])

    def connect(self) -> None:
        """Open, trying again for a while; a failure is that of every ready place. In the user's greenlet."""
        try:
            self.client._open()
        except ConnectFailed as failure:
            self.refused(failure)

    def refused(self, failure: ConnectFailed) -> None:
        """No connection could be made: what wanted to go has failed."""
        ready, self._ready = self._ready, []
        self.wanted.clear()
        now_ns = monotonic_ns()
        self._lost += [(request or self.next_request(intended_ns), failure, now_ns) for intended_ns, request in ready]
        self._fail_lost()

    def wait_until_gone(self) -> None:
        """Sleep while the connection lives, or until there is something to connect for, or all is finished."""
        if self.is_open:
            self._gone.wait()
        elif not self.finished.is_set():
            self.wanted.wait()

    def finish(self) -> None:
        """Send nothing new; `finished` is set when what is under way has ended."""
        self._is_stopping = True
        self._instant = False
        self.settle_down()
        new = [request for _, request in self._ready if is_new(request)]
        if self._breaker is not None:
            for request in new:
                self._breaker.cancelled(request and request.caller)
        self._ready = [place for place in self._ready if not is_new(place[1])]
        self._turns.stopped(self, len(new))
        self._finish_if_idle()

    def _finish_if_idle(self) -> None:
        under_way = self._pending or self._backing_off or self._ready or self._lost
        if self._is_stopping and not under_way:
            self.finished.set()
            self.wanted.set()
            self._gone.set()

    def cancel_all(self) -> None:
        """The user is stopped now: whatever is under way counts as neither success nor failure."""
        self._is_stopping = True
        self._instant = False
        self.settle_down()
        while self._lost:
            self._fail_some()
        pending: dict[Any, Any] = self._pending
        stopped = [(request.intended_ns, request) for request in pending.values() if type(request) is Request]
        stopped += [(request.intended_ns, request) for request in self._backing_off]
        for intended_ns, request in [*stopped, *self._ready]:
            name, caller = (self.first_name, None) if request is None else (request.name, request.caller)
            self.recording.cancelled(name, intended_ns, caller=caller)
        self._turns.stopped(self, 0)
        self._ready = []
        self._backing_off.clear()
        self.recording.statistics.flush()

    def settle_down(self) -> None:
        """Bring everything that is under way into the pending map."""

    def _dial(self, timeout_s: float) -> None:
        # Thousands of users that connect at once would otherwise all be late together, and time out.
        with _dialling:
            super()._dial(timeout_s)

    # -- the connection ------------------------------------------------------------------------------------------

    def _start(self, raw: "_socket.socket", tls: TlsFilter | None, session: Session) -> None:
        self._reset()
        self.session = session
        self._receive = session.receive_data
        self._output = session.output if type(session).output is not Session.output else None
        self._by_id = session.matches_by_id
        self._tls = tls
        self._fd = raw.fileno()
        self._columns.reserve(self._fd)
        self._lane, self._columns.ids[self._fd] = self._ids.new_lane()
        self._strays = Strays(session, self._ids, self._lane, self.label, self._on_stray)
        recv = self._read_by(raw)
        self._writing = False
        self._gone.clear()
        self.wanted.clear()
        self.is_open = True
        self.opened()
        if tls is not None:
            recv = through_tls(recv, tls)
        by_descriptor = BY_DESCRIPTOR and tls is None and self._timed is None
        self._engine.add(
            self,
            self._fd,
            None if by_descriptor else recv,
            leaves_some=tls is not None,
            is_stamped=self._timed is not None,
        )
        self._engine.at(0, self._first_requests)

    def opened(self) -> None:
        """A fresh session begins."""

    def _first_requests(self) -> None:
        # From the engine's greenlet, like all other requests.
        self.go([])

    def next_id(self) -> int:
        if not self.is_open:
            return super().next_id()
        ids, fd = self._columns.ids, self._fd
        request_id: int = (ids[fd] + self._id_step) & self._id_mask
        ids[fd] = request_id
        return request_id

    @property
    def last_id(self) -> int:
        last_id: int = self._columns.ids[self._fd] if self.is_open else self._id
        return last_id

    @property
    def descriptor(self) -> int:
        """Of its open socket."""
        return self._fd

    def write(self, data: bytes | bytearray) -> int:
        return os.write(self._fd, data) if BY_DESCRIPTOR else self._sock_send(data)

    def _dispatch(self, replies: Any) -> None:
        self._settle(replies, self._now())

    def watch_writing(self, wanted: bool) -> None:
        self._engine.watch_writing(self._fd, wanted)

    def written(self) -> None:
        self.go([])

    def on_eof(self) -> None:
        """The server closed."""
        self.settle_down()
        self._on_eof()

    def lose(self, failure: RequestFailure) -> None:
        """The connection is over."""
        self.settle_down()
        self._break(failure)

    def _fail_all(self, pending: dict[Any, Any], failure: RequestFailure, oldest: RequestFailure | None) -> None:
        now_ns = monotonic_ns()
        for request in pending.values():
            if type(request) is Request:  # not the empty place of a cancelled one
                self._lost.append((request, oldest or failure, now_ns))
            oldest = None
        self._fail_lost()

    def _fail_lost(self) -> None:
        """Fail the requests that were lost, those beyond MAX_FAILURES in later turns."""
        self._fail_some()
        if self._lost:
            self._engine.at(0, self._fail_lost_later)
        else:
            self._finish_if_idle()

    def _fail_lost_later(self) -> None:
        self._fail_lost()
        self.go([])  # there may be a new connection already

    def _fail_some(self) -> None:
        lost = self._lost
        for _ in range(min(len(lost), MAX_FAILURES)):
            if lost:  # whoever hears of a failure may have this called again
                self._failed(*lost.popleft())

    def _dispose(self) -> None:
        self._id = self.last_id
        self.is_open = False
        self._writing = False
        self._engine.remove(self._fd)
        self._fd = -1  # the kernel gives the number away again: whoever still has it would write to somebody else
        self._unsent.clear()
        self._sock.close()
        self._gone.set()
        if self._ready:
            self.wanted.set()

    def _say_goodbye(self) -> None:
        self.settle_down()
        super()._say_goodbye()


def is_new(request: Request | None) -> bool:
    """Whether it has never been sent nor tried to be: a user that is stopped does not begin it."""
    return request is None or not (request.first_call_ns or request.tries)
