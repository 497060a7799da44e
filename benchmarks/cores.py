"""Which cores a benchmark's processes run on: clients on the first ones, targets on the last.

Left to the scheduler, a client and a target that wakes for microseconds share a core, and each waits for the other.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

FIRST: Final = slice(0, 1)
LAST: Final = slice(-1, None)
ALL_BUT_LAST: Final = slice(0, -1)

_CAN_CHOOSE: Final = hasattr(os, "sched_setaffinity")


def are_several() -> bool:
    """Whether the last core is one that the others need not share."""
    return _CAN_CHOOSE and len(os.sched_getaffinity(0)) > 1


@contextmanager
def on_cores(chosen: slice) -> Iterator[None]:
    """What is started within runs on these of the cores that we have; on all if these are none."""
    if not _CAN_CHOOSE:
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(cores)[chosen]) or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
