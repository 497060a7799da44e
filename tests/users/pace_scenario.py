"""Ways to think between requests; none of them may be counted as response time."""

import gevent
from locust import TaskSet, constant, task

from swarmproof.fleet import extension  # noqa: F401
from users.envelope import EnvelopeUser


class ByWaitTime(EnvelopeUser):
    fixed_count = 1
    wait_time = constant(0.1)

    @task
    def ask(self) -> None:
        self.client.perform("by wait_time", (0, b"x"))


class ByTaskSet(EnvelopeUser):
    fixed_count = 1

    @task
    class Nested(TaskSet):
        wait_time = constant(0.1)

        @task
        def ask(self) -> None:
            self.user.client.perform("by task set", (0, b"x"))


class ByItself(EnvelopeUser):
    fixed_count = 1

    @task
    def ask(self) -> None:
        self.client.perform("by itself", (0, b"x"))
        gevent.sleep(0.1)


class ByBoth(EnvelopeUser):
    fixed_count = 1
    wait_time = constant(0.05)

    @task
    def ask(self) -> None:
        self.client.perform("by both", (0, b"x"))
        gevent.sleep(0.1)


class ByOtherTasks(EnvelopeUser):
    """Every other one makes no request."""

    fixed_count = 1
    rests = False

    @task
    def ask_or_rest(self) -> None:
        self.rests = not self.rests
        if self.rests:
            gevent.sleep(0.1)
        else:
            self.client.perform("by other tasks", (0, b"x"))
