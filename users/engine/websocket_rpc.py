"""RPC calls in the engine.

What a server may answer to a call is not given to the byte (spaces and the order of members are its own), but most
servers write all their replies alike. So the first replies on a connection are decoded, the server's form of writing
is learned from them (`protocols.rpc_forms`), and then `echo` and `add` are foretold as an echo server's replies are.
`get_time` and `error_test` never are: they are decoded each time. A server that answers in another order is read as a
map: nearly all its replies are one plain text frame with a JSON object that says exactly what was expected, which is
compared here. Any other goes to the session and the client's check, which find the words.
"""

import random
from functools import lru_cache
from typing import Any, Final

import orjson

from protocols.rpc import Dialect, RequestWriter
from protocols.rpc_forms import ReplyForm, learn_form
from protocols.websocket import CLIENT_FRAMES, FIN_TEXT, plain_message_at, plain_messages, unmasked_frame
from users.engine.columns import Columns
from users.engine.exchange import Request
from users.engine.express import Express, Times
from users.engine.stream import StreamExchange
from users.payloads import POOL_BYTES, STRIDE, shared_place, text_pool
from users.statistics import Tally

# Forms are remembered: nobody writes so much around a result but to fill our memory.
_MAX_FORM_BYTES: Final = 4_096
_MAX_NUMBER: Final = 1_000_000_000
# Calls drawn in advance, gone through again and again: the mix is that of the weights.
_DRAWN_CALLS: Final = 4_096
_NOTHING_FORETOLD: Final = object()

# How a server may write its results: as JSON libraries do, compact or with spaces.
_ECHO: Final = b'{"message":"%b","number":%d}'
_PARAMS: Final = {"echo": _ECHO, "add": b'{"a":%d,"b":%d}'}
_RESULTS: Final = {
    "echo": (_ECHO, b'{"message": "%b", "number": %d}'),
    "add": (b'{"result":%d}', b'{"result": %d}'),
}

#: Of each request under way: its method, id, the values in its params, those in its result, and its reply's bytes.
Note = tuple[str, int, tuple[Any, ...], tuple[Any, ...], int]
#: By method: how the server at the other end of a connection writes its replies.
Forms = dict[str, ReplyForm]


@lru_cache(maxsize=4)
def _drawn_calls(mix: tuple[tuple[str, int], ...]) -> list[str]:
    """Methods in the order in which they are called, by all connections together."""
    methods, weights = zip(*mix, strict=True)
    drawn = [*methods, *random.choices(methods, weights, k=_DRAWN_CALLS)]
    random.shuffle(drawn)
    return drawn


@lru_cache(maxsize=64)
def _shared_forms(forms: frozenset[tuple[str, ReplyForm]]) -> Forms:
    """The one dictionary of these forms, for all connections to servers that write alike."""
    return dict(forms)


_NO_FORMS: Final = _shared_forms(frozenset())


class WebSocketRpcExpress(Express):
    """Calls drawn from `mix`, in one of the dialects."""

    __slots__ = (
        "_adds",
        "_at",
        "_drawn",
        "_forms",
        "_frame",
        "_notes",
        "_place",
        "_pool",
        "_text_bytes",
        "_texts",
        "writers",
    )

    mixes = True

    def __init__(
        self, columns: Columns, mix: tuple[tuple[str, int], ...], dialect: Dialect, text_bytes: int, *tallies: Tally
    ) -> None:
        super().__init__(columns)
        self._drawn = _drawn_calls(mix)
        self._at = random.randrange(len(self._drawn))
        self._forms: list[Forms] = columns.objects(_NO_FORMS)
        self._notes: list[list[Note]] = columns.objects([])  # of the requests that were made last
        self._adds = {method: tally.adding for (method, _), tally in zip(mix, tallies, strict=True)}
        self.writers = {method: RequestWriter(method, dialect) for method, _ in mix}
        self._texts = {method: writer.form(_PARAMS.get(method, b"{}")) for method, writer in self.writers.items()}
        self._frame = CLIENT_FRAMES.frame
        self._text_bytes = text_bytes
        self._pool = text_pool(text_bytes)
        self._place = shared_place(text_bytes)

    def opened(self, fd: int, exchange: Any) -> None:
        self._forms[fd] = _NO_FORMS

    def learned(self, fd: int, method: str, form: ReplyForm) -> None:
        """The server at the other end writes its replies to this method so."""
        if len(form.text) > _MAX_FORM_BYTES:
            return
        self._forms[fd] = _shared_forms(frozenset({**self._forms[fd], method: form}.items()))

    def forget(self, fd: int) -> None:
        """It does not write as was thought."""
        self._forms[fd] = _NO_FORMS

    def together(self, fd: int, count: int) -> int:
        drawn, at, forms = self._drawn, self._at, self._forms[fd]
        number = 0
        while number < count and drawn[(at + number) % len(drawn)] in forms:
            number += 1
        return number or 1

    def make(self, fd: int, count: int) -> tuple[bytes, bytes]:
        if count == 1:
            out, due, note = self._make_one(fd)
            self._notes[fd] = [note]
            return out, due
        made = [self._make_one(fd) for _ in range(count)]
        self._notes[fd] = [note for *_, note in made]
        return b"".join([out for out, _, _ in made]), b"".join([due for _, due, _ in made])

    def notes(self, fd: int, count: int) -> list[Note]:
        return self._notes[fd]

    def _make_one(self, fd: int) -> tuple[bytes, bytes, Note]:
        self._ids[fd] = number = (self._ids[fd] + self._id_step) & self._id_mask
        digits = b"%016x" % number
        method, values, result = self.draw()
        out = self._frame(FIN_TEXT, self._texts[method] % (digits, *values))
        form = self._forms[fd].get(method)
        if form is None:
            return out, b"", (method, number, values, result, 0)
        due = unmasked_frame(FIN_TEXT, form.text % ((digits, *result) if form.id_first else (*result, digits)))
        return out, due, (method, number, values, result, len(due))

    def draw(self) -> tuple[str, tuple[Any, ...], tuple[Any, ...]]:
        """The next call: its method, the values in its params, and those in its result."""
        at = self._at
        self._at = at + 1 if at + 1 < len(self._drawn) else 0
        method = self._drawn[at]
        if method == "echo":
            shared = self._place
            shared.at = place = (shared.at + STRIDE) % POOL_BYTES
            values = (self._pool[place : place + self._text_bytes], int(random.random() * _MAX_NUMBER))
            return method, values, values
        if method == "add":
            a, b = int((random.random() - 0.5) * _MAX_NUMBER), int((random.random() - 0.5) * _MAX_NUMBER)
            return method, (a, b), (a + b,)
        return method, (), ()

    def record(self, fd: int, notes: Any, count: int, times: Times) -> None:
        first = notes[0][0]
        if count == 1 or all(note[0] == first for note in notes):
            self._adds[first](*times, count)
            return
        methods = [note[0] for note in notes]
        for method in set(methods):
            self._adds[method](*times, methods.count(method))

    def renew(self, fd: int, return_ns: int) -> bytes:
        count = self._places[fd]
        if count == 1:
            if self._drawn[self._at] in self._forms[fd]:
                ((method, *_),) = self._notes[fd]
                self._adds[method](self._intended_ns[fd], self._call_ns[fd], return_ns, 1)
                self._intended_ns[fd] = return_ns
                out, self._due[fd], note = self._make_one(fd)
                self._notes[fd] = [note]
                return out
        elif self.together(fd, count) == count:
            return super().renew(fd, return_ns)
        self.record(fd, self._notes[fd], count, (self._intended_ns[fd], self._call_ns[fd], return_ns))
        return b""


class WebSocketRpcExchange(StreamExchange):
    """The user's mix of echo, add, get_time and error_test."""

    __slots__ = ("_is_plain", "_mark", "_mark_value", "_read", "_ws")

    _express: WebSocketRpcExpress

    first_name = "echo"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        mix = tuple(self.client.user.engine_mix.items())
        tallies = [self.tally(method, 0) for method, _ in mix]
        text_bytes: int = self.client.user._payload_bytes
        self._express = self._columns.express_of(WebSocketRpcExpress, mix, self.client.dialect, text_bytes, *tallies)
        # The member beside `id` and `result` in a good reply, and its value.
        self._mark = "error" if self.client.dialect == "call" else "jsonrpc"
        self._mark_value = None if self.client.dialect == "call" else "2.0"
        self._is_plain = False

    def opened(self) -> None:
        super().opened()
        session: Any = self.session
        self._ws = session._ws
        self._read = session.read
        self._is_plain = True

    # -- the stream ----------------------------------------------------------------------------------------------

    def whole(self, matched_bytes: int) -> int:
        number = 0
        for note in self._notes:
            matched_bytes -= note[4]
            if matched_bytes < 0:
                break
            number += 1
        return number

    def start_of(self, place: int) -> int:
        return sum(note[4] for note in self._notes[:place])

    def take_unforetold(self, data: bytes, start: int, now_ns: int) -> int:
        found = plain_message_at(data, start, FIN_TEXT, self._ws.max_size)
        if found is None:
            return 0
        payload, end = found
        ((method, number, values, result, _),) = self._notes
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            return 0
        answer = self._read(text)
        if answer.request_id != f"{number:016x}" or not self.client.is_right(method, answer, _params(method, values)):
            return 0
        if method in _RESULTS:
            form = learn_form(payload, b"%016x" % number, _RESULTS[method], result, self.client.dialect)
            if form is not None:
                self._express.learned(self._fd, method, form)
        self.told_breaker(1)
        return_ns = max(now_ns, self._call_ns)
        self._express.record(self._fd, self._notes, 1, (self._intended_ns, self._call_ns, return_ns))
        return end - start

    def unmake(self, due: bytes, notes: Any) -> list[Request]:
        # Whatever came was not what its server's form foretold: that is learned again.
        self._express.forget(self._fd)
        self._is_plain = self.at_boundary()  # the parser may know of a reply that has begun
        requests = []
        for method, number, values, _, _ in notes:
            request = self._request(method, values, 0)
            request.request_id, request.expected = f"{number:016x}", request.what[1]
            requests.append(request)
        return requests

    def at_boundary(self) -> bool:
        return bool(self._ws.between_messages)

    # -- the map: requests ---------------------------------------------------------------------------------------

    def next_request(self, intended_ns: int) -> Request:
        method, values, _ = self._express.draw()
        return self._request(method, values, intended_ns)

    def _request(self, method: str, values: tuple[Any, ...], intended_ns: int) -> Request:
        params = _params(method, values)
        request = Request(method, (method, params), 0, intended_ns)
        if method == "echo":
            request.foretold = params
        elif method == "add":
            request.foretold = {"result": params["a"] + params["b"]}
        else:
            request.foretold = _NOTHING_FORETOLD
        return request

    def encode(self, request: Request) -> tuple[Any, bytes, Any]:
        wire_id = f"{self.next_id():016x}"
        method, params = request.what
        text = self._express.writers[method].encode(wire_id.encode(), orjson.dumps(params))
        return wire_id, self._ws.frame(FIN_TEXT, text), params

    # -- the map: replies ----------------------------------------------------------------------------------------

    def receive_apart(self, data: bytes) -> bytes:
        texts = plain_messages(data, FIN_TEXT, self._ws.max_size) if self._is_plain else None
        if texts is None:
            out = super().receive_apart(data)
            self._is_plain = self._ws.between_messages
            return out
        pending: dict[Any, Any] = self._pending
        mark, mark_value = self._mark, self._mark_value
        oldest = next(iter(pending), None)
        good, others = [], []
        for text in texts:
            try:
                message = orjson.loads(text)
                request = pending.get(message["id"])
                if oldest is not None:
                    self._reorders = self._reorders or (request is not None and request.request_id != oldest)
                    oldest = None  # the first reply tells
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
        now_ns = self._now()
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

    def _count(self, good: list[Any], now_ns: int) -> None:
        """As `succeeded` for each; those that were sent together are counted together."""
        if self._breaker is not None:
            for request in good:
                self.told_breaker(1, request.caller)
        first, places = good[0], 0
        for request in good:
            times = (request.intended_ns, request.first_call_ns, request.name)
            if times == (first.intended_ns, first.first_call_ns, first.name):
                places += 1
                continue
            if places:
                self._count_together(first, places, now_ns)
            first, places = request, 1
        self._count_together(first, places, now_ns)

    def _count_together(self, first: Any, places: int, now_ns: int) -> None:
        return_ns = max(now_ns, first.call_ns)
        self.tally(first.name, 0).add(first.intended_ns, first.first_call_ns, return_ns, places)

    def _receive_others(self, texts: list[bytes]) -> bytes:
        """Text frames that are not the plain good case, as the parser would have given them."""
        for text in texts:
            # Framed again, for the parser: it also checks that they are UTF-8.
            replies = self._receive(unmasked_frame(FIN_TEXT, text))
            if replies:
                self._settle(replies, self._now())
            if not self.is_open:
                return b""
            if self.session.error is not None:
                self._break_malformed(self.session.error)
                return b""
        return self._outgoing()


def _params(method: str, values: tuple[Any, ...]) -> dict[str, Any]:
    if method == "echo":
        text, number = values
        return {"message": text.decode(), "number": number}
    return dict(zip("ab", values, strict=False))
