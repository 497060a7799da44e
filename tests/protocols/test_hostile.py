"""The attacks, played against servers made of three lines: what counts as handled, and the bad twin of each."""

import subprocess
import sys
from collections.abc import Callable
from random import Random

import pytest

from protocols.envelope import SERVER_AT_CAPACITY, UNSUPPORTED_VERSION, Envelope, EnvelopeCodec, MsgType
from protocols.errors import LocalProtocolError
from protocols.hostile import (
    CHURN,
    CLOSED,
    FLOOD_LIMIT_BYTES,
    HALF_FRAME,
    HELD_OPEN,
    KINDS,
    LEFT,
    NEVER_READING,
    NO_CONNECTION,
    OVERSIZE_LENGTH,
    PARTIAL_HEADER,
    PREY,
    RANDOM,
    REFUSED,
    SLOW_SENDER,
    TALKS_ON,
    TOOK_ALL,
    VERSION_ROULETTE,
    WRONG_ANSWER,
    Action,
    Answer,
    Connect,
    Outcome,
    Receive,
    Send,
    attack,
    play,
)
from protocols.websocket import Text, WebSocketServer
from tests.processes import ROOT

# What a server says to all that came so far: bytes, or None to close.
Say = Callable[[bytes], bytes | None]


class ScriptedWire:
    """A connection to a server that says `say(received so far)` once per recv, and then stays silent."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.received = b""
        self.actions: list[Action] = []
        self.closed = False
        self._said = 0

    def act(self, action: Action) -> Answer:
        self.actions.append(action)
        if isinstance(action, Send):
            self.received += action.data
        if isinstance(action, Receive):
            words = self.say(self.received)
            if words is None:
                return Answer(ended=True)
            new, self._said = words[self._said :], len(words)
            return Answer(new, stalled=not new)
        return Answer()

    def close(self) -> None:
        self.closed = True


def played(kind: str, wire: ScriptedWire, protocol: str = "envelope") -> Outcome:
    outcome = play(attack(kind, protocol, Random(1), 2.0), wire)
    assert wire.closed
    return outcome


def silent(_: bytes) -> bytes:
    return b""


def closing(_: bytes) -> None:
    return None


def echo(received: bytes) -> bytes:
    codec = EnvelopeCodec()
    return b"".join(codec.encode(e.request_id, e.payload) for e in codec.receive_data(received))


class Refusing:
    """Says one envelope, made of the first that came, and closes."""

    def __init__(self, answer: Callable[[Envelope], bytes]) -> None:
        self.answer = answer
        self.said = False

    def __call__(self, received: bytes) -> bytes | None:
        if self.said:
            return None
        self.said = True
        return self.answer(EnvelopeCodec().receive_data(received)[0])


def refusal(envelope: Envelope) -> bytes:
    return EnvelopeCodec().encode(envelope.request_id, UNSUPPORTED_VERSION, MsgType.ERROR)


def full(_: Envelope) -> bytes:
    return EnvelopeCodec().encode(0, SERVER_AT_CAPACITY, MsgType.ERROR)


@pytest.mark.parametrize("kind", [RANDOM, PARTIAL_HEADER, OVERSIZE_LENGTH, SLOW_SENDER])
def test_a_server_that_closes_has_handled_it_and_one_that_holds_on_has_not(kind: str) -> None:
    assert played(kind, ScriptedWire(closing)) == CLOSED
    assert played(kind, ScriptedWire(silent)) == HELD_OPEN


def test_a_slow_sender_is_answered_and_a_wrong_answer_is_seen() -> None:
    assert played(SLOW_SENDER, ScriptedWire(echo)).how == "answered"
    assert played(SLOW_SENDER, ScriptedWire(lambda data: echo(data)[:-1] + b"?")) == WRONG_ANSWER
    assert played(SLOW_SENDER, ScriptedWire(lambda _: b"\xff" * 8)) == WRONG_ANSWER


def test_the_bytes_on_the_wire_are_those_of_the_seed() -> None:
    wire = ScriptedWire(closing)
    played(RANDOM, wire)
    assert len(wire.received) == 1000
    wire = ScriptedWire(closing)
    played(PARTIAL_HEADER, wire)
    assert len(wire.received) == 11
    wire = ScriptedWire(closing)
    played(OVERSIZE_LENGTH, wire)
    assert int.from_bytes(wire.received[:4], "big") > 1_048_576
    wire = ScriptedWire(echo)
    played(SLOW_SENDER, wire)
    assert {len(action.data) for action in wire.actions if isinstance(action, Send)} == {1}


def test_the_roulette_wants_the_refusal_with_its_id_and_then_a_close() -> None:
    assert played(VERSION_ROULETTE, ScriptedWire(Refusing(refusal))) == REFUSED
    assert played(VERSION_ROULETTE, ScriptedWire(Refusing(full))) == REFUSED
    assert played(VERSION_ROULETTE, ScriptedWire(closing)) == WRONG_ANSWER  # closed, but without a word
    assert played(VERSION_ROULETTE, ScriptedWire(echo)) == HELD_OPEN
    another_id = Refusing(lambda e: refusal(e._replace(request_id=e.request_id ^ 1)))
    assert played(VERSION_ROULETTE, ScriptedWire(another_id)) == WRONG_ANSWER


def test_those_that_leave_are_let_go() -> None:
    assert played(HALF_FRAME, ScriptedWire(silent)) == LEFT
    wire = ScriptedWire(silent)
    assert played(CHURN, wire) == LEFT
    assert sum(isinstance(action, Connect) for action in wire.actions) == 20


class Flooded(ScriptedWire):
    """Takes `limit` bytes, then stalls; ends after `stalls` of them if that is not None."""

    def __init__(self, limit: int, stalls: int | None) -> None:
        super().__init__(silent)
        self.limit = limit
        self.stalls = stalls
        self.taken = 0

    def act(self, action: Action) -> Answer:
        if not isinstance(action, Send):
            return Answer()
        if self.taken < self.limit:
            self.taken += len(action.data)
            return Answer()
        if self.stalls == 0:
            return Answer(ended=True)
        if self.stalls is not None:
            self.stalls -= 1
        return Answer(stalled=True)


def test_a_client_that_never_reads_is_stopped_and_closed() -> None:
    assert played(NEVER_READING, Flooded(5_000_000, 1)) == CLOSED
    assert played(NEVER_READING, Flooded(5_000_000, None)) == HELD_OPEN
    assert played(NEVER_READING, Flooded(2 * FLOOD_LIMIT_BYTES, 0)) == TOOK_ALL
    assert played(NEVER_READING, Flooded(2 * FLOOD_LIMIT_BYTES, 0), "f00d") == LEFT  # its answers fill nothing


def test_a_server_that_talks_without_end_is_left() -> None:
    said = bytearray()

    def talk(_: bytes) -> bytes:
        said.append(1)
        return bytes(said)

    assert played(PARTIAL_HEADER, ScriptedWire(talk)) == TALKS_ON


@pytest.mark.parametrize("protocol", PREY)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_listens_is_no_handling(protocol: str, kind: str) -> None:
    class Refused(ScriptedWire):
        def act(self, action: Action) -> Answer:
            return Answer(ended=True)

    assert played(kind, Refused(silent), protocol) == NO_CONNECTION


def test_a_slow_websocket_client_gets_through_the_opening_and_is_answered() -> None:
    server = WebSocketServer()
    consumed = 0
    said = b""

    def serve(received: bytes) -> bytes:
        nonlocal consumed, said
        for event in server.receive_data(received[consumed:]):
            if isinstance(event, Text):
                server.send_text(event.data)
        consumed = len(received)
        said += b"".join(server.data_to_send())
        return said

    assert played(SLOW_SENDER, ScriptedWire(serve), "websocket").how == "answered"


def test_an_attack_that_does_not_exist_is_the_callers_mistake() -> None:
    for kind, protocol in (("tickling", "envelope"), (RANDOM, "gopher")):
        with pytest.raises(LocalProtocolError, match="there is no attack"):
            attack(kind, protocol, Random(1), 1.0)


def test_the_same_seed_makes_the_same_attack_in_another_process() -> None:
    program = (
        "from random import Random; from protocols.hostile import *\n"
        "class W:\n"
        "    seen = b''\n"
        "    def act(self, a):\n"
        "        self.seen += getattr(a, 'data', b'')\n"
        "        return Answer(ended=isinstance(a, Receive))\n"
        "    def close(self): pass\n"
        "w = W()\n"
        "for k in ('random bytes', 'oversize length', 'version roulette', 'slow sender'):\n"
        "    play(attack(k, 'envelope', Random(7), 1), w)\n"
        "print(w.seen.hex())"
    )
    runs = {subprocess.check_output([sys.executable, "-c", program], cwd=ROOT) for _ in range(2)}
    assert len(runs) == 1
