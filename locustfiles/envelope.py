"""Envelope echo: every user sends random payloads as fast as they come back.

locust -f locustfiles/envelope.py --headless -u 20 -t 10s --host tcp://127.0.0.1:9000
"""

from locust import constant, task

from swarmproof.fleet import extension  # noqa: F401  (histograms, the run directory, progress)
from users.envelope import EnvelopeUser


class Echo(EnvelopeUser):
    """One connection, `--depth` requests in flight on it."""

    wait_time = constant(0)

    @task
    def echo(self) -> None:
        self.client.echo(self.random_payload())
