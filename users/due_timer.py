"""A timer for an absolute monotonic time, as exact as the machine wakes a process.

gevent's timers come from an event loop that counts milliseconds: half a millisecond late on average, which would be
the larger part of a fast server's response time in open load. On Linux a timerfd, watched like a socket, has
nanoseconds. Elsewhere gevent's timer does.

A process that sleeps is woken some 50 us late, on a virtual machine later still. So the timer wakes it shortly before,
and the event loop then turns without sleeping, whatever comes in meanwhile is served as ever, until the time has come.
That takes CPU: it is done only where the wait is so long that the share is small.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

from gevent import get_hub

_CLOCK_MONOTONIC: Final = 1
_TFD_TIMER_ABSTIME: Final = 1
_READ: Final = 1  # libev's event mask
_NS_PER_S: Final = 1_000_000_000
_EXPIRATIONS_BYTES: Final = 8

#: So long before its time the process stays awake, if it had at least `WORTH_NS` to wait: an eighth of a core for each
#: timer at most.
AWAKE_NS: Final = 100_000
WORTH_NS: Final = 8 * AWAKE_NS


class _TimerSpec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class DueTimer:
    """Calls `on_due` from gevent's event loop at the time that was set last. One shot; set it again."""

    def __init__(self, on_due: Callable[[], None]) -> None:
        self._on_due = on_due
        self._loop = get_hub().loop
        self._fd = _new_timerfd()
        self._watcher: Any = None
        self._due_ns = 0  # what to wake for in the end, while the timerfd is set to shortly before; else 0
        if self._fd >= 0:
            self._awake = self._loop.idle()
            self._spec = _TimerSpec()
            self._watcher = self._loop.io(self._fd, _READ)
            self._watcher.start(self._on_readable)

    def set(self, due_ns: int) -> None:
        """Wake at `due_ns` (of the monotonic clock); at once if it has passed."""
        if self._fd < 0:
            if self._watcher is not None:
                self._watcher.close()
            self._loop.update_now()  # its clock stands still within a turn, and the timer would be early by that
            self._watcher = self._loop.timer(max(0, due_ns - monotonic_ns()) / _NS_PER_S)
            self._watcher.start(self._on_due)
            return
        self._awake.stop()
        self._due_ns = 0
        if due_ns - monotonic_ns() > WORTH_NS:
            self._due_ns, due_ns = due_ns, due_ns - AWAKE_NS
        self._arm(due_ns)

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
        if self._fd >= 0:
            self._awake.close()
            os.close(self._fd)
            self._fd = -1

    def _on_readable(self) -> None:
        try:
            os.read(self._fd, _EXPIRATIONS_BYTES)
        except BlockingIOError:
            return  # it has been set anew since it was ready
        if self._due_ns:
            self._awake.start(_turn_on)
            self._arm(self._due_ns)
            self._due_ns = 0
        else:
            self._awake.stop()
            self._on_due()

    def _arm(self, due_ns: int) -> None:
        self._spec.value_s, self._spec.value_ns = divmod(max(due_ns, 1), _NS_PER_S)
        _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)


def _turn_on() -> None:
    """What an event loop does that has nothing to do: as long as somebody is waiting for that, it does not sleep."""


_libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _new_timerfd() -> int:
    """A timerfd, or -1 where there is none."""
    if _libc is None or not hasattr(_libc, "timerfd_create"):
        return -1
    return int(_libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
