"""Locust users who connect, echo once and stay: for `benchmarks.websocket_scale`."""

from locust import constant, task

from swarmproof.fleet import extension  # noqa: F401  (progress: it says when all are there)
from users.websocket_echo import WebSocketEchoUser


class Idle(WebSocketEchoUser):
    """One WebSocket that says next to nothing."""

    wait_time = constant(3600)

    @task
    def echo(self) -> None:
        self.client.text()
