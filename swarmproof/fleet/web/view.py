"""What the page at /swarmproof draws, as plain data: times in seconds from the start of the load, latencies in ms."""

from typing import Any, Final

from records.run_directory import REPORT_HTML
from records.violations import INFORMATIONAL
from swarmproof.fleet.live import Live, Second
from swarmproof.fleet.standing import standing, verdict_class
from swarmproof.fleet.web.tabs import figures_of

#: More points than this on a time axis show nothing more; longer runs are shown in wider stretches.
MAX_POINTS: Final = 300

#: Locust's workers report every three seconds: the newest seconds of a fleet are not there yet, which is no outage.
WORKERS_LAG_S: Final = 4

#: Marks of violations on the chart; the numbers stand in the table.
MAX_MARKS: Final = 200


def view(live: Live, now_ns: int) -> dict[str, Any]:
    """Everything that the page shows, at `now_ns` (monotonic)."""
    status = live.status()
    now = standing(live)
    counts, examples = live.violations()
    leader = status.leader()
    return {
        "state": live.state,
        "now": round(live.elapsed_s(now_ns if live.is_loading else live.end_ns or now_ns), 1) if live.start_ns else 0,
        "run": live.run.path.name if live.run else "",
        "title": str(live.facts().get("title") or ""),
        "problem": live.problem,
        "users": live.users,
        "total": _total(live),
        "series": _series(live, now_ns),
        "faults": [_fault(live, fault, live.outages().get(fault.id, {})) for fault in live.faults()],
        "leaders": [
            {
                "at": round(live.elapsed_s(change.at_ns), 2),
                "cluster": change.cluster,
                "name": change.leader,
                "term": change.term,
            }
            for change in live.leaders()
        ],
        "violations": {
            "kinds": [
                [kind, operation, number, "plain" if kind in INFORMATIONAL else "bad"]
                for (kind, operation), number in sorted(counts.items())
            ],
            "marks": [
                {"at": round(live.elapsed_s(example.at_ns), 2), "kind": example.kind}
                for example in examples
                if example.kind not in INFORMATIONAL
            ][:MAX_MARKS],
        },
        "nodes": status.nodes,
        "leader": {"name": leader[0], "term": leader[1]} if leader else None,
        "supervisor": {
            "available": status.reply is not None,
            "reason": status.reason,
            "links": bool((status.reply or {}).get("links")),
            "active": status.active,
        },
        "standing": {
            "verdict": now.verdict,
            "class": verdict_class(now.verdict),
            "summary": now.summary,
            "checks": [[name, says, because, verdict_class(says)] for name, says, because in now.checks],
            "counterexample": (now.counterexample or {}).get("sentence", ""),
        },
        "report": bool(live.run and live.run.file(REPORT_HTML).exists() and now.is_final),
    }


def _total(live: Live) -> dict[str, float]:
    total = live.total()
    dropped = next((line["dropped"] for line in reversed(live.progress()) if "dropped" in line), 0)
    return {
        "count": total.count,
        "failed": total.failed,
        "unknown": total.unknown,
        "dropped": dropped,
        "p50": total.p50_us / 1000,
        "p99": total.p99_us / 1000,
    }


def _series(live: Live, now_ns: int) -> dict[str, Any]:
    """Columns of equal length: middle of each stretch, p50 p99 max (None where nothing ended), rates per second."""
    found = {second.at_s: second for second in live.seconds()}
    if not found or not live.start_ns:
        return {
            "width": 1,
            "t": [],
            "p50": [],
            "p99": [],
            "max": [],
            "ok": [],
            "failed": [],
            "unknown": [],
            "dropped": [],
        }
    first = min(found)
    last = max(found) + 1
    if live.is_loading:  # a second in which nothing ended is an outage, not the end; the present one is not over
        lag_s = WORKERS_LAG_S if live.has_workers else 0
        last = max(first + 1, min(max(last, now_ns // 1_000_000_000 - lag_s), now_ns // 1_000_000_000))
    width = max(1, -(-(last - first) // MAX_POINTS))
    starts = range(first, last, width)
    stretches = [[found[at] for at in range(start, min(start + width, last)) if at in found] for start in starts]
    dropped = _dropped(live, starts, width)
    columns: dict[str, Any] = {
        "width": width,
        "t": [round(live.elapsed_s(start * 1_000_000_000) + width / 2, 2) for start in starts],
        "dropped": dropped,
    }
    for name in ("p50", "p99", "max"):
        columns[name] = [_worst(stretch, f"{name}_us") for stretch in stretches]
    for name in ("ok", "failed", "unknown"):
        columns[name] = [round(sum(getattr(second, name) for second in stretch) / width, 1) for stretch in stretches]
    return columns


def _worst(stretch: list[Second], name: str) -> float | None:
    """The worst second of a stretch: percentiles of several seconds cannot be averaged."""
    return max((round(getattr(second, name) / 1000, 3) for second in stretch if second.count), default=None)


def _dropped(live: Live, starts: range, width: int) -> list[float]:
    """Arrivals of an open load that nobody could issue, per second: progress counts them up."""
    rates = [0.0] * len(starts)
    before = 0
    for line in live.progress():
        count, at_ns = line.get("dropped"), line.get("at_ns")
        if not isinstance(count, int) or not isinstance(at_ns, int):
            continue
        place = (at_ns // 1_000_000_000 - 1 - starts.start) // width
        if count > before and 0 <= place < len(rates):
            rates[place] += (count - before) / width
        before = count
    return rates


def _fault(live: Live, fault: Any, outage: dict[str, str]) -> dict[str, Any]:
    begin = live.elapsed_s(fault.effect_ns or fault.requested_ns)
    figures = figures_of(fault, outage)
    return {
        "id": fault.id,
        "kind": fault.kind,
        "target": fault.chosen or fault.target,
        "at": round(begin, 2),
        "until": round(live.elapsed_s(fault.healed_ns), 2) if fault.healed_ns is not None else None,
        "took_effect": fault.took_effect,
        "pending": fault.effect_ns is None and fault.healed_ns is None and not fault.error,
        "seen": fault.observed,
        "error": fault.error,
        "figures": {name: None if figure is None else round(figure, 3) for name, figure in figures.items()},
    }
