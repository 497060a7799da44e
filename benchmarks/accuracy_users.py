"""The users of `benchmarks.accuracy`: ours and stock Locust's, at the same pace in closed load.

They begin one after the other, spread over a cycle. Users that begin together and whose delays are equal would go on
together, and each would wait for those before it, in the server and here: a queue, which no delay says anything of.
"""

import os
from itertools import count

import gevent
from locust import constant, constant_throughput, task

_number = count()


def wait_for_ones_place() -> None:
    """Sleep this user's share of the cycle."""
    gevent.sleep(next(_number) * float(os.environ.get("ACCURACY_APART_S", "0")))


if os.environ.get("ACCURACY_USER") == "stock":
    from benchmarks.stock import StockTcpUser

    class Stock(StockTcpUser):
        """The rate as Locust's own documentation has it: each user so many tasks a second."""

        per_s = float(os.environ["ACCURACY_PER_USER_S"])
        wait_time = constant_throughput(per_s) if per_s else constant(0)

        def on_start(self) -> None:
            wait_for_ones_place()
            super().on_start()
else:
    from swarmproof.fleet import extension  # noqa: F401
    from users.envelope import EnvelopeUser

    class Ours(EnvelopeUser):
        wait_time = constant(float(os.environ.get("ACCURACY_THINK_S", "0")))

        def on_start(self) -> None:
            wait_for_ones_place()
            super().on_start()

        @task
        def echo(self) -> None:
            self.client.echo(self.random_payload())
