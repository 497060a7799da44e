"""One /metrics for a server with `--workers N`: the sums of what its workers say.

Each worker has a side door of its own with its own counts; the parent, which serves no clients, asks all of them at
each scrape and adds up what has the same name and labels (counters, gauges and the buckets of histograms alike).
Counts of two processes are only right together: when one worker does not answer, the answer is 503 and not a part.

The parent has no gevent hub (it forked before there could be one), so this is the standard library's HTTP server in
a thread.
"""

import http.client
import json
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from servers.log_lines import log
from servers.serving import address_text, listen

WORKER_ANSWER_S = 5.0  # a worker under full load gets to it between two batches
JSON = "application/json"
NOT_LISTED = "not_listed"  # of /clients: the key of a last element that says how many more there are


class WorkersDoor:
    """`/metrics` and `/clients` of all workers together. Logs `metrics_listening address=HOST:PORT`."""

    def __init__(self, host: str, port: int, doors: list[tuple[str, int]]) -> None:
        """`doors`: where the workers' own are. Raises CannotServe when the port cannot be had."""
        listener = listen(host, port)
        self.address = listener.getsockname()

        class Handler(_Handler):
            workers = doors

        self._server = ThreadingHTTPServer(self.address[:2], Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        listener.setblocking(True)
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        log.info("metrics_listening", address=address_text(self.address), workers=len(doors))

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def add_up(texts: Iterable[str]) -> bytes:
    """Prometheus texts of several processes as one: samples of the same name and labels are added."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Sum(list(texts)))
    return generate_latest(registry)


def all_clients(answers: Iterable[str]) -> list[dict[str, Any]]:
    """The clients of several processes, and at the end how many of them are not listed, if any."""
    clients = [client for answer in answers for client in json.loads(answer)]
    not_listed = sum(client[NOT_LISTED] for client in clients if NOT_LISTED in client)
    listed = [client for client in clients if NOT_LISTED not in client]
    return [*listed, {NOT_LISTED: not_listed}] if not_listed else listed


class _Sum(Collector):
    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for text in self._texts:
            for family in text_string_to_metric_families(text):
                families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                sums = values.setdefault(family.name, {})
                for sample in family.samples:
                    key = (sample.name, tuple(sample.labels.items()))
                    sums[key] = sums.get(key, 0.0) + sample.value
        for name, family in families.items():
            for (sample_name, labels), value in values[name].items():
                family.add_sample(sample_name, dict(labels), value)
            yield family


class _Handler(BaseHTTPRequestHandler):
    workers: list[tuple[str, int]]
    timeout = WORKER_ANSWER_S

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path not in ("/metrics", "/clients"):
            self._answer(404, "text/plain", b"not found\n")
            return
        try:
            answers = [_ask(door, path) for door in self.workers]
        except (OSError, http.client.HTTPException) as error:
            self._answer(503, "text/plain", f"a worker does not answer: {error}\n".encode())
            return
        if path == "/clients":
            self._answer(200, JSON, json.dumps(all_clients(answers)).encode())
        else:
            self._answer(200, CONTENT_TYPE_LATEST, add_up(answers))

    do_HEAD = do_GET

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except OSError:
            pass  # gone before its answer was out

    def log_message(self, format: str, *args: object) -> None:
        pass  # a scrape is worth no line


def _ask(door: tuple[str, int], path: str) -> str:
    connection = http.client.HTTPConnection(*door, timeout=WORKER_ANSWER_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()
