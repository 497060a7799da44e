"""The supervisor: owns targets, fault engine and control socket of one run directory, from start to cleanup.

`swarmproof up` is a supervisor that stays; `swarmproof run` (run.py) drives load and judgement through one. Whatever
ends it, `close` or its guard stops every process that it started.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from records.faults import FaultRecord, append_fault
from records.run_directory import CONTROL_SOCKET, RunDirectory
from swarmproof.control import ControlServer, Reply, Request
from swarmproof.faults.engine import FaultEngine
from swarmproof.faults.probe import PROBE_KEY, Probe
from swarmproof.faults.schedule import parse_fault
from swarmproof.history import SupervisorHistory
from swarmproof.plan import TargetTable
from swarmproof.targets.base import Surroundings, Target, start_all, stop_all
from swarmproof.targets.building import build_targets
from swarmproof.targets.cluster import ClusterTarget
from swarmproof.targets.guard import Guard
from swarmproof.targets.links import CLIENTS, LinkBoard
from swarmproof.targets.process import ChildProcess


class Supervisor:
    """Use as a context manager: leaving it stops everything.

    `say(text)` gets one line for a person at a time, from any thread.
    """

    def __init__(
        self, run: RunDirectory, tables: Sequence[TargetTable], *, seed: int, say: Callable[[str], None]
    ) -> None:
        self.run = run
        self.say = say
        self.guard = Guard()
        self.deaths: list[tuple[ChildProcess, str]] = []
        # Set by `swarmproof down`, and by whoever wants the end; the main thread waits for it.
        self.ended = threading.Event()
        self.progress: dict[str, Any] = {}
        # loading | settling | judging | judged, for whoever asks for the status.
        self.stage = "loading"
        # Makes the run directory of a test that is started again in the web UI; None where there is but one.
        self.next_run: Callable[[], RunDirectory] | None = None
        self._records = run
        self._seed = seed
        self._records_lock = threading.Lock()
        self._control: ControlServer | None = None
        self._closed = False
        try:
            self.board = LinkBoard(self.guard, run.nodes_dir) if any(table.link_kinds for table in tables) else None
            if self.board is not None:
                self.board.process.on_death = self._on_death
            around = Surroundings(self.guard, run.nodes_dir, self._on_death, self.board)
            self.targets: list[Target] = build_targets(tables, around)
            self.history = SupervisorHistory(run)
        except BaseException:
            self.guard.close()
            raise
        self._probes = {cluster.name: Probe(cluster, self.history) for cluster in self.clusters}
        self.engine = self._new_engine()

    def _new_engine(self) -> FaultEngine:
        return FaultEngine(
            self.targets,
            seed=self._seed,
            write=self._write_fault,
            say=self._say_fault,
            probes=self._probes,
            board=self.board,
            operations=lambda: int(self.progress.get("count", 0)),
        )

    def begin_records(self, run: RunDirectory) -> None:
        """From now on faults and the supervisor's own operations belong to `run`; everything before is healed."""
        self.engine.end_load()
        self.history.close()
        self.history = SupervisorHistory(run)
        # A key of its own for every test: what an earlier one left there would look like a write of nobody.
        self._probes = {
            cluster.name: Probe(cluster, self.history, f"{PROBE_KEY}-{run.path.name}") for cluster in self.clusters
        }
        self._records, self.progress = run, {}
        self.engine = self._new_engine()

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def clusters(self) -> list[ClusterTarget]:
        return [target for target in self.targets if isinstance(target, ClusterTarget)]

    def start(self) -> None:
        """Start all targets, wait until each answers, then listen for commands. Errors: TargetError, ControlError."""
        self.guard.protect(self.run.file(CONTROL_SOCKET))
        self._control = ControlServer(self.run, self.handle)
        start_all(self.targets, self.say)

    def stop_targets(self) -> None:
        """Continue what is paused, stop everything. Idempotent."""
        self.engine.abandon()
        for problem in stop_all(self.targets):
            self.say(problem)
        if self.board is not None:
            self.board.stop()

    def close(self) -> None:
        """Stop everything and give back every process, socket and temporary file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._control is not None:
                self._control.close()
            self.stop_targets()
            self.history.close()
        finally:
            self.guard.close()

    @property
    def has_peer_links(self) -> bool:
        """Whether there are links between nodes, which a partition cuts."""
        names = self.board.names if self.board is not None else set()
        return any(not name.startswith(f"{CLIENTS}>") for name in names)

    def last_write(self, cluster: ClusterTarget, within_s: float) -> bool:
        """One write after everything is healed: whether the cluster still takes any. It stands in the history."""
        probe = self._probes[cluster.name]
        return probe.first_acknowledged_ns(within_s, avoid=set, give_up=lambda: False) is not None

    # Commands over the control socket.

    def handle(self, request: Request) -> Reply:
        """Answer one command; an exception becomes its error."""
        command = request.get("command")
        if command == "status":
            return self.status()
        if command == "fault":
            after = request.get("heal_after")
            words = f"{request.get('kind', '')} {request.get('target', 'leader')} @0s"
            record = self.engine.inject_spec(parse_fault(words + (f" for {after}" if after is not None else "")))
            return {
                "took_effect": record.took_effect,
                "chosen": record.chosen,
                "observed": record.observed,
                "why": record.why,
                "problem": record.error or "its effect was not seen yet",
            }
        if command == "heal":
            name = request.get("name")
            return {"healed": self.engine.heal(str(name) if name else None)}
        if command == "next-run":
            if self.next_run is None:
                raise ValueError("this supervisor makes one run only")
            return {"run": str(self.next_run().path.resolve())}
        if command == "down":
            self.ended.set()
            return {"stopping": str(self.run.path), "pid": os.getpid()}
        raise ValueError(f"there is no command {command!r}; there are: status, fault, heal, down")

    def status(self) -> Reply:
        return {
            "run": str(self.run.path),
            "pid": os.getpid(),
            "targets": [row._asdict() for target in self.targets for row in target.rows()],
            "faults": [
                {"id": record.id, "kind": record.kind, "chosen": record.chosen, "observed": record.observed}
                for record in self.engine.active()
            ],
            "progress": self.progress,
            "stage": self.stage,
            "links": self.has_peer_links,
            "at_ns": time.monotonic_ns(),
        }

    # Called from other threads.

    def _on_death(self, child: ChildProcess, sentence: str) -> None:
        self.deaths.append((child, sentence))
        self.say(sentence)

    def _write_fault(self, record: FaultRecord) -> None:
        with self._records_lock:
            append_fault(self._records, record)

    def _say_fault(self, text: str) -> None:
        self.say(f"fault  {text}")
