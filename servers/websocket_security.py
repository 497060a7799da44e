"""The WebSocket security server (seed 001): an echo behind the seed's limits, to be attacked.

    python -m servers.websocket_security --port 8088 --allow-origin https://app.example

60 requests a minute with a burst of 10 for each client address, messages of at most 1 MiB, and no text with one of the
forbidden pieces. What is refused is answered with a text, counted by reason, and the connection stays; a client that
goes on beyond --max-refusals is closed with 1008.

    {"error":{"reason":"rate limit exceeded","retry_after_secs":1}}
"""

import argparse
import math
import socket
import time
from collections import Counter
from typing import Any

import orjson

from protocols.websocket import Binary, Text
from protocols.websocket_events import POLICY_VIOLATION
from servers.arguments import count, rate
from servers.connection_group import ConnectionGroup
from servers.log_lines import log
from servers.serving import run
from servers.token_bucket import Buckets
from servers.websocket_serving import (
    Refusal,
    Reply,
    WebSocketConnection,
    WebSocketService,
    serve_websocket,
    websocket_parser,
)

DEFAULT_PORT = 8088
NAME = "websocket_security"
REQUESTS_PER_MINUTE = 60.0
BURST = 10
MAX_ADDRESSES = 50_000
MAX_REFUSALS = 100  # of one connection: then it is an attack, not a mistake
FORBIDDEN = ("<script", "javascript:", "eval(", "exec(", "system(")

RATE_LIMIT = "rate limit exceeded"
FORBIDDEN_CONTENT = "forbidden content"


def is_forbidden(text: str) -> bool:
    """Whether a text holds one of the pieces, in whatever case."""
    folded = text.lower()
    return any(piece in folded for piece in FORBIDDEN)


class SecurityService(WebSocketService):
    metrics_here = True

    def set_up(self, arguments: argparse.Namespace) -> None:
        self.per_s = arguments.requests_per_minute / 60
        self.buckets = Buckets(arguments.burst, self.per_s, MAX_ADDRESSES)
        self.max_refusals: int = arguments.max_refusals
        self.refusals: Counter[str] = Counter({RATE_LIMIT: 0, FORBIDDEN_CONTENT: 0})

    def counters(self) -> dict[str, tuple[str, float]]:
        refused = {
            f"{self.name}_refused_{reason.replace(' ', '_')}": ("Messages refused for it.", float(number))
            for reason, number in self.refusals.items()
        }
        return super().counters() | refused


class SecurityConnection(WebSocketConnection):
    __slots__ = ("_host", "_refusals")

    service: SecurityService

    def __init__(self, service: SecurityService, group: ConnectionGroup, sock: socket.socket, address: Any) -> None:
        self._host = str(address[0]) if isinstance(address, tuple) else "local"
        self._refusals = 0
        super().__init__(service, group, sock, address)

    def answer(self, message: Text | Binary) -> Reply:
        now_s = time.monotonic()
        # By address, not by connection: a client that reconnects is the same client.
        if not self.service.buckets.get(self._host, now_s).take(now_s):
            return self._refuse(RATE_LIMIT, retry_after_secs=math.ceil(1 / self.service.per_s))
        if isinstance(message, Text) and is_forbidden(message.data):
            return self._refuse(FORBIDDEN_CONTENT)
        return message.data

    def _refuse(self, reason: str, **more: int) -> Reply:
        self.service.refusals[reason] += 1
        self._refusals += 1
        log.warning("request_refused", peer=self.peer, reason=reason)
        if self._refusals > self.service.max_refusals:
            return Refusal(POLICY_VIOLATION, reason)
        return orjson.dumps({"error": {"reason": reason, **more}}).decode()


def unused(message: Text | Binary) -> None:
    """Connections answer by themselves."""


def main() -> int:
    parser = websocket_parser(NAME, "The WebSocket security server: an echo behind limits.", DEFAULT_PORT)
    limits = parser.add_argument_group("limits of one client address")
    limits.add_argument(
        "--requests-per-minute", type=rate, default=REQUESTS_PER_MINUTE, metavar="N", help="in the long run"
    )
    limits.add_argument("--burst", type=count, default=BURST, metavar="N", help="at once")
    limits.add_argument(
        "--max-refusals", type=count, default=MAX_REFUSALS, metavar="N", help="then the connection is closed with 1008"
    )
    return serve_websocket(NAME, parser.parse_args(), unused, SecurityConnection, SecurityService)


if __name__ == "__main__":
    run(main)
