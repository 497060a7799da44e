"""WebSocket echoes in the engine: each message comes back in one unmasked frame with the same payload.

That is what nearly every server sends; a fragmented or padded answer is as good, and is read by the parser.
"""

import random
from typing import Any, Final

from protocols.websocket import CLIENT_FRAMES, FIN_BINARY, FIN_TEXT, unmasked_frame
from users.engine.columns import Columns
from users.engine.exchange import Request
from users.engine.express import Express, Times
from users.engine.stream import StreamExchange
from users.payloads import POOL_BYTES, STRIDE, random_pool, shared_place, text_pool
from users.statistics import Tally

_ID_CHARS: Final = 16
_ID_BYTES: Final = 8
_FIRSTS: Final = (FIN_TEXT, FIN_BINARY)
_NAMES: Final = ("echo text", "echo binary")


class WebSocketEchoExpress(Express):
    """Text (0), binary (1), or both at random (None); every message starts with its id."""

    __slots__ = (
        "_adds",
        "_frame",
        "_heads",
        "_kind",
        "_kinds",
        "_place",
        "_pools",
        "_size_bytes",
    )

    def __init__(self, columns: Columns, size_bytes: int, kind: int | None, text: Tally, binary: Tally) -> None:
        super().__init__(columns)
        self._size_bytes = size_bytes
        self._kind = kind
        self._kinds: list[list[int]] = columns.objects([])  # of the messages made last, if they are drawn
        self._adds = text.adding, binary.adding
        self._heads = reply_heads(size_bytes)
        self._frame = CLIENT_FRAMES.frame
        self._pools = text_pool(size_bytes), random_pool(size_bytes)
        self._place = shared_place(size_bytes)

    def make(self, fd: int, count: int) -> tuple[bytes, bytes]:
        kind = self._kind
        if kind is not None:
            payloads = [self._payload(fd, kind) for _ in range(count)]
            head: bytes = self._heads[kind]
            return CLIENT_FRAMES.frames(_FIRSTS[kind], payloads), head + head.join(payloads)
        bits = random.getrandbits(count)
        self._kinds[fd] = [bits >> place & 1 for place in range(count)]
        pieces: list[bytes] = []
        due: list[bytes] = []
        for kind in self._kinds[fd]:
            payload = self._payload(fd, kind)
            pieces.append(self._frame(_FIRSTS[kind], payload))
            due += (self._heads[kind], payload)
        return b"".join(pieces), b"".join(due)

    def _payload(self, fd: int, kind: int) -> bytes:
        """The next one, with an id of its own."""
        request_id: int = (self._ids[fd] + self._id_step) & self._id_mask
        self._ids[fd] = request_id
        shared = self._place
        shared.at = place = (shared.at + STRIDE) % POOL_BYTES
        if kind:
            return request_id.to_bytes(_ID_BYTES, "big") + self._pools[1][place : place + self._size_bytes - _ID_BYTES]
        return b"%016x" % request_id + self._pools[0][place : place + self._size_bytes - _ID_CHARS]

    def notes(self, fd: int, count: int) -> list[int]:
        """The kind of each message."""
        return self._kinds[fd] if self._kind is None else [self._kind] * count

    def record(self, fd: int, notes: Any, count: int, times: Times) -> None:
        binary = sum(notes)
        if binary:
            self._adds[1](*times, binary)
        if count > binary:
            self._adds[0](*times, count - binary)

    def renew(self, fd: int, return_ns: int) -> bytes:
        kind = self._kind
        if kind is None or self._places[fd] != 1:
            return super().renew(fd, return_ns)
        self._adds[kind](self._intended_ns[fd], self._call_ns[fd], return_ns, 1)
        self._intended_ns[fd] = return_ns
        payload = self._payload(fd, kind)
        self._due[fd] = self._heads[kind] + payload
        return self._frame(_FIRSTS[kind], payload)


def reply_heads(size_bytes: int) -> tuple[bytes, bytes]:
    """What stands before the payload in the reply to a text, and to a binary message."""
    text, binary = (unmasked_frame(first, bytes(size_bytes))[: -size_bytes or None] for first in _FIRSTS)
    return text, binary


class WebSocketEchoExchange(StreamExchange):
    """Text, binary, or both at random; every message starts with its id."""

    __slots__ = ("_head_bytes", "_kind", "_size_bytes", "_ws")

    first_name = _NAMES[0]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        size_bytes: int = self.client._size_bytes
        self._size_bytes = size_bytes
        self._kind: int | None = {"text": 0, "binary": 1}.get(self.client.user._message)
        tallies = [self.tally(name, size_bytes) for name in _NAMES]
        self._express = self._columns.express_of(WebSocketEchoExpress, size_bytes, self._kind, *tallies)
        self.streams = self.client._has_ids
        self._head_bytes = len(reply_heads(size_bytes)[0])
        self.unit_bytes = self._head_bytes + size_bytes

    def opened(self) -> None:
        super().opened()
        session: Any = self.session
        self._ws = session._ws

    def unmake(self, due: bytes, notes: Any) -> list[Request]:
        requests = []
        head_bytes = self._head_bytes
        for number, kind in enumerate(notes):
            payload = due[number * self.unit_bytes + head_bytes : (number + 1) * self.unit_bytes]
            request = Request(_NAMES[kind], bytes if kind else str, self._size_bytes, 0)
            request.expected = payload if kind else payload.decode("ascii")
            request.request_id = int.from_bytes(payload[:_ID_BYTES], "big") if kind else int(payload[:_ID_CHARS], 16)
            requests.append(request)
        return requests

    def next_request(self, intended_ns: int) -> Request:
        kind = random.getrandbits(1) if self._kind is None else self._kind
        return Request(_NAMES[kind], bytes if kind else str, self._size_bytes, intended_ns)

    def at_boundary(self) -> bool:
        return bool(self._ws.between_messages)
