"""A locustfile whose load is a shape of rates, as docs/open-load.md shows it. The stages come from the test."""

import os

from locust import task

from swarmproof.fleet import extension  # noqa: F401
from users.envelope import EnvelopeUser
from users.rate_shape import RateShape


class Echo(EnvelopeUser):
    @task
    def echo(self) -> None:
        self.client.echo(self.random_payload())


class Rush(RateShape):
    stages = os.environ.get("RATE_STAGES", "0..100 in 2s, 100 for 1s, 50 for 1s")
    users = 4
