"""Every protocol's requests in the engine, answered by an honest server in whatever portions.

However the replies are cut, and whenever the connection is taken off the express: each request is answered once and
counted once, none is accused, ids never come twice, and what is sent is what the protocol's own decoder reads.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import gevent
import pytest
from gevent.server import StreamServer
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.f00d import RAW_ACK, PacketDecoder, encode_ack
from protocols.rpc import INTERNAL_ERROR
from protocols.websocket import FIN_BINARY, FIN_TEXT, Binary, Text, WebSocketServer, unmasked_frame
from tests.users.engine.test_express import _bytes_to_read
from tests.users.in_process import in_process
from users.engine.stream import FIRST_TRIAL_REPLIES
from users.f00d import F00DUser
from users.statistics import statistics_of
from users.websocket_echo import WebSocketEchoUser
from users.websocket_rpc import WebSocketRpcUser

DEADLINE_S = 30.0


class Devices:
    """The other end of a F00D connection. `seen`: of each packet its id and state."""

    def __init__(self, framed: bool) -> None:
        self._decoder = PacketDecoder()
        self._framed = framed
        self.seen: list[tuple[Any, Any]] = []

    def shake_hands(self, sock: Any) -> None:
        pass

    def replies(self, data: bytes) -> list[bytes]:
        packets = self._decoder.receive_data(data)
        self.seen += [(packet.msg_id, packet.state) for packet in packets]
        return [encode_ack(packet.msg_id) if self._framed else RAW_ACK for packet in packets]


class WebSockets:
    """The other end of a WebSocket; a subclass answers messages."""

    def __init__(self) -> None:
        self._ws = WebSocketServer()
        self.seen: list[tuple[Any, Any]] = []

    def shake_hands(self, sock: Any) -> None:
        self._ws.receive_data(sock.recv(65_536))
        sock.sendall(b"".join(self._ws.data_to_send()))

    def replies(self, data: bytes) -> list[bytes]:
        return [self.reply(event) for event in self._ws.receive_data(data) if isinstance(event, (Text, Binary))]

    def reply(self, message: Any) -> bytes:
        raise NotImplementedError


class Echoes(WebSockets):
    def reply(self, message: Any) -> bytes:
        is_text = isinstance(message, Text)
        payload = message.data.encode() if is_text else message.data
        self.seen.append((payload[:16], None))
        return unmasked_frame(FIN_TEXT if is_text else FIN_BINARY, payload)


class Calls(WebSockets):
    def reply(self, message: Any) -> bytes:
        call = json.loads(message.data)
        self.seen.append((call["id"], None))
        params = call["params"]
        results: dict[str, Callable[[], Any]] = {
            "echo": lambda: params,
            "add": lambda: {"result": params["a"] + params["b"]},
            "get_time": lambda: {"timestamp": time.time()},
        }
        reply: dict[str, Any] = {"id": call["id"], "result": None, "error": None}
        if call["method"] == "error_test":
            reply["error"] = {"code": INTERNAL_ERROR, "message": "asked for"}
        else:
            reply["result"] = results[call["method"]]()
        return unmasked_frame(FIN_TEXT, json.dumps(reply).encode())


class Kind(NamedTuple):
    user_class: Any
    scheme: str
    options: dict[str, Any]
    peer: Callable[[], Any]


KINDS = {
    "F00D, framed": Kind(F00DUser, "tcp", {"f00d_connections": "reuse", "ack": "framed"}, lambda: Devices(True)),
    "F00D, raw": Kind(F00DUser, "tcp", {"f00d_connections": "reuse", "ack": "raw"}, lambda: Devices(False)),
    "texts": Kind(WebSocketEchoUser, "ws", {"message": "text"}, Echoes),
    "texts and bytes": Kind(WebSocketEchoUser, "ws", {"message": "both"}, Echoes),
    "calls": Kind(WebSocketRpcUser, "ws", {}, Calls),
}


class Conversation:
    """A user in the engine, and the other end of its connection."""

    def __init__(self, user: Any, sock: Any, peer: Any) -> None:
        self.user = user
        self.exchange = user.exchange
        self._sock = sock
        self._peer = peer
        self._replies: list[bytes] = []
        self.answered = 0

    def counted(self) -> int:
        statistics_of(self.user.environment).flush()
        entries = self.user.environment.stats.entries
        return sum(entry.num_requests for (name, _), entry in entries.items() if name != "connect")

    def answer(self, count: int, cut: float, take_off: bool) -> None:
        """The `count` oldest requests; in two portions, and perhaps taken off the express between them."""
        with gevent.Timeout(DEADLINE_S):
            while len(self._replies) < count:
                self._replies += self._peer.replies(self._sock.recv(65_536))
            data = b"".join(self._replies[:count])
            del self._replies[:count]
            place = int(cut * len(data))
            self._send(data[:place])
            if take_off:
                self.exchange.settle_down()
            self._send(data[place:])
            self.answered += count
            while self.counted() != self.answered and self.exchange.is_open:
                gevent.sleep(0.0005)

    def answer_in_another_order(self, rounds: int, depth: int) -> None:
        """One reply at a time, never that to the oldest request. Blocks if a place does not go on at once."""
        with gevent.Timeout(DEADLINE_S):
            for number in range(rounds):
                while len(self._replies) < depth:
                    self._replies += self._peer.replies(self._sock.recv(65_536))
                self._send(self._replies.pop(1 + number % (depth - 1)))
                self.answered += 1

    def say(self, data: bytes) -> None:
        """Whatever it is."""
        with gevent.Timeout(DEADLINE_S):
            self._send(data)

    def strays(self) -> int:
        """Errors in Locust's table that are of no request."""
        return sum(error.occurrences for error in self.user.environment.stats.errors.values())

    def _send(self, data: bytes) -> None:
        if data:
            self._sock.sendall(data)
            while self.exchange.is_open and _bytes_to_read(self.exchange._sock):
                gevent.sleep(0.0005)


@contextmanager
def conversation(kind: Kind, depth: int) -> Iterator[tuple[Conversation, Any, Any]]:
    arrived: Any = gevent.event.AsyncResult()
    over = gevent.event.Event()
    peer = kind.peer()

    def handle(sock: Any, _: Any) -> None:
        peer.shake_hands(sock)
        arrived.set(sock)
        over.wait()

    server = StreamServer(("127.0.0.1", 0), handle)
    server.start()
    host = f"{kind.scheme}://127.0.0.1:{server.server_port}"
    try:
        with in_process(kind.user_class, host, engine=True, depth=depth, timeout=DEADLINE_S, **kind.options) as both:
            user, told = both
            user.exchange.begin()
            user.exchange.connect()
            talk = Conversation(user, arrived.get(timeout=DEADLINE_S), peer)
            yield talk, told, peer
            user.exchange.cancel_all()
    finally:
        over.set()
        server.stop(timeout=0.1)


portions = st.tuples(st.integers(1, 4), st.floats(0, 1), st.booleans())


@settings(deadline=None, max_examples=12)
@given(st.lists(portions, min_size=1, max_size=8), st.sampled_from([1, 4]))
@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_an_honest_servers_replies_are_counted_once_each_and_nobody_is_accused(
    kind: Kind, script: list[tuple[int, float, bool]], depth: int
) -> None:
    with conversation(kind, depth) as (talk, told, peer):
        for count, cut, take_off in script:
            talk.answer(min(count, depth), cut, take_off)
            assert talk.exchange.is_open
        assert not told.bad
        assert talk.counted() == talk.answered
    ids = [number for number, _ in peer.seen]
    assert len(set(ids)) == len(ids)
    if isinstance(peer, Devices):
        states = [state for _, state in peer.seen]
        assert all(before != after for before, after in pairwise(states)), "on and off in turn"


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_all_kinds_board_and_stay_aboard(kind: Kind, depth: int) -> None:
    with conversation(kind, depth) as (talk, told, _):
        boarded = 0
        for _ in range(40):
            talk.answer(depth, 1.0, False)
            boarded += talk.exchange._is_aboard
        assert not told.bad
    # Calls that cannot be foretold are between the others.
    assert boarded >= (35 if kind.user_class is not WebSocketRpcUser else 5 if depth == 1 else 0)


class EchoCallsUser(WebSocketRpcUser):
    """All of its calls can be foretold."""

    abstract = True
    engine_mix = {"echo": 1}  # noqa: RUF012


MATCHED_BY_ID = {name: kind for name, kind in KINDS.items() if name != "F00D, raw"}
MATCHED_BY_ID["echo calls"] = Kind(EchoCallsUser, "ws", {}, Calls)


@pytest.mark.parametrize("kind", MATCHED_BY_ID.values(), ids=list(MATCHED_BY_ID))
def test_who_answers_in_another_order_is_never_made_to_wait(kind: Kind) -> None:
    """Not for the stream to be tried again: that would be in the response times."""
    with conversation(kind, 4) as (talk, told, _):
        talk.answer_in_another_order(3 * FIRST_TRIAL_REPLIES, 4)
        assert not talk.exchange._is_streaming
        with gevent.Timeout(DEADLINE_S):  # in order from now on: after a while it is a stream again
            while not talk.exchange._is_streaming:
                talk.answer(1, 1.0, False)
        assert not told.bad


def test_a_second_acknowledgement_is_not_taken_for_that_of_the_next_packet() -> None:
    with conversation(KINDS["F00D, raw"], 1) as (talk, told, _):
        for _ in range(3):
            talk.answer(1, 1.0, False)
        assert talk.exchange._is_aboard
        before = talk.counted()
        talk.say(RAW_ACK * 2)  # in one piece: nothing has been asked when the second comes
        assert talk.counted() - sum(told.bad.values()) == before + 1
        assert talk.strays() == 1


def test_a_devices_metrics_are_told_once() -> None:
    with conversation(KINDS["F00D, framed"], 4) as (talk, _, _):
        for number in range(20):
            talk.answer(4, 0.5 if number % 3 else 1.0, number % 5 == 0)
        talk.exchange.sweep(time.monotonic_ns() + 10**10)
        talk.exchange.cancel_all()
        metrics = talk.exchange.metrics
    assert metrics.received._value.get() == talk.answered
    assert sum(bucket.get() for bucket in metrics.latency._buckets) == talk.answered
