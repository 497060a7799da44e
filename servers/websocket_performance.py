"""The WebSocket performance server (seed 001): counts messages, and says how many and how fast.

    python -m servers.websocket_performance --port 8084

It answers nothing, as the seed's: what is measured is how fast a client can send. The one exception is the text
`metrics` (or `{"op":"metrics"}`), which is answered with the counters and not counted; GET /metrics on the same port
has them for Prometheus. Rates are of the last full second and of the whole time since the first message.
"""

import argparse
import time
from collections.abc import Callable

import orjson
from prometheus_client import Gauge

from protocols.websocket import Binary, Text
from servers.serving import run
from servers.websocket_serving import WebSocketConnection, WebSocketService, serve_websocket, websocket_parser

DEFAULT_PORT = 8084  # seed 001
NAME = "websocket_performance"
QUESTIONS = frozenset({"metrics", '{"op":"metrics"}', '{"op": "metrics"}'})


class MessageRate:
    """Messages counted in slots of one second: the rate of the last full one, without keeping any times."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.total = 0
        self.text = 0
        self.binary = 0
        self._first_s = 0.0
        self._slot = 0
        self._in_slot = 0
        self._last = 0

    def count(self, binary: bool) -> None:
        now_s = self._clock()
        if not self.total:
            self._first_s = now_s
        self._turn(int(now_s))
        self.total += 1
        self._in_slot += 1
        if binary:
            self.binary += 1
        else:
            self.text += 1

    def _turn(self, slot: int) -> None:
        if slot != self._slot:
            self._last = self._in_slot if slot == self._slot + 1 else 0
            self._slot, self._in_slot = slot, 0

    def last_second(self) -> int:
        """Messages of the last full second."""
        self._turn(int(self._clock()))
        return self._last

    def per_second(self) -> float:
        """Messages per second since the first one, as the seed counts them."""
        elapsed_s = self._clock() - self._first_s
        return self.total / elapsed_s if self.total and elapsed_s > 0 else 0.0

    def as_json(self) -> str:
        return orjson.dumps(
            {
                "total_messages": self.total,
                "messages_per_second": round(self.per_second(), 3),
                "messages_last_second": self.last_second(),
                "text_messages": self.text,
                "binary_messages": self.binary,
            }
        ).decode()


class PerformanceService(WebSocketService):
    metrics_here = True

    def set_up(self, arguments: argparse.Namespace) -> None:
        self.rate = MessageRate()
        for metric, text, read in (
            ("total_messages", "Messages received.", lambda: float(self.rate.total)),
            ("messages_per_second", "Messages per second since the first.", self.rate.per_second),
            ("messages_last_second", "Messages of the last full second.", lambda: float(self.rate.last_second())),
        ):
            Gauge(metric, text, registry=self.registry).set_function(read)


class PerformanceConnection(WebSocketConnection):
    __slots__ = ()

    service: PerformanceService

    def answer(self, message: Text | Binary) -> str | None:
        if isinstance(message, Text) and message.data in QUESTIONS:
            return self.service.rate.as_json()
        self.service.rate.count(isinstance(message, Binary))
        return None


def unused(message: Text | Binary) -> None:
    """Connections answer by themselves."""


def main() -> int:
    parser = websocket_parser(NAME, "The WebSocket performance server: counts messages and their rate.", DEFAULT_PORT)
    return serve_websocket(NAME, parser.parse_args(), unused, PerformanceConnection, PerformanceService)


if __name__ == "__main__":
    run(main)
