"""`--breaker`: a circuit breaker around every call of a user (seed 002; the state machine is pybreaker's).

    CLOSED     --5 failures in a row--> OPEN        calls are refused, not made
    OPEN       --60 s-->                HALF_OPEN   three calls at a time may try
    HALF_OPEN  --2 successes-->         CLOSED
    HALF_OPEN  --1 failure-->           OPEN

One breaker for each address and process. Refused calls are counted apart: they are no requests, so they are in no
table of Locust's. Every transition, with time and reason, is recorded (`records.breakers`).
"""

import logging
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

import pybreaker
from gevent import getcurrent
from locust import events

from records.recorder import recorder
from users import options

logger = logging.getLogger(__name__)

FAILURES_TO_OPEN: Final = 5
RESET_S: Final = 60.0
HALF_OPEN_CALLS: Final = 3
SUCCESSES_TO_CLOSE: Final = 2
_NS_PER_S: Final = 1_000_000_000

CLOSED, OPEN, HALF_OPEN = pybreaker.STATE_CLOSED, pybreaker.STATE_OPEN, pybreaker.STATE_HALF_OPEN

# (from, to, why, how many calls had been refused by then)
OnTransition = Callable[[str, str, str, int], None]

options.OPTIONS["breaker"] = {
    "action": "store_true",
    "default": False,
    "help": "refuse calls after 5 failures in a row, try again after --breaker-reset seconds",
}
options.OPTIONS["breaker_reset"] = {
    "type": options.OPTIONS["timeout"]["type"],
    "default": RESET_S,
    "help": "seconds that an open circuit breaker refuses calls",
}
options.offer("breaker", "breaker_reset")


class _CallFailed(Exception):
    """What pybreaker counts."""


class Breaker:
    """Asked before each call (`refuses`), told of its outcome. For greenlets of one thread.

    `caller` is whoever makes the call: the current greenlet, which makes one at a time, unless it is given.
    """

    def __init__(
        self,
        on_transition: OnTransition,
        reset_s: float = RESET_S,
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self.refused = 0
        self._on_transition = on_transition
        self._reset_ns = int(reset_s * _NS_PER_S)
        self._clock_ns = clock_ns
        self._opened_ns = 0
        self._trials: set[object] = set()  # the callers that were let through since it is half open
        self._reason = ""
        self._machine = pybreaker.CircuitBreaker(
            fail_max=FAILURES_TO_OPEN,
            reset_timeout=reset_s,
            success_threshold=SUCCESSES_TO_CLOSE,
            listeners=[_Listener(self._changed)],
            throw_new_error_on_trip=False,
        )

    @property
    def state(self) -> str:
        """`closed`, `open` or `half-open`."""
        state: str = self._machine.current_state
        return state

    def refuses(self, caller: object = None) -> bool:
        """Whether the next call must not be made; counts it then. If not, its outcome must be told."""
        state = self.state
        if state == CLOSED:
            return False
        if state == OPEN and self._clock_ns() - self._opened_ns >= self._reset_ns:
            self._reason = f"{self._reset_ns / _NS_PER_S:g} s are over"
            self._machine.half_open()
            state = HALF_OPEN
        if state == HALF_OPEN and len(self._trials) < HALF_OPEN_CALLS:
            self._trials.add(caller or getcurrent())
            return False
        self.refused += 1
        return True

    def tries(self, caller: object) -> bool:
        """Whether this caller's call under way is one of those that may try while it is half open."""
        return caller in self._trials

    def succeeded(self, caller: object = None) -> None:
        if self._machine.fail_counter == 0 and self.state == CLOSED:
            return  # nothing changes by it; nearly every call of a run ends here
        if self._counts(caller):
            self._reason = f"{SUCCESSES_TO_CLOSE} calls succeeded"
            self._machine.call(lambda: None)

    def failed(self, reason: str, caller: object = None) -> None:
        """`reason`: stable text, as of a RequestFailure."""
        if not self._counts(caller):
            return
        self._reason = reason
        try:
            self._machine.call(_fail)
        except (_CallFailed, pybreaker.CircuitBreakerError):
            pass

    def cancelled(self, caller: object = None) -> None:
        """The caller was stopped: neither success nor failure."""
        self._counts(caller)

    def _counts(self, caller: object) -> bool:
        """Whether an outcome says something: one of a call that was made before the breaker opened does not."""
        state = self.state
        if state == HALF_OPEN:
            caller = caller or getcurrent()
            if caller not in self._trials:
                return False
            self._trials.remove(caller)
            return True
        return state == CLOSED

    def _changed(self, old: str, new: str) -> None:
        self._trials.clear()
        if new == OPEN:
            self._opened_ns = self._clock_ns()
        self._on_transition(old, new, self._reason, self.refused)


def _fail() -> None:
    raise _CallFailed


class _Listener(pybreaker.CircuitBreakerListener):
    def __init__(self, changed: Callable[[str, str], None]) -> None:
        self._changed = changed

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        if old_state is not None:
            self._changed(old_state.name, new_state.name)


class RecordedBreaker(Breaker):
    """A breaker whose transitions and refusals are on file."""

    def __init__(self, address: str, reset_s: float) -> None:
        super().__init__(self._note, reset_s)
        self.address = address

    def refuses(self, caller: object = None) -> bool:
        if not super().refuses(caller):
            return False
        recorder.breakers.refused(self.address, self.state, self.refused)
        return True

    def _note(self, old: str, new: str, reason: str, refused: int) -> None:
        logger.warning("circuit breaker of %s: %s -> %s (%s; %d refused)", self.address, old, new, reason, refused)
        try:
            recorder.breakers.changed(self.address, old, new, reason, refused)
        except OSError as error:
            logger.error("cannot record the circuit breaker: %s", error)


_breakers: dict[tuple[int, str], RecordedBreaker] = {}


def breaker_of(environment: Any, address: str) -> RecordedBreaker | None:
    """The breaker of this process for `address`; None without `--breaker`."""
    parsed = environment.parsed_options
    if not getattr(parsed, "breaker", False):
        return None
    key = (id(environment), address)
    if key not in _breakers:
        reset_s = getattr(parsed, "breaker_reset", RESET_S)
        _breakers[key] = RecordedBreaker(address, float(reset_s))
    return _breakers[key]


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def forget_the_last_run(environment: Any, **_: Any) -> None:
    """A run that is started again from the web UI begins with its breakers closed and nothing refused."""
    for key in [key for key in _breakers if key[0] == id(environment)]:
        del _breakers[key]
