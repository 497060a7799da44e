"""A timer for an absolute monotonic time, as exact as the machine wakes a process.

gevent's timers come from an event loop that counts milliseconds: half a millisecond late on average, which would be
the larger part of a fast server's response time in open load. On Linux a timerfd, watched like a socket, has
nanoseconds. Elsewhere gevent's timer does.

A process that sleeps is woken some 50 us late, on a virtual machine later still. So the timer wakes it shortly before,
and the event loop then turns without sleeping, and may serve what comes in meanwhile, until the time has come.
That takes CPU: an eighth of a core at most, beyond which it sleeps.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

from gevent import get_hub

from users.loop_watchers import before_poll

_CLOCK_MONOTONIC: Final = 1
_TFD_TIMER_ABSTIME: Final = 1
_READ: Final = 1  # libev's event mask
_NS_PER_S: Final = 1_000_000_000
_EXPIRATIONS_BYTES: Final = 8

#: So long before its time the process stays awake.
AWAKE_NS: Final = 100_000
#: Each timer's share of a core is one in so many,
SHARE: Final = 8
#: give or take so many times that come close together.
AT_ONCE: Final = 16


_awake: "set[DueTimer]" = set()


def somebody_is_awaited() -> bool:
    """Whether a timer is about to go off: work that can wait should, or it makes that late."""
    return bool(_awake)


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
        self._is_closed = False
        # An event loop that cannot tell when it is about to poll (libuv) has gevent's timers.
        self._looking = before_poll(self._loop)
        self._fd = _new_timerfd() if self._looking is not None else -1
        self._watcher: Any = None
        self._due_ns = 0  # what the timerfd is set to wake for, or to stay awake for; 0: nothing
        self._paid_until_ns = 0  # before that it does not stay awake again
        if self._fd >= 0:
            self._idle = self._loop.idle()
            self._spec = _TimerSpec()
            self._watcher = self._loop.io(self._fd, _READ)
            self._watcher.start(self._on_readable)

    def set(self, due_ns: int) -> None:
        """Wake at `due_ns` (of the monotonic clock); at once if it has passed. Nothing once it is closed."""
        if self._is_closed:
            return
        if self._fd < 0:
            if self._watcher is not None:
                self._watcher.close()
            self._loop.update_now()  # its clock stands still within a turn, and the timer would be early by that
            self._watcher = self._loop.timer(max(0, due_ns - monotonic_ns()) / _NS_PER_S)
            self._watcher.start(self._on_due)
            return
        self._sleep()
        self._due_ns = due_ns = max(due_ns, 1)
        awake_ns = max(due_ns - AWAKE_NS, monotonic_ns())
        if self._paid_until_ns > awake_ns or awake_ns >= due_ns:
            self._arm(due_ns)
        elif awake_ns > due_ns - AWAKE_NS:
            self._arm(0)  # it may have been set for something else
            self._stay_awake(awake_ns)
        else:
            self._arm(awake_ns)

    def close(self) -> None:
        self._is_closed = True
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
        if self._fd >= 0:
            self._idle.close()
            self._looking.close()
            os.close(self._fd)
            self._fd = -1
            _awake.discard(self)

    def _on_readable(self) -> None:
        try:
            os.read(self._fd, _EXPIRATIONS_BYTES)
        except BlockingIOError:
            return  # it has been set anew since it was ready
        now_ns = monotonic_ns()
        if now_ns < self._due_ns:
            self._stay_awake(now_ns)
        else:
            self._go_off()

    def _stay_awake(self, now_ns: int) -> None:
        paid_ns = max(self._paid_until_ns, now_ns - AT_ONCE * SHARE * AWAKE_NS)
        self._paid_until_ns = paid_ns + SHARE * (self._due_ns - now_ns)
        # An event loop does not sleep while somebody waits for it to be idle. At each turn it looks at the clock: the
        # timerfd's interrupt would take 10 us.
        self._idle.start(_nothing)
        self._looking.start(self._look)
        _awake.add(self)

    def _sleep(self) -> None:
        self._idle.stop()
        self._looking.stop()
        _awake.discard(self)

    def _look(self) -> None:
        if monotonic_ns() >= self._due_ns:
            self._go_off()

    def _go_off(self) -> None:
        self._sleep()
        if self._due_ns:
            self._due_ns = 0
            self._on_due()

    def _arm(self, due_ns: int) -> None:
        self._spec.value_s, self._spec.value_ns = divmod(due_ns, _NS_PER_S)
        _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)


def _nothing() -> None:
    pass


_libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _new_timerfd() -> int:
    """A timerfd, or -1 where there is none."""
    if _libc is None or not hasattr(_libc, "timerfd_create"):
        return -1
    return int(_libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
