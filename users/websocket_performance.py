"""Users of the performance server (seed 001): messages that nobody answers, and the server's own count of them.

A message is done when it has been sent. Whether it arrived tells the server's answer to `metrics`, and each answer is
checked: text and binary messages add up to the total, no counter falls, and each has grown by at least what this
connection has sent since its first answer. With `--alone` none may have grown by more than this process has sent.
"""

from collections import Counter
from typing import Any, ClassVar, Final, NamedTuple

import orjson
from locust.runners import WorkerRunner

from records.violations import PAYLOAD, SHAPE
from users import options
from users.client import Client
from users.failures import RequestFailure
from users.payloads import Payloads, random_text
from users.session import Session
from users.transport import Endpoint
from users.websocket import WebSocketSession, WebSocketUser

QUESTION: Final = "metrics"
COUNTERS: Final = ("total_messages", "text_messages", "binary_messages")
RATES: Final = ("messages_per_second", "messages_last_second")
# A text of its own for each message would cost more than to send it.
_TEXTS: Final = 64

options.OPTIONS["alone"] = {
    "action": "store_true",
    "default": False,
    "help": "nobody but this process sends to the performance server, which has one worker: it may not count more",
}
options.offer("payload_bytes", "depth", "message", "timeout", "connect_deadline", "engine", "alone")


class Counts(NamedTuple):
    """Messages, as they were counted or sent."""

    total: int
    text: int
    binary: int

    def since(self, earlier: "Counts") -> "Counts":
        return Counts(*(now - then for now, then in zip(self, earlier, strict=True)))


class CountsReply(NamedTuple):
    """One message of the server; it names no request."""

    request_id: None
    payload: str | bytes


class Ledger:
    """What this process has sent to one server, and what that had counted at the first answer."""

    def __init__(self) -> None:
        self.sent: Counter[type] = Counter()
        self.first: Counts | None = None

    def counts(self) -> Counts:
        return counts_of(self.sent)


_ledgers: dict[str, Ledger] = {}


def counts_of(sent: Counter[type]) -> Counts:
    return Counts(sent[str] + sent[bytes], sent[str], sent[bytes])


class CountingSession(WebSocketSession):
    """Answers in order; `sent` what has left on this connection, `first` the first answer and what had left by then."""

    matches_by_id = False
    answers_in_order = True

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.sent: Counter[type] = Counter()
        self.first: tuple[Counts, Counts] | None = None

    def read(self, payload: str | bytes) -> CountsReply:
        return CountsReply(None, payload)

    def example(self, reply: CountsReply) -> bytes:
        return _bytes(reply.payload)


class WebSocketPerformanceClient(Client):
    """`text` and `binary` send, `metrics` asks; its answer is checked."""

    request_type = "websocket"

    def __init__(self, user: Any, endpoint: Endpoint) -> None:
        parsed = user.environment.parsed_options
        self._endpoint = endpoint
        self._is_alone: bool = options.value(parsed, "alone")
        size_bytes: int = user.payload_bytes(parsed)
        # None of them may be the question: that has no digit at its end.
        self._texts = [random_text(max(0, size_bytes - 1)) + "0" * (size_bytes > 0) for _ in range(_TEXTS)]
        self._payloads = Payloads(size_bytes)
        self._next_text = 0
        self._ledger = _ledgers.setdefault(endpoint.address, Ledger())
        super().__init__(user, endpoint)

    def text(self) -> bool:
        """Send a text message; whether it could be sent."""
        return self.post("send text", str)

    def binary(self) -> bool:
        """Send a binary message; whether it could be sent."""
        return self.post("send binary", bytes)

    def metrics(self) -> Counts | None:
        """What the server has counted, checked. None when it failed."""
        reply = self.perform(QUESTION, None)
        return None if reply is None else read_counts(reply.payload)

    def post(self, name: str, request: type) -> bool:
        if not super().post(name, request):
            return False
        # Only now: while it waited for its turn to be sent, another lane may have asked.
        session: Any = self.connection.session
        session.sent[request] += 1
        return True

    def _session(self) -> Session:
        return CountingSession(self._endpoint)

    def _encode(self, request_id: int, request: type | None) -> tuple[int, bytes, Any]:
        session: Any = self.connection.session
        if request is None:
            return request_id, session.frame(QUESTION), (session, counts_of(session.sent))
        self._ledger.sent[request] += 1
        if request is bytes:
            return request_id, session.frame(self._payloads.next()), None
        self._next_text = (self._next_text + 1) % _TEXTS
        return request_id, session.frame(self._texts[self._next_text]), None

    def _check(self, name: str, reply: CountsReply, expected: tuple[CountingSession, Counts]) -> RequestFailure | None:
        counted = read_counts(reply.payload)
        if counted is None:
            return self._violation(SHAPE, name, b"", _bytes(reply.payload), "no counters", text=f"{SHAPE}: no counters")
        session, sent = expected
        wrong = self._wrong(counted, session, sent)
        if not wrong:
            return None
        return self._violation(PAYLOAD, name, repr(sent).encode(), _bytes(reply.payload), wrong)

    def _wrong(self, counted: Counts, session: CountingSession, sent: Counts) -> str:
        """What is wrong with an answer, in words; "" when nothing is."""
        if counted.total != counted.text + counted.binary:
            return "the total is not the sum of text and binary messages"
        first_counted, first_sent = session.first or (counted, sent)
        session.first = (first_counted, first_sent)
        grown, due = counted.since(first_counted), sent.since(first_sent)
        if grown.text < due.text or grown.binary < due.binary:
            return f"{grown.total} messages counted of {due.total} that this connection has sent"
        if self._is_alone:
            self._ledger.first = self._ledger.first or counted
            grown, most = counted.since(self._ledger.first), self._ledger.counts()
            if grown.text > most.text or grown.binary > most.binary:
                return f"{grown.total} messages counted of {most.total} that were sent in all"
        return ""


class WebSocketPerformanceUser(WebSocketUser):
    """Abstract user with a `WebSocketPerformanceClient` as `client`."""

    abstract = True
    client_class: ClassVar[type[Client]] = WebSocketPerformanceClient
    host = "ws://127.0.0.1:8084"
    client: WebSocketPerformanceClient

    def configure(self, parsed_options: Any) -> None:
        self._message: str = options.value(parsed_options, "message")
        self._is_text = False
        if options.value(parsed_options, "alone") and isinstance(self.environment.runner, WorkerRunner):
            raise options.OptionMistake("--alone is for one process: leave it out where several share the load")

    def send(self) -> None:
        """Send one message of the kind that `--message` asks for; both in turn."""
        self._is_text = self._message == "text" or (self._message == "both" and not self._is_text)
        if self._is_text:
            self.client.text()
        else:
            self.client.binary()


def read_counts(payload: str | bytes) -> Counts | None:
    """The counters of an answer; None when it is none."""
    try:
        answer = orjson.loads(payload) if isinstance(payload, str) else None
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    numbers: list[Any] = [answer.get(name) for name in (*COUNTERS, *RATES)]
    if not all(type(number) in (int, float) and number >= 0 for number in numbers):
        return None
    counters = numbers[: len(COUNTERS)]
    return Counts(*counters) if all(type(number) is int for number in counters) else None


def _bytes(payload: str | bytes) -> bytes:
    return payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
