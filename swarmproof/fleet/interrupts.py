"""Ctrl-C ends Locust, whichever greenlet it meets.

Python raises KeyboardInterrupt wherever the process happens to be. Under load that is a user's greenlet, or the
engine's, which then dies of it with a traceback while the run goes down around it. So the signal is left to the event
loop, which raises KeyboardInterrupt where Locust waits for it: in the main greenlet.
"""

import signal
from typing import Any

import gevent
from gevent import get_hub
from locust import events


def interrupt_in_main_greenlet() -> None:
    """To be called once, when a locustfile is imported."""
    events.init.add_listener(_on_init)


def _on_init(**_: Any) -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # who has a handler of his own keeps it
        gevent.signal_handler(signal.SIGINT, _interrupt)


def _interrupt() -> None:
    get_hub().handle_system_error(KeyboardInterrupt, KeyboardInterrupt())
