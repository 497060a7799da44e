"""Users without a Locust run: their clients, in this process, and what Locust would have been told of them.

gevent needs no patching here: the users' own greenlets are the only ones, and servers are processes or threads.
"""

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from locust.env import Environment

from users.protocol_user import ProtocolUser

U = TypeVar("U", bound=ProtocolUser)


class Told:
    """Locust's request events: successes by operation, failures by (operation, text)."""

    def __init__(self) -> None:
        self.good: Counter[str] = Counter()
        self.bad: Counter[tuple[str, str]] = Counter()

    def hear(self, name: str, exception: Exception | None = None, **_: Any) -> None:
        if exception is None:
            self.good[name] += 1
        else:
            self.bad[name, str(exception)] += 1


@contextmanager
def in_process(user_class: type[U], host: str, **options: Any) -> Iterator[tuple[U, Told]]:
    """A user of this class with these options; its connection is closed afterwards."""
    own = type(user_class.__name__, (user_class,), {"abstract": False, "tasks": [lambda _: None]})
    environment = Environment(user_classes=[own], host=host, parsed_options=Namespace(**options))
    told = Told()
    environment.events.request.add_listener(told.hear)
    user = own(environment)
    assert user.mistake == "", user.mistake
    try:
        yield user, told
    finally:
        user.client.close()
