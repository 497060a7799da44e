"""What the circuit breakers of the users did: every transition with time and reason, and the calls they refused.

Each process appends to a file of its own, `breaker-<process>.jsonl` in the run directory:

    {"at_ns": 1, "clock": [1, 2], "address": "127.0.0.1:8079", "from": "closed", "to": "open",
     "reason": "connection refused", "refused": 0}

`refused` counts the calls that this process had refused by then; a line whose `from` and `to` are the same tells only
that. Refused calls are no requests: they are in no table and in no percentile, so they are counted here or nowhere.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from records.clock import Reading, read_clock, shift_ns
from records.latency import clock_of_run
from records.run_directory import RunDirectory

#: The files of a run directory, one for each process.
BREAKER_FILES: Final = "breaker-*.jsonl"


@dataclass(slots=True)
class BreakerChange:
    """One transition. `at_ns` is of the run's clock; `refused` is what its process had refused by then."""

    at_ns: int
    address: str
    old: str
    new: str
    reason: str
    refused: int
    process: str


@dataclass(slots=True)
class Breakers:
    """All processes of a run together: transitions in the order of time, refused calls by address."""

    changes: list[BreakerChange] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def addresses(self) -> list[str]:
        return sorted({change.address for change in self.changes} | set(self.refused))

    def entered(self) -> Counter[tuple[str, str]]:
        """How often a breaker came into a state, by (address, state)."""
        return Counter((change.address, change.new) for change in self.changes)

    def standing(self) -> Counter[tuple[str, str]]:
        """In how many processes a breaker is in a state now, by (address, state); of one that never changed, none."""
        last = {(change.process, change.address): change.new for change in self.changes}
        return Counter((address, state) for (_, address), state in last.items())


class BreakerLog:
    """One process's file, made with the first line; without a directory nothing is written."""

    def __init__(self, run: RunDirectory | None = None, process: str = "") -> None:
        self._path: Path | None = run.file(f"breaker-{process}.jsonl") if run else None
        self._file: IO[str] | None = None
        # address -> state and count that are not on file yet
        self._unwritten: dict[str, tuple[str, int]] = {}

    def changed(self, address: str, old: str, new: str, reason: str, refused: int) -> None:
        """A transition: on file when this returns."""
        self._unwritten.pop(address, None)
        self._write(address, old, new, reason, refused)

    def refused(self, address: str, state: str, refused: int) -> None:
        """`refused` calls by now; on file with the next `flush`."""
        self._unwritten[address] = (state, refused)

    def flush(self) -> None:
        unwritten, self._unwritten = self._unwritten, {}
        for address, (state, refused) in unwritten.items():
            self._write(address, state, state, "", refused)

    def close(self) -> None:
        self.flush()
        if self._file:
            self._file.close()
        self._file = self._path = None

    def _write(self, address: str, old: str, new: str, reason: str, refused: int) -> None:
        if self._path is None:
            return
        if self._file is None:
            self._file = self._path.open("a", encoding="utf-8")
        clock = read_clock()
        line = {"at_ns": clock[0], "clock": clock, "address": address, "from": old, "to": new}
        self._file.write(json.dumps(line | {"reason": reason, "refused": refused}) + "\n")
        self._file.flush()


def read_breakers(run: RunDirectory) -> Breakers:
    """What there is of a run's breakers; a half-written last line is skipped. Errors: OSError."""
    found = Breakers()
    ours = clock_of_run(run)
    for path in sorted(run.path.glob(BREAKER_FILES)):
        process = path.stem.removeprefix("breaker-")
        refused: dict[str, int] = {}
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            change = _parse(text, process, ours)
            if change is None:
                continue
            refused[change.address] = change.refused
            if change.old != change.new:
                found.changes.append(change)
        found.refused.update(refused)
    found.changes.sort(key=lambda change: change.at_ns)
    return found


def _parse(text: str, process: str, ours: Reading | None) -> BreakerChange | None:
    try:
        line = json.loads(text)
        at_ns, theirs = int(line["at_ns"]), line.get("clock")
        if ours and theirs:
            at_ns += shift_ns(theirs, ours)
        address, old, new, reason = (str(line[name]) for name in ("address", "from", "to", "reason"))
        return BreakerChange(at_ns, address, old, new, reason, int(line["refused"]), process)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
