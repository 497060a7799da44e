"""The connection core against servers that are scripted byte by byte. gevent only: nothing is monkey-patched."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from gevent.server import StreamServer

from protocols.envelope import Envelope, EnvelopeCodec
from records.violations import CROSSED, DUPLICATE, LATE, MISSING, SHAPE, UNKNOWN_ID
from users.call import Call
from users.connection import MAX_UNSENT_BYTES, Connection
from users.envelope import EnvelopeSession
from users.failures import CheckFailed, ConnectFailed, ConnectionLost, ReplyTimeout, ServerRefused
from users.session import Session, Stray
from users.transport import Endpoint

DEADLINE_S = 10.0

Handler = Callable[[Any], None]


@contextmanager
def serving(handler: Handler) -> Iterator[int]:
    """`handler(sock)` in a greenlet for each connection; gives the port."""

    def handle(sock: Any, _: Any) -> None:
        try:
            handler(sock)
        except OSError:
            pass

    server = StreamServer(("127.0.0.1", 0), handle)
    server.start()
    try:
        yield server.server_port
    finally:
        server.stop(timeout=0.1)


class Client:
    """One connection, with what it reported."""

    def __init__(self, port: int, timeout_s: float = 5.0, new_session: Callable[[], Session] | None = None) -> None:
        self.strays: list[Stray] = []
        self.codec = EnvelopeCodec()
        self.connection = Connection(
            Endpoint("127.0.0.1", port),
            new_session or (lambda: EnvelopeSession(EnvelopeCodec())),
            timeout_s=timeout_s,
            on_stray=self.strays.append,
        )
        self.connection.open(deadline_s=DEADLINE_S)

    def ask(self, payload: bytes = b"x", call: Call | None = None) -> Envelope:
        request_id = self.connection.next_id()
        reply: Envelope = self.connection.exchange(request_id, self.codec.encode(request_id, payload), call or Call())
        assert reply.request_id == request_id
        return reply

    @property
    def kinds(self) -> list[str]:
        return [stray.kind for stray in self.strays]


def receive(sock: Any, codec: EnvelopeCodec, count: int) -> list[Envelope]:
    messages: list[Envelope] = []
    while len(messages) < count:
        data = sock.recv(65536)
        if not data:
            break
        messages += codec.receive_data(data)
    return messages


def framed(message: Envelope) -> bytes:
    return EnvelopeCodec().encode(message.request_id, message.payload, message.msg_type, message.timestamp_ms)


def echo(sock: Any) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def eventually(condition: Callable[[], Any], what: str) -> None:
    with gevent.Timeout(DEADLINE_S, AssertionError(f"waited in vain for: {what}")):
        while not condition():
            gevent.sleep(0.005)


def test_replies_that_come_in_any_order_reach_their_own_callers() -> None:
    def backwards(sock: Any) -> None:
        for message in reversed(receive(sock, EnvelopeCodec(), 16)):
            sock.sendall(framed(message))
        sock.recv(1)

    with serving(backwards) as port:
        client = Client(port)
        callers = [gevent.spawn(client.ask, b"%d" % number) for number in range(16)]
        gevent.joinall(callers, timeout=DEADLINE_S, raise_error=True)
        assert [caller.value.payload for caller in callers] == [b"%d" % number for number in range(16)]
        assert client.strays == []
        client.connection.close()


def test_requests_of_callers_that_were_woken_together_leave_in_one_send() -> None:
    sizes = []

    def echo_batches(sock: Any) -> None:
        while data := sock.recv(65536):
            sizes.append(len(EnvelopeCodec().receive_data(data)))
            gevent.sleep(0.02)  # let all of a batch gather, so that one recv answers all
            sock.sendall(data)

    with serving(echo_batches) as port:
        client = Client(port)

        def caller() -> None:
            for _ in range(5):
                client.ask()

        gevent.joinall([gevent.spawn(caller) for _ in range(8)], timeout=DEADLINE_S, raise_error=True)
        client.connection.close()
    assert sum(sizes) == 40
    assert sizes[-1] == 8


def test_a_reply_that_comes_byte_by_byte_is_one_reply() -> None:
    def drip(sock: Any) -> None:
        for message in receive(sock, EnvelopeCodec(), 1):
            for byte in framed(message):
                sock.sendall(bytes([byte]))
                gevent.sleep(0)
        sock.recv(1)

    with serving(drip) as port:
        client = Client(port)
        assert client.ask(b"drop by drop").payload == b"drop by drop"
        client.connection.close()


def test_large_messages_pass_through_a_slow_server_with_bounded_memory() -> None:
    payload = bytes(1_000_000)

    def slow(sock: Any) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        gevent.sleep(0.2)
        echo(sock)

    with serving(slow) as port:
        client = Client(port)
        callers = [gevent.spawn(client.ask, payload) for _ in range(16)]
        gevent.sleep(0.1)
        assert len(client.connection._unsent) <= MAX_UNSENT_BYTES + len(payload) + 100
        gevent.joinall(callers, timeout=3 * DEADLINE_S, raise_error=True)
        assert all(caller.value.payload == payload for caller in callers)
        client.connection.close()


def test_a_killed_caller_is_forgotten_and_its_reply_is_no_violation() -> None:
    def after_a_moment(sock: Any) -> None:
        messages = receive(sock, EnvelopeCodec(), 2)
        gevent.sleep(0.1)
        for message in messages:
            sock.sendall(framed(message))
        echo(sock)

    with serving(after_a_moment) as port:
        client = Client(port)
        first, second = gevent.spawn(client.ask, b"one"), gevent.spawn(client.ask, b"two")
        gevent.sleep(0.02)
        first.kill()
        assert second.get(timeout=DEADLINE_S).payload == b"two"
        assert client.ask(b"three").payload == b"three"
        assert client.strays == []
        assert client.connection.in_flight == 0
        client.connection.close()


def test_a_timeout_of_the_callers_own_leaves_the_connection_usable() -> None:
    def second_only(sock: Any) -> None:
        receive(sock, EnvelopeCodec(), 1)
        echo(sock)

    with serving(second_only) as port:
        client = Client(port)
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
            client.ask()
        assert client.ask(b"again").payload == b"again"
        client.connection.close()


def test_a_late_reply_is_told_from_a_duplicate_and_the_connection_stays() -> None:
    def late(sock: Any) -> None:
        (message,) = receive(sock, EnvelopeCodec(), 1)
        gevent.sleep(0.3)
        sock.sendall(framed(message))
        (message,) = receive(sock, EnvelopeCodec(), 1)
        sock.sendall(framed(message) * 2)
        sock.recv(1)

    with serving(late) as port:
        client = Client(port, timeout_s=0.1)
        with pytest.raises(ReplyTimeout):
            client.ask()
        eventually(lambda: client.kinds == [LATE], "the late reply")
        client.ask()
        eventually(lambda: client.kinds == [LATE, DUPLICATE], "the duplicate")
        client.connection.close()
        assert client.kinds == [LATE, DUPLICATE]


def test_a_reply_that_was_here_while_the_generator_stood_still_is_no_timeout() -> None:
    def answer_and_stand_still(sock: Any) -> None:
        (message,) = receive(sock, EnvelopeCodec(), 1)
        sock.sendall(framed(message))
        time.sleep(0.6)  # the whole process: client and event loop too
        sock.recv(1)

    with serving(answer_and_stand_still) as port:
        client = Client(port, timeout_s=0.2)
        client.ask()
        client.connection.close()
        assert client.kinds == []


def test_a_reply_that_never_comes_is_missing_once_a_later_one_was_answered() -> None:
    def skip_the_first(sock: Any) -> None:
        receive(sock, EnvelopeCodec(), 1)
        echo(sock)

    with serving(skip_the_first) as port:
        client = Client(port, timeout_s=0.1)
        with pytest.raises(ReplyTimeout, match="missing reply"):
            client.ask()
        client.ask()
        client.connection.close()
        assert client.kinds == [MISSING]


def test_a_silent_server_is_slow_and_not_accused_of_missing_replies() -> None:
    with serving(lambda sock: sock.recv(1) and gevent.sleep(DEADLINE_S)) as port:
        client = Client(port, timeout_s=0.05)
        with pytest.raises(ReplyTimeout):
            client.ask()
        client.connection.close(drain_s=0.05)
        assert client.strays == []


def test_an_idle_connection_hears_duplicates_and_unknown_ids() -> None:
    def talkative(sock: Any) -> None:
        (message,) = receive(sock, EnvelopeCodec(), 1)
        sock.sendall(framed(message))
        gevent.sleep(0.05)
        sock.sendall(framed(message) + framed(message._replace(request_id=message.request_id ^ (1 << 63))))
        sock.recv(1)

    with serving(talkative) as port:
        client = Client(port)
        client.ask()
        eventually(lambda: client.kinds == [DUPLICATE, UNKNOWN_ID], "both")
        client.connection.close()


def test_what_comes_while_closing_is_heard() -> None:
    def last_word(sock: Any) -> None:
        (message,) = receive(sock, EnvelopeCodec(), 1)
        sock.sendall(framed(message))
        assert sock.recv(1) == b""
        sock.sendall(framed(message))

    with serving(last_word) as port:
        client = Client(port)
        client.ask()
        client.connection.close(drain_s=DEADLINE_S)
        assert client.kinds == [DUPLICATE]


def test_a_reply_to_another_connections_request_is_crossed() -> None:
    socks: list[Any] = []

    def cross(sock: Any) -> None:
        socks.append(sock)
        (message,) = receive(sock, EnvelopeCodec(), 1)
        other = socks[0] if sock is socks[1] else socks[1]
        other.sendall(framed(message))
        sock.recv(1)

    with serving(cross) as port:
        one, two = Client(port, timeout_s=0.2), Client(port, timeout_s=0.2)
        eventually(lambda: len(socks) == 2, "both connections")
        with pytest.raises(ReplyTimeout):
            one.ask()
        assert (one.kinds, two.kinds) == ([], [CROSSED])
        one.connection.close()
        two.connection.close()


@pytest.mark.parametrize(
    ("last_bytes", "text"), [(b"", "connection closed by server"), (b"\0\0", "connection closed inside a reply")]
)
def test_all_requests_under_way_fail_when_the_server_closes(last_bytes: bytes, text: str) -> None:
    def close(sock: Any) -> None:
        receive(sock, EnvelopeCodec(), 3)
        sock.sendall(last_bytes)
        sock.close()

    with serving(close) as port:
        client = Client(port)
        callers = [gevent.spawn(client.ask) for _ in range(3)]
        gevent.joinall(callers, timeout=DEADLINE_S)
        assert [str(caller.exception) for caller in callers] == [text] * 3
        assert all(isinstance(caller.exception, ConnectionLost) for caller in callers)
        assert not client.connection.is_open


def test_an_unreadable_stream_accuses_once_and_comes_back_fresh() -> None:
    visits = []

    def first_garbage_then_honest(sock: Any) -> None:
        visits.append(sock)
        if len(visits) == 1:
            receive(sock, EnvelopeCodec(), 2)
            sock.sendall(b"\xff" * 100)
        echo(sock)

    with serving(first_garbage_then_honest) as port:
        client = Client(port)
        callers = [gevent.spawn(client.ask) for _ in range(2)]
        gevent.joinall(callers, timeout=DEADLINE_S)
        assert sorted(type(caller.exception).__name__ for caller in callers) == ["CheckFailed", "ConnectionLost"]
        assert isinstance(callers[0].exception, CheckFailed), "the one that waited longest"
        assert client.kinds == [SHAPE]
        client.connection.open()
        assert client.ask(b"fresh").payload == b"fresh"
        client.connection.close()


def test_a_refusal_that_answers_no_request_is_why_the_requests_fail() -> None:
    def at_capacity(sock: Any) -> None:
        sock.sendall(EnvelopeCodec().encode(0, b"server at capacity", msg_type=2))
        receive(sock, EnvelopeCodec(), 1)
        sock.close()

    with serving(at_capacity) as port:
        client = Client(port)
        with pytest.raises((ServerRefused, ConnectionLost)) as failure:
            client.ask()
        assert str(failure.value) == "server at capacity"
        assert client.strays == []


def test_connecting_is_tried_again_until_the_server_is_there() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    attempts: list[ConnectFailed | None] = []
    connection = Connection(Endpoint("127.0.0.1", port), lambda: EnvelopeSession(EnvelopeCodec()))
    opening = gevent.spawn(
        connection.open, deadline_s=DEADLINE_S, on_attempt=lambda _, __, failure: attempts.append(failure)
    )
    eventually(lambda: attempts, "a failed attempt")
    server = StreamServer(("127.0.0.1", port), lambda sock, _: echo(sock))
    server.start()
    opening.get(timeout=DEADLINE_S)
    assert connection.is_open
    assert str(attempts[0]).startswith("connection refused")
    assert attempts[-1] is None
    connection.close()
    server.stop(timeout=0.1)


def test_connecting_gives_up_at_its_deadline_with_the_reason() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    connection = Connection(Endpoint("127.0.0.1", port), lambda: EnvelopeSession(EnvelopeCodec()))
    with pytest.raises(ConnectFailed, match=r"^connection refused: nothing listens at the host's port$"):
        connection.open(deadline_s=0.2)


def test_callers_that_open_together_share_one_connection() -> None:
    visits = []

    def count(sock: Any) -> None:
        visits.append(sock)
        echo(sock)

    with serving(count) as port:
        connection = Connection(Endpoint("127.0.0.1", port), lambda: EnvelopeSession(EnvelopeCodec()))
        gevent.joinall([gevent.spawn(connection.open) for _ in range(5)], timeout=DEADLINE_S, raise_error=True)
        assert connection.is_open
        assert len(visits) == 1
        connection.close()


def test_when_the_one_who_connects_is_killed_the_next_in_line_connects() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    connection = Connection(Endpoint("127.0.0.1", port), lambda: EnvelopeSession(EnvelopeCodec()))
    first, second = (gevent.spawn(connection.open, deadline_s=DEADLINE_S) for _ in range(2))
    gevent.sleep(0.05)
    first.kill()
    server = StreamServer(("127.0.0.1", port), lambda sock, _: echo(sock))
    server.start()
    second.get(timeout=DEADLINE_S)
    assert connection.is_open
    connection.close()
    server.stop(timeout=0.1)


def test_a_message_that_need_not_be_answered_may_be() -> None:
    with serving(echo) as port:
        client = Client(port)
        request_id = client.connection.next_id()
        client.connection.post(request_id, client.codec.encode(request_id, b"for the log", msg_type=1))
        assert client.ask(b"after it").payload == b"after it"
        assert client.strays == []
        client.connection.close()


class LineReply:
    request_id = None

    def __init__(self, line: bytes) -> None:
        self.line = line


class LineSession(Session):
    """Replies without ids, in order."""

    matches_by_id = False

    def __init__(self) -> None:
        self._rest = b""

    def receive_data(self, data: bytes) -> list[LineReply]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [LineReply(line) for line in lines]


def test_replies_without_ids_are_matched_by_order_also_past_a_killed_caller() -> None:
    def after_a_moment(sock: Any) -> None:
        data = b""
        while data.count(b"\n") < 3:
            data += sock.recv(100)
        gevent.sleep(0.1)
        sock.sendall(data)
        sock.recv(1)

    with serving(after_a_moment) as port:
        client = Client(port, new_session=LineSession)
        connection = client.connection

        def ask(line: bytes) -> bytes:
            answer: bytes = connection.exchange(connection.next_id(), line + b"\n", Call()).line
            return answer

        callers = [gevent.spawn(ask, line) for line in (b"one", b"two", b"three")]
        gevent.sleep(0.02)
        callers[1].kill()
        assert callers[0].get(timeout=DEADLINE_S) == b"one"
        assert callers[2].get(timeout=DEADLINE_S) == b"three"
        assert client.strays == []
        connection.close(drain_s=0.05)


def test_after_a_timeout_replies_without_ids_cannot_be_matched_so_the_connection_goes() -> None:
    with serving(lambda sock: sock.recv(100) and gevent.sleep(DEADLINE_S)) as port:
        client = Client(port, timeout_s=0.1, new_session=LineSession)
        connection = client.connection
        callers = [gevent.spawn(connection.exchange, connection.next_id(), b"?\n", Call()) for _ in range(2)]
        gevent.joinall(callers, timeout=DEADLINE_S)
        assert [type(caller.exception) for caller in callers] == [ReplyTimeout, ConnectionLost]
        assert not connection.is_open


def test_a_server_that_stops_reading_is_given_up_instead_of_filling_memory() -> None:
    with serving(lambda sock: gevent.sleep(3 * DEADLINE_S)) as port:
        client = Client(port, timeout_s=0.5)
        callers = [gevent.spawn(client.ask, bytes(1_000_000)) for _ in range(16)]
        gevent.joinall(callers, timeout=DEADLINE_S)
        assert all(isinstance(caller.exception, (ReplyTimeout, ConnectionLost)) for caller in callers)
        client.connection.drop()
