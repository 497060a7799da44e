"""When a reply came, by the kernel's word: it does not matter then when this process found the time to read it.

Linux notes of what a socket receives when that came (SO_TIMESTAMPNS), and tells with what is read. A process that is
woken late, or is busy with the replies of others, measures the server all the same, and learns how late it was: that is
counted (`recorder.unread`), a figure of the generator's health.

It takes some 1.3 us more a read. Load with a pace (`--rate`, think time) has them; at full throttle a process reads
as fast as it can, and takes the time itself, unless told otherwise (`--receive-times`).
"""

import platform
import socket
import sys
from functools import cache
from struct import Struct
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, Final

from records.recorder import recorder

if TYPE_CHECKING:
    import _socket

# SO_TIMESTAMPNS_NEW, two numbers of 64 bits everywhere; Linux 5.1. Python's socket module does not name it. On the
# two architectures with numbers of their own it is not asked for.
_SO_TIMESTAMPNS: Final = 64
_HAS_TIMES: Final = sys.platform == "linux" and not platform.machine().startswith(("sparc", "parisc"))
_STAMP: Final = Struct("=qq")
_ROOM: Final = socket.CMSG_SPACE(_STAMP.size) if hasattr(socket, "CMSG_SPACE") else 0

_NS_PER_S: Final = 1_000_000_000
_NS_PER_US: Final = 1_000
# The kernel's stamps are of the wall clock. If that was set since, they are worth nothing: seen by how the two clocks
# lie to each other. By so much may that change from read to read; a clock that is being corrected goes a tenth faster
# or slower at most.
_READ_NS: Final = 20_000
_CORRECTED: Final = 10
_CORRECTED_NS: Final = 1_000_000


class KernelTimes:
    """One socket's. `recv` reads it; `came_ns` (monotonic) is when the last of that had come, `unread_ns` how long
    it had lain there."""

    __slots__ = ("_recvmsg", "came_ns", "unread_ns")

    def __init__(self, raw: "_socket.socket") -> None:
        """Raises OSError where there is no such thing."""
        raw.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._recvmsg = raw.recvmsg
        self.came_ns = monotonic_ns()
        self.unread_ns = 0

    def recv(self, size_bytes: int) -> bytes:
        """As `socket.recv`."""
        data, notes, _, _ = self._recvmsg(size_bytes, _ROOM)
        now_ns, wall_ns = _clocks.read()
        stamp_ns = _stamp_ns(notes)
        unread_ns = wall_ns - stamp_ns
        if not stamp_ns or unread_ns < 0 or now_ns - unread_ns < _clocks.set_before_ns:
            self.came_ns, self.unread_ns = now_ns, 0  # who knows
            return data
        self.came_ns, self.unread_ns = now_ns - unread_ns, unread_ns
        recorder.unread.add(unread_ns // _NS_PER_US)
        return data

    def came(self) -> int:
        """`came_ns`, for those who ask a clock."""
        return self.came_ns


class _Clocks:
    """The monotonic clock and the wall clock of the same moment, for all sockets of the process.

    Before `set_before_ns` (monotonic) the wall clock was another one.
    """

    __slots__ = ("_ahead_ns", "_looked_ns", "set_before_ns")

    def __init__(self) -> None:
        self.set_before_ns = 0
        self._looked_ns = monotonic_ns()
        self._ahead_ns = time_ns() - self._looked_ns

    def read(self) -> tuple[int, int]:
        """Monotonic, wall. The wall clock is read first: whoever is stopped between the two is late, never early."""
        wall_ns, now_ns = time_ns(), monotonic_ns()
        if not self._agree(now_ns, wall_ns):
            wall_ns, now_ns = time_ns(), monotonic_ns()  # this process may have been stopped there
            if not self._agree(now_ns, wall_ns):
                self.set_before_ns = now_ns
        self._looked_ns, self._ahead_ns = now_ns, wall_ns - now_ns
        return now_ns, wall_ns

    def _agree(self, now_ns: int, wall_ns: int) -> bool:
        changed_ns = wall_ns - now_ns - self._ahead_ns
        return abs(changed_ns) <= _READ_NS + min((now_ns - self._looked_ns) // _CORRECTED, _CORRECTED_NS)


_clocks = _Clocks()


def _stamp_ns(notes: list[tuple[int, int, bytes]]) -> int:
    """The kernel's stamp among a message's notes (wall clock); 0 if there is none."""
    for level, kind, stamp in notes:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(stamp) == _STAMP.size:
            seconds, rest_ns = _STAMP.unpack(stamp)
            stamp_ns: int = seconds * _NS_PER_S + rest_ns
            return stamp_ns
    return 0


def kernel_times(raw: "_socket.socket", wanted: bool) -> KernelTimes | None:
    """Those of this connected socket, if they are wanted and to be had."""
    if not (wanted and _HAS_TIMES):
        return None
    try:
        _have_stamps_made()
        return KernelTimes(raw)
    except OSError:
        return None


@cache
def _have_stamps_made() -> socket.socket:
    """A socket that does nothing but want stamps, for as long as this process lives.

    The kernel makes them while anybody wants any, and begins and ends by changing its own code, some milliseconds
    later. Users with a connection for each request would have it do so all the time.
    """
    wanting = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        wanting.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        wanting.close()
        raise
    return wanting
