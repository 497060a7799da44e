"""The line of progress.jsonl that the process commanding a load writes once a second."""

import time
from collections.abc import Generator
from typing import Any, Final

from locust.runners import MasterRunner

from records.latency import LatencyStore
from records.offered import Offered
from swarmproof.fleet.abort import WORKERS_LAG_S
from swarmproof.fleet.health import Health

#: The rate now is that of the last whole seconds.
_RECENT_S: Final = 3


def progress_line(
    runner: Any, store: LatencyStore, start_ns: int, *, health: Health, offered: Offered, lost_workers: int
) -> Generator[None, None, dict[str, Any]]:
    """How the load stands; times of the monotonic clock, `rate` per second. In parts: operations may be many."""
    now_ns = time.monotonic_ns()
    elapsed_s = (now_ns - start_ns) / 1e9
    operations, summaries = {}, []
    for name in store.operations():
        store.histogram(name)  # merges what is new
        yield
        one = store.summary(name)
        summaries.append(one)
        operations[name] = {
            "count": one.count,
            "failed": one.failed,
            "unknown": one.unknown,
            "rate": one.rate,
            "p50_us": one.p50_us,
            "p99_us": one.p99_us,
        }
        yield
    summary = summaries[0] if len(summaries) == 1 else store.summary()
    yield
    is_master = isinstance(runner, MasterRunner)
    return {
        "at_ns": now_ns,
        "start_ns": start_ns,
        "elapsed_s": elapsed_s,
        "state": runner.state,
        "users": runner.user_count,
        "workers": len(runner.clients.ready + runner.clients.running + runner.clients.spawning) if is_master else 0,
        "lost_workers": lost_workers,
        "count": summary.count,
        "failed": summary.failed,
        "unknown": summary.unknown,
        "cancelled": summary.cancelled,
        "rate": _recent_rate(store, now_ns // 1_000_000_000 - (WORKERS_LAG_S if is_master else 0)),
        "fail_ratio": summary.failed / max(1, summary.count),
        "hub_lag_p99_s": health.lag_p99_s(),
        "generator_cpu_share": health.cpu_share(),
        "errors": sum(error.occurrences for error in runner.errors.values()),
        "p50_us": summary.p50_us,
        "p99_us": summary.p99_us,
        "operations": operations,
        **offered.facts(),
    }


def _recent_rate(store: LatencyStore, known_s: int) -> float:
    """Over the last seconds that are over (all of them are known that begin before `known_s`) and that the load filled:
    not the newest one, not the first."""
    newest_s = store.newest_second()
    if newest_s is None:
        return 0.0
    first_s, _ = store.span().whole_seconds()
    end_s = max(newest_s, known_s)
    begin_s = max(first_s, end_s - _RECENT_S)
    return sum(store.outcomes(None, begin_s, end_s)[:3]) / (end_s - begin_s) if end_s > begin_s else 0.0
