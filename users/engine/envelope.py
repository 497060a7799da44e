"""Envelope echoes in the engine: the reply to an echo is the request, byte for byte.

Same version, type, request id, timestamp and payload in the binary codec are the same bytes, and the codec is the
judge of every reply that is not.
"""

import time
from typing import Any, Final

from protocols.envelope import EnvelopeCodec, echo_writer
from users.engine.columns import Columns
from users.engine.exchange import Request
from users.engine.express import Express, Times
from users.engine.stream import StreamExchange
from users.payloads import POOL_BYTES, STRIDE, random_pool, shared_place
from users.statistics import Tally

NAME: Final = "echo"


class EnvelopeExpress(Express):
    """Random payloads of one size."""

    __slots__ = (
        "_add",
        "_count_call",
        "_count_intended",
        "_count_places",
        "_count_returned",
        "_echoes",
        "_encode",
        "_place",
        "_pool",
        "_size_bytes",
    )

    def __init__(self, columns: Columns, size_bytes: int, tally: Tally) -> None:
        super().__init__(columns)
        self._size_bytes = size_bytes
        self._echoes = echo_writer(size_bytes)
        self._encode = self._echoes.encode
        self._pool = random_pool(size_bytes)
        self._place = shared_place(size_bytes)
        self._add = tally.adding
        self._count_intended, self._count_call, self._count_returned, self._count_places = tally.appends

    def make(self, fd: int, count: int) -> tuple[bytes, bytes]:
        size, pool, shared = self._size_bytes, self._pool, self._place
        place, request_id, step, mask = shared.at, self._ids[fd], self._id_step, self._id_mask
        ids, payloads = [], []
        for _ in range(count):
            request_id = (request_id + step) & mask
            ids.append(request_id)
            payloads.append(pool[place : place + size])
            place = (place + STRIDE) % POOL_BYTES
        self._ids[fd], shared.at = request_id, place
        out = self._echoes.encode_many(ids, time.time_ns() // 1_000_000, payloads)
        return out, out

    def record(self, fd: int, notes: Any, count: int, times: Times) -> None:
        self._add(*times, count)

    def renew(self, fd: int, return_ns: int) -> bytes:
        if self._places[fd] != 1:
            return super().renew(fd, return_ns)
        self._count_intended(self._intended_ns[fd])
        self._count_call(self._call_ns[fd])
        self._count_returned(return_ns)
        self._count_places(1)
        self._intended_ns[fd] = return_ns
        shared = self._place
        place = shared.at
        shared.at = (place + STRIDE) % POOL_BYTES
        self._ids[fd] = request_id = (self._ids[fd] + self._id_step) & self._id_mask
        payload = self._pool[place : place + self._size_bytes]
        self._due[fd] = out = self._encode(request_id, time.time_ns() // 1_000_000, payload)
        return out


class EnvelopeExchange(StreamExchange):
    """Random payloads of one size."""

    __slots__ = ("_place", "_pool", "_size_bytes")

    first_name = NAME

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        size_bytes: int = self.client.user._payload_bytes
        self._size_bytes = size_bytes
        self._express = self._columns.express_of(EnvelopeExpress, size_bytes, self.tally(NAME, size_bytes))
        self.unit_bytes = echo_writer(size_bytes).unit_bytes
        # The msgpack codec writes small numbers in fewer bytes: its replies have no size of their own.
        self.streams = self.client.codec == "binary"
        self._pool = random_pool(size_bytes)
        self._place = shared_place(size_bytes)

    def unmake(self, due: bytes, notes: Any) -> list[Request]:
        requests = []
        for envelope in EnvelopeCodec().receive_data(due):
            request = Request(NAME, (envelope.msg_type, envelope.payload), self._size_bytes, 0)
            request.request_id, request.expected = envelope.request_id, envelope
            requests.append(request)
        return requests

    def next_request(self, intended_ns: int) -> Request:
        shared = self._place
        place = shared.at
        shared.at = (place + STRIDE) % POOL_BYTES
        return Request(NAME, (0, self._pool[place : place + self._size_bytes]), self._size_bytes, intended_ns)
