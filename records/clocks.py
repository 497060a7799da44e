"""Whose clock was how far off: what makes one history out of those of several machines.

Monotonic clocks of two machines have nothing in common. The master asks each worker for the time and halves the round
trip (as NTP does); what it found is in ``clocks.json``, and whoever reads the history has all of it on the master's
clock, with a bound on the error:

    {"worker-b-41": {"offset_ns": 81250333000, "error_ns": 210000, "shared": false}}

``offset_ns`` is theirs minus the master's. Processes that are not named share the master's clock.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

from records.run_directory import RunDirectory, RunDirectoryError

CLOCKS_JSON: Final = "clocks.json"

#: For a worker whose clock could not be asked for: wall clocks are the bridge, and may be off by so much.
UNMEASURED_ERROR_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """How far a process's monotonic clock is ahead of the master's, at most `error_ns` wrong; `shared`: not at all."""

    offset_ns: int
    error_ns: int
    shared: bool = False


class ClockMeasurement:
    """What one worker answered so far. The bound grows when its clock drifts."""

    def __init__(self) -> None:
        self._best = ClockOffset(0, UNMEASURED_ERROR_NS)
        self._drift_ns = 0

    def add(self, asked_ns: int, their_ns: int, heard_ns: int) -> None:
        """One answer: it was asked for at `asked_ns` and heard at `heard_ns` (ours); `their_ns` was theirs between."""
        error_ns = (heard_ns - asked_ns + 1) // 2
        sample = ClockOffset(their_ns - asked_ns - error_ns, error_ns)
        if error_ns < self._best.error_ns:
            self._best, sample = sample, self._best
        if sample.error_ns < UNMEASURED_ERROR_NS:
            # Beyond what the two round trips explain, one of the clocks has moved.
            apart_ns = abs(sample.offset_ns - self._best.offset_ns) - sample.error_ns - self._best.error_ns
            self._drift_ns = max(self._drift_ns, apart_ns)

    @property
    def offset(self) -> ClockOffset:
        return ClockOffset(self._best.offset_ns, self._best.error_ns + self._drift_ns)


def write_clocks(run: RunDirectory, clocks: dict[str, ClockOffset]) -> None:
    run.write_json(CLOCKS_JSON, {process: asdict(clock) for process, clock in clocks.items()})


def read_clocks(run: RunDirectory) -> dict[str, ClockOffset]:
    """By process; entries that cannot be read, or a file that is not there, are no offsets."""
    try:
        written: Any = run.read_json(CLOCKS_JSON)
    except RunDirectoryError:
        return {}
    clocks = {}
    for process, values in written.items() if isinstance(written, dict) else ():
        if not isinstance(values, dict):
            continue
        offset_ns, error_ns = values.get("offset_ns"), values.get("error_ns")
        if type(offset_ns) is int and type(error_ns) is int:
            clocks[str(process)] = ClockOffset(offset_ns, error_ns, values.get("shared") is True)
    return clocks


def error_ns(run: RunDirectory) -> int:
    """How wrong a time of this run's history may be: the largest error of its clocks."""
    return max((clock.error_ns for clock in read_clocks(run).values()), default=0)
