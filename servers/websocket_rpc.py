"""The WebSocket RPC server (seed 001), in both dialects: see `protocols.rpc`.

    python -m servers.websocket_rpc --port 8082

A method is a function from params to result; `methods().register(name, function)` adds one. It raises InvalidParams
for params that it cannot use, or RpcMethodError(message, code, data).
"""

import random
import time
from collections.abc import Callable
from pathlib import Path

from protocols.rpc import Dispatcher, InvalidParams, RpcMethodError
from protocols.websocket import Binary, Text
from servers.bugs.planting import add_bug_option, planted
from servers.log_lines import log
from servers.serving import run
from servers.websocket_serving import Refusal, WebSocketConnection, serve_websocket, websocket_parser

DEFAULT_PORT = 8082  # seed 001
UNSUPPORTED_DATA = 1003  # RFC 6455, 7.4.1: "an endpoint that understands only text data"
I64 = range(-(2**63), 2**63)  # the seed reads its integers with as_i64


def echo(params: object) -> object:
    return params


def add(params: object) -> object:
    if not isinstance(params, dict):
        raise InvalidParams
    a, b = params.get("a"), params.get("b")
    if type(a) is not int or type(b) is not int or a not in I64 or b not in I64:  # True is no number
        raise InvalidParams
    return {"result": a + b}


def get_time(params: object) -> object:
    return {"timestamp": int(time.time())}


def error_test(params: object) -> object:
    raise RpcMethodError("Test error")


def methods(errors_while: Path | None = None) -> Dispatcher:
    """A dispatcher with the seed's methods; with a file, they fail as it says."""
    dispatcher = Dispatcher()
    for method in (echo, add, get_time, error_test):
        dispatcher.register(method.__name__, method if errors_while is None else failing(method, errors_while))
    return dispatcher


def failing(method: Callable[[object], object], control: Path) -> Callable[[object], object]:
    """`method`, but for the share of the calls that `control` asks to fail."""
    said = False

    def call(params: object) -> object:
        nonlocal said
        try:
            share = float(control.read_text()) if control.exists() else 0.0
        except (OSError, ValueError):
            share = 0.0
        if bool(share) != said:
            said = bool(share)
            log.warning("rpc_errors", share=share)
        if share and random.random() < share:
            raise RpcMethodError("Injected error")
        return method(params)

    return call


def main() -> int:
    parser = websocket_parser(
        "websocket_rpc",
        "The WebSocket RPC server: echo, add, get_time and error_test, as JSON-RPC 2.0 or with method_type.",
        DEFAULT_PORT,
    )
    parser.add_argument(
        "--errors-while",
        type=Path,
        metavar="FILE",
        help="for experiments: while FILE holds a share such as 0.3, so many of the calls are answered with an error",
    )
    add_bug_option(parser)
    arguments = parser.parse_args()
    handle = methods(arguments.errors_while).handle

    def answer(message: Text | Binary) -> str | Refusal | None:
        if isinstance(message, Binary):
            return Refusal(UNSUPPORTED_DATA, "RPC is text only")
        return handle(message.data)

    connection_class = None if arguments.bug is None else _connection_with(arguments.bug)
    return serve_websocket("websocket_rpc", arguments, answer, connection_class)


def _connection_with(bug: str) -> type[WebSocketConnection]:
    from servers.bugs.websocket_rpc import BUGS

    return planted(bug, BUGS, "websocket_rpc")


if __name__ == "__main__":
    run(main)
