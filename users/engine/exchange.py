"""The conversation of one connection in the engine: what to send next, and whether what came back is right.

An exchange is a `Connection` whose requests come from itself instead of from callers: opening, ids, sessions,
strays, and every way to end are those of the connection core, and checks are those of the protocol's client, so
that a reply is judged the same whichever way it was asked for. Here is the general case, which serves any client;
`users.engine.stream` and the protocols' own files are faster where they can be.

Places: a connection has `depth` of them. Each has a request under way, waits for its turn (`users.engine.turns`),
waits to try again, or is *ready*: it may send as soon as the connection is open.
"""

import os
from collections import deque
from functools import partial
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, ClassVar, Final

from gevent.event import Event
from gevent.lock import BoundedSemaphore

from users.client import BUSY_BACKOFF_MAX_S, BUSY_BACKOFF_S, BUSY_RETRIES, Busy, Client
from users.connection import Connection
from users.engine.descriptors import BY_DESCRIPTOR, through_tls
from users.engine.loop import Engine
from users.engine.request import Ready, Request
from users.engine.turns import Turns
from users.failures import ConnectFailed, ConnectionLost, ReplyTimeout, RequestFailure
from users.pace import REFUSED_PAUSE_S
from users.sending import MAX_UNSENT_BYTES
from users.session import Session
from users.statistics import Tally
from users.strays import Strays
from users.transport import TlsFilter

if TYPE_CHECKING:
    import _socket

__all__ = ["Exchange", "Ready", "Request"]

# Requests put into bytes in one go: some hundred microseconds of work, so that a deep pipeline is filled over
# several turns.
MAX_BURST: Final = 256
# Requests failed in one go: each goes through Locust's events, some ten microseconds. A deep pipeline that times out
# or loses its connection is failed over several turns.
MAX_FAILURES: Final = 64

# Connections that are being opened at the same time in one process; the others wait their turn. More would only
# wait in the server's queue, where their timeouts run.
MAX_DIALLING: Final = 128
_dialling = BoundedSemaphore(MAX_DIALLING)

AFTER_TIMEOUT: Final = "connection dropped after a timeout"

_NS_PER_S: Final = 1_000_000_000
_REFUSED_PAUSE_NS: Final = int(REFUSED_PAUSE_S * _NS_PER_S)


class Exchange(Connection):
    """Speaks for one user. `next_request` is the least that a subclass defines."""

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

    # -- what a protocol defines ---------------------------------------------------------------------------------

    def next_request(self, intended_ns: int) -> Request:
        """What to ask next."""
        raise NotImplementedError

    def encode(self, request: Request) -> tuple[Any, bytes, Any]:
        """As `Client._encode`: the id as the reply will name it, the bytes, what the check needs."""
        encoded: tuple[Any, bytes, Any] = self.client._encode(self.next_id(), request.what)
        return encoded

    def check(self, request: Request, reply: Any) -> RequestFailure | None:
        """As `Client._check`."""
        client = self.client
        client._call.request_id = request.request_id  # where it looks for the id of a violation
        failure: RequestFailure | None = client._check(request.name, reply, request.expected)
        return failure

    def retry_after_s(self, request: Request, failure: RequestFailure) -> float | None:
        """How long to wait before this request is tried again; None: it has failed."""
        if isinstance(failure, Busy) and request.tries < BUSY_RETRIES:
            return min(BUSY_BACKOFF_S * 2.0**request.tries, BUSY_BACKOFF_MAX_S)
        return None

    def succeeded(self, request: Request, return_ns: int) -> None:
        """Count a request that was answered as it should be."""
        self.told_breaker(1, request.caller)
        self.tally(request.name, request.length).add(request.intended_ns, request.first_call_ns, return_ns)

    def told_breaker(self, successes: int, caller: Any = None) -> None:
        """Tell the circuit breaker, if there is one, of requests that ended well."""
        if self._breaker is not None:
            for _ in range(successes):
                self._breaker.succeeded(caller)

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
        new = [request for _, request in self._ready if _is_new(request)]
        if self._breaker is not None:
            for request in new:
                self._breaker.cancelled(request and request.caller)
        self._ready = [place for place in self._ready if not _is_new(place[1])]
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
        self._engine.add(self, self._fd, None if by_descriptor else recv, leaves_some=tls is not None)
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

    def _break(self, failure: RequestFailure, oldest: RequestFailure | None = None) -> None:
        if not self.is_open:
            return
        if self._refusal is not None:
            failure, oldest = self._refused(self._refusal), None
        pending: dict[Any, Any] = self._pending
        self._pending = {}
        self._dispose()
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

    # -- requests ------------------------------------------------------------------------------------------------

    def go(self, ready: list[Ready]) -> None:
        """These places may send; called outside of `receive`."""
        if self._is_stopping:
            ready = [place for place in ready if not _is_new(place[1])]
        self._ready += self._permitted(ready)
        if not self.is_open:
            if self._ready:
                self.wanted.set()
            return
        out = self._outgoing()
        if out:
            self.send(out)

    def _permitted(self, ready: list[Ready]) -> list[Ready]:
        """Those that the circuit breaker does not refuse; the others' places are free again in a moment."""
        if self._breaker is None:
            return ready
        permitted: list[Ready] = []
        for place in ready:
            caller = object()
            if place[1] is None and self._breaker.refuses(caller):
                now_ns = monotonic_ns() + _REFUSED_PAUSE_NS
                self._engine.at(now_ns, partial(self._free_and_go, now_ns))
                continue
            if self._breaker.tries(caller):
                request = self.next_request(place[0])
                request.caller = caller
                permitted.append((place[0], request))
            else:
                permitted.append(place)
        return permitted

    def _free_and_go(self, now_ns: int) -> None:
        self._free(1, now_ns)
        self.go([])

    def _outgoing(self) -> bytes:
        """The bytes of the requests that may go now."""
        ready = self._ready
        if not ready or not self.is_open or len(self._unsent) > MAX_UNSENT_BYTES:
            return b""
        if len(ready) > MAX_BURST:
            ready, self._ready = ready[:MAX_BURST], ready[MAX_BURST:]
            self._engine.at(0, self._first_requests)
        else:
            self._ready = []
        return self._issue(ready)

    def _issue(self, ready: list[Ready]) -> bytes:
        pending, encode = self._pending, self.encode
        pieces = []
        requests = []
        for intended_ns, waiting in ready:
            request = self.next_request(intended_ns) if waiting is None else waiting
            request.request_id, data, request.expected = encode(request)
            pending[request.request_id] = request  # type: ignore[assignment]  # has what a Call has of times
            requests.append(request)
            pieces.append(data)
        call_ns = monotonic_ns()
        for request in requests:
            request.call_ns = call_ns
            request.first_call_ns = request.first_call_ns or call_ns
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # -- replies -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> bytes:
        """What one recv brought. Returns what to send: the next requests, and what the protocol itself says."""
        replies = self._receive(data)
        if replies:
            self._settle(replies, self._now())
        if not self.is_open:
            return b""
        if self.session.error is not None:
            self._break_malformed(self.session.error)
            return b""
        chatter = b""
        if self._output is not None:
            chatter = self._output()
            if self.session.finished:
                if chatter:
                    self.send(chatter)
                self._break(ConnectionLost(self.session.finished))
                return b""
        return chatter + self._outgoing() if chatter else self._outgoing()

    def _settle(self, replies: Any, now_ns: int) -> None:
        """Match, check and record replies; places that become free are ready or wait for their turn."""
        pending: dict[Any, Any] = self._pending
        freed = 0
        for reply in replies:
            request = pending.pop(reply.request_id, None)
            if request is None:
                request = self._owner(reply)
            if type(request) is not Request:  # nobody's, or of one who was stopped meanwhile
                continue
            self._answered_call_ns = request.call_ns
            failure = self.check(request, reply)
            if failure is None:
                self.succeeded(request, now_ns)
                freed += 1
            else:
                self._failed(request, failure, now_ns)
        if freed:
            self._free(freed, now_ns)

    def _failed(self, request: Request, failure: RequestFailure, now_ns: int) -> None:
        delay_s = None if self._is_stopping else self.retry_after_s(request, failure)
        if delay_s is None:
            times = (request.intended_ns, request.first_call_ns, now_ns)
            self.recording.failed(request.name, *times, failure, caller=request.caller)
            self._free(1, now_ns)
            return
        request.tries += 1
        self._backing_off.add(request)

        def again() -> None:
            if request in self._backing_off:  # not cancelled meanwhile
                self._backing_off.remove(request)
                self.go([(request.intended_ns, request)])

        self._engine.at(now_ns + int(delay_s * _NS_PER_S), again)

    def _free(self, places: int, now_ns: int) -> None:
        if self._is_stopping:
            self._finish_if_idle()
            return
        self._ready += self.next_turns(places, now_ns)
        if self._ready and not self.is_open:
            self.wanted.set()

    def next_turns(self, places: int, now_ns: int) -> list[Ready]:
        """Of `places` that have become free, those that may send now."""
        return self._permitted([(intended_ns, None) for intended_ns in self._turns.freed(self, places, now_ns)])

    # -- timeouts ------------------------------------------------------------------------------------------------

    def is_overdue(self, now_ns: int) -> bool:
        """Whether the oldest request has waited too long."""
        return bool(self._pending) and next(iter(self._pending.values())).call_ns + self._timeout_ns <= now_ns

    def sweep(self, now_ns: int) -> None:
        """Fail what has waited too long."""
        pending: dict[Any, Any] = self._pending
        failures = 0
        while pending:
            request_id, request = next(iter(pending.items()))
            if request.call_ns + self._timeout_ns > now_ns:
                break
            if not self._by_id:
                self._break(ConnectionLost(AFTER_TIMEOUT), oldest=ReplyTimeout())
                return
            if failures == MAX_FAILURES:
                self._engine.at(0, self._sweep_on)
                break
            failures += 1
            del pending[request_id]
            if type(request) is Request:
                self._strays.overdue(request_id, request.call_ns, self._answered_call_ns)
                self._failed(request, ReplyTimeout(), now_ns)
        if self._ready and self.is_open:
            self.go([])

    def _sweep_on(self) -> None:
        if self.is_open:
            self.sweep(monotonic_ns())

    def tally(self, name: str, length: int) -> Tally:
        """Where requests of this kind are counted."""
        tally = self._tallies.get((name, length))
        if tally is None:
            tally = self.recording.tally(name, length)
            self._tallies[name, length] = tally
        return tally


def _is_new(request: Request | None) -> bool:
    """Whether it has never been sent nor tried to be: a user that is stopped does not begin it."""
    return request is None or not (request.first_call_ns or request.tries)
