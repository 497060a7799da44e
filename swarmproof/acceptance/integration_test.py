"""Seed 000's integration test: N good clients at the same time, M envelopes each, nothing lost, altered or crossed.

swarmproof integration-test --port 9000 --clients 20 --frames 50
...
20 clients, 1000 frames, 0 failures

With `--bad-clients N` as many hostile clients (`protocols.hostile`) attack meanwhile, and the last line is

good: 20/20 pass, bad: 8/8 handled, server healthy
"""

import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from protocols.envelope import Codec
from protocols.host import name_problem
from swarmproof.acceptance.envelope_client import REPLY_TIMEOUT_S, ClientResult, EnvelopeClient
from swarmproof.acceptance.hostile_clients import HostileClients, HostileResult
from swarmproof.targets.base import LOOPBACK, Surroundings, accepts
from swarmproof.targets.errors import TargetError
from swarmproof.targets.guard import Guard
from swarmproof.targets.servers import ServerTarget

MAX_CLIENTS = 1000  # one thread each
SERVER_MAX_CLIENTS = 100  # what the reference server accepts unless told otherwise

# Beside hostile clients the good ones' frames are spread over this time: they must feel the attacks.
UNDER_ATTACK_S = 2.0
LONGEST_PAUSE_S = 0.05
# The wire format's idle timeout; a server of our own is started with a short one, so that the test is.
IDLE_TIMEOUT_S = 30.0
OWN_IDLE_TIMEOUT_S = 2.0
OWN_WRITE_TIMEOUT_S = 1.0
# What a server may take beyond its idle timeout to end a connection, on a loaded machine.
PATIENCE_ROOM_S = 8.0
BEGIN_TIMEOUT_S = 4.0  # below the good clients' wait for each other
# Connections of left attacks that the server has not noticed yet.
CHURN_ROOM = 100
HEALTH_FRAMES = 5


def run_clients(
    host: str,
    port: int,
    *,
    clients: int,
    frames: int,
    codec: Codec = "binary",
    timeout_s: float = REPLY_TIMEOUT_S,
    pause_s: float = 0.0,
    all_connected: Callable[[], None] | None = None,
) -> list[ClientResult]:
    """Run all clients at the same time, each on a connection of its own; their results in order.

    `all_connected` is called once when all are, before the first frame is sent.
    """
    runners = [
        EnvelopeClient(number, (host, port), frames=frames, codec=codec, timeout_s=timeout_s, pause_s=pause_s)
        for number in range(1, clients + 1)
    ]
    barrier = threading.Barrier(clients, all_connected)
    threads = [threading.Thread(target=runner.run, args=(barrier,), daemon=True) for runner in runners]
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
    bad_clients: int = 0,
    idle_timeout_s: float | None = None,
    codec: Codec = "binary",
    timeout_s: float = REPLY_TIMEOUT_S,
    say: Callable[[str], None] = print,
) -> bool:
    """The whole test, printed by `say`; whether everything passed. Without a port it starts a server of its own.

    `bad_clients` hostile ones attack meanwhile; `idle_timeout_s` is the server's, within which it must end the
    connections of those that stay silent.

    Errors: TargetError when there is nothing to test.
    """
    if port is not None:
        problem = name_problem(host)
        if problem is not None:
            raise TargetError(f"the address {host}:{port} {problem}; give --host a name or an IP address")
        if not accepts(host, port):
            raise TargetError(
                f"nothing accepts connections at {host}:{port}; start the server there, "
                "or leave out --port to test the reference server"
            )
        idle_s = IDLE_TIMEOUT_S if idle_timeout_s is None else idle_timeout_s
        return _test(host, port, _Shape(clients, frames, bad_clients, idle_s, codec, timeout_s), say)
    idle_s = OWN_IDLE_TIMEOUT_S if idle_timeout_s is None else idle_timeout_s
    with Guard() as guard:
        directory = Path(tempfile.mkdtemp(prefix="swarmproof-"))
        guard.protect(directory)
        arguments = [] if clients <= SERVER_MAX_CLIENTS else ["--max-clients", str(clients)]
        if bad_clients:
            arguments = ["--max-clients", str(clients + 2 * bad_clients + CHURN_ROOM)]
            arguments += ["--idle-timeout", f"{idle_s:g}", "--write-timeout", str(OWN_WRITE_TIMEOUT_S)]
        server = ServerTarget("envelope", Surroundings(guard, directory), arguments=arguments)
        try:
            server.start()
            own_port = server.members[0].port
            say(f"envelope server started on port {own_port}")
            return _test(LOOPBACK, own_port, _Shape(clients, frames, bad_clients, idle_s, codec, timeout_s), say)
        finally:
            server.stop()


class _Shape(NamedTuple):
    """What is asked of the clients."""

    clients: int
    frames: int
    bad_clients: int
    idle_s: float  # the server's
    codec: Codec
    timeout_s: float


def _test(host: str, port: int, shape: _Shape, say: Callable[[str], None]) -> bool:
    run = partial(run_clients, host, port, codec=shape.codec, timeout_s=shape.timeout_s)
    if not shape.bad_clients:
        results = run(clients=shape.clients, frames=shape.frames)
        for result in results:
            say(result.describe())
        say(summary(results))
        return all(result.ok for result in results)
    hostile = HostileClients((host, port), shape.bad_clients, patience_s=shape.idle_s + PATIENCE_ROOM_S)

    def attack() -> None:
        hostile.start()
        hostile.await_begun(BEGIN_TIMEOUT_S)

    pause_s = min(UNDER_ATTACK_S / shape.frames, LONGEST_PAUSE_S)
    good = run(clients=shape.clients, frames=shape.frames, pause_s=pause_s, all_connected=attack)
    bad = hostile.finish()
    for result in good:
        say(result.describe())
    say(summary(good))
    for line in _attacks(bad):
        say(line)
    (afterwards,) = run(clients=1, frames=HEALTH_FRAMES)
    healthy = afterwards.ok
    say(attacked_summary(good, bad, healthy=healthy))
    return healthy and all(result.ok for result in good) and all(result.handled for result in bad)


def _attacks(bad: list[HostileResult]) -> list[str]:
    """How often each attack ended how, and which clients were not handled."""
    outcomes: Counter[tuple[str, str]] = Counter()
    for result in bad:
        outcomes.update(result.outcomes)
    lines = [f"{kind:<22}{count:>6}  {how}" for (kind, how), count in sorted(outcomes.items())]
    return lines + [result.describe() for result in bad if not result.handled]


def attacked_summary(good: list[ClientResult], bad: list[HostileResult], *, healthy: bool) -> str:
    """`good: 20/20 pass, bad: 8/8 handled, server healthy`"""
    passed = sum(result.ok for result in good)
    handled = sum(result.handled for result in bad)
    health = "server healthy" if healthy else "server NOT healthy"
    return f"good: {passed}/{len(good)} pass, bad: {handled}/{len(bad)} handled, {health}"


def summary(results: list[ClientResult]) -> str:
    """`20 clients, 1000 frames, 0 failures`; a client that could not connect fails all its frames."""
    failures = sum(result.failed for result in results)
    return f"{len(results)} clients, {sum(result.frames for result in results)} frames, {failures} failures"
