"""Sockets of the engine as the operating system knows them."""

import os
from collections.abc import Callable
from typing import Final

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

from users.transport import TlsFilter

# One recv. Larger replies take several; a larger buffer would cost more to have than it saves.
RECV_BYTES: Final = 65_536
# A descriptor is a number; a socket and its two methods are three objects more that each connection's turn would touch,
# and with thousands of connections none of them is in the processor's cache. On Windows sockets are no files.
BY_DESCRIPTOR: Final = os.name == "posix"


def through_tls(recv: Callable[[int], bytes], tls: TlsFilter) -> Callable[[int], bytes]:
    """`recv` of a connection with TLS. BlockingIOError when all has been read and no record is complete."""

    def recv_plain(size_bytes: int) -> bytes:
        while True:
            data = recv(size_bytes)
            plain = tls.receive(data) if data else data
            if plain or not data:
                return plain

    return recv_plain


def raise_descriptor_limit() -> None:
    """As many sockets as the system lets us have without asking: ten thousand users need ten thousand."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            pass  # macOS names a limit that it does not grant; connecting will tell
