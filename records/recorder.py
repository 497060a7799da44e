"""The one recorder of a load-generating process: latencies, history, violations and breakers, as users write them.

Before ``start`` it keeps latencies and violations in memory and has no history, so a user class works anywhere.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from weakref import WeakSet

from records.breakers import BreakerLog
from records.histogram import GrowingHistogram
from records.latency import LatencyLog, LatencyRecorder, warm_up
from records.offered import Offered
from records.operations import OperationLog
from records.run_directory import RunDirectory
from records.violations import ViolationLog

logger = logging.getLogger(__name__)


class Gatherer(Protocol):
    """Keeps records for a while and hands them on together."""

    def parts(self) -> Iterator[None]:
        """Hand on all that there is, part by part. Whoever begins and does not go on to the end loses nothing: what is
        left comes first the next time."""
        ...


class Recorder:
    """All but ``operations`` always exist; that is None until started with a directory."""

    def __init__(self) -> None:
        self.latency = LatencyRecorder()
        self.violations = ViolationLog()
        self.breakers = BreakerLog()
        self.operations: OperationLog | None = None
        self.offered = Offered()
        #: How long users have thought between their requests since the run began, all together.
        self.think_ns = 0
        #: How long replies had been in the kernel when they were read, in microseconds, where that is known.
        self.unread = GrowingHistogram()
        #: Those who keep records in batches: `gather` has them hand on what they have.
        self.gatherers: WeakSet[Gatherer] = WeakSet()
        self.run: RunDirectory | None = None
        self._latency_log: LatencyLog | None = None

    def start(self, directory: Path | str, process: str) -> None:
        """Begin a run: from now on everything goes to files named ``process`` in that run directory."""
        self.stop()
        warm_up()
        self.run = RunDirectory(Path(directory))
        self.run.prepare()
        self.latency.reset()
        self.offered.set(0, 0, 0)
        self.think_ns = 0
        self.unread = GrowingHistogram()
        self.offered.take()
        self.violations = ViolationLog(self.run.violations_dir / f"{process}.jsonl", process)
        self.breakers = BreakerLog(self.run, process)
        self.operations = OperationLog(self.run.operations_dir / f"{process}.msgpack", process)
        self._latency_log = LatencyLog(self.run.latency_dir / f"{process}.msgpack", process)

    def gather(self) -> None:
        """Have everything handed on that is kept in batches: to `latency`, and to Locust's table at the same time."""
        for _ in self.gathering():
            pass

    def gathering(self) -> Iterator[None]:
        """The same in parts, between which the caller may do something else."""
        for gatherer in list(self.gatherers):
            try:
                yield from gatherer.parts()
            except Exception:  # it goes through what others may have put into Locust
                logger.exception("a batch of requests could not be counted")

    def take_unread(self) -> GrowingHistogram:
        """`unread` since the last call."""
        taken, self.unread = self.unread, GrowingHistogram()
        return taken

    def flush(self) -> dict[str, object]:
        """Write what was handed on since the last call; gives the latency delta, for the master."""
        delta = self.latency.take()
        if self._latency_log:
            self._latency_log.append(delta)
        self.violations.flush()
        self.breakers.flush()
        if self.operations:
            self.operations.flush()
        return delta

    def stop(self) -> None:
        """End the run: flush and close the files."""
        if self.run is None:
            return
        self.gather()
        self.flush()
        if self.operations:
            self.operations.close()
        if self._latency_log:
            self._latency_log.close()
        self.violations.close()
        self.breakers.close()
        self.operations = self._latency_log = self.run = None


recorder = Recorder()
