"""RPC calls in the engine.

What a server may answer to a call is not foretold to the byte (spaces and the order of members are its own), so
each reply is parsed. Nearly all of them are one plain text frame with a JSON object that says exactly what was
expected: those are compared here. Any other goes to the session and the client's check, which find the words.
"""

import random
from itertools import cycle
from time import monotonic_ns
from typing import Any, Final

import orjson

from protocols.rpc import RequestWriter
from protocols.websocket import FIN_TEXT, plain_messages, unmasked_frame
from users.engine.exchange import Exchange, Request
from users.payloads import POOL_BYTES, STRIDE, text_pool

_MAX_NUMBER: Final = 1_000_000_000
# Calls drawn in advance, gone through again and again: the mix is that of the weights.
_DRAWN_CALLS: Final = 4_096
_NOTHING_FORETOLD: Final = object()


class WebSocketRpcExchange(Exchange):
    """The user's mix of echo, add, get_time and error_test."""

    first_name = "echo"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        mix: dict[str, int] = self.client.user.engine_mix
        drawn = [*mix, *random.choices(list(mix), list(mix.values()), k=_DRAWN_CALLS)]
        random.shuffle(drawn)
        self._methods = cycle(drawn)
        self._writers = {method: RequestWriter(method, self.client.dialect).encode for method in mix}
        # The member beside `id` and `result` in a good reply, and its value.
        self._mark = "error" if self.client.dialect == "call" else "jsonrpc"
        self._mark_value = None if self.client.dialect == "call" else "2.0"
        self._text_bytes: int = self.client.user._payload_bytes
        self._pool = text_pool(self._text_bytes)
        self._place = random.randrange(POOL_BYTES)
        self._is_plain = False

    def opened(self) -> None:
        session: Any = self.session
        self._ws = session._ws
        self._frame = self._ws.frame
        self._read = session.read
        self._is_plain = True

    # -- requests ------------------------------------------------------------------------------------------------

    def next_request(self, intended_ns: int) -> Request:
        method = next(self._methods)
        if method == "echo":
            self._place = place = (self._place + STRIDE) % POOL_BYTES
            params: dict[str, Any] = {
                "message": self._pool[place : place + self._text_bytes].decode(),
                "number": int(random.random() * _MAX_NUMBER),
            }
            foretold: Any = params
        elif method == "add":
            a, b = int((random.random() - 0.5) * _MAX_NUMBER), int((random.random() - 0.5) * _MAX_NUMBER)
            params, foretold = {"a": a, "b": b}, {"result": a + b}
        else:
            params, foretold = {}, _NOTHING_FORETOLD
        request = Request(method, (method, params), 0, intended_ns)
        request.foretold = foretold
        return request

    def encode(self, request: Request) -> tuple[Any, bytes, Any]:
        self._id = number = (self._id + self._id_step) & self._id_mask
        wire_id = f"{number:016x}"
        method, params = request.what
        text = self._writers[method](wire_id.encode(), orjson.dumps(params))
        return wire_id, self._frame(FIN_TEXT, text), params

    # -- replies -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> bytes:
        texts = plain_messages(data, FIN_TEXT, self._ws.max_size) if self._is_plain else None
        if texts is None:
            out = super().receive(data)
            self._is_plain = self._ws.between_messages
            return out
        pending: dict[Any, Any] = self._pending
        mark, mark_value = self._mark, self._mark_value
        good, others = [], []
        for text in texts:
            try:
                message = orjson.loads(text)
                request = pending.get(message["id"])
                result = message["result"]
                if (
                    request is not None
                    and message[mark] == mark_value
                    and len(message) == 3
                    and result == request.foretold
                    and (request.name != "add" or type(result["result"]) is int)
                ):
                    del pending[request.request_id]
                    good.append(request)
                    continue
            except (ValueError, KeyError, TypeError, IndexError):
                pass  # whatever it is, the session knows
            others.append(text)
        now_ns = monotonic_ns()
        if good:
            self._count(good, now_ns)
            self._answered_call_ns = good[-1].call_ns
            if self._instant:
                self._ready += [(now_ns, None)] * len(good)
            else:
                self._free(len(good), now_ns)
        if others:
            return self._receive_others(others)
        return self._outgoing()

    def _count(self, good: list[Any], return_ns: int) -> None:
        """As `succeeded` for each; those that were sent together are counted together."""
        self.told_breaker(len(good))
        first, places = good[0], 0
        for request in good:
            times = (request.intended_ns, request.first_call_ns, request.name)
            if times == (first.intended_ns, first.first_call_ns, first.name):
                places += 1
                continue
            if places:
                self.tally(first.name, 0).add(first.intended_ns, first.first_call_ns, return_ns, places)
            first, places = request, 1
        self.tally(first.name, 0).add(first.intended_ns, first.first_call_ns, return_ns, places)

    def _receive_others(self, texts: list[bytes]) -> bytes:
        """Text frames that are not the plain good case, as the parser would have given them."""
        for text in texts:
            # Framed again, for the parser: it also checks that they are UTF-8.
            replies = self._receive(unmasked_frame(FIN_TEXT, text))
            if replies:
                self._settle(replies, monotonic_ns())
            if not self.is_open:
                return b""
            if self.session.error is not None:
                self._break_malformed(self.session.error)
                return b""
        return self._outgoing()
