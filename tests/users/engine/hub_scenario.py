"""Envelope echoes in the engine, and a greenlet that measures how late the hub wakes it: printed at the end."""

import logging
import time
from typing import Any

import gevent
from locust import events

from locustfiles.envelope import Echo
from users.engine.loop import engine_of_this_thread
from users.engine.readiness import HubReadiness

worst_s = 0.0


def probe() -> None:
    global worst_s
    while True:
        due = time.monotonic() + 0.005
        gevent.sleep(0.005)
        worst_s = max(worst_s, time.monotonic() - due)


@events.init_command_line_parser.add_listener
def _options(parser: Any, **_: Any) -> None:
    parser.add_argument("--hub-readiness", action="store_true", default=False, help="as where there is no epoll")


@events.test_start.add_listener
def _start(environment: Any, **_: Any) -> None:
    engine = engine_of_this_thread()
    if environment.parsed_options.hub_readiness:
        engine._new_readiness = HubReadiness
    # Once it is busy: importing and connecting are not what is measured.
    gevent.spawn_later(1.0, probe)


@events.test_stop.add_listener
def _stop(**_: Any) -> None:
    engine = engine_of_this_thread()
    logging.warning("WORST %.1f TURN %.1f LEFT %d", worst_s * 1000, engine.longest_turn_ns / 1e6, len(engine))


__all__ = ["Echo"]
