"""RPC over WebSocket: mostly echo and add, some get_time, and errors that must be errors.

locust -f locustfiles/websocket_rpc.py --headless -u 20 -t 10s --host ws://127.0.0.1:8082
"""

from locust import constant, task

from swarmproof.fleet import extension  # noqa: F401  (histograms, the run directory, progress)
from users.websocket_rpc import WebSocketRpcUser


class WebSocketRpc(WebSocketRpcUser):
    """One WebSocket, `--depth` calls in flight on it."""

    wait_time = constant(0)

    @task(10)
    def echo(self) -> None:
        self.client.echo(self.random_params())

    @task(10)
    def add(self) -> None:
        self.client.add(*self.random_summands())

    @task(2)
    def get_time(self) -> None:
        self.client.get_time()

    @task(1)
    def error_test(self) -> None:
        self.client.error_test()
