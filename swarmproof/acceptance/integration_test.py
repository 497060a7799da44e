"""Seed 000's integration test: N good clients at the same time, M envelopes each, nothing lost, altered or crossed.

swarmproof integration-test --port 9000 --clients 20 --frames 50
...
20 clients, 1000 frames, 0 failures
"""

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from protocols.envelope import Codec
from swarmproof.acceptance.envelope_client import NOT_CONNECTED, REPLY_TIMEOUT_S, ClientResult, EnvelopeClient
from swarmproof.targets.base import LOOPBACK, Surroundings, accepts
from swarmproof.targets.errors import TargetError
from swarmproof.targets.guard import Guard
from swarmproof.targets.servers import ServerTarget

MAX_CLIENTS = 1000  # one thread each
SERVER_MAX_CLIENTS = 100  # what the reference server accepts unless told otherwise


def run_clients(
    host: str, port: int, *, clients: int, frames: int, codec: Codec = "binary", timeout_s: float = REPLY_TIMEOUT_S
) -> list[ClientResult]:
    """Run all clients at the same time, each on a connection of its own; their results in order."""
    runners = [
        EnvelopeClient(number, (host, port), frames=frames, codec=codec, timeout_s=timeout_s)
        for number in range(1, clients + 1)
    ]
    all_connected = threading.Barrier(clients)
    threads = [threading.Thread(target=runner.run, args=(all_connected,), daemon=True) for runner in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [runner.result for runner in runners]


def integration_test(
    port: int | None,
    *,
    host: str = LOOPBACK,
    clients: int = 20,
    frames: int = 50,
    codec: Codec = "binary",
    timeout_s: float = REPLY_TIMEOUT_S,
    say: Callable[[str], None] = print,
) -> bool:
    """The whole test, printed by `say`; whether everything passed. Without a port it starts a server of its own.

    Errors: TargetError when there is nothing to test.
    """
    if port is not None:
        if not accepts(host, port):
            raise TargetError(
                f"nothing accepts connections at {host}:{port}; start the server there, "
                "or leave out --port to test the reference server"
            )
        return _test(host, port, clients, frames, codec=codec, timeout_s=timeout_s, say=say)
    with Guard() as guard:
        directory = Path(tempfile.mkdtemp(prefix="swarmproof-"))
        guard.protect(directory)
        arguments = [] if clients <= SERVER_MAX_CLIENTS else ["--max-clients", str(clients)]
        server = ServerTarget("envelope", Surroundings(guard, directory), arguments=arguments)
        try:
            server.start()
            say(f"envelope server started on port {server.members[0].port}")
            return _test(LOOPBACK, server.members[0].port, clients, frames, codec=codec, timeout_s=timeout_s, say=say)
        finally:
            server.stop()


def _test(
    host: str, port: int, clients: int, frames: int, *, codec: Codec, timeout_s: float, say: Callable[[str], None]
) -> bool:
    results = run_clients(host, port, clients=clients, frames=frames, codec=codec, timeout_s=timeout_s)
    for result in results:
        say(result.describe())
    say(summary(results))
    return not any(result.failures for result in results)


def summary(results: list[ClientResult]) -> str:
    """`20 clients, 1000 frames, 0 failures`; a client that could not connect fails all its frames."""
    failures = 0
    for result in results:
        not_connected = any(name == NOT_CONNECTED for name, _, _ in result.failures)
        failures += result.frames if not_connected else len(result.failures)
    return f"{len(results)} clients, {sum(result.frames for result in results)} frames, {failures} failures"
