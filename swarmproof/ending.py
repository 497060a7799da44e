"""How a command ends: exit codes, and signals as exceptions so that every `finally` runs.

Ctrl-C raises KeyboardInterrupt as ever; SIGTERM and SIGHUP raise Terminated. While cleaning up, further signals wait.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

EXIT_VALID = 0
EXIT_INVALID = 1
EXIT_UNKNOWN = 2
EXIT_HARNESS = 3  # could not be started, could not judge, a user's mistake
EXIT_THRESHOLD = 4
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_TERMINATED = 143  # 128 + SIGTERM

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminated(BaseException):
    """SIGTERM or SIGHUP: stop now, but clean up."""


def install_signal_handlers() -> None:
    """Turn SIGTERM and SIGHUP into Terminated, in the main thread."""

    def raise_terminated(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, raise_terminated)
        signal.signal(signal.SIGHUP, raise_terminated)
        # A shell starts background jobs with SIGINT ignored; a supervisor that is told to stop should stop.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Within this block signals are ignored: cleaning up takes seconds, and half of it helps nobody."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
