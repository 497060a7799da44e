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

    def add(self, exchange: Any, fd: int, recv: Any) -> None:
        pass

    def remove(self, fd: int) -> None:
        pass

    def at(self, due_ns: int, action: Callable[[], None]) -> None:
        if due_ns == 0 and self.holds:
            self.held.append(action)
        elif due_ns == 0:
            action()


class AtOnce:
    """No think time."""

    instant = True

    def freed(self, exchange: Any, places: int, now_ns: int) -> list[int]:
        return [now_ns] * places

    first = freed

    def stopped(self, exchange: Any, unsent: int) -> None:
        pass


class Talk:
    """An exchange of envelope echoes and the other end of its socket."""

    def __init__(
        self, depth: int, engine: Any = None, payload_bytes: int = 64, sockets: tuple[Any, Any] | None = None
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
        self.exchange = EnvelopeExchange(self.engine, client, depth, AtOnce())
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
