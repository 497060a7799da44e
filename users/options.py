"""The command-line options of the scenarios, which Locust also shows as fields of its web form.

A user module *offers* the options that it reads; a locustfile therefore has exactly those of its users. They are
registered when Locust builds its parser, and reach workers from the master. None of them defaults to None: the
web form converts what was typed to the type of the default.
"""

import argparse
from collections.abc import Callable
from typing import Any, Final

from locust import events

from records.rates import parse_stages
from users.connection_life import REPLY_TIMEOUT_S
from users.kv_mix import DEFAULT_MIX, parse_mix
from users.opening import CONNECT_DEADLINE_S

# Above this the pending map, not the wire, is what is measured; a server's own limits are far below.
MAX_DEPTH: Final = 10_000

# As long as a client would wait at the very most: beyond it an arrival tells nothing more, and the run says so.
MAX_LATENESS_S: Final = 10.0


class OptionMistake(Exception):
    """A value that an option cannot have, in one sentence."""


def whole(low: int, high: int) -> Callable[[str], int]:
    """The type of an option that is a whole number between these two."""

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return whole_number


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{value:g} is not between 0 and 3600 seconds")
    return value


def _pause(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{value:g} is not between 0 and 3600 seconds")
    return value


def _ratio(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value <= 1_000:
        raise argparse.ArgumentTypeError(f"{value:g} is not between 0 and 1000")
    return value


def _rate(text: str) -> str:
    try:
        if text.strip():
            parse_stages(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text.strip()


def _mix(text: str) -> str:
    try:
        parse_mix(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text.strip()


# What an envelope of the largest frame carries; users of a protocol that carries more raise the option's ceiling.
MAX_PAYLOAD_BYTES: Final = 1_048_554

OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "payload_bytes": {
        "type": whole(0, MAX_PAYLOAD_BYTES),
        "default": 64,
        "help": "size of each random payload in bytes",
    },
    "depth": {
        "type": whole(1, MAX_DEPTH),
        "default": 1,
        "help": "requests in flight on each connection; users (-u) stay connections",
    },
    "engine": {
        "action": "store_true",
        "default": False,
        "help": "drive all connections in one loop instead of running tasks: several times the throughput per core "
        "(envelope, F00D, WebSocket echo and RPC, and codecs of your own)",
    },
    "rate": {
        "type": _rate,
        "default": "",
        "help": "open load: requests a second of all users together, however slow the server is: 5000, "
        "or '0..5000 in 30s', or '1000 for 10s then 2000'; without it users wait for each reply",
    },
    "arrivals": {
        "choices": ["constant", "poisson"],
        "default": "constant",
        "help": "open load: arrivals evenly apart, or at random as of many independent clients",
    },
    "max_lateness": {
        "type": _seconds,
        "default": MAX_LATENESS_S,
        "help": "open load: arrivals that no user could issue for so many seconds are dropped and counted",
    },
    "arrivals_seed": {
        "type": whole(0, 2**63 - 1),
        "default": 0,
        "help": "open load: seed of poisson arrivals",
    },
    "receive_times": {
        "choices": ["auto", "kernel", "process"],
        "default": "auto",
        "help": "who says when a reply came: the kernel (Linux; 1.3 us more a read), or this process when it has read "
        "it; auto: the kernel where load has a pace, --rate or a wait_time of the user class",
    },
    "timeout": {
        "type": _seconds,
        "default": REPLY_TIMEOUT_S,
        "help": "seconds to wait for a reply before the request counts as failed",
    },
    "connect_deadline": {
        "type": _seconds,
        "default": CONNECT_DEADLINE_S,
        "help": "seconds to keep trying to connect before a request fails for want of a connection",
    },
    "codec": {
        "choices": ["binary", "msgpack"],
        "default": "binary",
        "help": "envelope codec on the wire",
    },
    "ack": {
        "choices": ["raw", "framed", "any"],
        "default": "raw",
        "help": "F00D acknowledgement: the original's bare ACK, a framed one that names its packet, or any reply",
    },
    "f00d_connections": {
        "choices": ["attempt", "reuse"],
        "default": "attempt",
        "help": "F00D connections: a new one for each attempt as the original device client, or one kept open",
    },
    "attempts": {
        "type": whole(1, 100),
        "default": 2,
        "help": "F00D attempts for each packet before it counts as failed",
    },
    "f00d_connect_timeout": {
        "type": _seconds,
        "default": 1.0,
        "help": "F00D: seconds that connecting may take in each attempt",
    },
    "f00d_timeout": {
        "type": _seconds,
        "default": 1.5,
        "help": "F00D: seconds to wait for the acknowledgement in each attempt",
    },
    "f00d_retry_delay": {
        "type": _pause,
        "default": 0.25,
        "help": "F00D: seconds before the second attempt, twice as many before each further one",
    },
    "f00d_retry_jitter": {
        "type": _pause,
        "default": 0.1,
        "help": "F00D: up to so many seconds more before each attempt, at random",
    },
    "f00d_metrics_port": {
        "type": lambda text: text if text == "" else str(whole(0, 65_535)(text)),
        "default": "",  # seed 003 has 9400
        "help": "serve the F00D users' metrics as Prometheus text on 127.0.0.1 at this port, such as 9400 (0 picks "
        "one and logs it; worker i of a fleet adds i); without it they are not served",
    },
    "performance_report": {
        "default": "",
        "help": "print F00D's round-trip report at the end, and write it as JSON to this file, such as "
        "test-reports/performance-report.json",
    },
    "patience": {
        "type": _seconds,
        "default": 35.0,  # the wire formats' idle timeout of 30 s, and room for a busy server
        "help": "seconds that a server has to end the connection of a hostile client which stays silent",
    },
    "message": {
        "choices": ["text", "binary", "both"],
        "default": "both",
        "help": "kind of WebSocket messages to echo",
    },
    "dialect": {
        "choices": ["call", "jsonrpc"],
        "default": "call",
        "help": "RPC dialect: {id, method, params, method_type}, or strict JSON-RPC 2.0",
    },
    "keys": {
        "type": whole(1, 1_000_000),
        "default": 40,
        "help": "keys of the key-value store that all users share (half of them for appends)",
    },
    "keys_per_client": {
        "type": _ratio,
        "default": 0.0,
        "help": "so many keys for each user that was asked for, instead of --keys; such as 0.5 or 2 (0: --keys)",
    },
    "mix": {
        "type": _mix,
        "default": DEFAULT_MIX,
        "help": "how often each key-value operation is chosen; what is not named never is",
    },
    "reads": {
        "choices": ["anywhere", "leader"],
        "default": "anywhere",
        "help": "where key-value reads are sent: to a node at random, followers too, or to the leader",
    },
    "read_back": {
        "type": whole(0, 1_000),
        "default": 3,
        "help": "keys that each client reads again at once when another node than before acknowledges its writes: "
        "those that it wrote last, which a careless leader takes with it; 0 for none",
    },
    "stale_reads": {
        "type": whole(0, 100),
        "default": 0,
        "help": "percentage of reads that may be stale: answered by one node alone, never judged for linearizability",
    },
}

_offered: dict[str, dict[str, Any]] = {}


def offer(*names: str) -> None:
    """Make these options (of OPTIONS) part of the command line and the web form."""
    for name in names:
        _offered[name] = OPTIONS[name]


def offer_host(name: str, default: str, what: str) -> None:
    """Offer `--NAME-host`, for scenarios with more than one target."""
    _offered[f"{name}_host"] = {"default": default, "help": f"address of the {what} (this scenario ignores --host)"}


def value(parsed_options: Any, name: str) -> Any:
    """The value of an option; its default where Locust runs as a library and has parsed nothing.

    Raises OptionMistake: a number typed into the web form has not been through the parser's checks.
    """
    default = OPTIONS[name]["default"]
    given = getattr(parsed_options, name, default)
    check = OPTIONS[name].get("type")
    try:
        checked = given if check is None else check(str(given))
    except argparse.ArgumentTypeError as error:
        raise OptionMistake(f"--{name.replace('_', '-')}: {error}") from None
    choices = OPTIONS[name].get("choices")
    if choices is not None and checked not in choices:
        raise OptionMistake(f"--{name.replace('_', '-')}: {checked!r} is not one of {', '.join(choices)}")
    return checked


def carry_payloads_of(most: int) -> None:
    """Let `--payload-bytes` be as large as this; users that carry less say so (`payload_bytes`)."""
    OPTIONS["payload_bytes"]["type"] = whole(0, most)


def payload_bytes(parsed_options: Any, most: int = MAX_PAYLOAD_BYTES, why: str = "") -> int:
    """`--payload-bytes` for users whose messages carry `most`. Raises OptionMistake, with `why` it is no more."""
    size_bytes: int = value(parsed_options, "payload_bytes")
    if size_bytes > most:
        raise OptionMistake(f"--payload-bytes: {size_bytes} is more than {most}{why}")
    return size_bytes


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _register(parser: Any, **_: Any) -> None:
    # Straight to the parser: Locust's web form does not show the options of an argument group.
    for name, settings in _offered.items():
        kind = {} if settings.get("type") is None else {"metavar": "N" if isinstance(settings["default"], int) else "S"}
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            env_var=f"SWARMPROOF_{name.upper()}",
            **kind,
            **(settings | {"help": f"{settings['help']} (default: {settings['default']})"}),
        )
