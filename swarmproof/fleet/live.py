"""What a run shows of itself while it goes on: for the web page, its tabs, and whoever exports figures.

Everything here only reads: the extension's store in memory, the files of the run directory, and the supervisor over its
control socket. Nothing is kept that those do not know, so a page that is opened late sees what one opened early saw.
"""

import csv
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from records.faults import FaultRecord, read_faults
from records.latency import RESPONSE, SERVICE, LatencyStore, Summary
from records.leadership import Leader, read_leaders
from records.progress import ProgressReader
from records.run_directory import (
    CONTROL_SOCKET,
    FAULTS_JSONL,
    LEADERSHIP_JSONL,
    OUTAGES_CSV,
    RUN_JSON,
    VERDICT_JSON,
    RunDirectory,
    RunDirectoryError,
)
from records.violations import Violation, read_violations
from swarmproof.control import ControlError, Reply, ask

T = TypeVar("T")

#: Several viewers, the tabs and the exporter ask within the same second; the supervisor is asked once.
STATUS_FRESH_S: Final = 0.5
#: A supervisor that is busy must not hold up a page for longer.
STATUS_WITHIN_S: Final = 3.0

NO_SUPERVISOR: Final = (
    "no supervisor runs these targets, so nothing can be broken from here; start the test with "
    "`swarmproof run PLAN --web`"
)


@dataclass(frozen=True, slots=True)
class Second:
    """One second of the run, of all operations together; `at_s` is of the monotonic clock."""

    at_s: int
    ok: int
    failed: int
    unknown: int
    cancelled: int
    p50_us: float
    p99_us: float
    max_us: float

    @property
    def count(self) -> int:
        return self.ok + self.failed + self.unknown


@dataclass(frozen=True, slots=True)
class Status:
    """What the supervisor says: its reply, or why there is none."""

    reply: Reply | None
    reason: str = ""

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """Rows of `name kind address pid state role term`, one for each process of the targets."""
        rows = (self.reply or {}).get("targets")
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    @property
    def active(self) -> list[dict[str, Any]]:
        """The faults that are not healed yet: `id kind chosen observed`."""
        faults = (self.reply or {}).get("faults")
        return [fault for fault in faults if isinstance(fault, dict)] if isinstance(faults, list) else []

    def leader(self) -> tuple[str, int] | None:
        """Name and term of the node that leads the highest term; None while nobody does."""
        leading = [(int(row.get("term") or 0), str(row["name"])) for row in self.nodes if row.get("role") == "leader"]
        if not leading:
            return None
        term, name = max(leading)
        return name, term


@dataclass(slots=True)
class _File(Generic[T]):
    """A file's content, read again only when the file has changed."""

    read: Callable[[RunDirectory], T]
    names: tuple[str, ...]
    value: T
    stamp: Any = field(default=None)

    def of(self, run: RunDirectory) -> T:
        stamp = (run.path, tuple(_stamp(run.path / name) for name in self.names))
        if stamp != self.stamp:
            self.value, self.stamp = self.read(run), stamp
        return self.value


class Live:
    """The present run of one commanding Locust process (`extension` is its RunExtension)."""

    def __init__(self, extension: Any) -> None:
        self._extension = extension
        options = extension.environment.parsed_options
        given = getattr(options, "run_dir", "") if options else ""
        self._supervised = RunDirectory(Path(given)) if given else None
        self._status = Status(None, NO_SUPERVISOR)
        self._status_at = float("-inf")
        self._store: LatencyStore | None = None
        self._seconds: dict[int, Second] = {}
        self._progress: tuple[Path, ProgressReader, list[dict[str, Any]]] | None = None
        self._faults = _File[list[FaultRecord]](read_faults, (FAULTS_JSONL,), [])
        self._outages = _File[dict[int, dict[str, str]]](_read_outages, (OUTAGES_CSV,), {})
        self._leaders = _File[list[Leader]](read_leaders, (LEADERSHIP_JSONL,), [])
        self._violations: tuple[Counter[tuple[str, str]], list[Violation]] = (Counter(), [])
        self._violations_stamp: tuple[Any, ...] = ()
        self._verdict = _File[dict[str, Any]](_object_in(VERDICT_JSON), (VERDICT_JSON,), {})
        self._facts = _File[dict[str, Any]](_object_in(RUN_JSON), (RUN_JSON,), {})

    # -- which run ---------------------------------------------------------------------------------------------

    @property
    def run(self) -> RunDirectory | None:
        """The directory of the run that goes on, or went on last; None before the first."""
        run: RunDirectory | None = self._extension.run
        return run

    @property
    def state(self) -> str:
        """Locust's word: ready, spawning, running, cleanup, stopping, stopped."""
        return str(self._extension.environment.runner.state)

    @property
    def is_loading(self) -> bool:
        return self.state in ("spawning", "running")

    @property
    def has_workers(self) -> bool:
        """Whether the load comes from workers, which report a few seconds late."""
        return bool(self._extension.is_master)

    @property
    def problem(self) -> str:
        """Why the last test could not begin, as a sentence; "" when it could."""
        return str(self._extension.problem)

    @property
    def users(self) -> int:
        return int(self._extension.environment.runner.user_count)

    @property
    def start_ns(self) -> int:
        """When the load began (monotonic); 0 before the first run."""
        return int(self._extension.start_ns)

    @property
    def end_ns(self) -> int:
        """When the load ended (monotonic); 0 while it has not."""
        return int(self._extension.end_ns)

    def elapsed_s(self, at_ns: int) -> float:
        """Seconds from the start of the load."""
        return (at_ns - self.start_ns) / 1e9

    @property
    def store(self) -> LatencyStore:
        """The histograms so far, of all processes that have reported."""
        store: LatencyStore = self._extension.store
        return store

    # -- figures -----------------------------------------------------------------------------------------------

    def summaries(self) -> list[tuple[str, Summary]]:
        """(response | service, summary) per operation, and of all together when there are several."""
        store = self.store
        names: list[str | None] = [*store.operations()]
        if len(names) > 1:
            names.append(None)
        return [(kind, store.summary(name, kind)) for name in names for kind in (RESPONSE, SERVICE)]

    def total(self) -> Summary:
        """Everything so far, response time."""
        return self.store.summary()

    def seconds(self) -> list[Second]:
        """Every second in which something ended, in order. Those that are known and complete are not read again."""
        store = self.store
        if store is not self._store:
            self._store, self._seconds = store, {}
        known = sum(second.count + second.cancelled for second in self._seconds.values())
        if known != sum(store.outcomes()):
            newest = max(self._seconds, default=None)
            self._read_seconds(store, newest)
            if sum(second.count + second.cancelled for second in self._seconds.values()) != sum(store.outcomes()):
                self._read_seconds(store, None)  # a worker reported late about seconds that were thought complete
        return [self._seconds[at_s] for at_s in sorted(self._seconds)]

    def _read_seconds(self, store: LatencyStore, start_s: int | None) -> None:
        for at_s, histogram, (ok, failed, unknown, cancelled) in store.by_second(start_s=start_s):
            p50_us, p99_us = histogram.percentiles_us((50, 99))
            self._seconds[at_s] = Second(
                at_s,
                ok,
                failed,
                unknown,
                cancelled,
                p50_us,
                p99_us,
                float(histogram.max_us),
            )

    def progress(self) -> list[dict[str, Any]]:
        """The lines of progress.jsonl so far."""
        if self.run is None:
            return []
        if self._progress is None or self._progress[0] != self.run.path:
            self._progress = (self.run.path, ProgressReader(self.run), [])
        _, reader, lines = self._progress
        lines.extend(reader.read_new())
        return lines

    # -- what was done, and what was seen -------------------------------------------------------------------------

    def faults(self) -> list[FaultRecord]:
        """Each fault in its last recorded state."""
        return self._faults.of(self.run) if self.run else []

    def outages(self) -> dict[int, dict[str, str]]:
        """outages.csv by the id of the fault; {} before the run has been judged."""
        return self._outages.of(self.run) if self.run else {}

    def leaders(self) -> list[Leader]:
        """Every change of leader that the supervisor saw."""
        return self._leaders.of(self.run) if self.run else []

    def violations(self) -> tuple[Counter[tuple[str, str]], list[Violation]]:
        """Counts by (kind, operation), and the kept examples."""
        if self.run is None:
            return Counter(), []
        stamp = (self.run.path, *((path, _stamp(path)) for path in sorted(self.run.violations_dir.glob("*.jsonl"))))
        if stamp != self._violations_stamp:
            self._violations, self._violations_stamp = read_violations(self.run), stamp
        return self._violations

    def facts(self) -> dict[str, Any]:
        """run.json so far."""
        return self._facts.of(self.run) if self.run else {}

    def verdict(self) -> dict[str, Any]:
        """verdict.json; {} before the run has been judged."""
        return self._verdict.of(self.run) if self.run else {}

    # -- the supervisor -----------------------------------------------------------------------------------------

    @property
    def supervisor_run(self) -> RunDirectory | None:
        """Where the supervisor's control socket is; None without a supervisor."""
        found = self._supervised
        return found if found is not None and found.file(CONTROL_SOCKET).exists() else None

    def status(self, *, fresh: bool = False) -> Status:
        """What the supervisor sees now, at most STATUS_FRESH_S old (or asked this moment)."""
        if fresh or time.monotonic() - self._status_at > STATUS_FRESH_S:
            self._status_at = time.monotonic()  # before asking: others need not ask meanwhile
            self._status = self._ask_status()
        return self._status

    def _ask_status(self) -> Status:
        run = self.supervisor_run
        if run is None:
            return Status(None, NO_SUPERVISOR)
        try:
            return Status(ask(run, {"command": "status"}, STATUS_WITHIN_S))
        except (ControlError, OSError) as error:
            return Status(None, f"the supervisor does not answer: {error}")

    def command(self, request: dict[str, Any]) -> Reply:
        """Have the supervisor do something. Errors: ControlError, one sentence."""
        run = self.supervisor_run
        if run is None:
            raise ControlError(NO_SUPERVISOR)
        self._status_at = float("-inf")
        return ask(run, request)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _read_outages(run: RunDirectory) -> dict[int, dict[str, str]]:
    try:
        with run.file(OUTAGES_CSV).open(encoding="utf-8", newline="") as file:
            return {int(row["id"]): row for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _object_in(name: str) -> Callable[[RunDirectory], dict[str, Any]]:
    """Reads a JSON object; {} when there is none, or half of one."""

    def read(run: RunDirectory) -> dict[str, Any]:
        try:
            value = run.read_json(name)
        except (RunDirectoryError, OSError):
            return {}
        return value if isinstance(value, dict) else {}

    return read
