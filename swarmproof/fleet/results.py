"""What is made of a run's records when it is over: all histograms, and the files for the tools of others.

Of a long run that is work for seconds and minutes, in the process whose event loop must answer heartbeats meanwhile:
every other greenlet gets its turn between two deltas that are read and between two lines that are written. What has
been made is made again only when more has arrived.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from gevent.lock import RLock

from records.hlog import write_hlog
from records.latency import LatencyStore
from records.run_directory import LATENCY_HLOG, REQUESTS_CSV, REQUESTS_JSON, RunDirectory


class Results:
    """Of one run at a time, in the process that commands it."""

    def __init__(self) -> None:
        self._making = RLock()
        self._pause: Callable[[], None] | None = _give_way
        self.forget()

    def hurry(self) -> None:
        """The process ends, and nobody waits for its event loop any more.

        Least of all may Locust's main greenlet have a turn: where a signal ends the process that one would shut
        everything down a second time, and write its statistics once more, without what was in them.
        """
        self._pause = None

    def forget(self) -> None:
        """A run begins: when what the last one left is written, which this waits for."""
        with self._making:
            self._store = LatencyStore()
            self._read: Any = None
            self._written: Any = None

    def store(self, run: RunDirectory, end_ns: int) -> LatencyStore:
        """What all processes have recorded; the load ended at `end_ns`. Errors: RunDirectoryError."""
        with self._making:
            found = _state_of(run)
            if found != self._read:
                self._store = LatencyStore.load(run, pause=self._pause)
                self._read = found
            self._store.end_ns = end_ns
            return self._store

    def write(self, run: RunDirectory, end_ns: int, start_time_s: float) -> None:
        """latency.hlog, requests.csv and requests.json. Errors: RunDirectoryError, OSError."""
        with self._making:
            store = self.store(run, end_ns)
            if self._written == (self._read, end_ns):
                return
            write_hlog(store, run.file(LATENCY_HLOG), start_time_s, pause=self._pause)
            store.write_csv(run.file(REQUESTS_CSV))
            store.write_json(run.file(REQUESTS_JSON))
            self._written = (self._read, end_ns)


def _state_of(run: RunDirectory) -> list[tuple[Path, int]]:
    """The files of latencies and how long they are: they only grow."""
    return [(path, path.stat().st_size) for path in sorted(run.latency_dir.glob("*.msgpack"))]


def _give_way() -> None:
    gevent.sleep(0)
