"""Envelope echoes in the engine: the reply to an echo is the request, byte for byte.

Same version, type, request id, timestamp and payload in the binary codec are the same bytes, and the codec is the
judge of every reply that is not.
"""

import time
from typing import Any, Final

from protocols.envelope import EnvelopeCodec, echo_writer
from users.engine.exchange import Request
from users.engine.stream import StreamExchange
from users.payloads import POOL_BYTES, STRIDE, random_pool, shared_place

NAME: Final = "echo"


class EnvelopeExchange(StreamExchange):
    """Random payloads of one size."""

    __slots__ = (
        "_count_call",
        "_count_intended",
        "_count_places",
        "_count_returned",
        "_echoes",
        "_place",
        "_pool",
        "_size_bytes",
    )

    first_name = NAME

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        size_bytes: int = self.client.user._payload_bytes
        self._size_bytes = size_bytes
        self._echoes = echo_writer(size_bytes)
        self.unit_bytes = self._echoes.unit_bytes
        # The msgpack codec writes small numbers in fewer bytes: its replies have no size of their own.
        self.streams = self.client.codec == "binary"
        self._pool = random_pool(size_bytes)
        self._place = shared_place(size_bytes)
        tally = self.tally(NAME, size_bytes)
        self._count_intended, self._count_call, self._count_returned, self._count_places = tally.appends

    def make(self, count: int) -> tuple[bytes, bytes, Any]:
        size, pool, shared = self._size_bytes, self._pool, self._place
        place = shared.at
        timestamp_ms = time.time_ns() // 1_000_000
        if count == 1:
            request_id = self._id = (self._id + self._id_step) & self._id_mask
            shared.at = (place + STRIDE) % POOL_BYTES
            out = self._echoes.encode(request_id, timestamp_ms, pool[place : place + size])
            return out, out, None
        ids, payloads = [], []
        request_id, step, mask = self._id, self._id_step, self._id_mask
        for _ in range(count):
            request_id = (request_id + step) & mask
            ids.append(request_id)
            payloads.append(pool[place : place + size])
            place = (place + STRIDE) % POOL_BYTES
        self._id, shared.at = request_id, place
        out = self._echoes.encode_many(ids, timestamp_ms, payloads)
        return out, out, None

    def add_up(self, notes: Any, count: int, intended_ns: int, call_ns: int, return_ns: int) -> None:
        self._count_intended(intended_ns)
        self._count_call(call_ns)
        self._count_returned(return_ns)
        self._count_places(count)

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
