"""One caller's place in a connection's pending map."""

from collections.abc import Sequence
from time import monotonic_ns
from typing import Any

from users.failures import RequestFailure


class Call:
    """Used again for each request of one caller: it has at most one under way."""

    __slots__ = ("call_ns", "error", "greenlet", "reply", "request_id", "return_ns", "unread_ns")

    def __init__(self) -> None:
        self.call_ns = 0  # just before the first byte
        self.return_ns = 0  # the reply was there: when it was read, or came if the kernel told (`users.kernel_times`)
        self.unread_ns = 0  # how much later it was read
        self.request_id: Any = None
        self.reply: Any = None
        self.error: RequestFailure | None = None
        self.greenlet: Any = None  # set while it waits

    def fail(self, request_id: Any, failure: RequestFailure) -> None:
        """Wake the caller with a failure of `request_id`; only from the event loop."""
        greenlet = self.greenlet
        # Killed meanwhile, and perhaps at its next request already.
        if greenlet is not None and self.request_id == request_id:
            self.greenlet = None
            self.error = failure
            self.return_ns, self.unread_ns = monotonic_ns(), 0
            greenlet.switch()


def fail_all(failed: Sequence[tuple[Call, Any, RequestFailure]]) -> None:
    """Wake many callers, each with its own failure; only from the event loop."""
    for call, request_id, failure in failed:
        call.fail(request_id, failure)
