"""WebSocket echoes in the engine: each message comes back in one unmasked frame with the same payload.

That is what nearly every server sends; a fragmented or padded answer is as good, and is read by the parser.
"""

import random
from typing import Any, Final

from protocols.websocket import FIN_BINARY, FIN_TEXT, unmasked_frame
from users.engine.exchange import Request
from users.engine.stream import StreamExchange
from users.payloads import POOL_BYTES, STRIDE, random_pool, shared_place, text_pool

_ID_CHARS: Final = 16
_ID_BYTES: Final = 8
_NAMES: Final = ("echo text", "echo binary")


class WebSocketEchoExchange(StreamExchange):
    """Text, binary, or both at random; every message starts with its id."""

    __slots__ = (
        "_adds",
        "_frame",
        "_heads",
        "_kinds",
        "_place",
        "_pool",
        "_size_bytes",
        "_text_pool",
        "_ws",
    )

    first_name = _NAMES[0]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        size_bytes: int = self.client._size_bytes
        self._size_bytes = size_bytes
        self._kinds: str = self.client.user._message
        self.streams = self.client._has_ids
        self._heads = tuple(
            unmasked_frame(first, bytes(size_bytes))[: -size_bytes or None] for first in (FIN_TEXT, FIN_BINARY)
        )
        self.unit_bytes = len(self._heads[0]) + size_bytes
        self._pool = random_pool(size_bytes)
        self._text_pool = text_pool(size_bytes)
        self._place = shared_place(size_bytes)
        self._adds = tuple(self.tally(name, size_bytes).adding for name in _NAMES)

    def opened(self) -> None:
        session: Any = self.session
        self._ws = session._ws
        self._frame = self._ws.frame

    def make(self, count: int) -> tuple[bytes, bytes, Any]:
        request_id, step, mask, shared = self._id, self._id_step, self._id_mask, self._place
        place = shared.at
        size, frame, heads = self._size_bytes, self._frame, self._heads
        kinds = self._choose(count)
        pieces, due = [], []
        for kind in kinds:
            request_id = (request_id + step) & mask
            place = (place + STRIDE) % POOL_BYTES
            if kind:
                payload = request_id.to_bytes(_ID_BYTES, "big") + self._pool[place : place + size - _ID_BYTES]
                pieces.append(frame(FIN_BINARY, payload))
            else:
                payload = b"%016x" % request_id + self._text_pool[place : place + size - _ID_CHARS]
                pieces.append(frame(FIN_TEXT, payload))
            due.append(heads[kind])
            due.append(payload)
        self._id, shared.at = request_id, place
        return b"".join(pieces), b"".join(due), kinds

    def _choose(self, count: int) -> list[int]:
        """For each message 0 (text) or 1 (binary)."""
        if self._kinds == "both":
            bits = random.getrandbits(count)
            return [bits >> place & 1 for place in range(count)]
        return [int(self._kinds == "binary")] * count

    def add_up(self, notes: Any, count: int, intended_ns: int, call_ns: int, return_ns: int) -> None:
        binary = sum(notes)
        if binary:
            self._adds[1](intended_ns, call_ns, return_ns, binary)
        if count > binary:
            self._adds[0](intended_ns, call_ns, return_ns, count - binary)

    def unmake(self, due: bytes, notes: Any) -> list[Request]:
        requests = []
        head_bytes = len(self._heads[0])
        for number, kind in enumerate(notes):
            payload = due[number * self.unit_bytes + head_bytes : (number + 1) * self.unit_bytes]
            request = Request(_NAMES[kind], bytes if kind else str, self._size_bytes, 0)
            request.expected = payload if kind else payload.decode("ascii")
            request.request_id = int.from_bytes(payload[:_ID_BYTES], "big") if kind else int(payload[:_ID_CHARS], 16)
            requests.append(request)
        return requests

    def next_request(self, intended_ns: int) -> Request:
        kind = self._choose(1)[0]
        return Request(_NAMES[kind], bytes if kind else str, self._size_bytes, intended_ns)

    def at_boundary(self) -> bool:
        return bool(self._ws.between_messages)
