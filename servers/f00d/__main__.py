"""`python -m servers.f00d --port 9000 --script "DISCONNECT,SUCCESS" --admin-port 9100`"""

import argparse

from prometheus_client import CollectorRegistry

from protocols.f00d import MAX_PAYLOAD_BYTES
from servers.arguments import (
    add_connection_limits,
    add_metrics_port,
    count,
    milliseconds,
    port_number,
    server_parser,
    size_bytes,
)
from servers.bugs.planting import add_bug_option, planted
from servers.connection_group import Limits
from servers.f00d.admin import admin_door
from servers.f00d.device import MAX_KEPT_PACKETS, Device, DeviceConnection
from servers.f00d.device_metrics import MAX_DEVICES, DeviceMetrics
from servers.f00d.script import DEFAULT_DELAY_S, BadScript, Mode, Script, parse_script
from servers.log_lines import log
from servers.metrics import ConnectionCollector, metrics_door
from servers.serving import run, serve_until_stopped

DEFAULT_PORT = 9000  # seed 003
MAX_CLIENTS = 10_000  # thousands of devices, each with its connection


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = server_parser(
        "f00d",
        "The F00D device server: acknowledges device packets, or fails in the ways that devices do.",
        'python -m servers.f00d --port 9000 --script "DISCONNECT,SUCCESS" --admin-port 9100 --metrics-port 9400',
        DEFAULT_PORT,
    )
    behaviour = parser.add_mutually_exclusive_group()
    behaviour.add_argument(
        "--mode",
        type=lambda text: _script(text, single=True),
        default=Mode.SUCCESS.value,
        metavar="MODE",
        help=f"how to behave: one of {', '.join(Mode)}",
    )
    behaviour.add_argument(
        "--script",
        type=_script,
        metavar="STEPS",
        help='a sequence of modes, one attempt each, the last one stays: "DISCONNECT*2,DELAY:0.5,SUCCESS"',
    )
    parser.add_argument(
        "--delay-ms",
        type=milliseconds,
        default=DEFAULT_DELAY_S * 1000,
        metavar="MS",
        help="how late DELAY acknowledges, unless the step says it",
    )
    parser.add_argument(
        "--ack",
        choices=["raw", "framed"],
        default="raw",
        help="raw: the bytes `ACK`, as the original device; framed: a packet that names the msg_id",
    )
    limits = add_connection_limits(parser, max_clients=MAX_CLIENTS)
    limits.add_argument(
        "--keep-packets",
        type=count,
        default=MAX_KEPT_PACKETS,
        metavar="N",
        help="received packets kept for GET /packets",
    )
    limits.add_argument(
        "--max-payload-bytes",
        type=size_bytes,
        default=MAX_PAYLOAD_BYTES,
        metavar="N",
        help="a packet that announces more is a decode error",
    )
    limits.add_argument(
        "--max-devices",
        type=count,
        default=MAX_DEVICES,
        metavar="N",
        help="device ids with metrics of their own; later ones count as `other`",
    )
    parser.add_argument(
        "--admin-port",
        type=port_number,
        default=None,
        metavar="PORT",
        help="HTTP on 127.0.0.1: GET /packets, GET and POST /mode, GET /counts (0 picks a port; default: off)",
    )
    add_metrics_port(parser)
    add_bug_option(parser)
    return parser.parse_args(argv)


def _script(text: str, single: bool = False) -> Script:
    try:
        steps = parse_script(text)
    except BadScript as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if single and len(steps) > 1:
        raise argparse.ArgumentTypeError("--mode takes one mode; a sequence is a --script")
    return Script(steps)


def main() -> int:
    arguments = parse_arguments()
    log.set_level(arguments.log_level)
    device = Device(
        Limits(arguments.max_clients, arguments.idle_timeout, arguments.write_timeout),
        arguments.script or arguments.mode,
        framed_ack=arguments.ack == "framed",
        delay_s=arguments.delay_ms / 1000,
        keep_packets=arguments.keep_packets,
        max_payload_bytes=arguments.max_payload_bytes,
        metrics=DeviceMetrics(arguments.max_devices),
        connection_class=None if arguments.bug is None else _connection_with(arguments.bug),
    )
    acceptor = device.listen(arguments.host, arguments.port)
    if arguments.admin_port is not None:
        admin_door(arguments.admin_port, device)
    if arguments.metrics_port is not None:
        registry = CollectorRegistry()
        registry.register(device.metrics)
        registry.register(ConnectionCollector("f00d", device.group))
        metrics_door(arguments.host, arguments.metrics_port, registry, device.group)
    code = serve_until_stopped("f00d", [acceptor], drain=device.group.drain)
    device.group.abort_all()
    return code


def _connection_with(bug: str) -> type[DeviceConnection]:
    from servers.bugs.f00d import BUGS

    return planted(bug, BUGS, "f00d")


if __name__ == "__main__":
    run(main)
