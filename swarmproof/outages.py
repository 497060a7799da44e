"""outages.csv: what each fault cost the clients, and min / median / max over the faults of a run.

The window of a fault begins when it strikes and ends with the first acknowledged write after it, or with its heal.
Only operations of the target's own clients count. Of a key-value store the history holds each of them; of all others
there is what ended in each second (`swarmproof.whole_seconds`). A figure that nobody can know is an empty cell.
"""

import csv
import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from records.faults import FaultRecord, read_faults
from records.latency import LatencyStore
from records.operations import FAIL, INFO, OK, Operation, read_operations
from records.run_directory import OUTAGES_CSV, RUN_JSON, RunDirectory, RunDirectoryError
from swarmproof.affected import Clients
from swarmproof.phases import Moments
from swarmproof.whole_seconds import WholeSeconds

NS_PER_S = 1_000_000_000
# Around the window: a gap begins with the last success before the strike and ends with the first one after it.
AROUND_NS = 5 * NS_PER_S
# Slower than this is delayed: many times a healthy answer, shorter than an election.
DELAYED_NS = NS_PER_S // 10

# Where the figures of a row come from.
HISTORY = "history"
SECONDS = "seconds"

COLUMNS = (
    "id",
    "kind",
    "chosen",
    "elapsed_s",
    "took_effect",
    "detection_s",
    "new_leader_s",
    "first_ack_s",
    "back_to_baseline_s",
    "worst_client_gap_s",
    "worst_key_gap_s",
    "failed",
    "unknown",
    "delayed",
    "lost_operations",
    "p50_before_us",
    "p99_before_us",
    "p50_during_us",
    "p99_during_us",
    "p50_after_us",
    "p99_after_us",
    "healed_after_s",
    "source",
)
SUMMED_UP = ("detection_s", "new_leader_s", "first_ack_s", "back_to_baseline_s", "worst_client_gap_s")


def write_outages(run: RunDirectory) -> dict[str, dict[str, float]]:
    """Write outages.csv and give {"first_ack_s": {"min", "median", "max", "count"}, ...}; {} without faults.

    Errors: HistoryError; RunDirectoryError when the latencies are damaged.
    """
    faults = [fault for fault in read_faults(run) if fault.took_effect]
    if not faults:
        return {}
    operations = [_without_values(o) for o in read_operations(run) if not o.final and o.process != "supervisor"]
    costs = Costs(_facts_of(run), operations, LatencyStore.load(run))
    rows = [costs.of(fault) for fault in faults]
    with run.file(OUTAGES_CSV).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return summary_of(rows)


def _facts_of(run: RunDirectory) -> dict[str, Any]:
    try:
        facts = run.read_json(RUN_JSON)
    except RunDirectoryError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _without_values(operation: Operation) -> Operation:
    """Times and outcomes are all that counts here; a million lists that were read would take gigabytes."""
    operation.value = operation.expect = operation.out = None
    return operation


class Costs:
    """What the faults of one run cost: its run.json, the operations of its history, and its latencies."""

    def __init__(self, facts: dict[str, Any], operations: Sequence[Operation], latency: LatencyStore) -> None:
        load = facts.get("load")
        load_end_ns = load.get("end_ns") if isinstance(load, dict) else None
        self._load_end_ns = load_end_ns if isinstance(load_end_ns, int) else None
        self._operations = operations
        self._moments = Moments(operations)
        self._latency = latency
        self._clients = Clients(facts, latency.operations())
        self._seconds: dict[tuple[str, ...], WholeSeconds] = {}

    def of(self, fault: FaultRecord) -> dict[str, Any]:
        """One row; None where there is nothing to know it by."""
        names, in_history = self._clients.affected_by(fault)
        if names not in self._seconds:
            self._seconds[names] = WholeSeconds(self._latency, names, self._load_end_ns)
        seconds = self._seconds[names]
        strike_ns, end_ns = fault.requested_ns, self._window_end_ns(fault)
        if in_history and self._operations:
            source, found = HISTORY, figures_of(self._operations, strike_ns, end_ns)
            found |= self._moments_of(strike_ns, end_ns) if found else {}
        else:
            source, found = SECONDS, seconds.figures(strike_ns, end_ns)
        back_s = found.get("back_to_baseline_s")
        over_ns = strike_ns + round(back_s * NS_PER_S) - 1 if back_s is not None else end_ns
        return {
            "id": fault.id,
            "kind": fault.kind,
            "chosen": fault.chosen,
            "elapsed_s": fault.elapsed_s,
            "took_effect": fault.took_effect,
            "new_leader_s": fault.figures.get("new_leader_s"),
            "first_ack_s": fault.figures.get("first_ack_s"),
            "healed_after_s": _seconds(fault.healed_ns - strike_ns) if fault.healed_ns is not None else None,
            "source": source if found else "",
            **found,
            **seconds.percentiles(strike_ns, max(over_ns, strike_ns)),
        }

    def _moments_of(self, strike_ns: int, end_ns: int) -> dict[str, Any]:
        back_s = self._moments.back_after_s(strike_ns, end_ns)
        over_ns = strike_ns + int(back_s * NS_PER_S) if back_s is not None else end_ns
        if self._load_end_ns is not None:  # what nobody asked for any more was not lost
            over_ns = min(over_ns, self._load_end_ns)
        return {
            "detection_s": self._moments.detected_after_s(strike_ns, end_ns),
            "back_to_baseline_s": back_s,
            "lost_operations": self._moments.lost_operations(strike_ns, over_ns),
        }

    def _window_end_ns(self, fault: FaultRecord) -> int:
        """The first acknowledged write after the strike, or else the heal; not later than the end of the load."""
        first_ack_s = fault.figures.get("first_ack_s")
        if first_ack_s is not None:
            return fault.requested_ns + int(first_ack_s * NS_PER_S)
        ends_ns = [end_ns for end_ns in (fault.healed_ns, self._load_end_ns) if end_ns is not None]
        return max(min(ends_ns, default=fault.requested_ns), fault.requested_ns)


def figures_of(operations: Sequence[Operation], strike_ns: int, end_ns: int) -> dict[str, Any]:
    """How the operations under way in the window ended, and the longest gaps; {} when there were none around it."""
    around = [o for o in operations if strike_ns - AROUND_NS <= o.call_ns <= end_ns + AROUND_NS]
    touched = [o for o in operations if o.call_ns <= end_ns and (o.return_ns is None or o.return_ns >= strike_ns)]
    touched = [o for o in touched if o.return_ns is not None or o.call_ns >= strike_ns - AROUND_NS]
    if not around and not touched:
        return {}
    return {
        "worst_client_gap_s": _worst_gap(around, "client", strike_ns, end_ns),
        "worst_key_gap_s": _worst_gap(around, "key", strike_ns, end_ns),
        "failed": sum(o.status == FAIL for o in touched),
        "unknown": sum(o.status == INFO for o in touched),
        "delayed": sum(o.status == OK and (o.return_ns or 0) - o.call_ns > DELAYED_NS for o in touched),
    }


def summary_of(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Min, median and max of each figure over the faults that have it."""
    rows = list(rows)
    found: dict[str, dict[str, float]] = {}
    for name in SUMMED_UP:
        values = [float(row[name]) for row in rows if row.get(name) is not None]
        if values:
            found[name] = {
                "min": min(values),
                "median": round(statistics.median(values), 4),
                "max": max(values),
                "count": len(values),
            }
    return found


def _worst_gap(operations: Iterable[Operation], by: str, strike_ns: int, end_ns: int) -> float | None:
    """The longest time between two successes of one client (or on one key) that touches the window."""
    successes: dict[tuple[str, Any], list[int]] = defaultdict(list)
    for operation in operations:
        if operation.status == OK and operation.return_ns is not None:
            owner = (operation.process, operation.client) if by == "client" else ("", operation.key)
            successes[owner].append(operation.return_ns)
    worst = 0
    for times in successes.values():
        times.sort()
        for earlier, later in itertools.pairwise(times):
            if later >= strike_ns and earlier <= end_ns:
                worst = max(worst, later - earlier)
    return _seconds(worst) if worst else None


def _seconds(duration_ns: int) -> float:
    return round(duration_ns / NS_PER_S, 4)
