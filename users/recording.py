"""Everything that is written down about a request, in one place.

Each ended request goes to Locust (its `request` event: the tables, the web UI, the exit code) and to our own
recorder (three timestamps with full resolution; the outcome). While nobody but Locust's statistics listens to the
event, those that ended well reach both in batches (`users.statistics`), with the same numbers. What broke the
protocol also goes to the violation log, with ids and bytes that have no place in Locust's tables.

| how it ended                         | Locust                    | latency recorder | violations |
|---|---|---|---|
| as it should                         | success                   | OK               |            |
| a check failed                       | failure, by kind          | FAILED           | yes        |
| refused, lost, timed out             | failure, by reason        | FAILED / UNKNOWN |            |
| its user was stopped meanwhile       | nothing                   | CANCELLED        |            |
| a reply that no request waited for   | an error, no request      |                  | yes        |
"""

import time
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

from records import violations
from records.latency import CANCELLED, FAILED, OK, UNKNOWN
from records.recorder import recorder
from users.breaker import breaker_of
from users.failures import RequestFailure
from users.session import Stray
from users.statistics import Statistics, Tally, statistics_of

_NS_PER_MS: Final = 1e6
_NS_PER_S: Final = 1e9
# Locust's start_time is seconds since the epoch; ours are monotonic. One offset for the process: the table of
# slow requests needs no better.
_EPOCH_OFFSET_S: Final = time.time() - monotonic_ns() / _NS_PER_S

CONNECT: Final = "connect"  # an attempt to connect is part of some call
UNASKED: Final = "unasked reply"


class Recording:
    """The pen of one client: `request_type` and `url` are the same for all that it records."""

    def __init__(self, environment: Any, request_type: str, url: str, context: Callable[[], dict[str, Any]]) -> None:
        self.request_type = request_type
        self._environment = environment
        self._url = url
        self._context = context
        self._fire = environment.events.request.fire
        self._listeners: list[Any] = environment.events.request._handlers
        self._locust_alone = [listener for listener in self._listeners if _is_locusts_own(listener, environment)]
        self._pens: dict[str, tuple[Tally, Callable[[int], None], Callable[[int], None], Callable[[int], None]]] = {}
        self._record = recorder.latency.record
        self._operations: dict[str, str] = {}
        self.breaker = breaker_of(environment, url)

    def refuses(self) -> bool:
        """Whether the circuit breaker refuses the call that is about to be made; the refusal is counted then.

        If not, the call must end in `succeeded`, `failed` or `cancelled`.
        """
        return self.breaker is not None and self.breaker.refuses()

    def operation(self, name: str) -> str:
        """What the histograms call it: "envelope echo"."""
        operation = self._operations.get(name)
        if operation is None:
            operation = self._operations[name] = f"{self.request_type} {name}"
        return operation

    @property
    def statistics(self) -> Statistics:
        """Where this environment's requests are counted in batches."""
        return statistics_of(self._environment)

    def tally(self, name: str, length: int) -> Tally:
        """The batch of operation `name` with responses of this size."""
        return self.statistics.tally(self.operation(name), self.request_type, name, length)

    def _take_pen(self, name: str) -> Any:
        tally = self.statistics.tally(self.operation(name), self.request_type, name, 0, singly=True)
        pen = self._pens[name] = (tally, tally.intended.append, tally.call.append, tally.returned.append)
        return pen

    def succeeded(
        self, name: str, intended_ns: int, call_ns: int, return_ns: int, *, length: int = 0, response: Any = None
    ) -> None:
        """A request that was answered as it should be."""
        if self.breaker is not None and name != CONNECT:
            self.breaker.succeeded()
        if self._listeners == self._locust_alone:
            tally, add_intended, add_call, add_returned = self._pens.get(name) or self._take_pen(name)
            tally.lengths_sum += length
            add_intended(intended_ns)
            add_call(call_ns)
            add_returned(return_ns)
            return
        self._record(self._operations.get(name) or self.operation(name), intended_ns, call_ns, return_ns, OK)
        self._fire(
            request_type=self.request_type,
            name=name,
            response_time=(return_ns - intended_ns) / _NS_PER_MS,
            response_length=length,
            response=response,
            context=self._context(),
            exception=None,
            start_time=_EPOCH_OFFSET_S + call_ns / _NS_PER_S,
            url=self._url,
        )

    def failed(
        self,
        name: str,
        intended_ns: int,
        call_ns: int,
        return_ns: int,
        failure: RequestFailure,
        *,
        unknown: bool = False,
        caller: object = None,
    ) -> None:
        """A request that was not; `unknown` when the server may have acted on it all the same.

        `caller`: who asked the circuit breaker, if not the current greenlet.
        """
        if self.breaker is not None and name != CONNECT:
            self.breaker.failed(failure.text, caller)
        call_ns = call_ns or intended_ns
        outcome = UNKNOWN if unknown else FAILED
        self._record(self.operation(name), intended_ns, call_ns, return_ns, outcome)
        self._fire(
            request_type=self.request_type,
            name=name,
            response_time=(return_ns - intended_ns) / _NS_PER_MS,
            response_length=0,
            response=None,
            context=self._context(),
            exception=failure,
            start_time=_EPOCH_OFFSET_S + call_ns / _NS_PER_S,
            url=self._url,
        )

    def cancelled(self, name: str, intended_ns: int, *, caller: object = None) -> None:
        """A request whose user was stopped before it ended."""
        if self.breaker is not None:
            self.breaker.cancelled(caller)
        self._record(self.operation(name), intended_ns, intended_ns, monotonic_ns(), CANCELLED)

    def violation(
        self,
        kind: str,
        name: str,
        detail: str,
        *,
        request_id: Any,
        connection: str,
        expected: bytes = b"",
        got: bytes = b"",
    ) -> None:
        """The particulars of a reply that broke the protocol."""
        if request_id is not None and not isinstance(request_id, (int, str)):
            request_id = repr(request_id)
        recorder.violations.add(
            kind,
            self.operation(name),
            detail,
            request_id=request_id,
            connection=connection,
            expected=expected,
            got=got,
        )

    def stray(self, stray: Stray) -> None:
        """Something that belongs to no request of its own: an error in Locust's table, so that its exit code tells.

        A late reply is told in the records only: it is no fault of the server's.
        """
        self.violation(
            stray.kind,
            UNASKED,
            stray.detail,
            request_id=stray.request_id,
            connection=stray.connection,
            got=stray.got,
        )
        if not stray.request_fails and stray.kind not in violations.INFORMATIONAL:
            self._environment.stats.log_error(self.request_type, UNASKED, stray.kind)


def _is_locusts_own(listener: Any, environment: Any) -> bool:
    """Whether this listener of the request event is the runner's own, which feeds Locust's statistics."""
    if getattr(listener, "__module__", "") != "locust.runners":
        return False
    cells = [cell.cell_contents for cell in getattr(listener, "__closure__", None) or ()]
    return environment.runner is not None and environment.runner in cells
