"""A worker notices that its master has died, and ends: nobody is left to stop its users.

Locust's own workers wait a minute for a heartbeat, which a worker on another machine must, since it may only be cut
off for a while. On the master's own machine the process can be looked at: its number and when it began say which
process is meant, also when the number has been given to another.
"""

import os
from pathlib import Path
from typing import Final

#: Where the start time stands in /proc/<pid>/stat, counted after the name in brackets (proc(5): field 22).
_START_FIELD: Final = 19


def this_process() -> str:
    """This process, as `is_here` knows it again; "" where there is no /proc."""
    began = _began(os.getpid())
    return f"{os.getpid()} {began}" if began else ""


def is_here(process: str) -> bool:
    """Whether that process is one of this machine (and of this container) and runs."""
    pid, _, began = process.partition(" ")
    return pid.isdecimal() and bool(began) and _began(int(pid)) == began


def _began(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    # A zombie has ended; its parent has only not looked yet.
    return fields[_START_FIELD] if len(fields) > _START_FIELD and fields[0] not in "ZX" else ""


class MasterWatch:
    """Says once that the master was here and is no more."""

    def __init__(self, master: str) -> None:
        self._master = master if is_here(master) else ""

    def has_died(self) -> bool:
        """True at the first look that finds the master gone; never for one on another machine."""
        if not self._master or is_here(self._master):
            return False
        self._master = ""
        return True
