"""Keepalive: a ping on each WebSocket every few seconds, its pong measured as an operation of its own.

It is nobody's request: it does not take a place of `--depth`, waits for no arrival of open load and asks no circuit
breaker. A connection whose pong does not come within `--timeout` is dropped, as other clients drop it.
"""

import argparse
import os
import random
from time import monotonic_ns
from typing import Any, Final

import gevent
from gevent import GreenletExit
from gevent.event import AsyncResult

from users.failures import ConnectionLost, ReplyTimeout, RequestFailure
from users.opening import CLOSED_BY_SERVER
from users.recording import Recording

NAME: Final = "ping"
REQUEST_TYPE: Final = "websocket"
# Of a ping's payload: the name tells it from pings that a scenario sends itself.
MARK: Final = b"keepalive"
MAX_INTERVAL_S: Final = 3600.0
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}


def parse_interval_s(text: str) -> float:
    """Seconds of "10s", "500ms", "1m" or "10"; 0 for "" (never). Raises ValueError.

    >>> parse_interval_s("1.5s"), parse_interval_s("250ms"), parse_interval_s("")
    (1.5, 0.25, 0.0)
    """
    text = text.strip()
    if not text:
        return 0.0
    unit = next((unit for unit in _UNITS_S if text.endswith(unit)), "")
    try:
        interval_s = float(text[: len(text) - len(unit)]) * _UNITS_S.get(unit, 1.0)
    except ValueError:
        raise ValueError(f"{text!r} is not a time such as 10s or 500ms") from None
    if not 0.001 <= interval_s <= MAX_INTERVAL_S:
        raise ValueError(f"{text!r} is not between 1ms and 60m")
    return interval_s


def interval_text(text: str) -> str:
    """The type of the option: the text, checked."""
    try:
        parse_interval_s(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text.strip()


class Keepalive:
    """Pings the connection of one client, which is a WebSocket's, whenever it is open."""

    def __init__(self, client: Any, interval_s: float) -> None:
        self._client = client
        self._interval_s = interval_s
        user = client.user
        self._recording = Recording(user.environment, REQUEST_TYPE, client.connection.endpoint.address, user.context)
        self._recording.breaker = None
        self._greenlet: Any = None

    def start(self) -> None:
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        self._greenlet.kill()

    def _run(self) -> None:
        try:
            gevent.sleep(random.random() * self._interval_s)  # not all users at once
            while True:
                if self._client.connection.is_open:
                    self._ping(self._client.connection)
                gevent.sleep(self._interval_s)
        except GreenletExit:
            pass

    def _ping(self, connection: Any) -> None:
        session, pong = connection.session, AsyncResult()
        call_ns = monotonic_ns()
        try:
            data = session.ping(MARK + os.urandom(8), pong.set)
            connection.send(data)
            connection.wait_for(pong, self._client.timeout_s)
        except ConnectionLost:
            return  # it has said goodbye, and what is under way on it tells
        except BaseException:
            self._recording.cancelled(NAME, call_ns)
            raise
        connection.was_disturbed_by_us()
        if pong.ready():
            self._recording.succeeded(NAME, call_ns, call_ns, pong.get())
        elif session.is_leaving:
            self._recording.cancelled(NAME, call_ns)
        else:
            is_silent = connection.is_open and connection.session is session
            failure: RequestFailure = (
                ReplyTimeout() if is_silent else ConnectionLost(session.finished or CLOSED_BY_SERVER)
            )
            self._recording.failed(NAME, call_ns, call_ns, monotonic_ns(), failure)
            if is_silent:
                connection.lose(ConnectionLost("connection dropped: no pong within the timeout"))
