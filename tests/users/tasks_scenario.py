"""Tasks of all kinds on one user class; what ran, in which order, is printed at the end."""

import logging
from typing import Any

from locust import TaskSet, constant, events, task

from swarmproof.fleet import extension  # noqa: F401
from users.envelope import EnvelopeUser

RAN: dict[str, int] = {}
WAITS: list[int] = []


def ran(name: str) -> int:
    number = RAN[name] = RAN.get(name, 0) + 1
    return number


@events.init_command_line_parser.add_listener
def _options(parser: Any, **_: Any) -> None:
    parser.add_argument("--listen", action="store_true", default=False, help="have a listener of requests")


@events.init.add_listener
def _init(environment: Any, **_: Any) -> None:
    if environment.parsed_options.listen:
        environment.events.request.add_listener(lambda **told: ran(f"heard {told['name']}"))


class Plain(EnvelopeUser):
    """Three to one, without think time; now and then one raises, and one asks for another task first."""

    fixed_count = 2
    wait_time = constant(0)

    @task(3)
    def often(self) -> None:
        number = ran("often")
        self.client.perform("often", (0, b"often"), 5)
        if number == 20:
            raise ValueError("of a task")
        if number == 30:
            self._taskset_instance.schedule_task(Plain.extra)

    @task(1)
    def seldom(self) -> None:
        ran("seldom")
        self.client.perform("seldom", (0, b"seldom"), 6)

    def extra(self) -> None:
        ran("extra")

    @task(1)
    class Nested(TaskSet):
        @task
        def inside(self) -> None:
            ran("nested")
            self.user.client.perform("nested", (0, b"x"), 1)
            self.interrupt()


class Thinking(EnvelopeUser):
    """Asked for its think time once after each task."""

    fixed_count = 1

    def wait_time(self) -> float:
        WAITS.append(1)
        return 0.05

    @task
    def think(self) -> None:
        ran("think")
        self.client.perform("think", (0, b"x"), 1)


@events.test_stop.add_listener
def _stop(environment: Any, **_: Any) -> None:
    for name, number in sorted(RAN.items()):
        logging.warning("RAN %s %d", name, number)
    logging.warning("RAN waits %d", len(WAITS))
    for (name, _method), entry in environment.stats.entries.items():
        logging.warning("TABLE %s %d %d", name, entry.num_requests, entry.total_content_length)
