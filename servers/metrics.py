"""Prometheus text on `--metrics-port`, and the small HTTP server that it and other side doors need.

A server keeps plain integers on its hot path; `ConnectionCollector` reads them when it is scraped. Metrics that have
a life of their own (labels, histograms) are prometheus_client objects in the same registry. One registry per server
process: runs do not see each other's counts.
"""

import argparse
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import gevent
import gevent.pool
import gevent.pywsgi
import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from servers.connection_group import ConnectionGroup
from servers.log_lines import log
from servers.serving import address_text, listen
from servers.worker_metrics import NOT_LISTED
from servers.workers import Worker

SIDE_DOOR_CLIENTS = 16  # a scraper, somebody looking, and room; more wait their turn
SIDE_DOOR_TIMEOUT_S = 5.0  # one that says nothing gives its place back
MAX_LISTED_CLIENTS = 1000  # of GET /clients: more than anybody reads
MAX_BODY_BYTES = 64 * 1024  # a mode or a script; nothing bigger belongs here

# (status line, content type, body)
Answer = tuple[str, str, bytes]
# What a side door does with one request: method, path, query, body -> answer.
Respond = Callable[[str, str, str, bytes], Answer]

NOT_FOUND: Answer = ("404 Not Found", "text/plain", b"not found\n")
METHOD_NOT_ALLOWED: Answer = ("405 Method Not Allowed", "text/plain", b"method not allowed\n")


class SideDoor:
    """A little HTTP server beside the real one (metrics, administration); logs `<event> address=HOST:PORT`."""

    def __init__(self, event: str, host: str, port: int, respond: Respond) -> None:
        """Raises CannotServe when the port cannot be had."""
        self._respond = respond
        listener = listen(host, port)
        self.address = listener.getsockname()
        self._server = _Server(
            gevent.socket.socket(fileno=listener.detach()),
            self._application,
            spawn=gevent.pool.Pool(SIDE_DOOR_CLIENTS),
            log=None,
            error_log=_Quiet(),
        )
        self._server.start()
        log.info(event, address=address_text(self.address))

    def stop(self) -> None:
        self._server.stop(timeout=0)

    def _application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            length = int(environ.get("CONTENT_LENGTH") or 0)
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY_BYTES:
            answer: Answer = ("413 Payload Too Large", "text/plain", b"the body is too large\n")
        else:
            try:
                body = environ["wsgi.input"].read(length) if length else b""
            except OSError:
                body = b""  # it announced more than it sent
            answer = self._respond(
                environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""), body
            )
        status, content_type, content = answer
        start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(content)))])
        return [content]


def serve_metrics(
    arguments: argparse.Namespace, registry: CollectorRegistry, group: ConnectionGroup, worker: Worker | None
) -> None:
    """What `--metrics-port` asks for, in a server that may be one of several workers. Raises CannotServe."""
    port = arguments.metrics_port
    if port is None:
        return
    if worker is None:
        metrics_door(arguments.host, port, registry, group)
        return
    own_port = port and port + 1 + worker.number
    door = metrics_door(arguments.host, own_port, registry, group, event="worker_metrics_listening")
    worker.metrics_address = door.address[:2]


def metrics_door(
    host: str,
    port: int,
    registry: CollectorRegistry,
    group: ConnectionGroup | None = None,
    event: str = "metrics_listening",
) -> SideDoor:
    """Serve `registry` at GET /metrics, and who is connected at GET /clients.

    Logs `<event> address=HOST:PORT`. Raises CannotServe.
    """

    def respond(method: str, path: str, query: str, body: bytes) -> Answer:
        if path not in ("/metrics", "/clients"):
            return NOT_FOUND
        if method not in ("GET", "HEAD"):
            return METHOD_NOT_ALLOWED
        if path == "/clients":
            return "200 OK", "application/json", orjson.dumps(_clients(group) if group is not None else [])
        return "200 OK", CONTENT_TYPE_LATEST, generate_latest(registry)

    return SideDoor(event, host, port, respond)


def _clients(group: ConnectionGroup) -> list[dict[str, object]]:
    """Counters of each connection; a metric label for each would never be forgotten again."""
    now_s = time.monotonic()
    listed: list[dict[str, object]] = [
        {
            "peer": connection.peer,
            "messages": connection.messages,
            "quiet_s": round(now_s - connection.last_message_s, 3),
            "pending_bytes": connection.pending_bytes,
        }
        for connection in islice(group.connections, MAX_LISTED_CLIENTS)
    ]
    if len(group.connections) > len(listed):
        listed.append({NOT_LISTED: len(group.connections) - len(listed)})
    return listed


class ConnectionCollector(Collector):
    """The counts of one ConnectionGroup, under `<prefix>_`."""

    def __init__(self, prefix: str, group: ConnectionGroup) -> None:
        self._prefix = prefix
        self._group = group

    def collect(self) -> Iterator[Metric]:
        prefix, group = self._prefix, self._group
        yield GaugeMetricFamily(
            f"{prefix}_connections_active", "Connections being served.", value=len(group.connections)
        )
        yield CounterMetricFamily(f"{prefix}_connections", "Connections accepted and served.", value=group.opened)
        yield CounterMetricFamily(
            f"{prefix}_connections_refused", "Connections refused at capacity.", value=group.refused
        )
        closed = CounterMetricFamily(f"{prefix}_connections_closed", "Connections ended, by reason.", labels=["reason"])
        for reason, count in sorted(group.closed.items()):
            closed.add_metric([reason], count)
        yield closed
        yield CounterMetricFamily(f"{prefix}_received_bytes", "Bytes received.", value=group.received_bytes)
        yield GaugeMetricFamily(
            f"{prefix}_held_bytes", "Bytes of replies that slow readers have not taken.", value=group.held_bytes
        )


class CounterSource(Collector):
    """Counters read from a function: `{name: (help, value)}` at each scrape."""

    def __init__(self, read: Callable[[], dict[str, tuple[str, float]]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        for name, (text, value) in self._read().items():
            yield CounterMetricFamily(name, text, value=value)


class _Server(gevent.pywsgi.WSGIServer):  # type: ignore[misc] # gevent ships no type information
    def handle(self, client_socket: socket.socket, address: Any) -> None:
        client_socket.settimeout(SIDE_DOOR_TIMEOUT_S)
        try:
            super().handle(client_socket, address)
        except OSError:
            pass  # gone before its answer was out


class _Quiet:
    """pywsgi's error log: what it has to say about bad requests is not worth a line of a load test's log."""

    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass
