"""One clock for the records of several machines.

All times of a run are of `time.monotonic_ns()`. That clock is common to the processes of one machine until it is
restarted, and to nobody else; between machines the wall clock is the bridge. A *reading* is both, taken together.
"""

import os
import socket
import time
from pathlib import Path

#: [monotonic_ns, time_ns]
Reading = list[int]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# A container may have a monotonic clock of its own (time_namespaces(7)).
_TIME_NAMESPACE = Path("/proc/self/ns/time")


def read_clock() -> Reading:
    """Both clocks of this machine, now."""
    return [time.monotonic_ns(), time.time_ns()]


def shift_ns(theirs: Reading, ours: Reading) -> int:
    """What to add to a monotonic time of the clock that was read as `theirs` to have it on the clock of `ours`."""
    return (theirs[1] - theirs[0]) - (ours[1] - ours[0])


def clock_name() -> str:
    """The same in two processes whose monotonic clocks are the same."""
    try:
        name = _BOOT_ID.read_text(encoding="ascii").strip()
        namespace = os.readlink(_TIME_NAMESPACE) if os.path.lexists(_TIME_NAMESPACE) else ""
    except OSError:
        return socket.gethostname()
    return f"{name} {namespace}".strip()
