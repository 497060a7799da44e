"""Random payloads, cut from a pool.

Their content does not matter to a server, only that two in a row differ; ids make every message unlike all others.
So a megabyte is drawn once, and each payload starts a little further on in it.
"""

import random
from functools import lru_cache
from typing import Final

POOL_BYTES: Final = 1 << 20
#: From one payload's start to the next one's: odd, so that it takes a million payloads to come round.
STRIDE: Final = 61

_TO_TEXT: Final = bytes(b"abcdefghijklmnopqrstuvwxyz012345"[byte % 32] for byte in range(256))


@lru_cache(maxsize=4)  # one or two sizes are in use; a mixed scenario has a few
def random_pool(size_bytes: int) -> bytes:
    """Random bytes to cut payloads of `size_bytes` from, starting anywhere below POOL_BYTES."""
    return random.randbytes(POOL_BYTES + size_bytes)


@lru_cache(maxsize=4)
def text_pool(size_bytes: int) -> bytes:
    """The same as ASCII letters and digits: as many bytes as characters."""
    return random_pool(size_bytes).translate(_TO_TEXT)


def random_text(size_bytes: int) -> str:
    """So many random ASCII letters and digits, drawn anew."""
    return random.randbytes(size_bytes).translate(_TO_TEXT).decode()


class Place:
    """Where in a pool the next payload starts."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = random.randrange(POOL_BYTES)


@lru_cache(maxsize=4)
def shared_place(size_bytes: int) -> Place:
    """One for all connections of this process: a thousand places in a megabyte would each be cold when it is used."""
    return Place()


class Payloads:
    """Random payloads of one size. Shared by all lanes of a user: two replies in flight must never be alike."""

    __slots__ = ("_place", "_pool", "_size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._pool = random_pool(size_bytes)
        self._place = random.randrange(POOL_BYTES)

    def next(self) -> bytes:
        self._place = place = (self._place + STRIDE) % POOL_BYTES
        return self._pool[place : place + self._size_bytes]
