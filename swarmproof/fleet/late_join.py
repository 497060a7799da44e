"""A worker that joins while the load runs must be set up before it begins.

Locust's master tells a new worker to spawn as soon as it has answered its hello, and the worker may read both before it
has come to fire `init`. Then the users run, and `test_start` is over, before anybody could listen to it: nothing would
be recorded, and an open load would be a closed one. So the order to spawn is kept until `init` has been fired.
"""

from typing import Any, Final

from gevent.event import Event
from locust import events
from locust.runners import WorkerRunner

#: Between connecting and `init` lie milliseconds. Who uses Locust as a library may never fire it.
INIT_WITHIN_S: Final = 10.0

_initialised = Event()


def hold_spawning_until_init() -> None:
    """To be called once, when a locustfile is imported."""
    handle = WorkerRunner.handle_message

    def handle_when_ready(self: Any, msg: Any) -> None:
        if msg.type == "spawn" and not _initialised.is_set():
            _initialised.wait(INIT_WITHIN_S)
            _initialised.set()
        handle(self, msg)

    WorkerRunner.handle_message = handle_when_ready  # type: ignore[method-assign]
    events.init.add_listener(_on_init)


def _on_init(**_: Any) -> None:
    # Who waits goes on in a later turn of the event loop, after the other listeners of this one.
    _initialised.set()
