"""The numbers behind the charts: per stretch of time, per operation, as plain lists ready for JSON."""

import itertools
from typing import Any, Final

from records.faults import FaultRecord
from records.histogram import Histogram, highest_equivalent_us, merge
from records.latency import RESPONSE, LatencyStore
from records.leadership import Leader
from records.rates import Stages, parse_stages
from swarmproof.judge.limits import PHASES, Stretch
from swarmproof.judge.thresholds import stretches_of
from swarmproof.report.contents import NS_PER_S, Contents
from swarmproof.report.wording import node

#: More points than this on a time axis show nothing more; longer runs are shown in wider stretches.
MAX_POINTS = 600

#: Points of the scatter of slow operations, of each operation: the slowest of those above this percentile.
MAX_SLOW_POINTS: Final = 400
_SLOW_PERCENT: Final = 99.0

#: A cluster that changes its leader more often than this is shown no further.
_MAX_RIBBON: Final = 500

#: Of less than this no rate can be told. At the end more is asked for: what was still under way then ends late.
_LEAST_AT_BEGIN_S: Final = 0.01
_LEAST_AT_END_S: Final = 0.05
_END_S: Final = 3

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
    # Requests that were cancelled as the load ended are no seconds of it.
    newest = store.by_second(start_s=max(first, last - _END_S))
    last = max((second + 1 for second, _, outcomes in newest if any(outcomes[:3])), default=last)
    width = max(1, -(-(last - first) // MAX_POINTS))
    names: list[str | None] = [None, *store.operations()] if len(store.operations()) > 1 else [*store.operations()]
    zero_s = zero_of(contents)
    return {name or ALL: _series(store, name, range(first, last, width), width, zero_s) for name in names}


def zero_of(contents: Contents) -> float:
    """The second of the monotonic clock that the charts count from."""
    seconds = contents.latency.seconds()
    return (contents.start_ns or (seconds[0] if seconds else 0) * NS_PER_S) / NS_PER_S


def _series(
    store: LatencyStore, name: str | None, starts: range, width: int, zero_s: float
) -> dict[str, list[float | None]]:
    series: dict[str, list[float | None]] = {
        field: [] for field in ("t", "p50", "p99", "max", "ok", "failed", "unknown")
    }
    gathered: dict[int, list[Histogram]] = {start: [] for start in starts}
    outcomes = {start: [0, 0, 0, 0] for start in starts}
    for second, histogram, ended in store.by_second(name, RESPONSE):
        if second >= starts.stop:
            break  # nothing but cancelled requests
        start = starts[(second - starts.start) // width]
        gathered[start].append(histogram)
        outcomes[start] = [sum(pair) for pair in zip(outcomes[start], ended, strict=True)]
    span = store.span()
    for start in starts:
        # The load begins and ends within a second, and the run within a stretch: what it did not fill is no lull.
        ran_s = span.overlap_s(start, start + width)
        per_s = ran_s if ran_s >= (_LEAST_AT_BEGIN_S if start <= span.begin_s else _LEAST_AT_END_S) else width
        histogram = merge(gathered[start])
        ok, failed, unknown, _ = outcomes[start]
        measured = histogram.total > 0
        p50_us, p99_us = histogram.percentiles_us((50, 99))
        series["t"].append(round(start + width / 2 - zero_s, 3))
        series["p50"].append(p50_us / 1000 if measured else None)
        series["p99"].append(p99_us / 1000 if measured else None)
        series["max"].append(histogram.max_us / 1000 if measured else None)
        series["ok"].append(round(ok / per_s, 3))
        series["failed"].append(round(failed / per_s, 3))
        series["unknown"].append(round(unknown / per_s, 3))
    return series


def slow_operations(contents: Contents) -> dict[str, dict[str, list[float]]]:
    """Per operation (and for all) the slowest, each in the second in which it ended: ``t``, ``ms``, ``count``.

    From the histograms: the same for every protocol, and no more than a thousandth beside the truth.
    """
    store = contents.latency
    names: list[str | None] = [None, *store.operations()] if len(store.operations()) > 1 else [*store.operations()]
    zero_s = zero_of(contents)
    return {name or ALL: _slow(store, name, zero_s) for name in names}


def _slow(store: LatencyStore, name: str | None, zero_s: float) -> dict[str, list[float]]:
    limit_us = store.histogram(name, RESPONSE).percentile_us(_SLOW_PERCENT)
    points: list[tuple[float, float, int]] = []
    for second, histogram, _ in store.by_second(name, RESPONSE):
        values = highest_equivalent_us(histogram.indices)
        slow = values > limit_us
        middle_s = round(second + 0.5 - zero_s, 3)
        pairs = zip(values[slow].tolist(), histogram.counts[slow].tolist(), strict=True)
        points += [(middle_s, min(value, histogram.max_us) / 1000, number) for value, number in pairs]
    points = sorted(points, key=lambda point: -point[1])[:MAX_SLOW_POINTS]
    return {
        "t": [point[0] for point in points],
        "ms": [point[1] for point in points],
        "count": [point[2] for point in points],
    }


def arrivals(contents: Contents) -> dict[str, list[float]]:
    """Of an open load: ``t``, and per second what was ``offered`` (due by the schedule) and ``dropped``; {} for a
    closed load."""
    try:
        stages = parse_stages(str(contents.load.get("rate") or ""))
    except ValueError:
        return {}
    lines = [
        line for line in contents.progress if _is_number(line.get("elapsed_s")) and _is_number(line.get("dropped"))
    ]
    lines = lines[:: max(1, len(lines) // MAX_POINTS)]
    found: dict[str, list[float]] = {"t": [], "offered": [], "dropped": []}
    for before, line in itertools.pairwise([{"elapsed_s": 0.0, "dropped": 0}, *lines]):
        took_s = line["elapsed_s"] - before["elapsed_s"]
        if took_s <= 0:
            continue
        middle_s = (line["elapsed_s"] + before["elapsed_s"]) / 2
        found["t"].append(round(middle_s, 3))
        found["offered"].append(round(rate_at(stages, middle_s), 2))
        found["dropped"].append(round(max(0.0, (line["dropped"] - before["dropped"]) / took_s), 2))
    return found if found["t"] else {}


def rate_at(stages: Stages, at_s: float) -> float:
    """The rate that a schedule asks for at a moment; 0 when it is over."""
    for stage in stages:
        if stage.duration_s is None:
            return stage.first_per_s
        if at_s < stage.duration_s:
            return stage.first_per_s + (stage.last_per_s - stage.first_per_s) * at_s / stage.duration_s
        at_s -= stage.duration_s
    return 0.0


def percentile_curves(contents: Contents) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Per operation (and for all) and phase of the run: ``x`` = 1 / (1 - p), for a logarithmic axis, and ``ms``;
    as far as the samples reach. Without faults there is only the whole run."""
    store = contents.latency
    names: list[str | None] = [None, *store.operations()] if len(store.operations()) > 1 else [*store.operations()]
    phases = phases_of(contents)
    curves: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name in names:
        by_second = [(second, histogram) for second, histogram, _ in store.by_second(name, RESPONSE)]
        found = {}
        for phase, stretches in phases.items():
            chosen = [h for second, h in by_second if any(start <= second < end for start, end in stretches)]
            histogram = merge(chosen)
            if histogram.total:
                found[phase] = curve_of(histogram)
        if found:
            curves[name or ALL] = found
    return curves


def phases_of(contents: Contents) -> dict[str, list[Stretch]]:
    """The whole run and, when there were faults, before, during and after them, as thresholds have it."""
    seconds = contents.latency.seconds()
    if not seconds:
        return {}
    whole = (seconds[0], seconds[-1] + 1)
    found = {"whole run": [whole]}
    for phase in PHASES:
        stretches = stretches_of(contents.faults, phase, whole)
        if stretches:
            found[f"{phase} faults"] = stretches
    return found


def curve_of(histogram: Histogram) -> dict[str, list[float]]:
    """``x`` and ``ms`` of one histogram; no percentile is shown that fewer than one sample lies above."""
    reached = [percent for percent in _CURVE if percent < 100 * (1 - 1 / (histogram.total + 1)) or percent <= 50]
    return {
        "x": [1 / (1 - percent / 100) for percent in reached],
        "ms": [time_us / 1000 for time_us in histogram.percentiles_us(reached)],
    }


def leader_ribbon(contents: Contents) -> list[dict[str, Any]]:
    """Who led, as stretches ``from``, ``to`` seconds with ``leader`` (None: nobody), ``term`` and ``cluster``.

    From the recorded changes; of a run that has none, from what was seen around its faults.
    """
    seconds = contents.latency.seconds()
    if not seconds:
        return []
    changes = contents.leaders or _leaders_from_faults(contents)
    end_s = seconds[-1] + 1 - zero_of(contents)
    first_s = min(0.0, seconds[0] - zero_of(contents))
    stretches: list[dict[str, Any]] = []
    for cluster in dict.fromkeys(change.cluster for change in changes):
        own = [change for change in changes if change.cluster == cluster]
        for change, following in zip(own, [*own[1:], None], strict=True):
            begin = max(contents.elapsed_s(change.at_ns), first_s)
            end = min(contents.elapsed_s(following.at_ns), end_s) if following is not None else end_s
            if end > begin:
                stretches.append(
                    {
                        "from": round(begin, 3),
                        "to": round(end, 3),
                        "leader": change.leader,
                        "term": change.term,
                        "cluster": cluster,
                    }
                )
    return stretches[:_MAX_RIBBON]


def _leaders_from_faults(contents: Contents) -> list[Leader]:
    changes: list[Leader] = []
    for fault in contents.faults:
        before, after = fault.before.get("leader"), fault.after.get("leader")
        if not changes and before:
            changes.append(Leader(contents.start_ns or 0, "", node(before), _term(fault.before)))
        new_leader_s = fault.figures.get("new_leader_s")
        if new_leader_s is not None and after:
            changes.append(Leader(fault.requested_ns, "", None, _term(fault.before)))
            changes.append(
                Leader(fault.requested_ns + int(new_leader_s * NS_PER_S), "", node(after), _term(fault.after))
            )
    return changes


def _term(state: dict[str, Any]) -> int:
    term = state.get("term")
    return term if isinstance(term, int) else 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def fault_bands(contents: Contents) -> list[dict[str, Any]]:
    """Per fault: ``from`` its effect ``to`` the end of the outage: the first acknowledged write or new leader after it,
    without them its heal, and without that the end of the run. ``to`` = ``from`` when it took no effect."""
    seconds = contents.latency.seconds()
    end_s = seconds[-1] + 1 - zero_of(contents) if seconds else 0.0
    bands = []
    for fault in contents.faults:
        at_s = contents.fault_at_s(fault)
        healed_s = contents.elapsed_s(fault.healed_ns) if fault.healed_ns is not None else None
        bands.append(
            {
                "from": round(at_s, 3),
                "to": round(max(at_s, _outage_end_s(contents, fault, healed_s, end_s)), 3),
                "healed": round(healed_s, 3) if healed_s is not None and fault.took_effect else None,
                "text": f"{fault.kind} {fault.chosen or fault.target}",
                "took_effect": fault.took_effect,
            }
        )
    return bands


def _outage_end_s(contents: Contents, fault: FaultRecord, healed_s: float | None, end_s: float) -> float:
    if not fault.took_effect:
        return contents.fault_at_s(fault)
    for name in ("first_ack_s", "new_leader_s"):
        figure_s = fault.figures.get(name)
        if figure_s is not None:  # counted from the strike, not from when its effect was seen
            return contents.elapsed_s(fault.requested_ns) + figure_s
    return end_s if healed_s is None else healed_s
