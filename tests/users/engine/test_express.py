"""Connections that are served by descriptor, without their exchanges: what is recorded is the same in every case.

A real engine, and a server at the other end of a socket pair that does one thing at a time.
"""

import fcntl
import socket
import struct
import termios
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.violations import DUPLICATE
from tests.users.engine.test_receiving import ECHO_BYTES, Talk
from users.engine import stream
from users.engine.loop import Engine

DEADLINE_S = 30.0
MISSING_TEXT = "missing reply: nothing came within the timeout"
CLOSED_TEXT = "connection closed by server"


class Served(Talk):
    """A talk that the engine itself reads and writes."""

    def __init__(self, depth: int = 1, payload_bytes: int = 64, sockets: tuple[Any, Any] | None = None) -> None:
        super().__init__(depth, Engine(), payload_bytes, sockets)
        self._server.setblocking(False)
        self._unread = bytearray()
        self.batch_bytes = depth * (ECHO_BYTES - 64 + payload_bytes)

    @property
    def is_aboard(self) -> bool:
        fd = self.exchange.descriptor
        return fd >= 0 and bool(self.exchange._columns.due[fd])

    def await_(self, condition: Any) -> None:
        with gevent.Timeout(DEADLINE_S):
            while not condition():
                gevent.sleep(0.0005)

    def requests(self) -> bytes:
        """The next batch, whole."""
        self.await_(self._has_batch)
        batch = bytes(self._unread[: self.batch_bytes])
        del self._unread[: self.batch_bytes]
        return batch

    def _has_batch(self) -> bool:
        try:
            self._unread += self._server.recv(1 << 20)
        except BlockingIOError:
            pass
        return len(self._unread) >= self.batch_bytes

    def answer(self, data: bytes) -> None:
        """Send, and wait until the engine has read all of it."""
        self._server.setblocking(True)
        self._server.sendall(data)
        self._server.setblocking(False)
        self.await_(lambda: not self.exchange.is_open or not _bytes_to_read(self.exchange._sock))
        gevent.sleep(0)

    def board(self) -> bytes:
        """Two good batches; the next one's requests, which the express has made."""
        for _ in range(2):
            self.answer(self.requests())
        requests = self.requests()
        assert self.is_aboard
        return requests

    def hang_up(self) -> None:
        self._server.close()

    def reset(self) -> None:
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._server.close()


def _bytes_to_read(sock: Any) -> int:
    held = struct.pack("i", 0)
    (number,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, held))
    return int(number)


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    served = Served(*getattr(request, "param", ()))
    yield served
    served.close()


both_depths = pytest.mark.parametrize("served", [(1,), (4,)], indirect=True)


@both_depths
def test_what_is_answered_as_foretold_is_served_by_descriptor(served: Served) -> None:
    seen = [served.requests()]
    for number in range(5):
        served.answer(seen[-1])
        seen.append(served.requests())
        assert served.is_aboard is True, number
    assert len(set(seen)) == len(seen), "every request has an id of its own"
    assert served.successes == 5 * served.exchange._depth
    assert served.failures == served.strays == []


@both_depths
def test_times_are_those_of_the_request_that_was_answered(served: Served) -> None:
    requests = served.board()
    for _ in range(3):
        served.answer(requests)
        requests = served.requests()
    tally = served._tallied
    rows = list(zip(tally.intended, tally.call, tally.returned, strict=True))
    for intended_ns, call_ns, return_ns in rows:
        assert intended_ns <= call_ns <= return_ns
    for (*_, before_ns), (intended_ns, *_) in pairwise(rows):
        assert intended_ns == before_ns, "closed load: meant to go when the last one had ended"


@both_depths
def test_a_wrong_byte_is_found_by_the_plain_check(served: Served) -> None:
    requests = bytearray(served.board())
    good = served.successes
    requests[-1] ^= 1
    served.answer(bytes(requests))
    served.await_(lambda: served.failures)
    assert served.failures == ["payload mismatch"]
    assert served.successes == good + served.exchange._depth - 1
    served.answer(served.requests())  # every place goes on


@both_depths
def test_a_reply_in_two_pieces_is_one_good_reply(served: Served) -> None:
    for cut in (1, 20, served.batch_bytes - 1):
        requests = served.board()
        good = served.successes
        served.answer(requests[:cut])
        assert not served.is_aboard
        served.answer(requests[cut:])
        served.answer(served.requests())
        assert served.successes == good + 2 * served.exchange._depth
    assert served.failures == served.strays == []


def test_more_than_was_due_is_a_good_reply_and_a_stray_one(served: Served) -> None:
    requests = served.board()
    good = served.successes
    served.answer(requests + requests)
    served.await_(lambda: served.strays)
    assert (served.strays, served.failures, served.successes) == ([DUPLICATE], [], good + 1)
    served.answer(served.requests())
    assert served.successes == good + 2


@both_depths
def test_silence_is_a_timeout_of_every_place(served: Served) -> None:
    served.exchange._timeout_ns = 50_000_000
    served.board()
    served.await_(lambda: len(served.failures) == served.exchange._depth)
    assert set(served.failures) == {MISSING_TEXT}
    assert not served.is_aboard


@pytest.mark.parametrize(("end", "text"), [("hang_up", CLOSED_TEXT), ("finish", ""), ("stop", ""), ("drop", "")])
@both_depths
def test_ends_leave_nothing_in_the_columns(served: Served, end: str, text: str) -> None:
    requests = served.board()
    descriptor = served.exchange.descriptor
    depth = served.exchange._depth
    if end == "hang_up":
        served.hang_up()
        served.await_(lambda: not served.exchange.is_open)
        assert served.failures == [text] * depth
    elif end == "finish":
        served.exchange.finish()
        assert not served.exchange.finished.is_set()
        served.answer(requests)
        served.await_(served.exchange.finished.is_set)
        assert (served.failures, served.cancelled) == ([], 0)
    elif end == "drop":
        served.exchange.drop()
    else:
        served.exchange.cancel_all()
        served.exchange.close(drain_s=0)
        assert (served.failures, served.cancelled) == ([], depth)
    assert not served.exchange._columns.due[descriptor]


@both_depths
def test_a_reply_and_the_end_that_come_together_are_both_seen(served: Served) -> None:
    requests = served.board()
    good = served.successes
    served.exchange._timeout_ns = 10**12  # a timeout would look at the socket again
    served._server.setblocking(True)
    served._server.sendall(requests)
    served._server.shutdown(socket.SHUT_WR)  # it goes on reading: no error tells
    served.await_(lambda: not served.exchange.is_open)
    assert served.successes == good + served.exchange._depth
    assert set(served.failures) <= {CLOSED_TEXT, "connection reset by server"}
    assert len(served.failures) == served.exchange._depth, "those that were sent next"


def test_a_reset_is_told_as_one() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listener.getsockname())
    theirs, _ = listener.accept()
    listener.close()
    served = Served(sockets=(ours, theirs))
    served.board()
    served.reset()
    served.await_(lambda: served.failures)
    assert served.failures == ["connection reset by server"]
    served.close()


@pytest.mark.parametrize("served", [(1, 50_000)], indirect=True)
def test_what_the_socket_does_not_take_is_sent_when_it_does(served: Served) -> None:
    served.board()
    served.exchange._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    requests = bytes(served.exchange._columns.due[served.exchange.descriptor])
    for _ in range(3):
        served.answer(requests)  # in one piece: what comes next is made by the express, and only part of it is taken
        assert served.exchange._unsent
        requests = served.requests()
    served.await_(lambda: served.successes == 5)
    assert served.failures == served.strays == []


# What a server may do with a batch of replies: answer it whole, in pieces, twice, wrongly, not at all, or hang up.
deeds = st.one_of(
    st.just(("whole", 0)),
    st.tuples(st.just("cut"), st.integers(1, ECHO_BYTES - 1)),
    st.just(("twice", 0)),
    st.tuples(st.just("wrong"), st.integers(26, ECHO_BYTES - 1)),
    st.tuples(st.just("garbage"), st.sampled_from([0, 1, 4, 5])),  # length, version, type
)


def _outcome(script: list[tuple[str, int]], depth: int) -> tuple[int, list[str], list[str], bool]:
    served = Served(depth)
    try:
        for deed, place in script:
            requests = served.requests()
            if deed == "cut":
                served.answer(requests[:place])
                served.answer(requests[place:])
            elif deed == "wrong":
                flipped = bytearray(requests)
                flipped[place] ^= 0x41
                served.answer(bytes(flipped))
            elif deed == "garbage":
                flipped = bytearray(requests)
                flipped[place] ^= 0xFF
                served.answer(bytes(flipped))
            else:
                served.answer(requests * (2 if deed == "twice" else 1))
            if not served.exchange.is_open:
                break
        return served.successes, sorted(served.failures), sorted(served.strays), served.exchange.is_open
    finally:
        served.close()


@settings(deadline=None, max_examples=60)
@given(st.lists(deeds, max_size=8), st.sampled_from([1, 3]))
def test_served_by_descriptor_or_not_the_outcome_is_the_same(script: list[tuple[str, int]], depth: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        by_express = _outcome(script, depth)
        patch.setattr(stream, "BY_DESCRIPTOR", False)
        assert by_express == _outcome(script, depth)
