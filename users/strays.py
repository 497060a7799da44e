"""Replies that no request waits for, and requests that no reply came for: what each of them means.

    cancelled before it was answered      nothing: its user was stopped
    timed out before it was answered      "late reply", informational
    answered before                       "duplicate reply"
    issued by another connection          "reply on the wrong connection"
    never issued                          "reply with an unknown id"
    overdue, while later ones were
    answered and the connection was fine  "missing reply"

Ids tell by themselves which connection issued them (see users.request_ids), so only cancelled and overdue ones
are remembered, and no more than MAX_ABANDONED of each.
"""

from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

from records.violations import CROSSED, DUPLICATE, LATE, MISSING
from users.request_ids import IdSpace
from users.session import Session, Stray

# Timed-out and cancelled requests remembered per connection.
MAX_ABANDONED: Final = 1_024

OnStray = Callable[[Stray], None]


class Strays:
    """The memory of one connection. `lane` is the lane of its ids, `label` its name in records."""

    __slots__ = ("_cancelled", "_ids", "_on_stray", "_overdue", "label", "lane", "session")

    def __init__(self, session: Session, ids: IdSpace, lane: int, label: str, on_stray: OnStray | None) -> None:
        self.session = session
        self.lane = lane
        self.label = label
        self._ids = ids
        self._on_stray = on_stray
        self._cancelled: dict[Any, None] = {}
        self._overdue: dict[Any, int] = {}  # request id -> call_ns

    def cancelled(self, request_id: Any) -> None:
        """A reply to this request is of no interest any more."""
        if len(self._cancelled) >= MAX_ABANDONED:
            del self._cancelled[next(iter(self._cancelled))]
        self._cancelled[request_id] = None

    def overdue(self, request_id: Any, call_ns: int, answered_call_ns: int) -> None:
        """This request timed out. `answered_call_ns`: when the request that was answered last had been sent."""
        if len(self._overdue) >= MAX_ABANDONED:
            self._missing(next(iter(self._overdue)), answered_call_ns)
        self._overdue[request_id] = call_ns

    def explain(self, reply: Any, last_id: int, has_pending: bool) -> bool:
        """Report a reply that no request waits for. True: it is the oldest pending request's after all.

        `last_id` is the id that the connection issued last.
        """
        session = self.session
        request_id = reply.request_id
        if request_id in self._cancelled:
            del self._cancelled[request_id]
            return False
        if request_id in self._overdue:
            late_ms = (monotonic_ns() - self._overdue.pop(request_id)) / 1e6
            self.report(LATE, f"{late_ms:.0f} ms after its request", request_id, reply)
            return False
        number = session.identify(request_id)
        origin = None if number is None else self._ids.origin(number)
        last = self._ids.origin(last_id)
        if origin is not None and origin.lane != self.lane:
            self.report(CROSSED, f"its request went out on connection #{origin.lane}", request_id, reply)
        elif origin is not None and last is not None and origin.number <= last.number:
            self.report(DUPLICATE, "its request had been answered before", request_id, reply)
        elif session.answers_in_order and has_pending:
            return True
        else:
            why = "no request was under way" if request_id is None else "no request of this process has this id"
            self.report(session.unasked_kind, why, request_id, reply)
        return False

    def give_up(self, answered_call_ns: int) -> None:
        """The connection closes in good order: what is overdue now will not come."""
        for request_id in list(self._overdue):
            self._missing(request_id, answered_call_ns)

    def _missing(self, request_id: Any, answered_call_ns: int) -> None:
        # Without a later request that was answered the server may just have been slow, or gone.
        if self._overdue.pop(request_id) < answered_call_ns and self.session.answers_always:
            overtaken = "a later request on its connection was answered"
            self.report(MISSING, overtaken, request_id, None, request_fails=True)

    def report(self, kind: str, detail: str, request_id: Any, reply: Any, *, request_fails: bool = False) -> None:
        """Tell whoever records it. `request_fails`: a request fails, or has failed, with it."""
        if self._on_stray is not None:
            example = b"" if reply is None else self.session.example(reply)
            self._on_stray(Stray(kind, detail, request_id, example, self.label, request_fails))
