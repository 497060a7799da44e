"""Envelope servers that break one rule for one echo in a hundred."""

import struct
import time
from collections.abc import Mapping
from typing import Final

from protocols.frames import LENGTH_BYTES
from servers.connection import OPEN, RECEIVED
from servers.envelope import EnvelopeConnection

# One echo in so many is spoiled: rare enough to hide in a summary, often enough for a run of seconds.
EVERY: Final = 100
FREEZE_S: Final = 2.0
# After the first request, so that the freeze falls into the middle of a short run.
FREEZE_AFTER_S: Final = 1.0
# Of the frames that arrived in more than one piece.
EVERY_SEAM: Final = 20

# Where things stand in a framed envelope: length, version, type, request id, timestamp, payload length, payload.
_VERSION_AT = LENGTH_BYTES
_ID = slice(LENGTH_BYTES + 2, LENGTH_BYTES + 10)
_TIMESTAMP = slice(LENGTH_BYTES + 10, LENGTH_BYTES + 18)
_PAYLOAD_AT = LENGTH_BYTES + 22
_length = struct.Struct(">I").unpack_from


class LyingConnection(EnvelopeConnection):
    """Calls `spoil` with all replies of a batch that holds the one whose turn it is, and with its place."""

    __slots__ = ()

    def _echo(self, frames: memoryview, echoes: int) -> None:
        before = self.server.echoes
        turn = EVERY - before % EVERY - 1
        if turn >= echoes:
            super()._echo(frames, echoes)
            return
        replies = []
        start = 0
        while start < len(frames):
            end = start + LENGTH_BYTES + _length(frames, start)[0]
            replies.append(bytearray(frames[start:end]))
            start = end
        self.spoil(replies, turn)
        super()._echo(memoryview(b"".join(replies)), echoes)

    def spoil(self, replies: list[bytearray], turn: int) -> None:
        raise NotImplementedError


class SwappedIds(LyingConnection):
    """Two pipelined replies carry each other's request id."""

    __slots__ = ()

    def spoil(self, replies: list[bytearray], turn: int) -> None:
        if len(replies) > 1:
            one, other = replies[turn], replies[turn - 1]
            one[_ID], other[_ID] = other[_ID], one[_ID]


class WrongConnection(LyingConnection):
    """A reply goes to another client."""

    __slots__ = ()

    def spoil(self, replies: list[bytearray], turn: int) -> None:
        other = next((one for one in self.group.connections if one is not self and one.state == OPEN), None)
        if other is not None:
            other.send(bytes(replies.pop(turn)))


class ReusedId(LyingConnection):
    """A reply comes late, when its place in the server's table belongs to the next request: under that one's id."""

    __slots__ = ("_late",)

    def __init__(self, *arguments: object) -> None:
        self._late: bytearray | None = None
        super().__init__(*arguments)  # type: ignore[arg-type]

    def spoil(self, replies: list[bytearray], turn: int) -> None:
        self._late = replies.pop(turn)

    def _echo(self, frames: memoryview, echoes: int) -> None:
        late, self._late = self._late, None
        if late is not None:
            size = LENGTH_BYTES + _length(frames)[0]
            late[_ID] = frames[_ID]
            frames = memoryview(bytes(late) + bytes(frames[size:]))
        super()._echo(frames, echoes)


class ChunkBoundary(EnvelopeConnection):
    """The byte where two pieces of a payload meet is damaged."""

    __slots__ = ("_seams",)

    def __init__(self, *arguments: object) -> None:
        self._seams = 0
        super().__init__(*arguments)  # type: ignore[arg-type]

    def received(self, count: int) -> None:
        if len(self._partial) > _PAYLOAD_AT and len(self._partial) < self._wanted_bytes:
            self._seams += 1
            if self._seams % EVERY_SEAM == 0:
                RECEIVED[0] ^= 1
        super().received(count)


class WrongVersion(LyingConnection):
    """The echo names another protocol version."""

    __slots__ = ()

    def spoil(self, replies: list[bytearray], turn: int) -> None:
        replies[turn][_VERSION_AT] ^= 2


class AlteredTimestamp(LyingConnection):
    """The echo's timestamp is a millisecond later than the request's."""

    __slots__ = ()

    def spoil(self, replies: list[bytearray], turn: int) -> None:
        stamp = int.from_bytes(replies[turn][_TIMESTAMP], "big") + 1
        replies[turn][_TIMESTAMP] = stamp.to_bytes(8, "big")


class Freeze(EnvelopeConnection):
    """The whole server stands still once, for two seconds."""

    __slots__ = ()
    _due_s = 0.0
    _done = False

    def received(self, count: int) -> None:
        kind = type(self)
        if not kind._due_s:
            kind._due_s = time.monotonic() + FREEZE_AFTER_S
        elif not kind._done and time.monotonic() > kind._due_s:
            kind._done = True
            time.sleep(FREEZE_S)
        super().received(count)


BUGS: Final[Mapping[str, type[EnvelopeConnection]]] = {
    "swapped-ids": SwappedIds,
    "wrong-connection": WrongConnection,
    "reused-id": ReusedId,
    "chunk-boundary": ChunkBoundary,
    "wrong-version": WrongVersion,
    "altered-timestamp": AlteredTimestamp,
    "freeze": Freeze,
}
