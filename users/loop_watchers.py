"""Watchers of gevent's event loop that not every loop has."""

from typing import Any


def before_poll(loop: Any, **settings: Any) -> Any:
    """A watcher that is called whenever this loop is about to look at its descriptors; None if it has none (libuv)."""
    try:
        return loop.prepare(**settings)
    except TypeError:
        return None
