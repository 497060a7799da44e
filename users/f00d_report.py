"""What a run with F00D users shows beside the tables: their Prometheus metrics and the performance report (seed 003).

`--f00d-metrics-port 9400` serves /metrics from the start of the test to the end of the process; each test begins with
empty metrics. `--performance-report FILE` prints the seed's block and writes its JSON when the test ends. In a fleet
the workers serve their own metrics, worker i at the port plus i, and send their samples to the master, which reports
each test some seconds after its end, when the last of them have come.
"""

import logging
import sys
from pathlib import Path
from typing import Any, Final

import gevent
import gevent.pywsgi
from locust import events
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner, WorkerRunner
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from records.performance_report import Samples, console_block, performance_report, write_report
from users import f00d_metrics, options

logger = logging.getLogger(__name__)

METRICS_HOST: Final = "127.0.0.1"  # no authentication: for this machine only
REPORT_KEY: Final = "f00d_samples"
# Workers report every 3 s, whether a test runs or not; the rest is for a slow machine.
LAST_SAMPLES_WITHIN_S: Final = 2 * WORKER_REPORT_INTERVAL

options.offer("f00d_metrics_port", "performance_report")


class MetricsServer:
    """GET /metrics over HTTP. Raises OSError when the port cannot be had."""

    def __init__(self, port: int, registry: CollectorRegistry = f00d_metrics.registry) -> None:
        self._registry = registry
        self._server = gevent.pywsgi.WSGIServer((METRICS_HOST, port), self._answer, log=None, error_log=None)
        self._server.start()
        self.port: int = self._server.server_port

    def stop(self) -> None:
        self._server.stop(timeout=0)

    def _answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"not found\n"]
        content = generate_latest(self._registry)
        start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST), ("Content-Length", str(len(content)))])
        return [content]


class _Reporting:
    """One process's part: metrics server, samples, report."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._server: MetricsServer | None = None
        self._fleet = Samples()  # the master's, of all workers
        self._reports_at: Any = None  # the master's, while the workers' last samples are on their way

    def on_test_start(self, **_: Any) -> None:
        self._report_now()
        f00d_metrics.start_anew()
        self._fleet = Samples()
        f00d_metrics.samples.collect = bool(self._report_path())
        if self._server is None and not isinstance(self._environment.runner, MasterRunner):
            self._serve()

    def _serve(self) -> None:
        try:
            text = options.value(self._environment.parsed_options, "f00d_metrics_port")
        except options.OptionMistake as mistake:  # typed into the web form
            logger.error("%s", mistake)
            return
        if not text:
            return
        port = int(text)
        if port and isinstance(self._environment.runner, WorkerRunner):
            port += max(self._environment.runner.worker_index, 0)
        try:
            self._server = MetricsServer(port)
        except OSError as error:
            logger.error("cannot serve F00D metrics at port %s: %s; choose another port", port, error.strerror)
            return
        logger.info("F00D metrics at http://%s:%s/metrics", METRICS_HOST, self._server.port)

    def on_report_to_master(self, data: dict[str, Any], **_: Any) -> None:
        taken = f00d_metrics.samples.take()
        if taken.count:
            data[REPORT_KEY] = taken.to_message()

    def on_worker_report(self, data: dict[str, Any], **_: Any) -> None:
        self._fleet.merge(Samples.from_message(data.get(REPORT_KEY)))

    def on_test_stop(self, **_: Any) -> None:
        runner = self._environment.runner
        if isinstance(runner, MasterRunner):  # the workers' last samples come after this
            self._reports_at = gevent.spawn_later(LAST_SAMPLES_WITHIN_S, self._report_now)
        elif not isinstance(runner, WorkerRunner):
            self._fleet.merge(f00d_metrics.samples.take())
            self._report()

    def _report_now(self) -> None:
        """The report of the test that has ended, if it is still owed: at the quit, or when another begins."""
        owed, self._reports_at = self._reports_at, None
        if owed is not None:
            self._report()
            owed.kill(block=False)

    def on_quit(self, **_: Any) -> None:
        self._report_now()
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _report_path(self) -> str:
        path: str = options.value(self._environment.parsed_options, "performance_report")
        return path

    def _report(self) -> None:
        path = self._report_path()
        if not path:
            return
        report = performance_report(self._fleet)
        print(f"\n{console_block(report)}\n", file=sys.stderr, flush=True)  # as Locust's own tables at the end
        try:
            write_report(report, Path(path))
        except OSError as error:
            logger.error("cannot write %s: %s; name another file with --performance-report", path, error.strerror)


@events.init.add_listener  # type: ignore[untyped-decorator]
def _on_init(environment: Any, **_: Any) -> None:
    reporting = _Reporting(environment)
    environment.events.test_start.add_listener(reporting.on_test_start)
    environment.events.test_stop.add_listener(reporting.on_test_stop)
    environment.events.report_to_master.add_listener(reporting.on_report_to_master)
    environment.events.worker_report.add_listener(reporting.on_worker_report)
    environment.events.quit.add_listener(reporting.on_quit)
