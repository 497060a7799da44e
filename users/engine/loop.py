"""The engine's loop: one greenlet per worker, all connections.

    hub --wakes--> engine: poll(0); for every ready socket: read -> express.renew(), or exchange.receive() -> write

The hub watches one descriptor, the engine's own epoll. When anything is ready it switches to the engine's greenlet,
which asks the epoll what it is and serves each socket with one read, one call (check, record, next requests) and one
write. What came as foretold is the business of an express (`users.engine.express`), anything else of the connection's
exchange (parse all, then the same). No greenlet switch, watcher or timer is paid for a request.

It never works longer than TURN_NS before the hub has its turn: heartbeats, the web UI and stops wait that long at
most. Timeouts and lost connections come by the thousand when a server goes: they take as many turns as they need. At
full throttle (closed load without think time) the next reply is never far: there a turn waits a moment for it in the
epoll itself, and spares the way through the hub for each handful of replies. Timeouts are found by a sweep over all
connections several times a second, delays kept in one heap.
"""

import heapq
import os
import ssl
import sys
from collections.abc import Callable
from itertools import count
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent import get_hub

from users.due_timer import DueTimer, somebody_is_awaited
from users.engine.columns import Columns
from users.engine.descriptors import RECV_BYTES, raise_descriptor_limit
from users.engine.readiness import END, READ, WRITE, Readiness, best_readiness
from users.failures import ConnectionLost
from users.opening import loss

if TYPE_CHECKING:
    from users.engine.exchange_life import ExchangeLife

    #: How a connection is read (None: by its descriptor), whose it is, whether a short read may have left something.
    _Wire = tuple[Callable[[int], bytes] | None, ExchangeLife, bool]

# The longest stretch without the hub's turn, give or take one socket and the sends of one poll. Locust's heartbeats are
# a second apart; the web UI feels prompt below 50 ms; and three milliseconds hold some 400 round trips: the hub's turn
# costs them little.
TURN_NS: Final = 3_000_000
# At full throttle: how long a turn waits for the next reply. The shortest that epoll knows.
LINGER_S: Final = 0.001
# How often timeouts are looked for. So many connections are looked at each time, or a
# quarter of them if that is more: timeouts are late by 0.1 s at most, or by 0.4 s with more connections than that.
# Where many are overdue this takes several turns, half of each: in the other half replies are read.
TICK_S: Final = 0.1
MIN_SWEEP: Final = 200

_NS_PER_S: Final = 1_000_000_000


_yield_processor: Callable[[], None] = getattr(os, "sched_yield", lambda: None)


class Engine:
    """Drives any number of exchanges of the thread that it was made in."""

    def __init__(self, new_readiness: Callable[[Callable[[], None]], Readiness] = best_readiness) -> None:
        raise_descriptor_limit()
        hub = get_hub()
        self._loop = hub.loop
        self._hub_switch = hub.switch
        self._new_readiness = new_readiness
        self._readiness: Readiness | None = None
        self.columns = Columns()
        self._wires: dict[int, _Wire] = {}
        self._unstamped: set[int] = set()  # those that are read by the clock of this process
        self._paced = 0  # exchanges that send by the clock
        self._delays: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = count()
        self._alarm: DueTimer | None = None
        self._alarm_ns = 0  # 0: not set
        self._tick_ns = 0
        self._ticker: Any = None
        self._is_waiting = False
        # What the readiness has told of and is not read: the time of a turn was over, or there was more than one read.
        self._left: list[tuple[int, int]] = []
        self._to_sweep: list[_Wire] = []
        self._sweeps_due = 0  # of those, how many before the next tick
        self._soon: Any = None  # a timer
        self._full_turn_in: int | None = None  # the round of the event loop in which a turn took all its time
        self._greenlet: Any = None
        self.longest_turn_ns = 0

    def __len__(self) -> int:
        return len(self._wires)

    # -- exchanges ---------------------------------------------------------------------------------------------

    def add(
        self,
        exchange: "ExchangeLife",
        fd: int,
        recv: Callable[[int], bytes] | None,
        *,
        leaves_some: bool = False,
        is_stamped: bool = False,
    ) -> None:
        """Serve this open exchange from now on. Without `recv` its descriptor is read.

        `leaves_some`: a read that gives little may have left something nevertheless (TLS). `is_stamped`: the kernel
        says when what is read came.
        """
        if self._readiness is None:
            self._start()
        assert self._readiness is not None
        self.columns.reserve(fd)
        self._wires[fd] = (recv, exchange, leaves_some)
        if not is_stamped:
            self._unstamped.add(fd)
        self._paced += not exchange.at_full_throttle
        self._readiness.add(fd)

    def remove(self, fd: int) -> None:
        """Its socket is about to be closed."""
        wire = self._wires.pop(fd, None)
        self._unstamped.discard(fd)
        if wire is not None and self._readiness is not None:
            self._paced -= not wire[1].at_full_throttle
            self._readiness.remove(fd)
            if not self._wires and not self._delays:
                self._stop()

    def watch_writing(self, fd: int, wanted: bool) -> None:
        """Tell the exchange when its socket takes bytes again (`on_writable`)."""
        if self._readiness is not None and fd in self._wires:
            self._readiness.watch_writing(fd, wanted)

    def _start(self) -> None:
        self._readiness = self._new_readiness(self._wake_to_read)
        self._left = []
        self._alarm, self._alarm_ns = DueTimer(self._wake), 0
        self._ticker = self._loop.timer(TICK_S, TICK_S)
        self._ticker.start(self._wake)
        self._tick_ns = monotonic_ns() + int(TICK_S * _NS_PER_S)
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(self._run)

    def _stop(self) -> None:
        """Nothing is left to do: hold nothing of the hub's. Called also from within a turn."""
        assert self._readiness is not None
        self._readiness.close()
        self._readiness = None
        self._left = []
        self._to_sweep = []
        self._sweeps_due = 0
        self._ticker.close()
        if self._soon is not None:
            self._soon.close()
            self._soon = None
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
        # The greenlet must see that it is not needed any more. By the hub: the caller wants to go on here.
        self._loop.run_callback(self._wake)

    # -- delays ------------------------------------------------------------------------------------------------

    def at(self, due_ns: int, action: Callable[[], None]) -> None:
        """Call `action` at that time (monotonic)."""
        heapq.heappush(self._delays, (due_ns, next(self._serial), action))
        if self._readiness is None:
            self._start()
        if not self._alarm_ns or due_ns < self._alarm_ns:
            self._set_alarm(due_ns)

    def _set_alarm(self, due_ns: int) -> None:
        assert self._alarm is not None
        self._alarm_ns = max(due_ns, 1)
        self._alarm.set(due_ns)

    def _run_delays(self, now_ns: int, deadline_ns: int) -> None:
        delays = self._delays
        while delays and delays[0][0] <= now_ns:
            heapq.heappop(delays)[2]()
            if monotonic_ns() >= deadline_ns:
                break
        if self._readiness is None:
            return
        if delays:
            self._set_alarm(delays[0][0])
            return
        self._alarm_ns = 0
        if not self._wires:
            self._stop()

    # -- turns -------------------------------------------------------------------------------------------------

    def _wake_to_read(self) -> None:
        """What has come can wait, if it is known when it came; a request that is about to be due cannot."""
        if self._unstamped or not somebody_is_awaited():
            self._wake()

    def _wake(self) -> None:
        # While an exchange's own code waits for something (a listener of Locust's events that blocks), the engine
        # is not waiting here, and must not be woken there.
        if not self._is_waiting:
            return
        if self._full_turn_in is not None and self._full_turn_in == self._round():
            self._come_back()  # a timer and the readiness may both have called; the others' turn is between two of ours
            return
        self._is_waiting = False
        self._greenlet.switch()

    def _run(self) -> None:
        while self._readiness is not None:
            started_ns = monotonic_ns()
            try:
                self._turn(started_ns)
            except Exception:
                # A defect of ours or of a listener: told, and the other connections go on.
                get_hub().print_exception(self, *sys.exc_info())
            spent_ns = monotonic_ns() - started_ns
            self.longest_turn_ns = max(self.longest_turn_ns, spent_ns)
            self._full_turn_in = self._round() if spent_ns >= TURN_NS else None
            if self._readiness is not None:
                if self._left or self._sweeps_due:
                    self._come_back()
                self._is_waiting = True
                self._hub_switch()

    def _round(self) -> int | None:
        """Which round of the event loop this is; None where it does not count them (libuv says -1)."""
        number: int = getattr(self._loop, "iteration", -1)
        return number if number >= 0 else None

    def _come_back(self) -> None:
        """Have another turn soon. A timer, not a callback: gevent runs many of those before it looks at descriptors."""
        if self._soon is not None:
            self._soon.close()
        self._soon = self._loop.timer(0.0)
        self._soon.start(self._wake)

    def _turn(self, now_ns: int) -> None:
        """Serve what is ready, for a bounded time."""
        deadline_ns = now_ns + TURN_NS
        if self._delays:
            if self._delays[0][0] <= now_ns:
                self._run_delays(now_ns, deadline_ns)
            elif self._alarm_ns <= now_ns:  # a timer of milliseconds may ring before its time, and rings once
                self._set_alarm(self._delays[0][0])
        if now_ns >= self._tick_ns:
            self._tick(now_ns)
        if self._sweeps_due:
            self._sweep(now_ns, now_ns + TURN_NS // 2)
        lingers = not self._paced
        is_lingering = False  # not before the first replies: the engine may have been woken for something else
        while self._readiness is not None:
            ready = self._readiness.poll(0)
            if self._left:
                ready, self._left = self._left + ready, []
            if not ready and is_lingering:
                # Whoever shares this processor, perhaps the server itself, goes first: several replies gather
                # meanwhile, and sending them wakes nobody.
                _yield_processor()
                ready = self._readiness.poll(LINGER_S)
            is_lingering = lingers
            if not ready or self._serve_all(ready, deadline_ns):
                return

    def _serve_all(self, ready: list[tuple[int, int]], deadline_ns: int) -> bool:
        """Serve what one poll has told of. Whether the turn is over; what it did not come to is left for the next."""
        wires, dues, expresses, read = self._wires, self.columns.due, self.columns.expresses, os.read
        # What expresses send goes out together: a server that sleeps is woken once and finds work for a while.
        outgoing: list[tuple[int, bytes]] = []
        rest = iter(ready)
        try:
            for fd, mask in rest:
                due = dues[fd]
                if due and mask == READ:
                    try:
                        data = read(fd, len(due) + 1)  # if there is more, it is not what was due
                    except BlockingIOError:
                        continue
                    except OSError as error:
                        self._send_all(outgoing)
                        wires[fd][1].lose(ConnectionLost(loss(error)))
                    else:
                        if data == due:
                            now_ns = monotonic_ns()
                            out = expresses[fd].renew(fd, now_ns)  # type: ignore[union-attr]
                            if out:
                                outgoing.append((fd, out))
                                if now_ns >= deadline_ns:
                                    return True
                                continue
                            self._send_all(outgoing)
                            aboard: Any = wires[fd][1]
                            aboard.answered_unforetold(now_ns)
                        else:
                            self._send_all(outgoing)
                            if len(data) > len(due):
                                self._take_more(wires[fd][1], data)
                            else:
                                self._take(wires[fd][1], data)
                else:
                    if outgoing:
                        self._send_all(outgoing)
                    self._serve(fd, mask)
                if monotonic_ns() >= deadline_ns:
                    return True
        finally:
            self._left += rest
            self._send_all(outgoing)
        return False

    def _send_all(self, outgoing: list[tuple[int, bytes]]) -> None:
        """Send what expresses have made, before anything is done that might close a connection. Nothing here can."""
        write, call_ns, batch = os.write, self.columns.call_ns, outgoing[:]
        outgoing.clear()
        for fd, out in batch:
            call_ns[fd] = monotonic_ns()
            try:
                sent = write(fd, out)
            except OSError:
                sent = 0  # what is wrong will be found when it is tried again
            if sent != len(out):
                self._wires[fd][1].keep(out[sent:])

    def _serve(self, fd: int, mask: int) -> None:
        """Whatever is ready there."""
        wire = self._wires.get(fd)
        if wire is None:  # closed by an earlier one of this batch
            return
        recv, exchange, leaves_some = wire
        if mask & WRITE:
            exchange.on_writable()
        if not mask & READ or not exchange.is_open:
            return
        try:
            data = os.read(fd, RECV_BYTES) if recv is None else recv(RECV_BYTES)
        except BlockingIOError:
            pass
        except ssl.SSLError:
            exchange.lose(ConnectionLost("TLS failed"))
        except OSError as error:
            exchange.lose(ConnectionLost(loss(error)))
        else:
            if data and (mask & END or leaves_some or len(data) == RECV_BYTES):
                self._left.append((fd, mask & ~WRITE))  # there may be more
            self._take(exchange, data)

    @staticmethod
    def _take(exchange: "ExchangeLife", data: bytes) -> None:
        if data:
            out = exchange.receive(data)
            if out:
                exchange.send(out)
        else:
            exchange.on_eof()

    def _take_more(self, exchange: "ExchangeLife", data: bytes) -> None:
        """More has come than was due: with all that is behind it, it is for the exchange to judge.

        All of it: a second acknowledgement that is read later would look like that of the next request.
        """
        fd, more, failure = exchange.descriptor, None, None
        try:
            more = os.read(fd, RECV_BYTES)
        except BlockingIOError:
            pass
        except OSError as error:
            failure = ConnectionLost(loss(error))
        if more is not None:
            self._left.append((fd, READ))  # there may be still more, or the end
        self._take(exchange, data + (more or b""))
        if failure is not None:
            exchange.lose(failure)

    def _tick(self, now_ns: int) -> None:
        self._tick_ns = now_ns + int(TICK_S * _NS_PER_S)
        if not self._to_sweep:
            self._to_sweep = list(self._wires.values())
        self._sweeps_due = min(len(self._to_sweep), max(MIN_SWEEP, len(self._wires) // 4))

    def _sweep(self, now_ns: int, deadline_ns: int) -> None:
        """Look for timeouts, at one connection at least; the next turn goes on where this one stops, and comes soon."""
        while self._sweeps_due:
            self._sweeps_due -= 1
            wire = self._to_sweep.pop()
            exchange = wire[1]
            if exchange.is_open and exchange.is_overdue(now_ns):
                self._read_late(wire)
            if exchange.is_open:
                exchange.sweep(now_ns)
            if self._sweeps_due and monotonic_ns() >= deadline_ns:
                return

    def _read_late(self, wire: "_Wire") -> None:
        """After a pause of this process the reply may be here already, and is not overdue: the engine is."""
        recv, exchange, _ = wire
        try:
            data = os.read(exchange.descriptor, RECV_BYTES) if recv is None else recv(RECV_BYTES)
        except OSError:
            return  # what is wrong will be found when its turn to be read comes
        self._take(exchange, data)


_engines: dict[int, Engine] = {}


def engine_of_this_thread() -> Engine:
    """The one engine of the current hub."""
    hub = get_hub()
    engine = _engines.get(id(hub))
    if engine is None:
        engine = _engines[id(hub)] = Engine()
    return engine
