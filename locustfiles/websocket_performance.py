"""WebSocket messages one way, as fast as the server takes them, and its own count of them, which must agree.

locust -f locustfiles/websocket_performance.py --headless -u 20 -t 10s --host ws://127.0.0.1:8084
"""

from locust import constant, task

from swarmproof.fleet import extension  # noqa: F401  (histograms, the run directory, progress)
from users.websocket_performance import WebSocketPerformanceUser


class WebSocketPerformance(WebSocketPerformanceUser):
    """One WebSocket: messages, and now and then the question whether they have arrived."""

    wait_time = constant(0)

    def on_start(self) -> None:
        self.client.metrics()

    @task(200)
    def message(self) -> None:
        self.send()

    @task(1)
    def metrics(self) -> None:
        self.client.metrics()

    def on_stop(self) -> None:
        self.client.metrics()
