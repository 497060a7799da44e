"""Request ids that look random, never repeat, and tell where they were born.

The seed asks for unique random u64 ids. Drawn at random they would have to be remembered to tell a duplicate
reply from an unknown one. Instead each connection counts in a *lane* of its own, and the count is scrambled by
a bijection of the 64-bit numbers (a Weyl sequence: multiply by an odd constant, add a random start):

    id = start + STEP * (lane << 32 | count)    (mod 2**bits)

Unique for as long as a process lives, spread over the whole range, one addition each. And invertible: of any id
that comes back, `origin` tells the lane and number, so that every duplicate and every reply meant for another
connection is recognised, however old, without keeping a single id.
"""

import os
from typing import Any, Final, NamedTuple

# 2**64 divided by the golden ratio, odd: consecutive ids land far apart (Knuth, TAOCP 6.4).
_STEP: Final = 0x9E3779B97F4A7C15
# Ids of one lane: at 100,000 requests a second on one connection they last twelve hours; a reconnect takes a new lane.
_COUNT_BITS: Final = 32


#: An id as text: a u64 in hexadecimal, the form of protocols whose ids are JSON strings.
HEX_CHARS: Final = 16


def from_hex(text: Any) -> int | None:
    """The number of an id that came back as text; None for what cannot be one of ours."""
    if not isinstance(text, str) or len(text) != HEX_CHARS:
        return None
    try:
        return int(text, 16)
    except ValueError:
        return None


class Origin(NamedTuple):
    """Where an id came from."""

    lane: int
    number: int


class IdSpace:
    """All ids of one process. `bits` is 64, or 53 for peers that keep numbers in doubles (JSON)."""

    __slots__ = ("_inverse", "_lanes", "_start", "mask", "step")

    def __init__(self, bits: int = 64) -> None:
        self.mask = (1 << bits) - 1
        self.step = _STEP & self.mask
        self._inverse = pow(self.step, -1, 1 << bits)
        self._lanes = 0
        self._restart()

    def _restart(self) -> None:
        # From the kernel, not from `random`: forked workers share the state of `random`, and must not share ids.
        self._start = int.from_bytes(os.urandom(8), "big") & self.mask

    def new_lane(self) -> tuple[int, int]:
        """A fresh lane and its id number 0, which is not used: the first request adds `step` to it."""
        lane = self._lanes
        self._lanes = lane + 1
        return lane, (self._start + self.step * (lane << _COUNT_BITS)) & self.mask

    def origin(self, request_id: int) -> Origin | None:
        """Which lane, and which number in it, an id belongs to; None when this process cannot have issued it."""
        if not 0 <= request_id <= self.mask:
            return None
        number = ((request_id - self._start) * self._inverse) & self.mask
        lane, in_lane = number >> _COUNT_BITS, number & ((1 << _COUNT_BITS) - 1)
        return Origin(lane, in_lane) if lane < self._lanes and in_lane else None


#: The process's ids. One space for all protocols, so that a reply that strays between them is recognised too.
request_ids = IdSpace()
os.register_at_fork(after_in_child=request_ids._restart)
