"""Free ports for targets, outside the range that the kernel gives to outgoing connections.

A client that keeps connecting to a dead node whose port lies in the ephemeral range can be given that very port as its
own, and is then connected to itself, or holds the port when the node comes back. So target ports are taken below it.
"""

import random
import socket
import threading
from pathlib import Path

EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_START_ELSEWHERE = 49152  # IANA's, which macOS and the BSDs use
LOWEST = 15000  # above the well-known development ports
ATTEMPTS = 2000

_given: set[int] = set()
_lock = threading.Lock()


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on `port` now (a TIME_WAIT left by an earlier one does not count)."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """`count` different ports that are free now and that this process has not given out before."""
    start = _ephemeral_start()
    if start - LOWEST < 1000:  # an unusual kernel setting: let the kernel choose, it knows best
        return _kernels_choice(count, host)
    found: list[int] = []
    with _lock:
        for _ in range(ATTEMPTS):
            # Not seeded: two runs with one seed may stand beside each other.
            port = random.SystemRandom().randrange(LOWEST, start)
            if port in _given or not is_free(port, host):
                continue
            _given.add(port)
            found.append(port)
            if len(found) == count:
                return found
    return found + _kernels_choice(count - len(found), host)


def _ephemeral_start() -> int:
    try:
        return int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return EPHEMERAL_START_ELSEWHERE


def _kernels_choice(count: int, host: str) -> list[int]:
    sockets = []
    try:
        for _ in range(count):
            taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            sockets.append(taken)
            taken.bind((host, 0))
        return [taken.getsockname()[1] for taken in sockets]
    finally:
        for taken in sockets:
            taken.close()
