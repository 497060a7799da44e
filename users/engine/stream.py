"""The fast way through an exchange: replies that can be foretold to the byte.

An echo server must answer each request with certain bytes and no others, and most servers answer in order. So the
engine keeps the bytes that are due instead of a map of requests: one comparison of what a recv brought with what is
due checks every field of sixteen replies at once, and more strictly than any parser. Requests that were sent
together and are answered together are one *batch*: they share their three times and are recorded in one stroke.

The moment that anything else arrives (another order, a fragment, a ping, a wrong byte) or does not arrive in time,
everything under way is *settled down* into the connection's pending map, and the bytes go to the session's parser
and the client's checks as they would without all this (`users.engine.exchange`): those remain the judges of what is
wrong. After a while without trouble the connection is tried as a stream again: when nothing is under way. Only a
connection at full throttle whose server has answered in order is made to wait for that, a moment; elsewhere it would
hold up requests whose time has come, for as long as the slowest reply takes.
"""

from collections import deque
from time import monotonic_ns
from typing import Any, NamedTuple

from users.engine.descriptors import BY_DESCRIPTOR, RECV_BYTES
from users.engine.exchange import Exchange, Ready, Request
from users.engine.express import Express

# Replies that the parser handles before the stream is tried again; doubles each time that it fails at once, so that
# a server that answers in another order, which is its right, is not tried for ever.
FIRST_TRIAL_REPLIES = 64
MAX_TRIAL_REPLIES = 1 << 20


class Batch(NamedTuple):
    """Requests that were sent together. `notes` is whatever the protocol needs to know of each.

    `due` is empty for one whose reply cannot be foretold (`take_unforetold`).
    """

    due: bytes
    places: int
    intended_ns: int
    call_ns: int
    notes: Any


class StreamExchange(Exchange):
    """Subclasses define `unmake` and set `_express` and `unit_bytes`; `streams` False turns all of this off."""

    __slots__ = (
        "_answered",
        "_call_ns",
        "_due",
        "_express",
        "_intended_ns",
        "_is_aboard",
        "_is_streaming",
        "_later",
        "_matched",
        "_next_trial",
        "_notes",
        "_places",
        "_reorders",
        "_trial",
        "streams",
        "unit_bytes",
    )

    #: Bytes of each reply that is due.
    unit_bytes: int
    #: Whether replies can be foretold, with these options.
    streams: bool
    #: Makes and records the requests of all connections of this kind.
    _express: Express

    def __init__(self, *arguments: Any) -> None:
        self.streams = True
        super().__init__(*arguments)

    def take_unforetold(self, data: bytes, start: int, now_ns: int) -> int:
        """Judge the reply to the one request of the oldest batch, which begins at `start`, and record it if it is good.

        The number of bytes that it takes; 0 when it is not whole, or anything but good.
        """
        return 0

    def whole(self, matched_bytes: int) -> int:
        """How many replies of the oldest batch are whole when so many bytes of it have arrived."""
        return matched_bytes // self.unit_bytes

    def start_of(self, place: int) -> int:
        """Where in the oldest batch's due bytes the reply to this one begins."""
        return place * self.unit_bytes

    def unmake(self, due: bytes, notes: Any) -> list[Request]:
        """The requests of one batch, with request_id, what and expected set as `_issue` would."""
        raise NotImplementedError

    def _reset(self) -> None:
        super()._reset()
        # The oldest batch under way, its fields apart.
        self._due = b""
        self._places = 0
        self._intended_ns = self._call_ns = 0
        self._notes: Any = None
        self._matched = 0  # bytes of `_due` that have arrived
        self._answered = 0  # places of it that are settled
        self._later: deque[Batch] = deque()
        self._is_streaming = self.streams
        self._reorders = False  # since the last trial the server has answered in another order, which is its right
        self._trial = 0
        self._next_trial = FIRST_TRIAL_REPLIES
        self._is_aboard = False  # what is under way stands in the engine's columns (`users.engine.express`)

    def opened(self) -> None:
        self._express.opened(self._fd, self)

    # -- on the express and off ----------------------------------------------------------------------------------

    def _board(self) -> None:
        """From now on the express serves this connection, if there is nothing to it but one batch under way."""
        if (
            self._instant
            and self._due
            and not (self._later or self._matched or self._ready or self._writing)
            and self._tls is None
            and self._timed is None
            and BY_DESCRIPTOR
            and len(self._due) < RECV_BYTES  # it comes in one piece, if anything does
        ):
            columns, fd = self._columns, self._fd
            columns.expresses[fd] = self._express
            columns.places[fd] = self._places
            columns.intended_ns[fd] = self._intended_ns
            columns.call_ns[fd] = self._call_ns
            columns.due[fd] = self._due
            self._is_aboard = True

    def _get_off(self) -> None:
        """Serve itself again."""
        if not self._is_aboard:
            return
        self._is_aboard = False
        columns, fd = self._columns, self._fd
        self._due, columns.due[fd] = columns.due[fd], b""
        columns.expresses[fd] = None
        self._call_ns = columns.call_ns[fd]
        self._notes = self._express.notes(fd, self._places)
        if self._intended_ns != columns.intended_ns[fd]:
            # Others were answered meanwhile. When the last of them had been sent is not known: before its answer, which
            # is when this one was meant to go.
            self._intended_ns = self._answered_call_ns = columns.intended_ns[fd]

    def answered_unforetold(self, return_ns: int) -> None:
        """The express has recorded all that was due; what comes next cannot be foretold."""
        self._get_off()
        self._answered_call_ns = self._call_ns
        places = self._places
        self._take_next()
        self.go([(return_ns, None)] * places)

    # -- a stream that comes in other portions than it went --------------------------------------------------------

    def receive(self, data: bytes) -> bytes:
        self._get_off()
        if not self._is_streaming:
            self._trial -= 1
            return self.receive_apart(data)
        out = self._receive_in_pieces(data)
        self._board()
        return out

    def receive_apart(self, data: bytes) -> bytes:
        """As `receive`, while nothing is foretold."""
        return super().receive(data)

    def _receive_in_pieces(self, data: bytes) -> bytes:
        now_ns = self._now()
        start, freed = 0, 0
        while start < len(data):
            due = self._due
            if not due:
                taken = self.take_unforetold(data, start, now_ns) if self._places else 0
                if not taken:
                    return self._receive_otherwise(data[start:], freed, now_ns)
                start += taken
                freed += 1
                self._answered_call_ns = self._call_ns
                self._take_next()
                continue
            left = len(due) - self._matched
            piece = data if start == 0 and len(data) <= left else data[start : start + left]
            if not due.startswith(piece, self._matched):
                return self._receive_otherwise(data[start:], freed, now_ns)
            self._matched += len(piece)
            start += len(piece)
            freed += self._settle_matched(now_ns)
        if not self._is_stopping:
            if self._instant:
                if freed:
                    self._ready += [(now_ns, None)] * freed
            elif freed:
                self._ready += self.next_turns(freed, now_ns)
            return self._outgoing()
        self._finish_if_idle()
        return b""

    def _settle_matched(self, now_ns: int) -> int:
        """Record the replies of the oldest batch that are complete now."""
        whole = self._places if self._matched == len(self._due) else self.whole(self._matched)
        places = whole - self._answered
        if places:
            notes = self._notes[self._answered : whole] if self._notes else None
            self.told_breaker(places)
            # A clock that was set, or replies to what was asked before, must not end a request before it began.
            return_ns = max(now_ns, self._call_ns)
            self._express.record(self._fd, notes, places, (self._intended_ns, self._call_ns, return_ns))
            self._answered_call_ns = self._call_ns
            self._answered = whole
        if whole == self._places:
            self._take_next()
        return places

    def _take_next(self) -> None:
        self._matched = self._answered = 0
        if self._later:
            self._take(self._later.popleft())
        else:
            self._due, self._places = b"", 0

    def _take(self, batch: Batch) -> None:
        self._due, self._places, self._intended_ns, self._call_ns, self._notes = batch

    def _receive_otherwise(self, data: bytes, freed: int, now_ns: int) -> bytes:
        """Not what was due: from here on the parser reads."""
        self.settle_down()
        if freed:
            self._free(freed, now_ns)
        return self.receive_apart(data)

    # -- between stream and map ------------------------------------------------------------------------------------

    def settle_down(self) -> None:
        self._get_off()
        if not self._is_streaming:
            return
        self._is_streaming = False
        self._try_later()
        start = self.start_of(self._answered) if self._matched else 0
        if self._matched > start:
            # The parser must know of the reply that has begun to arrive.
            self._receive(self._due[start : self._matched])
        batches = [Batch(self._due, self._places, self._intended_ns, self._call_ns, self._notes), *self._later]
        pending: dict[Any, Any] = self._pending
        answered = self._answered
        self._due, self._places, self._matched, self._answered = b"", 0, 0, 0
        self._later.clear()
        for batch in batches:
            if not batch.places:
                continue
            for request in self.unmake(batch.due, batch.notes)[answered:]:
                request.intended_ns = batch.intended_ns
                request.call_ns = request.first_call_ns = batch.call_ns
                pending[request.request_id] = request
            answered = 0

    def was_disturbed_by_us(self) -> None:
        """What the server said between its replies had been asked for (a pong): the next trial need not wait longer."""
        self._next_trial = FIRST_TRIAL_REPLIES

    def at_boundary(self) -> bool:
        """Whether the parser has nothing of an unfinished reply, so that it can be left out."""
        session: Any = self.session
        return bool(session.codec.pending_bytes == 0)

    def _outgoing(self) -> bytes:
        if not self._is_streaming and self.streams and self._trial <= 0 and self._ready and not self._is_stopping:
            # Time to try the stream again.
            if not self._pending:
                if self.at_boundary() and all(request is None for _, request in self._ready):
                    self._is_streaming = True
            elif self._instant and not self._reorders:
                return b""  # nothing new goes out until all that is under way has come back
            elif self._instant:
                self._try_later()
                self._reorders = False
        return super()._outgoing()

    def _settle(self, replies: Any, now_ns: int) -> None:
        pending = self._pending
        if self._by_id and not self._reorders and pending:
            first = replies[0].request_id
            self._reorders = first in pending and first != next(iter(pending))
        super()._settle(replies, now_ns)

    def _try_later(self) -> None:
        self._trial = self._next_trial
        self._next_trial = min(self._next_trial * 2, MAX_TRIAL_REPLIES)

    def _issue(self, ready: list[Ready]) -> bytes:
        if not self._is_streaming:
            return super()._issue(ready)
        if any(request is not None for _, request in ready):
            self.settle_down()
            return super()._issue(ready)
        self._get_off()
        express, fd = self._express, self._fd
        pieces = []
        start = 0
        while start < len(ready):
            intended_ns = ready[start][0]
            end = start + 1
            while end < len(ready) and ready[end][0] == intended_ns:
                end += 1
            if express.mixes:
                end = start + express.together(fd, end - start)
            out, due = express.make(fd, end - start)
            batch = Batch(due, end - start, intended_ns, monotonic_ns(), express.notes(fd, end - start))
            if self._places:
                self._later.append(batch)
            else:
                self._take(batch)
            pieces.append(out)
            start = end
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def is_overdue(self, now_ns: int) -> bool:
        if self._is_streaming:
            return bool(self._places) and self._oldest_call_ns + self._timeout_ns <= now_ns
        return super().is_overdue(now_ns)

    @property
    def _oldest_call_ns(self) -> int:
        call_ns: int = self._columns.call_ns[self._fd] if self._is_aboard else self._call_ns
        return call_ns

    def sweep(self, now_ns: int) -> None:
        if self._is_streaming:
            if not self._places or self._oldest_call_ns + self._timeout_ns > now_ns:
                if self._ready:
                    self.go([])
                return
            self.settle_down()
        super().sweep(now_ns)

    def watch_writing(self, wanted: bool) -> None:
        self._get_off()
        super().watch_writing(wanted)

    def _dispose(self) -> None:
        self._get_off()
        super()._dispose()

    def _finish_if_idle(self) -> None:
        if not self._places:
            super()._finish_if_idle()
