"""The WebSocket echo server (seed 001): text comes back as text, binary as binary, whole messages only.

python -m servers.websocket_echo --port 8080
"""

from protocols.websocket import Binary, Text
from servers.serving import run
from servers.websocket_serving import serve_websocket, websocket_parser

DEFAULT_PORT = 8080  # seed 001


def echo(message: Text | Binary) -> str | bytes:
    return message.data


def main() -> int:
    parser = websocket_parser(
        "websocket_echo", "The WebSocket echo server: every message comes back as it went.", DEFAULT_PORT
    )
    return serve_websocket("websocket_echo", parser.parse_args(), echo)


if __name__ == "__main__":
    run(main)
