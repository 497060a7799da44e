"""What an exchange makes of the pieces that its socket gives it: without a server, a loop or a clock."""

import socket
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from locust.env import Environment

from records.violations import SHAPE
from users.engine.columns import Columns
from users.engine.envelope import EnvelopeExchange
from users.engine.stream import FIRST_TRIAL_REPLIES
from users.envelope import EnvelopeClient
from users.failures import RequestFailure
from users.session import Stray
from users.statistics import Tally
from users.transport import Endpoint

ECHO_BYTES = 4 + 22 + 64


class FakeEngine:
    """Does at once what is due now (or holds it), and nothing else."""

    def __init__(self) -> None:
        self.columns = Columns()
        self.holds = False
        self.held: list[Callable[[], None]] = []

    def add(self, exchange: Any, fd: int, recv: Any, **_: Any) -> None:
        pass

    def remove(self, fd: int) -> None:
        pass

    def at(self, due_ns: int, action: Callable[[], None]) -> None:
        if due_ns == 0 and self.holds:
            self.held.append(action)
        elif due_ns == 0:
            action()


class AtOnce:
    """No think time. `instant` False: the exchange does not know that there is none, as in open load."""

    def __init__(self, instant: bool = True) -> None:
        self.instant = instant

    def freed(self, exchange: Any, places: int, now_ns: int) -> list[int]:
        return [now_ns] * places

    first = freed

    def stopped(self, exchange: Any, unsent: int) -> None:
        pass


class Talk:
    """An exchange of envelope echoes and the other end of its socket."""

    def __init__(
        self,
        depth: int,
        engine: Any = None,
        payload_bytes: int = 64,
        sockets: tuple[Any, Any] | None = None,
        turns: AtOnce | None = None,
    ) -> None:
        options = Namespace(codec="binary", timeout=5.0, connect_deadline=1.0)
        environment = Environment(parsed_options=options)
        user = Namespace(environment=environment, context=dict, wait_time=None, _payload_bytes=payload_bytes)
        client = EnvelopeClient(user, Endpoint("127.0.0.1", 1))
        self.failures: list[str] = []
        self.strays: list[str] = []
        self.cancelled = 0
        client.recording.tally = self._tally  # type: ignore[method-assign]
        client.recording.failed = self._failed  # type: ignore[method-assign]
        client.recording.cancelled = self._cancelled  # type: ignore[method-assign]
        client.connection._on_stray = self._stray
        self._tallied = Tally(None, "envelope echo", "envelope", "echo", payload_bytes)
        self.engine: Any = FakeEngine() if engine is None else engine
        self.exchange = EnvelopeExchange(self.engine, client, depth, turns or AtOnce())
        ours, self._server = sockets or socket.socketpair()
        ours.setblocking(False)
        self.exchange.begin()
        self.exchange._start(ours, None, client._session())

    def _tally(self, *_: Any) -> Tally:
        return self._tallied

    def _failed(self, *arguments: Any, **_: Any) -> None:
        failure: RequestFailure = arguments[-1]
        self.failures.append(failure.text)

    def _cancelled(self, *_: Any, **__: Any) -> None:
        self.cancelled += 1

    def _stray(self, stray: Stray) -> None:
        self.strays.append(stray.kind)

    @property
    def successes(self) -> int:
        return sum(self._tallied.counts)

    def requests(self) -> bytes:
        """What the exchange has sent by itself; its echo is the same bytes."""
        return self._server.recv(65_536)

    def receive(self, data: bytes) -> bytes:
        return self.exchange.receive(data)

    def close(self) -> None:
        self.exchange.cancel_all()
        self.exchange.drop()
        self._server.close()


@pytest.fixture
def talk(request: pytest.FixtureRequest) -> Iterator[Talk]:
    talk = Talk(getattr(request, "param", 1))
    yield talk
    talk.close()


def test_a_reply_that_begins_twice_is_malformed(talk: Talk) -> None:
    due = talk.requests()
    assert talk.receive(due[:20]) == b""
    assert talk.receive(due) == b""
    assert talk.successes == 0
    assert talk.failures == [f"{SHAPE}: envelope payload too large"]
    assert talk.strays == [SHAPE]
    assert not talk.exchange.is_open


@pytest.mark.parametrize("talk", [4], indirect=True)
def test_so_is_one_after_others_of_its_batch_were_good(talk: Talk) -> None:
    due = talk.requests()
    talk.receive(due[: ECHO_BYTES + 20])
    talk.receive(due[ECHO_BYTES:])
    assert talk.successes == 1
    assert talk.failures[0] == f"{SHAPE}: envelope payload too large"
    assert not talk.exchange.is_open


@pytest.mark.parametrize("talk", [1, 4], indirect=True)
@pytest.mark.parametrize("cuts", [(20,), (1, 2, 3), (ECHO_BYTES - 1,), (ECHO_BYTES // 2, ECHO_BYTES - 1)])
def test_a_reply_in_pieces_is_a_good_one_and_the_next_ones_too(talk: Talk, cuts: tuple[int, ...]) -> None:
    due = talk.requests()
    for _ in range(3):
        following = b""
        for start, end in zip((0, *cuts), (*cuts, len(due)), strict=True):
            following += talk.receive(due[start:end])
        whole = talk.receive(following)
        assert len(whole) == len(due)
        due = whole
    assert talk.failures == talk.strays == []
    assert talk.exchange._is_streaming


def test_what_is_sent_after_the_end_reaches_nobody_who_has_the_descriptor_now(talk: Talk) -> None:
    due = talk.requests()
    descriptor = talk.exchange.descriptor
    talk.receive(b"\xff" * len(due))
    assert not talk.exchange.is_open
    stranger, other_end = socket.socketpair()
    with stranger, other_end:
        assert descriptor in (stranger.fileno(), other_end.fileno()), "the kernel gives the lowest number that is free"
        for end in (stranger, other_end):
            end.setblocking(False)
        talk.exchange.send(due)
        for end in (stranger, other_end):
            with pytest.raises(BlockingIOError):
                end.recv(1)


def _echoes(data: bytes) -> list[bytes]:
    return [data[place : place + ECHO_BYTES] for place in range(0, len(data), ECHO_BYTES)]


@pytest.mark.parametrize("instant", [True, False])
def test_a_server_that_answers_in_another_order_never_holds_a_request_up(instant: bool) -> None:
    """Not to try the stream again either: each reply brings the next request at once, for ever."""
    talk = Talk(4, turns=AtOnce(instant))
    under_way = _echoes(talk.requests())
    for number in range(5 * FIRST_TRIAL_REPLIES):
        reply = under_way.pop(1 + number % 3)
        following = _echoes(talk.receive(reply))
        assert len(following) == 1
        under_way += following
    assert talk.failures == talk.strays == []
    assert talk.successes == 5 * FIRST_TRIAL_REPLIES
    talk.close()


def test_a_request_whose_time_has_come_does_not_wait_for_the_stream() -> None:
    """In order, but in pieces: a load by the clock goes on as if nothing had been; one at full throttle waits once."""
    waits = {}
    for instant in (True, False):
        talk = Talk(4, turns=AtOnce(instant))
        under_way = _echoes(talk.requests())
        talk.exchange.settle_down()  # as a ping would
        waits[instant] = 0
        for _ in range(2 * FIRST_TRIAL_REPLIES):
            following = _echoes(talk.receive(under_way.pop(0)))
            waits[instant] += not following
            under_way += following
        assert talk.failures == talk.strays == []
        assert len(under_way) == 4
        assert talk.exchange._is_streaming == instant
        talk.close()
    assert waits == {True: 3, False: 0}


def test_the_stream_is_tried_again_whenever_nothing_is_under_way() -> None:
    talk = Talk(4, turns=AtOnce(instant=False))
    due = talk.requests()
    talk.exchange.settle_down()
    for _ in range(FIRST_TRIAL_REPLIES):
        assert not talk.exchange._is_streaming
        due = talk.receive(due)
    assert talk.exchange._is_streaming
    talk.close()
