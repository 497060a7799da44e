"""Everything that a run left behind and the judge needs, read once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from records.clocks import read_clocks
from records.faults import FaultRecord, read_faults
from records.latency import LatencyStore
from records.operations import Operation, read_operations
from records.run_directory import RUN_JSON, RunDirectory
from records.violations import Violation, read_violations
from swarmproof.judge.history import History, as_bytes, read_history
from swarmproof.judge.linearizability import Limits, Linearizability, check

NS_PER_S = 1_000_000_000


def clock_errors_ns(run: RunDirectory) -> dict[str, int]:
    """By process on another machine: how wrong its times may be, once they are on the master's clock."""
    return {process: clock.error_ns for process, clock in read_clocks(run).items() if clock.error_ns > 0}


def unsalvaged_workers(facts: Any) -> list[str]:
    """Workers that died with operations that are in no history, as run.json has it."""
    load = facts.get("load") if isinstance(facts, dict) else None
    lost = load.get("unsalvaged_workers") if isinstance(load, dict) else None
    return [str(worker) for worker in lost] if isinstance(lost, list) else []


@dataclass(slots=True)
class Protocol:
    """Counts of violations by (kind, operation), and the first examples."""

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    examples: list[Violation] = field(default_factory=list)


class Case:
    """One run, or one bare history. ``start_ns`` is the moment that all texts count seconds from."""

    def __init__(
        self,
        history: History,
        *,
        faults: list[FaultRecord] | None = None,
        latency: LatencyStore | None = None,
        protocol: Protocol | None = None,
        facts: dict[str, Any] | None = None,
        clock_errors_ns: dict[str, int] | None = None,
        read_again: Callable[[], Iterable[Operation]] | None = None,
        limits: Limits | None = None,
        unsalvaged: list[str] | None = None,
    ) -> None:
        self.history = history
        self.faults = faults or []
        self.latency = latency
        self.protocol = protocol
        self.facts = facts or {}
        #: By process on another machine: its operations' intervals have been widened by so much on both sides.
        self.clock_errors_ns = clock_errors_ns or {}
        self._read_again = read_again
        self.limits = limits or Limits()
        #: Workers that died with operations that are in no history.
        self.unsalvaged_workers = unsalvaged_workers(self.facts) if unsalvaged is None else unsalvaged

    @classmethod
    def of_run(cls, run: RunDirectory, limits: Limits | None = None) -> "Case":
        """Read a run directory; what is missing is empty. Errors: HistoryError, RunDirectoryError."""
        facts = run.read_json(RUN_JSON)
        counts, examples = read_violations(run)
        errors_ns = clock_errors_ns(run)
        return cls(
            read_history(read_operations(run), widen_ns=errors_ns),
            clock_errors_ns=errors_ns,
            read_again=lambda: read_operations(run),
            faults=read_faults(run),
            latency=LatencyStore.load(run),
            protocol=Protocol(dict(counts), examples),
            facts=facts if isinstance(facts, dict) else {},
            limits=limits,
        )

    @property
    def load(self) -> dict[str, Any]:
        """What run.json says about the load, {} when nothing."""
        load = self.facts.get("load")
        return load if isinstance(load, dict) else {}

    def required(self, name: str, default: float) -> float:
        """A bound of the evidence rules: the plan's, from its table ``[evidence]``, or the default."""
        evidence = self.facts.get("evidence")
        value = evidence.get(name) if isinstance(evidence, dict) else None
        return value if isinstance(value, int | float) and not isinstance(value, bool) else default

    @cached_property
    def start_ns(self) -> int:
        for facts in (self.load, self.facts):
            start = facts.get("start_ns")
            if isinstance(start, int) and not isinstance(start, bool):
                return start
        return int(self.history.call.min()) if len(self.history) else 0

    @cached_property
    def linearizability(self) -> Linearizability:
        return check(self.history, self.limits)

    def seconds(self, at_ns: int) -> float:
        return (at_ns - self.start_ns) / NS_PER_S

    def refused_cas_of(self, key: str, value: str | bytes) -> Operation | None:
        """The cas that was to write this value and was told that it had failed, if the history can be read again.

        Columns do not keep what a failed cas had in mind: only a counterexample wants to know.
        """
        again = self._read_again() if self._read_again is not None else ()
        wanted = as_bytes(value)
        refused = (operation for operation in again if operation.op == "cas" and operation.ok is False)
        return next((one for one in refused if one.key == key and as_bytes(one.value or "") == wanted), None)

    def harness_problems(self) -> list[str]:
        """What failed in the harness itself, from run.json: what the supervisor wrote down, and lost workers."""
        written = self.facts.get("harness_problems")
        problems = [str(problem) for problem in written] if isinstance(written, list) else []
        lost = self.load.get("lost_workers")
        if isinstance(lost, list) and lost and not problems:
            problems.append(f"the load generator lost {len(lost)} workers: {', '.join(map(str, lost))}")
        return problems

    def expects_history(self) -> bool:
        """Whether this run loaded a key-value store, so that an empty history is a gap and not a matter of course."""
        names = self.latency.operations() if self.latency else []
        return any(name.startswith("kv ") for name in names)
