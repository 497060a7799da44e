"""Echoes through a security server's limits, and forbidden texts that it must refuse.

locust -f locustfiles/websocket_security.py --headless -u 20 -t 10s --host ws://127.0.0.1:8088

Its default limits are ten messages at once and one a second for all users of one address: what is beyond is refused,
and fails under that name. Start it with --burst 1000000000 to measure load, and with as many --max-refusals for
forbidden texts without reconnecting.
"""

from locust import constant, task

from swarmproof.fleet import extension  # noqa: F401  (histograms, the run directory, progress)
from users.websocket_security import WebSocketSecurityUser


class WebSocketSecurity(WebSocketSecurityUser):
    """One WebSocket, `--depth` messages in flight on it."""

    wait_time = constant(0)

    @task(20)
    def send(self) -> None:
        self.echo()

    @task(1)
    def forbidden(self) -> None:
        self.client.forbidden()
