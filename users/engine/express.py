"""Connections at full throttle whose replies come as foretold, served without their exchanges.

An *express* makes and records the requests of one kind (a protocol, with its options) on all connections that carry
it. What differs between them stands in the engine's columns, by descriptor. An exchange *boards* when nothing is
under way on it but one batch whose reply is known to the byte, and is *taken off* by whatever else happens:
another byte, half a reply, a full socket, a timeout, the end of its user (`users.engine.stream`).
"""

from typing import Any, ClassVar

from users.engine.columns import Columns
from users.request_ids import request_ids

#: When requests were meant to go, when they went, when they were answered: monotonic, in ns.
Times = tuple[int, int, int]


class Express:
    """Subclasses define `make` and `record`; the hot ones write `renew` out."""

    __slots__ = ("_call_ns", "_due", "_id_mask", "_id_step", "_ids", "_intended_ns", "_places")

    #: Whether only some of the replies can be foretold: then `together` is asked before each `make`.
    mixes: ClassVar[bool] = False

    def __init__(self, columns: Columns) -> None:
        self._due = columns.due
        self._ids = columns.ids
        self._id_step, self._id_mask = request_ids.step, request_ids.mask
        self._places = columns.places
        self._intended_ns = columns.intended_ns
        self._call_ns = columns.call_ns

    def opened(self, fd: int, exchange: Any) -> None:
        """A connection of this kind begins: write down what is its own."""

    def make(self, fd: int, count: int) -> tuple[bytes, bytes]:
        """`count` new requests: what to send, and what is due; that is empty for one that cannot be foretold."""
        raise NotImplementedError

    def notes(self, fd: int, count: int) -> Any:
        """What is needed to know of each of the `count` requests that were made last, besides the due bytes.

        Asked before anything else is made for this connection.
        """
        return None

    def record(self, fd: int, notes: Any, count: int, times: Times) -> None:
        """`count` requests with these notes were answered as they should be."""
        raise NotImplementedError

    def together(self, fd: int, count: int) -> int:
        """How many of the next `count` requests may be made in one batch."""
        return count

    def renew(self, fd: int, return_ns: int) -> bytes:
        """All that was due has come: record it, make as many new requests. What to send now, when `call_ns` is set.

        Nothing if what comes next cannot be foretold: that is made by the exchange (`answered_unforetold`).
        """
        return self._renew(fd, self.notes(fd, self._places[fd]), return_ns)

    def _renew(self, fd: int, notes: Any, return_ns: int) -> bytes:
        count = self._places[fd]
        self.record(fd, notes, count, (self._intended_ns[fd], self._call_ns[fd], return_ns))
        out, self._due[fd] = self.make(fd, count)
        self._intended_ns[fd] = return_ns
        return out
