"""The load of `benchmarks.soak_fleet`: echoes with a little think time, and each process counts its greenlets."""

import gc
import os
from pathlib import Path
from typing import Any

import gevent
from greenlet import greenlet
from locust import constant, events, task
from locust.runners import MasterRunner

from swarmproof.fleet import extension  # noqa: F401
from users.envelope import EnvelopeUser

COUNT_EVERY_S = 2.0


class Soak(EnvelopeUser):
    """One of many that do not hurry: what is looked for is what stays behind, not speed."""

    wait_time = constant(0.05)

    @task
    def echo(self) -> None:
        self.client.echo(self.random_payload())


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_options(parser: Any) -> None:
    parser.add_argument("--soak-folder", default="", help="where each process writes how many greenlets it has")


def _count_forever(path: Path) -> None:
    while True:
        # Through a name of its own: who reads it must never see half a number.
        temporary = path.with_suffix(".new")
        temporary.write_text(str(sum(isinstance(thing, greenlet) and not thing.dead for thing in gc.get_objects())))
        temporary.replace(path)
        gevent.sleep(COUNT_EVERY_S)


@events.init.add_listener  # type: ignore[untyped-decorator]
def _on_init(environment: Any, **_: Any) -> None:
    folder = environment.parsed_options.soak_folder
    role = "master" if isinstance(environment.runner, MasterRunner) else "worker"

    def begin(**_: Any) -> None:
        gevent.spawn(_count_forever, Path(folder) / f"{role}-{os.getpid()}.greenlets")

    if folder:
        environment.events.test_start.add_listener(begin)
