"""The users of `benchmarks.accuracy`: ours and stock Locust's, at the same pace in closed load.

They begin one after the other, spread over a cycle, and where all delays are equal they think for a while that is
drawn anew each time. Users of equal cycles end up in a convoy, however they began: whoever is late once goes on right
behind another, and waits for that one from then on, in the server and here; no delay says anything of it.
"""

import os
from itertools import count

import gevent
from locust import between, constant, constant_throughput, task

_number = count()
_think_s = float(os.environ.get("ACCURACY_THINK_S", "0"))
#: Half as long to half as long again.
think_time = between(0.5 * _think_s, 1.5 * _think_s) if _think_s else constant(0)


def wait_for_ones_place() -> None:
    """Sleep this user's share of the cycle."""
    gevent.sleep(next(_number) * float(os.environ.get("ACCURACY_APART_S", "0")))


if os.environ.get("ACCURACY_USER") == "stock":
    from benchmarks.stock import StockTcpUser

    class Stock(StockTcpUser):
        """A rate as Locust's own documentation has it: each user so many tasks a second."""

        per_s = float(os.environ["ACCURACY_PER_USER_S"])
        wait_time = constant_throughput(per_s) if per_s else think_time

        def on_start(self) -> None:
            wait_for_ones_place()
            super().on_start()
else:
    from swarmproof.fleet import extension  # noqa: F401
    from users.envelope import EnvelopeUser

    class Ours(EnvelopeUser):
        wait_time = think_time

        def on_start(self) -> None:
            wait_for_ones_place()
            super().on_start()

        @task
        def echo(self) -> None:
            self.client.echo(self.random_payload())
