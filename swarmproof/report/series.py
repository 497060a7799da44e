"""The numbers behind the charts: per stretch of time, per operation, as plain lists ready for JSON."""

from typing import Any

from records.latency import RESPONSE, LatencyStore
from swarmproof.report.contents import Contents

#: More points than this on a time axis show nothing more; longer runs are shown in wider stretches.
MAX_POINTS = 600

#: The name under which all operations together stand.
ALL = "all operations"

#: Percentiles of the curve: evenly spread on the axis of "nines" that the tail needs.
_CURVE = (0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.99, 99.999)


def time_series(contents: Contents) -> dict[str, dict[str, list[float | None]]]:
    """Per operation (and for all): ``t`` seconds, ``p50 p99 max`` in ms, ``ok failed unknown`` per second."""
    store = contents.latency
    seconds = store.seconds()
    if not seconds:
        return {}
    first, last = seconds[0], seconds[-1] + 1
    width = max(1, -(-(last - first) // MAX_POINTS))
    names: list[str | None] = [None, *store.operations()] if len(store.operations()) > 1 else [*store.operations()]
    zero_s = (contents.start_ns or first * 1_000_000_000) / 1_000_000_000
    return {name or ALL: _series(store, name, range(first, last, width), width, zero_s) for name in names}


def _series(
    store: LatencyStore, name: str | None, starts: range, width: int, zero_s: float
) -> dict[str, list[float | None]]:
    series: dict[str, list[float | None]] = {
        field: [] for field in ("t", "p50", "p99", "max", "ok", "failed", "unknown")
    }
    for start in starts:
        summary = store.summary(name, RESPONSE, start, start + width)
        measured = summary.count > 0
        series["t"].append(round(start + width / 2 - zero_s, 3))
        series["p50"].append(summary.p50_us / 1000 if measured else None)
        series["p99"].append(summary.p99_us / 1000 if measured else None)
        series["max"].append(summary.max_us / 1000 if measured else None)
        series["ok"].append((summary.count - summary.failed - summary.unknown) / width)
        series["failed"].append(summary.failed / width)
        series["unknown"].append(summary.unknown / width)
    return series


def percentile_curves(contents: Contents) -> dict[str, dict[str, list[float]]]:
    """Per operation: ``x`` = 1 / (1 - p), for a logarithmic axis, and ``ms``; as far as the samples reach."""
    curves: dict[str, dict[str, list[float]]] = {}
    for name in contents.latency.operations():
        histogram = contents.latency.histogram(name, RESPONSE)
        if not histogram.total:
            continue
        reached = [percent for percent in _CURVE if percent < 100 * (1 - 1 / (histogram.total + 1)) or percent <= 50]
        curves[name] = {
            "x": [1 / (1 - percent / 100) for percent in reached],
            "ms": [histogram.percentile_us(percent) / 1000 for percent in reached],
        }
    return curves


def fault_bands(contents: Contents) -> list[dict[str, Any]]:
    """Per fault: from its effect to the first acknowledged write after it (``to`` = ``from`` when not known)."""
    bands = []
    for fault in contents.faults:
        at_s = contents.fault_at_s(fault)
        lasted = [figure for name in ("first_ack_s", "new_leader_s") if (figure := fault.figures.get(name)) is not None]
        healed_s = contents.elapsed_s(fault.healed_ns) if fault.healed_ns is not None else None
        bands.append(
            {
                "from": round(at_s, 3),
                "to": round(at_s + (lasted[0] if lasted else 0.0), 3),
                "healed": None if healed_s is None else round(healed_s, 3),
                "text": f"{fault.kind} {fault.chosen or fault.target}",
                "took_effect": fault.took_effect,
            }
        )
    return bands
