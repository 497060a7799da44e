"""What a load generator does for itself, in parts, between which its event loop reads replies and sends requests."""

import time
from collections.abc import Iterator
from typing import Final

import gevent

#: Parts are run until they have taken so long together: shorter than what anybody could see in a response time.
TURN_NS: Final = 100_000

#: Not 0, which gevent takes for a callback of the same round of its loop.
PAUSE_S: Final = 0.001


def at_once(parts: Iterator[None]) -> None:
    """Run all parts without pauses."""
    for _ in parts:
        pass


def in_turns(parts: Iterator[None]) -> None:
    """Run all parts, with pauses."""
    end_ns = time.monotonic_ns() + TURN_NS
    for _ in parts:
        if time.monotonic_ns() >= end_ns:
            gevent.sleep(PAUSE_S)
            end_ns = time.monotonic_ns() + TURN_NS
