"""The tool-call server: python -m servers.websocket_tools --port 8079 --token-file FILE

The token is in --token-file or in the variable SWARMPROOF_TOKEN; without either every token is welcome (the log says
so). The original's limits are on; --no-limits is how load is measured: sizes, timeouts and deduplication stay.
"""

import argparse
import os
from pathlib import Path

from protocols.tool_call import HELLO_TIMEOUT_S, MAX_CALL_BYTES, MAX_FRAME_BYTES
from protocols.websocket import Binary, Text
from servers.arguments import count, rate, seconds, size_bytes
from servers.log_lines import log
from servers.serving import CannotServe, run
from servers.websocket_serving import serve_websocket, websocket_parser
from servers.websocket_tools.connection import ToolConnection
from servers.websocket_tools.service import (
    ADDRESS_BUCKET,
    CALL_TIMEOUT_S,
    GLOBAL_BUCKET,
    MAX_ADDRESS_CONNECTIONS,
    MAX_CALLS,
    MAX_SESSION_CALLS,
    MAX_STORED_BYTES,
    MAX_STORED_REPLIES,
    REPLY_KEPT_S,
    SESSION_BUCKET,
    ToolService,
)

DEFAULT_PORT = 8079  # seed 002
TOKEN_VARIABLE = "SWARMPROOF_TOKEN"
MAX_TOKEN_BYTES = 4096


def parser() -> argparse.ArgumentParser:
    parser = websocket_parser(
        "websocket_tools",
        "The tool-call server: hello, call_tool with progress and streaming, list_tools, deduplication, limits.",
        DEFAULT_PORT,
    )
    parser.set_defaults(max_message_bytes=MAX_FRAME_BYTES)
    parser.add_argument(
        "--token-file", metavar="FILE", help=f"the token of hello (default: ${TOKEN_VARIABLE}, or none)"
    )
    parser.add_argument("--no-limits", action="store_true", help="no token buckets, no limits of calls and connections")
    limits = parser.add_argument_group("tool-call limits")
    limits.add_argument("--hello-timeout", type=seconds, default=HELLO_TIMEOUT_S, metavar="S", help="for the hello")
    limits.add_argument("--call-timeout", type=seconds, default=CALL_TIMEOUT_S, metavar="S", help="for one call")
    limits.add_argument("--max-call-bytes", type=size_bytes, default=MAX_CALL_BYTES, metavar="N", help="of one call")
    limits.add_argument(
        "--max-session-calls", type=count, default=MAX_SESSION_CALLS, metavar="N", help="in flight, of one session"
    )
    limits.add_argument("--max-calls", type=count, default=MAX_CALLS, metavar="N", help="in flight, in all")
    limits.add_argument(
        "--max-address-connections",
        type=count,
        default=MAX_ADDRESS_CONNECTIONS,
        metavar="N",
        help="of one address; one more is closed with 1008",
    )
    for burst, long_run, (capacity, per_s), who in (
        ("--session-burst", "--session-rate", SESSION_BUCKET, "a session"),
        ("--address-burst", "--address-rate", ADDRESS_BUCKET, "an address"),
        ("--global-burst", "--global-rate", GLOBAL_BUCKET, "all clients together"),
    ):
        limits.add_argument(burst, type=count, default=capacity, metavar="N", help=f"requests at once, of {who}")
        limits.add_argument(
            long_run, type=rate, default=per_s, metavar="N", help="a second, in the long run, of the same"
        )
    limits.add_argument(
        "--keep-replies", type=seconds, default=REPLY_KEPT_S, metavar="S", help="to answer a repeated request_id"
    )
    limits.add_argument(
        "--max-stored-replies", type=count, default=MAX_STORED_REPLIES, metavar="N", help="kept for that"
    )
    limits.add_argument(
        "--max-stored-bytes", type=size_bytes, default=MAX_STORED_BYTES, metavar="N", help="of those that are kept"
    )
    return parser


def read_token(path: str | None) -> str | None:
    """The token that hello must bring, None when there is none. Raises CannotServe."""
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotServe(f"cannot read the token file {path!r}: {getattr(error, 'strerror', 'not text')}") from None
    if not 0 < len(token) <= MAX_TOKEN_BYTES:
        raise CannotServe(f"the token file {path!r} must hold one token, of at most {MAX_TOKEN_BYTES} characters")
    return token


def unused(message: Text | Binary) -> None:
    """Connections answer by themselves."""


def main() -> int:
    arguments = parser().parse_args()
    arguments.token = read_token(arguments.token_file)
    if arguments.token is None:
        log.warning("authentication_off", reason=f"neither --token-file nor {TOKEN_VARIABLE} is given")
    return serve_websocket("websocket_tools", arguments, unused, ToolConnection, ToolService)


if __name__ == "__main__":
    run(main)
