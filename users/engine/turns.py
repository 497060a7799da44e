"""Whose turn it is: when a free place on a connection may send its next request.

A connection has as many places as `--depth` says. A place is free when its request has ended; `freed` then says
which requests may go at once (each by the time that it was meant to go) and keeps the others until their time
comes, when it calls `exchange.go`.

Closed load: a place's next request is meant to go when the last has ended and the think time is over. Open load:
when the next arrival of the schedule is due (`users.open_load`), whether or not a place is free then.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from records.recorder import recorder
from users.pace import never_thinks

if TYPE_CHECKING:
    from users.engine.exchange_life import ExchangeLife
    from users.engine.loop import Engine

_NS_PER_S = 1_000_000_000


class Turns(Protocol):
    """Decides when free places send."""

    #: Every freed place may go at once, meant to go when it was freed: the exchange need not ask.
    instant: bool

    def first(self, exchange: "ExchangeLife", places: int, now_ns: int) -> list[int]:
        """As `freed`, for the places of a user that begins: nobody thinks before the first request."""

    def freed(self, exchange: "ExchangeLife", places: int, now_ns: int) -> list[int]:
        """`places` have become free at `now_ns`. The times at which the requests that may go now were meant to go."""

    def stopped(self, exchange: "ExchangeLife", unsent: int) -> None:
        """The user is stopped: its places wait no longer, and `unsent` requests that might have gone did not."""


class ClosedTurns:
    """Think times: `wait_time` as Locust has it, a function of the user that gives seconds."""

    def __init__(self, engine: "Engine", think_s: Callable[[], float], instant: bool) -> None:
        self.instant = instant
        self._engine = engine
        self._think_s = think_s

    def first(self, exchange: "ExchangeLife", places: int, now_ns: int) -> list[int]:
        return [now_ns] * places

    def freed(self, exchange: "ExchangeLife", places: int, now_ns: int) -> list[int]:
        if self.instant:
            return [now_ns] * places
        at_once = []
        for _ in range(places):
            think_ns = int(self._think_s() * _NS_PER_S)
            if think_ns <= 0:
                at_once.append(now_ns)
            else:
                recorder.think_ns += think_ns
                self._engine.at(now_ns + think_ns, _Later(exchange, now_ns + think_ns))
        return at_once

    def stopped(self, exchange: "ExchangeLife", unsent: int) -> None:
        pass  # whoever still thinks is not heard any more (`Exchange.go`)


class _Later:
    __slots__ = ("_due_ns", "_exchange")

    def __init__(self, exchange: "ExchangeLife", due_ns: int) -> None:
        self._exchange = exchange
        self._due_ns = due_ns

    def __call__(self) -> None:
        self._exchange.go([(self._due_ns, None)])


class OpenTurns:
    """Arrivals of the process's open load, to whichever place is free; to the one that waits longest if several are."""

    instant = False

    def __init__(self, load: Any) -> None:
        self._load = load
        self._waiting: dict[ExchangeLife, set[Any]] = {}

    def freed(self, exchange: "ExchangeLife", places: int, now_ns: int) -> list[int]:
        due: list[int] = self._load.take(places)
        waiting = self._waiting.setdefault(exchange, set())
        for _ in range(places - len(due)):
            self._stand_in_line(exchange, waiting)
        return due

    first = freed

    def _stand_in_line(self, exchange: "ExchangeLife", waiting: set[Any]) -> None:
        def go(due_ns: int) -> None:
            waiting.discard(turn)
            exchange.go([(due_ns, None)])

        turn = self._load.when_due(go)
        waiting.add(turn)

    def stopped(self, exchange: "ExchangeLife", unsent: int) -> None:
        for turn in self._waiting.pop(exchange, ()):
            self._load.withdraw(turn)
        if unsent:
            self._load.give_back(unsent)


def turns_of(engine: "Engine", user: Any) -> Turns:
    """The open load of the user's run if it has one, or what its `wait_time` asks for."""
    load = getattr(user.environment, "open_load", None)
    if load is not None:
        return OpenTurns(load)
    return ClosedTurns(engine, user.wait_time, instant=never_thinks(type(user)))
