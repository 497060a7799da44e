"""The conversation of one connection in the engine: what to send next, and whether what came back is right.

An exchange is a `Connection` whose requests come from itself instead of from callers: opening, ids, sessions,
strays, and every way to end are those of the connection core, and checks are those of the protocol's client, so
that a reply is judged the same whichever way it was asked for. Here is the general case, which serves any client;
`users.engine.stream` and the protocols' own files are faster where they can be.

Places: a connection has `depth` of them. Each has a request under way, waits for its turn (`users.engine.turns`),
waits to try again, or is *ready*: it may send as soon as the connection is open.
"""

from functools import partial
from time import monotonic_ns
from typing import Any, Final

from users.client import BUSY_BACKOFF_MAX_S, BUSY_BACKOFF_S, BUSY_RETRIES, Busy
from users.connection_life import AFTER_TIMEOUT
from users.engine.exchange_life import MAX_FAILURES, ExchangeLife, is_new
from users.engine.request import Ready, Request
from users.failures import ConnectionLost, ReplyTimeout, RequestFailure
from users.pace import REFUSED_PAUSE_S
from users.sending import MAX_UNSENT_BYTES
from users.statistics import Tally

__all__ = ["Exchange", "Ready", "Request"]

# Requests put into bytes in one go: some hundred microseconds of work, so that a deep pipeline is filled over
# several turns.
MAX_BURST: Final = 256

_NS_PER_S: Final = 1_000_000_000
_REFUSED_PAUSE_NS: Final = int(REFUSED_PAUSE_S * _NS_PER_S)


class Exchange(ExchangeLife):
    """Speaks for one user. `next_request` is the least that a subclass defines."""

    __slots__ = ()

    # -- what a protocol defines ---------------------------------------------------------------------------------

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

    # -- requests ------------------------------------------------------------------------------------------------

    def go(self, ready: list[Ready]) -> None:
        if self._is_stopping:
            ready = [place for place in ready if not is_new(place[1])]
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
            return_ns = max(now_ns, request.call_ns)
            failure = self.check(request, reply)
            if failure is None:
                self.succeeded(request, return_ns)
                freed += 1
            else:
                self._failed(request, failure, return_ns)
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
        return bool(self._pending) and next(iter(self._pending.values())).call_ns + self._timeout_ns <= now_ns

    def sweep(self, now_ns: int) -> None:
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
