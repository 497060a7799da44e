"""outages.csv: what each fault cost the clients, from the history; and min / median / max over the faults of a run.

The window of a fault begins when it strikes and ends with the first acknowledged write after it (or its heal).
Operations count for a fault when they were under way in its window.
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
from records.run_directory import OUTAGES_CSV, RunDirectory
from swarmproof.phases import Moments, percentiles_of

NS_PER_S = 1_000_000_000
# Around the window: a gap begins with the last success before the strike and ends with the first one after it.
AROUND_NS = 5 * NS_PER_S
# Slower than this is delayed: many times a healthy answer, shorter than an election.
DELAYED_NS = NS_PER_S // 10

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
)
SUMMED_UP = ("detection_s", "new_leader_s", "first_ack_s", "back_to_baseline_s", "worst_client_gap_s")


def write_outages(run: RunDirectory) -> dict[str, dict[str, float]]:
    """Write outages.csv and give {"first_ack_s": {"min", "median", "max", "count"}, ...}; {} without faults.

    Errors: HistoryError.
    """
    faults = [fault for fault in read_faults(run) if fault.took_effect]
    if not faults:
        return {}
    operations = [_without_values(o) for o in read_operations(run) if not o.final and o.process != "supervisor"]
    moments, latency = Moments(operations), LatencyStore.load(run)
    rows = [outage_of(fault, operations) | phases_of(fault, moments, latency) for fault in faults]
    with run.file(OUTAGES_CSV).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return summary_of(rows)


def _without_values(operation: Operation) -> Operation:
    """Times and outcomes are all that counts here; a million lists that were read would take gigabytes."""
    operation.value = operation.expect = operation.out = None
    return operation


def outage_of(fault: FaultRecord, operations: Sequence[Operation]) -> dict[str, Any]:
    """One row; None where there was nothing to measure."""
    strike_ns = fault.requested_ns
    first_ack_s = fault.figures.get("first_ack_s")
    end_ns = window_end_ns(fault)
    touched = [o for o in operations if o.call_ns <= end_ns and (o.return_ns is None or o.return_ns >= strike_ns)]
    touched = [o for o in touched if o.return_ns is not None or o.call_ns >= strike_ns - AROUND_NS]
    bad = [o for o in touched if o.status in (FAIL, INFO)]
    errors_ns = [o.return_ns for o in bad if o.return_ns is not None]
    around = [o for o in operations if strike_ns - AROUND_NS <= o.call_ns <= end_ns + AROUND_NS]
    return {
        "id": fault.id,
        "kind": fault.kind,
        "chosen": fault.chosen,
        "elapsed_s": fault.elapsed_s,
        "took_effect": fault.took_effect,
        "detection_s": _seconds(min(errors_ns) - strike_ns) if errors_ns else None,
        "new_leader_s": fault.figures.get("new_leader_s"),
        "first_ack_s": first_ack_s,
        "worst_client_gap_s": _worst_gap(around, "client", strike_ns, end_ns),
        "worst_key_gap_s": _worst_gap(around, "key", strike_ns, end_ns),
        "failed": sum(o.status == FAIL for o in bad),
        "unknown": sum(o.status == INFO for o in bad),
        "delayed": sum(o.status == OK and (o.return_ns or 0) - o.call_ns > DELAYED_NS for o in touched),
        "healed_after_s": _seconds(fault.healed_ns - strike_ns) if fault.healed_ns is not None else None,
    }


def phases_of(fault: FaultRecord, moments: Moments, latency: LatencyStore) -> dict[str, Any]:
    """The columns that compare the time of the fault with the time around it."""
    strike_ns = fault.requested_ns
    end_ns = window_end_ns(fault)
    back_s = moments.back_after_s(strike_ns, end_ns)
    over_ns = strike_ns + int(back_s * NS_PER_S) if back_s is not None else end_ns
    return {
        "detection_s": moments.detected_after_s(strike_ns, end_ns),
        "back_to_baseline_s": back_s,
        "lost_operations": moments.lost_operations(strike_ns, over_ns),
        **percentiles_of(latency, strike_ns, over_ns),
    }


def window_end_ns(fault: FaultRecord) -> int:
    """The first acknowledged write after the strike, or else the heal."""
    first_ack_s = fault.figures.get("first_ack_s")
    if first_ack_s is not None:
        return fault.requested_ns + int(first_ack_s * NS_PER_S)
    return fault.healed_ns or fault.requested_ns


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
