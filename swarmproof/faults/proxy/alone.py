"""`swarmproof proxy`: one link by itself, for any server and any client."""

import contextlib
import resource
import signal
from collections.abc import Callable, Sequence

from swarmproof.faults.proxy.link import Link
from swarmproof.faults.proxy.loop import Loop
from swarmproof.faults.proxy.toxics import ToxicMistake, needs_frames, parse_toxics

MAX_PORT = 65535


def parse_address(text: str, option: str) -> tuple[str, int]:
    """`127.0.0.1:9000`, `[::1]:9000`. Errors: ToxicMistake."""
    host, colon, port = text.removeprefix("tcp://").rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise ToxicMistake(f"{option} {text} is not an address; write HOST:PORT, such as 127.0.0.1:9100")
    return host.strip("[]"), int(port)


def serve_alone(listen: str, upstream: str, toxics: Sequence[str], say: Callable[[str], None]) -> int:
    """Carry until SIGINT or SIGTERM, then say what was carried; the exit code. Errors: ToxicMistake."""
    chosen = parse_toxics(toxics)
    address, target = parse_address(listen, "--listen"), parse_address(upstream, "--upstream")
    raise_descriptor_limit()
    loop = Loop()
    try:
        link = Link(loop, "proxy", address, target, framed=needs_frames(chosen))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ToxicMistake(f"cannot listen on {listen}: {reason}; choose another port (0 picks a free one)") from error
    link.set_toxics(chosen)
    loop.stop_on([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    words = f", {', '.join(toxics)}" if toxics else ""
    say(f"proxy listening on {link.address[0]}:{link.address[1]} for {target[0]}:{target[1]}{words}")
    loop.run()
    counters = link.counters()
    link.close()
    loop.close()
    say(
        f"carried {counters['up_bytes']} bytes up and {counters['down_bytes']} bytes down "
        f"on {counters['accepted']} connections; changed {counters['changed']}, "
        f"swallowed {counters['up_swallowed_bytes'] + counters['down_swallowed_bytes']} bytes"
    )
    return 0


def raise_descriptor_limit() -> None:
    """Each connection takes two descriptors: take all that the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
