"""The WebSocket load server (seed 001): an echo for very many connections, with its memory bounded in three places.

    python -m servers.websocket_load --port 8086

20,000 connections by default. A client that does not read is not read from, keeps at most --max-pending-bytes here,
and is closed after the write timeout; when --max-held-bytes wait for all slow readers together, messages of others are
not echoed but answered by closing 1013 (try again later) until some have left.
"""

import argparse
from dataclasses import replace

from protocols.websocket import Binary, Text
from servers.arguments import MAX_HELD_BYTES, size_bytes
from servers.serving import run
from servers.websocket_serving import (
    Refusal,
    Reply,
    WebSocketConnection,
    WebSocketService,
    serve_websocket,
    websocket_parser,
)

DEFAULT_PORT = 8086
NAME = "websocket_load"
MAX_CLIENTS = 20_000
# Two of the largest messages: one on its way, one that was echoed before back-pressure began.
MAX_PENDING_BYTES = 2 * 1024 * 1024 + 1024
TRY_AGAIN_LATER = 1013  # IANA's registry of close codes


class LoadService(WebSocketService):
    metrics_here = True

    def set_up(self, arguments: argparse.Namespace) -> None:
        self.busy = 0
        self.max_held_bytes: int = arguments.max_held_bytes
        self.group.limits = replace(self.group.limits, max_pending_bytes=arguments.max_pending_bytes)

    def counters(self) -> dict[str, tuple[str, float]]:
        return super().counters() | {
            f"{self.name}_busy": ("Connections told to try again later, for memory held by slow readers.", self.busy)
        }


class LoadConnection(WebSocketConnection):
    __slots__ = ()

    service: LoadService

    def answer(self, message: Text | Binary) -> Reply:
        if self.group.held_bytes > self.service.max_held_bytes:
            self.service.busy += 1
            return Refusal(TRY_AGAIN_LATER, "try again later")
        return message.data


def unused(message: Text | Binary) -> None:
    """Connections answer by themselves."""


def main() -> int:
    parser = websocket_parser(NAME, "The WebSocket load server: an echo for very many connections.", DEFAULT_PORT)
    parser.set_defaults(max_clients=MAX_CLIENTS)
    parser.add_argument(
        "--max-pending-bytes", type=size_bytes, default=MAX_PENDING_BYTES, metavar="N", help="unread of one client"
    )
    parser.add_argument(
        "--max-held-bytes", type=size_bytes, default=MAX_HELD_BYTES, metavar="N", help="unread of all clients"
    )
    return serve_websocket(NAME, parser.parse_args(), unused, LoadConnection, LoadService)


if __name__ == "__main__":
    run(main)
