"""Tool calls over WebSocket: echo and add, some with progress, some streamed, failures that must be failures, pings.

SWARMPROOF_TOKEN=secret locust -f locustfiles/websocket_tools.py --headless -u 20 -t 10s --host ws://127.0.0.1:8079

The reference server's own limits would be what is measured: start it with --no-limits.
"""

import random

from locust import constant, task

from swarmproof.fleet import extension  # noqa: F401  (histograms, the run directory, progress)
from users.websocket_tools import WebSocketToolsUser

# The reference server streams text of at most 64 Ki characters; the client adds some of its own.
MAX_CHUNK_CHARS = 60_000


class WebSocketTools(WebSocketToolsUser):
    """One session on one WebSocket, `--depth` calls in flight on it."""

    wait_time = constant(0)

    @task(40)
    def echo(self) -> None:
        self.client.echo(self.random_text())

    @task(40)
    def add(self) -> None:
        self.client.add(random.randrange(1_000_000), random.randrange(1_000_000))

    @task(5)
    def stream(self) -> None:
        self.client.stream(5, self.random_text(MAX_CHUNK_CHARS))

    @task(3)
    def slow(self) -> None:
        self.client.slow(ms=5, progress=2)

    @task(3)
    def fail(self) -> None:
        self.client.fail()

    @task(3)
    def list_tools(self) -> None:
        self.client.list_tools()

    @task(3)
    def ping(self) -> None:
        self.client.ping()
