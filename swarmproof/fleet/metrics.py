"""Prometheus text of a whole run, from the process that commands it: what all workers reported, added up.

    swarmproof_requests_total{operation="envelope echo",outcome="ok"} 48211.0

Under the web UI it is at ``/metrics`` (behind the same login, if there is one); ``--metrics-port`` serves it on a port
of its own, headless too. Nothing is counted twice for it: every scrape reads what the run keeps anyway. A new run in
the same process starts the counters anew, which Prometheus takes for a restart.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

import gevent.pool
import gevent.pywsgi
import numpy as np
from locust.runners import MasterRunner
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from records.breakers import BREAKER_FILES, Breakers, read_breakers
from records.faults import read_faults
from records.histogram import Histogram, highest_equivalent_us
from records.latency import RESPONSE, SERVICE, LatencyStore
from records.leadership import Leader, read_leaders
from records.offered import Offered
from records.run_directory import VERDICT_JSON, RunDirectory, RunDirectoryError
from records.violations import read_violations
from swarmproof.fleet.health import Health

logger = logging.getLogger(__name__)

#: From what a loopback takes to what nobody waits for.
BUCKETS_S: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
QUANTILES: Final = (0.5, 0.9, 0.95, 0.99, 0.999, 0.9999)
OUTCOME_NAMES: Final = ("ok", "failed", "unknown", "cancelled")  # in the order of records.latency.OUTCOMES
VERDICTS: Final = ("pending", "valid", "invalid", "unknown")
BREAKER_STATES: Final = {"closed": "closes", "open": "opens", "half-open": "half_opens"}  # and what coming into one is
WORKER_STATES: Final = ("ready", "spawning", "running", "missing")

#: Texts of errors are of low cardinality; a locustfile of somebody's own may not know that.
MAX_ERRORS: Final = 100

#: Two Prometheus servers, somebody looking, and room; more wait their turn.
SCRAPERS: Final = 8


class Run(Protocol):
    """What a scrape looks at: the extension of the commanding process."""

    environment: Any
    run: RunDirectory | None
    store: LatencyStore

    @property
    def health(self) -> Health: ...

    @property
    def offered(self) -> Offered: ...

    @property
    def lost_workers(self) -> set[str]: ...


class RunCollector(Collector):
    """Reads a run whenever it is scraped."""

    def __init__(self, of: Run) -> None:
        self._of = of
        self._violations = _Cached(_count_violations)
        self._faults = _Cached(read_faults)
        self._leaders = _Cached(read_leaders)
        self._breakers = _Cached(read_breakers)

    def describe(self) -> Iterable[Metric]:
        """Nothing is known in advance; without this the registry would scrape once to find out."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._load()
        if self._of.run is not None:
            yield from self._judgement(self._of.run)
            yield from self._cluster(self._of.run)
            yield from self._circuit_breakers(self._of.run)

    def _requests(self) -> Iterator[Metric]:
        store = self._of.store
        requests = CounterMetricFamily(
            "swarmproof_requests", "Requests that ended, by operation and outcome.", labels=["operation", "outcome"]
        )
        families = {
            RESPONSE: HistogramMetricFamily(
                "swarmproof_response_time_seconds",
                "From when a request was meant to be sent until its reply was parsed.",
                labels=["operation"],
            ),
            SERVICE: HistogramMetricFamily(
                "swarmproof_service_time_seconds",
                "From the first byte sent until the reply was parsed.",
                labels=["operation"],
            ),
        }
        quantiles = Metric(
            "swarmproof_response_time_quantile_seconds",
            "Percentiles of response times over the whole run.",
            "summary",
        )
        for operation in store.operations():
            for outcome, count in zip(OUTCOME_NAMES, store.outcomes(operation), strict=True):
                requests.add_metric([operation, outcome], count)
            for kind, family in families.items():
                histogram = store.histogram(operation, kind)
                family.add_metric([operation], buckets=_buckets(histogram), sum_value=histogram.sum_us / 1e6)
            histogram = store.histogram(operation)
            for quantile in QUANTILES:
                labels = {"operation": operation, "quantile": f"{quantile:g}"}
                quantiles.add_sample(quantiles.name, labels, histogram.percentile_us(quantile * 100) / 1e6)
            quantiles.add_sample(f"{quantiles.name}_sum", {"operation": operation}, histogram.sum_us / 1e6)
            quantiles.add_sample(f"{quantiles.name}_count", {"operation": operation}, histogram.total)
        errors = CounterMetricFamily(
            "swarmproof_errors", "Failures by their text, as in Locust's table.", labels=["operation", "error"]
        )
        of_locust = self._of.environment.runner.errors if self._of.environment.runner is not None else {}
        for error in list(of_locust.values())[:MAX_ERRORS]:
            errors.add_metric([error.name, str(error.error)], error.occurrences)
        yield from (requests, *families.values(), quantiles, errors)

    def _load(self) -> Iterator[Metric]:
        of, runner = self._of, self._of.environment.runner
        yield _gauge("swarmproof_users", "Users that run now.", runner.user_count if runner is not None else 0)
        workers = GaugeMetricFamily(
            "swarmproof_workers", "Workers of this master by state; none when there is no fleet.", labels=["state"]
        )
        if isinstance(runner, MasterRunner):
            states = Counter(client.state for client in runner.clients.values())
            for state in WORKER_STATES:
                workers.add_metric([state], states[state])
        yield workers
        yield _counter("swarmproof_workers_lost", "Workers that went missing in this run.", len(of.lost_workers))
        arrivals = CounterMetricFamily(
            "swarmproof_arrivals", "Arrivals of an open load by what became of them.", labels=["outcome"]
        )
        for outcome in ("issued", "dropped", "unissued"):
            arrivals.add_metric([outcome], getattr(of.offered, outcome))
        yield arrivals
        yield _gauge(
            "swarmproof_generator_lag_seconds",
            "How late the worst process's event loop wakes its users (p99 of the run).",
            of.health.lag_p99_s(),
        )
        if of.health.knows_unread:
            yield _gauge(
                "swarmproof_generator_unread_seconds",
                "How long replies lay in the kernel until the worst process read them (p99 of the run).",
                of.health.unread_p99_s(),
            )
        yield _gauge(
            "swarmproof_generator_cpu_ratio", "Share of one core that the busiest process uses.", of.health.cpu_share()
        )

    def _judgement(self, run: RunDirectory) -> Iterator[Metric]:
        violations = CounterMetricFamily(
            "swarmproof_violations", "Replies that were not what was asked for.", labels=["kind", "operation"]
        )
        for (kind, operation), count in self._violations.of(run, sorted(run.violations_dir.glob("*"))).items():
            violations.add_metric([kind, operation], count)
        yield violations
        records = self._faults.of(run, [run.file("faults.jsonl")])
        faults = CounterMetricFamily(
            "swarmproof_faults", "Faults that were asked for, by whether an effect was seen.", labels=["kind", "effect"]
        )
        for (kind, seen), count in sorted(Counter((one.kind, one.took_effect) for one in records).items()):
            faults.add_metric([kind, "seen" if seen else "none"], count)
        yield faults
        active = sum(one.took_effect and one.healed_ns is None for one in records)
        yield _gauge("swarmproof_faults_active", "Faults that have taken effect and are not healed.", active)
        verdict = GaugeMetricFamily(
            "swarmproof_verdict", "1 for the verdict on this run; pending until it is judged.", labels=["verdict"]
        )
        found = _verdict_of(run)
        for name in VERDICTS:
            verdict.add_metric([name], float(name == found))
        yield verdict

    def _cluster(self, run: RunDirectory) -> Iterator[Metric]:
        changes = self._leaders.of(run, [run.file("leadership.jsonl")])
        term = GaugeMetricFamily("swarmproof_cluster_term", "The term of the last known leader.", labels=["cluster"])
        leads = GaugeMetricFamily(
            "swarmproof_cluster_leader",
            "1 for the node that leads, 0 for the others.",
            labels=["cluster", "node"],
        )
        elected = CounterMetricFamily(
            "swarmproof_cluster_elections", "Leaders that were seen, one for each term.", labels=["cluster"]
        )
        for cluster in sorted({change.cluster for change in changes}):
            of_it: Sequence[Leader] = [change for change in changes if change.cluster == cluster]
            term.add_metric([cluster], max(change.term for change in of_it))
            for node in sorted({change.leader for change in of_it if change.leader is not None}):
                leads.add_metric([cluster, node], float(of_it[-1].leader == node))
            elected.add_metric([cluster], len({(one.term, one.leader) for one in of_it if one.leader is not None}))
        yield from (term, leads, elected)

    def _circuit_breakers(self, run: RunDirectory) -> Iterator[Metric]:
        found: Breakers = self._breakers.of(run, sorted(run.path.glob(BREAKER_FILES)))
        standing, entered = found.standing(), found.entered()
        state = GaugeMetricFamily(
            "swarmproof_circuit_breaker_state",
            "Processes whose circuit breaker for an address is in this state, of those in which it ever changed.",
            labels=["address", "state"],
        )
        refused = CounterMetricFamily(
            "swarmproof_circuit_breaker_refused",
            "Calls that circuit breakers refused: neither requests nor failures.",
            labels=["address"],
        )
        counters = {
            name: CounterMetricFamily(
                f"swarmproof_circuit_breaker_{counted}",
                f"Circuit breakers that came into the state {name}.",
                labels=["address"],
            )
            for name, counted in BREAKER_STATES.items()
        }
        for address in found.addresses():
            for name, counter in counters.items():
                state.add_metric([address, name.replace("-", "_")], standing[address, name])
                counter.add_metric([address], entered[address, name])
            refused.add_metric([address], found.refused[address])
        yield from (state, *counters.values(), refused)


class _Cached:
    """What was read from files, until they have changed: a scrape must not read an hour's records anew."""

    def __init__(self, read: Any) -> None:
        self._read = read
        self._seen: Any = None
        self._value: Any = None

    def of(self, run: RunDirectory, paths: Sequence[Any]) -> Any:
        seen: list[Any] = [run.path]
        for path in paths:
            try:
                state = path.stat()
            except OSError:
                continue
            seen.append((path, state.st_size, state.st_mtime_ns))
        if seen != self._seen:
            self._value, self._seen = self._read(run), seen
        return self._value


def _count_violations(run: RunDirectory) -> Counter[tuple[str, str]]:
    return read_violations(run)[0]


def _verdict_of(run: RunDirectory) -> str:
    try:
        written = run.read_json(VERDICT_JSON)
    except RunDirectoryError:
        return "pending"
    verdict = written.get("verdict") if isinstance(written, dict) else None
    return verdict if verdict in VERDICTS else "pending"


def _gauge(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    family = CounterMetricFamily(name, text)
    family.add_metric([], value)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts up to each bound; a value counts below a bound when its whole bucket is (three digits)."""
    tops_us = highest_equivalent_us(histogram.indices)
    ends = np.searchsorted(tops_us, [round(bound * 1e6) for bound in BUCKETS_S], side="right")
    running = np.concatenate([[0], np.cumsum(histogram.counts)])
    buckets = [(f"{bound:g}", float(running[end])) for bound, end in zip(BUCKETS_S, ends, strict=True)]
    return [*buckets, ("+Inf", float(histogram.total))]


class MetricsDoor:
    """Serves one registry over HTTP, at ``/metrics`` only."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        """Errors: OSError when the port cannot be had."""
        self._registry = registry
        self._server = gevent.pywsgi.WSGIServer(
            (host, port), self._application, spawn=gevent.pool.Pool(SCRAPERS), log=None, error_log=logger
        )
        self._server.start()
        self.port: int = self._server.server_port

    def _application(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] != "/metrics" or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"metrics are at /metrics\n"]
        start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
        return [generate_latest(self._registry)]

    def stop(self) -> None:
        self._server.stop(timeout=0)


def add_options(parser: Any) -> None:
    """`--metrics-port` and `--metrics-host`: of the process that commands the run."""
    group = parser.add_argument_group("swarmproof metrics", "Prometheus text of the whole run, from its master")
    group.add_argument(
        "--metrics-port",
        default="",
        metavar="PORT",
        help="serve /metrics at this port, headless too (0 picks one and logs it); the web UI has them anyway",
        env_var="SWARMPROOF_METRICS_PORT",
    )
    group.add_argument(
        "--metrics-host",
        default="127.0.0.1",
        metavar="HOST",
        help="address to serve it on (default: 127.0.0.1)",
        env_var="SWARMPROOF_METRICS_HOST",
    )


def serve(of: Run) -> MetricsDoor | None:
    """Add ``/metrics`` to the web UI, and open a port for it if one is asked for."""
    registry = CollectorRegistry()
    registry.register(RunCollector(of))
    environment = of.environment
    options = environment.parsed_options
    if environment.web_ui is not None:
        _add_route(environment.web_ui, getattr(options, "web_base_path", "") or "", registry)
    text = str(getattr(options, "metrics_port", "") or "") if options is not None else ""
    if not text:
        return None
    if not text.isdecimal() or int(text) > 65_535:
        logger.error("--metrics-port %s is not a port; give a number from 0 to 65535", text)
        return None
    try:
        door = MetricsDoor(registry, options.metrics_host, int(text))
    except OSError as error:
        logger.error(
            "cannot serve metrics at %s:%s: %s; choose another --metrics-port",
            options.metrics_host,
            text,
            error.strerror,
        )
        return None
    logger.info("metrics at http://%s:%d/metrics", options.metrics_host, door.port)
    return door


def _add_route(web_ui: Any, base: str, registry: CollectorRegistry) -> None:
    from flask import Response

    @web_ui.app.route(f"{base.rstrip('/')}/metrics")  # type: ignore[untyped-decorator]
    @web_ui.auth_required_if_enabled  # type: ignore[untyped-decorator]
    def metrics() -> Any:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
