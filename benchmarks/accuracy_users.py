"""The users of `benchmarks.accuracy`: ours and stock Locust's, at the same pace in closed load."""

import os

from locust import constant, constant_throughput, task

if os.environ.get("ACCURACY_USER") == "stock":
    from benchmarks.stock import StockTcpUser

    class Stock(StockTcpUser):
        """The rate as Locust's own documentation has it: each user so many tasks a second."""

        per_s = float(os.environ["ACCURACY_PER_USER_S"])
        wait_time = constant_throughput(per_s) if per_s else constant(0)
else:
    from swarmproof.fleet import extension  # noqa: F401
    from users.envelope import EnvelopeUser

    class Ours(EnvelopeUser):
        wait_time = constant(float(os.environ.get("ACCURACY_THINK_S", "0")))

        @task
        def echo(self) -> None:
            self.client.echo(self.random_payload())
