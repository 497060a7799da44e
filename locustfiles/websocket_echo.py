"""WebSocket echo: text and binary messages as fast as they come back.

locust -f locustfiles/websocket_echo.py --headless -u 20 -t 10s --host ws://127.0.0.1:8080
"""

from locust import constant, task

from swarmproof.fleet import extension  # noqa: F401  (histograms, the run directory, progress)
from users.websocket_echo import WebSocketEchoUser


class WebSocketEcho(WebSocketEchoUser):
    """One WebSocket, `--depth` messages in flight on it."""

    wait_time = constant(0)

    @task
    def send(self) -> None:
        self.echo()
