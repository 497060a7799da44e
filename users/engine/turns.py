"""Whose turn it is: when a free place on a connection may send its next request.

A connection has as many places as `--depth` says. A place is free when its request has ended; `freed` then says
which requests may go at once (each by the time that it was meant to go) and keeps the others until their time
comes, when it calls `exchange.go`.

Closed load: a place's next request is meant to go when the last has ended and the think time is over. This is the
one seam for open load: an `OpenTurns` with the same two members keeps the free places of all connections in a
queue and hands them the arrivals of an absolute schedule.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from users.engine.exchange import Exchange
    from users.engine.loop import Engine

_NS_PER_S = 1_000_000_000


class Turns(Protocol):
    """Decides when free places send."""

    #: Every freed place may go at once, meant to go when it was freed: the exchange need not ask.
    instant: bool

    def freed(self, exchange: "Exchange", places: int, now_ns: int) -> list[int]:
        """`places` have become free at `now_ns`. The times at which the requests that may go now were meant to go."""


class ClosedTurns:
    """Think times: `wait_time` as Locust has it, a function of the user that gives seconds."""

    def __init__(self, engine: "Engine", think_s: Callable[[], float], instant: bool) -> None:
        self.instant = instant
        self._engine = engine
        self._think_s = think_s

    def freed(self, exchange: "Exchange", places: int, now_ns: int) -> list[int]:
        if self.instant:
            return [now_ns] * places
        at_once = []
        for _ in range(places):
            think_ns = int(self._think_s() * _NS_PER_S)
            if think_ns <= 0:
                at_once.append(now_ns)
            else:
                self._engine.at(now_ns + think_ns, _Later(exchange, now_ns + think_ns))
        return at_once


class _Later:
    __slots__ = ("_due_ns", "_exchange")

    def __init__(self, exchange: "Exchange", due_ns: int) -> None:
        self._exchange = exchange
        self._due_ns = due_ns

    def __call__(self) -> None:
        self._exchange.go([(self._due_ns, None)])


def closed_turns(engine: "Engine", user: Any) -> ClosedTurns:
    """What the user's `wait_time` asks for."""
    wait_time = type(user).wait_time
    return ClosedTurns(engine, user.wait_time, instant=_is_constant_zero(wait_time))


def _is_constant_zero(wait_time: Any) -> bool:
    """Whether it is Locust's `constant(0)`: its number is in the closure of the function that `constant` made."""
    if not getattr(wait_time, "__qualname__", "").startswith("constant.<locals>"):
        return False
    cells = [cell.cell_contents for cell in wait_time.__closure__ or ()]
    return cells == [0]
