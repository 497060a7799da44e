"""The command line that every server shares: its address, its limits, its log level.

Each limit is an option whose default is a named constant, so that a test can make it small and a load test large.
"""

import argparse
from collections.abc import Callable
from typing import TypeVar

from servers.log_lines import LEVELS

DEFAULT_HOST = "127.0.0.1"  # loopback unless somebody asks for more
IDLE_TIMEOUT_S = 30.0  # shared limit of all our wire formats: no complete message for this long
WRITE_TIMEOUT_S = 5.0  # a reply must have left within this time
# What all connections together may hold for slow readers before new requests are refused as busy.
MAX_HELD_BYTES = 64 * 1024 * 1024
MAX_TIMEOUT_S = 7 * 24 * 3600.0
MAX_PORT = 65535

N = TypeVar("N", int, float)


def server_parser(name: str, summary: str, example: str, default_port: int) -> argparse.ArgumentParser:
    """A parser with `--host --port --log-level`; the server adds its own options.

    `name` is the module (`servers.<name>`), `example` a whole command line for `--help`.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m servers.{name}",
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--host", default=DEFAULT_HOST, help="address to listen on (0.0.0.0 for all; default: loopback only)"
    )
    parser.add_argument("--port", type=port_number, default=default_port, help="port to listen on; 0 picks a free one")
    parser.add_argument("--log-level", choices=list(LEVELS), default="info", help="least level that is logged")
    return parser


def add_connection_limits(
    parser: argparse.ArgumentParser, *, max_clients: int, idle: bool = True
) -> argparse._ArgumentGroup:
    """Add `--max-clients --idle-timeout --write-timeout` (seconds); the server adds its own to the group."""
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--max-clients", type=count, default=max_clients, metavar="N", help="connections served at a time"
    )
    if idle:
        group.add_argument(
            "--idle-timeout",
            type=seconds,
            default=IDLE_TIMEOUT_S,
            metavar="S",
            help="close a connection that completed no message for S seconds",
        )
    group.add_argument(
        "--write-timeout",
        type=seconds,
        default=WRITE_TIMEOUT_S,
        metavar="S",
        help="close a connection that did not take a reply within S seconds",
    )
    return group


def add_metrics_port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics-port",
        type=port_number,
        default=None,
        metavar="PORT",
        help="serve Prometheus text on http://HOST:PORT/metrics (0 picks a port and logs it; default: off)",
    )


def port_number(text: str) -> int:
    return _number(text, int, 0, MAX_PORT, f"a port is a whole number from 0 to {MAX_PORT}")


def count(text: str) -> int:
    return _number(text, int, 1, 10**9, "give a whole number from 1")


def count_or_none(text: str) -> int:
    return _number(text, int, 0, 10**9, "give a whole number from 0")


def seconds(text: str) -> float:
    return _number(text, float, 0.001, MAX_TIMEOUT_S, "give seconds above 0, such as 5 or 0.25")


def rate(text: str) -> float:
    return _number(text, float, 0.001, 1e9, "give a number above 0, such as 5 or 0.25")


def milliseconds(text: str) -> float:
    return _number(text, float, 0.0, MAX_TIMEOUT_S * 1000, "give milliseconds from 0, such as 2 or 0.5")


def size_bytes(text: str) -> int:
    return _number(text, int, 1, 2**31 - 1, "give a size in bytes, such as 1048576")


def _number(text: str, convert: Callable[[str], N], least: float, most: float, wanted: str) -> N:
    try:
        value = convert(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: {wanted}") from None
    if not least <= value <= most:  # also refuses nan
        raise argparse.ArgumentTypeError(f"{text!r}: {wanted}")
    return value


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the example's line as it is and says each default (but not `None`)."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)
