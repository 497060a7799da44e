"""Users that think a little between requests: in closed load four of them make about a hundred requests a second."""

from locust import constant, task

from swarmproof.fleet import extension  # noqa: F401
from users.envelope import EnvelopeUser


class Echo(EnvelopeUser):
    wait_time = constant(0.038)

    @task
    def echo(self) -> None:
        self.client.echo(self.random_payload())
