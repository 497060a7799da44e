"""The tabs in Locust's own page: Percentiles, Faults, Verdict. Locust gives a tab one table, so each is one table.

Locust's page turns the keys of columns and rows into camel case and sorts rows by a column `name` if they have one;
the keys here are plain words, so that neither changes anything.
"""

from typing import Any, Final

from records.faults import FaultRecord
from swarmproof.fleet.live import Live
from swarmproof.fleet.standing import standing

Row = dict[str, Any]

PERCENTILES: Final = "swarmproof-percentiles"
FAULTS: Final = "swarmproof-faults"
VERDICT: Final = "swarmproof-verdict"

TABS: Final = [
    {"title": "Percentiles", "key": PERCENTILES},
    {"title": "Faults", "key": FAULTS},
    {"title": "Verdict", "key": VERDICT},
]

#: Tab -> key of a column -> its title.
COLUMNS: Final[dict[str, dict[str, str]]] = {
    PERCENTILES: {
        "operation": "Operation",
        "time": "Time",
        "count": "# ended",
        "failed": "# failed",
        "unknown": "# unknown",
        "rate": "Rate/s",
        "mid": "p50 (µs)",
        "ninety": "p90 (µs)",
        "ninetyfive": "p95 (µs)",
        "ninetynine": "p99 (µs)",
        "threenines": "p99.9 (µs)",
        "fournines": "p99.99 (µs)",
        "max": "Max (µs)",
    },
    FAULTS: {
        "at": "At",
        "what": "What",
        "target": "Target",
        "seen": "What was seen",
        "detection": "Detected after",
        "leader": "New leader after",
        "ack": "First ack after",
        "baseline": "Back to baseline after",
        "healed": "Healed after",
    },
    VERDICT: {"check": "Check", "says": "Says", "because": "Because"},
}

TABLES: Final = [
    {"key": key, "structure": [{"key": column, "title": title} for column, title in columns.items()]}
    for key, columns in COLUMNS.items()
]


def extended_stats(live: Live) -> list[dict[str, Any]]:
    """The rows of all tabs, as Locust's page wants them in `extended_stats`. Never empty: a reason instead."""
    return [
        {"key": PERCENTILES, "data": percentile_rows(live)},
        {"key": FAULTS, "data": fault_rows(live)},
        {"key": VERDICT, "data": verdict_rows(live)},
    ]


def percentile_rows(live: Live) -> list[Row]:
    """Response and service time of each operation, in microseconds."""
    rows = [
        {
            "operation": summary.operation,
            "time": kind,
            "count": summary.count,
            "failed": summary.failed,
            "unknown": summary.unknown,
            "rate": round(summary.rate, 1),
            "mid": round(summary.p50_us),
            "ninety": round(summary.p90_us),
            "ninetyfive": round(summary.p95_us),
            "ninetynine": round(summary.p99_us),
            "threenines": round(summary.p999_us),
            "fournines": round(summary.p9999_us),
            "max": round(summary.max_us),
        }
        for kind, summary in live.summaries()
    ]
    return rows or [_only(PERCENTILES, "no operation has ended yet" if live.run else "no test has been started yet")]


def fault_rows(live: Live) -> list[Row]:
    """First who leads and how each process is, then the faults, the newest first."""
    status = live.status()
    rows = [
        {
            "at": "now",
            "what": str(row.get("kind", "")),
            "target": str(row.get("name", "")),
            "seen": _node(row),
        }
        for row in status.nodes
    ]
    if not rows:
        rows.append({"at": "now", "what": "supervisor", "target": "", "seen": status.reason})
    elif any(row.get("role") for row in status.nodes):
        found = status.leader()
        text = f"{found[0]} leads term {found[1]}" if found else "nobody leads at the moment"
        rows.insert(0, {"at": "now", "what": "leader", "target": found[0] if found else "", "seen": text})
    outages = live.outages()
    rows += [_fault(live, fault, outages.get(fault.id, {})) for fault in reversed(live.faults())]
    if not live.faults():
        rows.append({"at": "", "what": "no fault has struck yet", "target": "", "seen": ""})
    empty = dict.fromkeys(COLUMNS[FAULTS], "")
    return [empty | row for row in rows]


def verdict_rows(live: Live) -> list[Row]:
    """The verdict (or why there is none yet), each check, and the counterexample's operations."""
    now = standing(live)
    rows = [{"check": "VERDICT", "says": now.verdict.upper(), "because": now.summary}]
    rows += [{"check": name, "says": says, "because": because} for name, says, because in now.checks]
    if now.counterexample:
        rows.append({"check": "counterexample", "says": "", "because": str(now.counterexample.get("sentence", ""))})
    return rows


def figures_of(fault: FaultRecord, outage: dict[str, str]) -> dict[str, float | None]:
    """Seconds from the strike: what the supervisor timed, and what the history showed once the run was over."""
    found: dict[str, float | None] = {}
    for name in ("detection_s", "new_leader_s", "first_ack_s", "back_to_baseline_s"):
        figure = fault.figures.get(name)
        if figure is None:
            try:
                figure = float(outage.get(name) or "")
            except ValueError:
                figure = None
        found[name] = figure
    struck_ns = fault.effect_ns or fault.requested_ns
    found["healed_s"] = (fault.healed_ns - struck_ns) / 1e9 if fault.healed_ns is not None else None
    return found


def _fault(live: Live, fault: FaultRecord, outage: dict[str, str]) -> Row:
    figures = figures_of(fault, outage)
    seen = fault.observed if fault.took_effect else f"did not take effect: {fault.error or fault.observed}"
    return {
        "at": _seconds(live.elapsed_s(fault.effect_ns or fault.requested_ns)),
        "what": fault.kind,
        "target": fault.chosen or fault.target,
        "seen": seen,
        "detection": _seconds(figures["detection_s"]),
        "leader": _seconds(figures["new_leader_s"]),
        "ack": _seconds(figures["first_ack_s"]),
        "baseline": _seconds(figures["back_to_baseline_s"]),
        "healed": _seconds(figures["healed_s"]) or ("" if not fault.took_effect else "not yet"),
    }


def _node(row: dict[str, Any]) -> str:
    role = f"{row['role']} in term {row['term']}, " if row.get("role") else ""
    pid = f" (pid {row['pid']})" if row.get("pid") else ""
    return f"{role}{row.get('state', '')}{pid} at {row.get('address', '')}"


def _seconds(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.2f}\u00a0s"  # a narrow column must not part them


def _only(tab: str, text: str) -> Row:
    """A row that says why there are no others."""
    columns = dict.fromkeys(COLUMNS[tab], "")
    return columns | {next(iter(columns)): text}
