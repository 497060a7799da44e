"""What hostile clients do to a server, as dialogues without sockets: eight attacks on each of three protocols.

An attack is a generator: it yields what to do to the connection (`Connect`, `Send`, `Receive`, `Pause`, `Leave`), is
sent what came of it (`Answer`), and returns how the server took it (`Outcome`). Whoever has sockets plays it
(`users.hostile` in greenlets, `swarmproof.acceptance.hostile_clients` in threads).

A server *handles* an attack when it does what the wire formats say: it answers what was slow but whole, refuses what
is malformed, ends connections that stay silent or never read within its timeouts, and does not mind those that leave.
Holding such a connection open for longer than `patience_s` is not handling it.
"""

import struct
from collections.abc import Callable, Generator
from random import Random
from typing import Final, NamedTuple, Protocol

from protocols.envelope import SERVER_AT_CAPACITY, UNSUPPORTED_VERSION, VERSION, EnvelopeCodec, MsgType
from protocols.errors import LocalProtocolError
from protocols.f00d import TOGGLE, Packet, encode_packet, new_msg_id
from protocols.websocket import Opened, Text, WebSocketClient

RANDOM_BYTES: Final = 1000  # seed 000
PARTIAL_HEADER_BYTES: Final = 11  # seed 000: "11 header bytes then silence"
SLOW_PAUSE_S: Final = 0.01  # between two bytes of the slow sender
OPENING_S: Final = 5.0  # for the answer to an opening handshake, also of a busy server
SEND_S: Final = 1.0  # a send that moves nothing for so long is stalled
CHURNED_CONNECTIONS: Final = 20
# A client that never reads, with a small window of its own: what a server takes from it beyond this is kept nowhere
# but in its memory (both directions of kernel buffers hold about 10 MB at most).
SMALL_WINDOW_BYTES: Final = 4096
FLOOD_PAYLOAD_BYTES: Final = 60_000
FLOOD_LIMIT_BYTES: Final = 64 * 1_048_576
# Where answers are much smaller than requests (three bytes for a packet), all of them fit into the kernel's buffers:
# such a server has nothing to stop for, and the attacker goes when it has sent this much.
SMALL_ANSWERS_LIMIT_BYTES: Final = 2 * 1_048_576
# Of one connection, while its end is awaited: nobody reads on from a server that talks without end.
MAX_ANSWERS: Final = 10_000
MAX_ANSWER_BYTES: Final = 4096

SLOW_SENDER: Final = "slow sender"
RANDOM: Final = "random bytes"
PARTIAL_HEADER: Final = "partial header"
OVERSIZE_LENGTH: Final = "oversize length"
HALF_FRAME: Final = "half frame and reset"
NEVER_READING: Final = "never-reading client"
CHURN: Final = "connection churn"
VERSION_ROULETTE: Final = "version roulette"


# -- what an attack does, and what comes of it ---------------------------------------------------------------------


class Connect(NamedTuple):
    """A new connection (one that is there is left before); with a receive buffer so small, if not 0."""

    receive_buffer_bytes: int = 0


class Send(NamedTuple):
    """All of `data`; stalled when the server takes nothing for SEND_S."""

    data: bytes


class Receive(NamedTuple):
    """What one recv brings; stalled when nothing came for `timeout_s`."""

    timeout_s: float


class Pause(NamedTuple):
    """Do nothing for so long."""

    seconds: float


class Leave(NamedTuple):
    """Close the connection, with a RST instead of a FIN if `reset`."""

    reset: bool = False


Action = Connect | Send | Receive | Pause | Leave


class Answer(NamedTuple):
    """`ended`: the connection is over, or could not be made; `stalled`: nothing moved in the action's time."""

    data: bytes = b""
    ended: bool = False
    stalled: bool = False


class Outcome(NamedTuple):
    """How the server took the attack; `how` is stable text."""

    handled: bool
    how: str


ANSWERED: Final = Outcome(True, "answered")
REFUSED: Final = Outcome(True, "refused")
CLOSED: Final = Outcome(True, "closed")
LEFT: Final = Outcome(True, "let go")
NO_CONNECTION: Final = Outcome(False, "no connection could be made")
HELD_OPEN: Final = Outcome(False, "held open beyond the server's timeouts")
TALKS_ON: Final = Outcome(False, "talked on without end")
TOOK_ALL: Final = Outcome(False, "read on without end from a client that does not read")
WRONG_ANSWER: Final = Outcome(False, "answered wrongly")

Attack = Generator[Action, Answer, Outcome]


class Wire(Protocol):
    """The one connection of an attack; what a room with sockets provides."""

    def act(self, action: Action) -> Answer:
        """Do it and say what came of it; never raises for what a server does."""

    def close(self) -> None:
        """Let go of whatever is open."""


def play(attack: Attack, wire: Wire) -> Outcome:
    """The attack to its end, over `wire`, which is closed whatever happens."""
    try:
        action = next(attack)
        while True:
            action = attack.send(wire.act(action))
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
    finally:
        attack.close()
        wire.close()


# -- the protocols that are attacked -------------------------------------------------------------------------------


class Prey:
    """One connection's worth of a protocol, for an attacker: its good bytes, its bad bytes, its right answers."""

    #: Are answers so small that never reading them fills nothing?
    small_answers = False

    def __init__(self, random: Random) -> None:
        self.random = random

    def opening(self) -> bytes:
        """What a client sends first and has answered; b"" where there is nothing of the kind."""
        return b""

    def is_open(self, data: bytes) -> bool:
        """Whether `data`, all that came so far, answers the opening."""
        return True

    def first_message(self) -> bytes:
        """The first bytes of an honest client."""
        return self.message(16)

    def message(self, payload_bytes: int) -> bytes:
        """A whole, well-formed message."""
        raise NotImplementedError

    def is_answer(self, data: bytes) -> bool | None:
        """Whether `data`, all that came since, answers the last message; None: not all of it is here."""
        raise NotImplementedError

    def oversize(self) -> bytes:
        """A header that announces more than any server takes."""
        raise NotImplementedError

    def another_version(self) -> bytes:
        """What a client of another version of the protocol would say first."""
        raise NotImplementedError

    def is_refusal(self, data: bytes) -> bool:
        """Whether `data`, all that came before the close, refuses that version as the protocol wants it."""
        raise NotImplementedError

    def at_capacity(self, data: bytes) -> bool:
        """Whether `data` says that the server is full."""
        return False


class EnvelopePrey(Prey):
    """Envelopes in frames (seed 000)."""

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self._request_id = 0
        self._payload = b""

    def message(self, payload_bytes: int) -> bytes:
        self._request_id = self.random.getrandbits(64) or 1
        self._payload = self.random.randbytes(payload_bytes)
        return EnvelopeCodec().encode(self._request_id, self._payload)

    def is_answer(self, data: bytes) -> bool | None:
        codec = EnvelopeCodec()
        replies = codec.receive_data(data)
        if not replies:
            return None if codec.error is None else False
        return replies[0].request_id == self._request_id and replies[0].payload == self._payload

    def oversize(self) -> bytes:
        return struct.pack(">I", self.random.randint(2**21, 2**32 - 1)) + b"\x01"

    def another_version(self) -> bytes:
        self._request_id = self.random.getrandbits(64) or 1
        return EnvelopeCodec().encode(self._request_id, b"spin", version=self.random.choice((0, 2, 3, 200)))

    def is_refusal(self, data: bytes) -> bool:
        replies = EnvelopeCodec().receive_data(data)
        return [(r.version, r.msg_type, r.request_id, r.payload) for r in replies] == [
            (VERSION, MsgType.ERROR, self._request_id, UNSUPPORTED_VERSION)
        ]

    def at_capacity(self, data: bytes) -> bool:
        replies = EnvelopeCodec().receive_data(data)
        return [(r.msg_type, r.payload) for r in replies] == [(MsgType.ERROR, SERVER_AT_CAPACITY)]


class F00DPrey(Prey):
    """Device packets (seed 003); any acknowledgement is an answer, nothing but a close a refusal."""

    small_answers = True

    def message(self, payload_bytes: int) -> bytes:
        # A packet has no payload of its own: as many packets as hold about that many bytes.
        device_id = f"hostile-{self.random.getrandbits(16):04x}"
        one = encode_packet(Packet(TOGGLE, device_id, new_msg_id(self.random), True))
        return one * max(1, payload_bytes // len(one))

    def is_answer(self, data: bytes) -> bool | None:
        return True if data else None

    def oversize(self) -> bytes:
        return b"\xf0\x0d\x01\xff\xff\xff\xff"

    def another_version(self) -> bytes:
        return b"\xf0\x0d" + bytes([self.random.choice((0, 2, 3, 200))]) + self.message(16)[3:]

    def is_refusal(self, data: bytes) -> bool:
        return not data


class WebSocketPrey(Prey):
    """An echo over WebSocket (seed 001)."""

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self._ws = WebSocketClient("ws://127.0.0.1/", random_bytes=random.randbytes)
        self._opening = b"".join(self._ws.data_to_send())
        self._seen = 0
        self._message = ""

    def opening(self) -> bytes:
        return self._opening

    def is_open(self, data: bytes) -> bool:
        return any(isinstance(event, Opened) for event in self._new(data))

    def first_message(self) -> bytes:
        return self._opening

    def message(self, payload_bytes: int) -> bytes:
        self._message = f"{self.random.getrandbits(64):016x}" * max(1, payload_bytes // 16)
        self._ws.send_text(self._message)
        self._seen = 0  # the answers are counted from here
        return b"".join(self._ws.data_to_send())

    def is_answer(self, data: bytes) -> bool | None:
        for event in self._new(data):
            if isinstance(event, Text):
                return event.data == self._message
        return None if self._ws.error is None else False

    def oversize(self) -> bytes:
        return b"\x81\xff" + struct.pack(">Q", 1 << 40) + self.random.randbytes(4)

    def another_version(self) -> bytes:
        version = self.random.choice((b"0", b"7", b"8", b"99"))
        return self._opening.replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: " + version)

    def is_refusal(self, data: bytes) -> bool:
        status = data.split(b" ", 2)[1:2]
        return data.startswith(b"HTTP/1.1 ") and status in ([b"426"], [b"400"])  # RFC 6455, section 4.4

    def at_capacity(self, data: bytes) -> bool:
        return data.startswith(b"HTTP/1.1 503 ")

    def _new(self, data: bytes) -> list[object]:
        new, self._seen = data[self._seen :], len(data)
        return list(self._ws.receive_data(new))


PREY: Final[dict[str, type[Prey]]] = {"envelope": EnvelopePrey, "f00d": F00DPrey, "websocket": WebSocketPrey}


# -- the attacks -----------------------------------------------------------------------------------------------------


def attack(kind: str, protocol: str, random: Random, patience_s: float) -> Attack:
    """The attack `kind` (of KINDS) on a server of `protocol` (of PREY), which has `patience_s` to end a connection."""
    if kind not in _ATTACKS or protocol not in PREY:
        raise LocalProtocolError(f"there is no attack {kind!r} on {protocol!r}")
    return _ATTACKS[kind](PREY[protocol](random), patience_s)


def _slow_sender(prey: Prey, patience_s: float) -> Attack:
    """A whole message, byte by byte: slow is not wrong, so it is answered (or its time is up)."""
    refused = yield from _open(prey)
    if refused is not None:
        return refused
    for byte in prey.message(16):
        if (yield Send(bytes([byte]))).ended:
            return CLOSED
        yield Pause(SLOW_PAUSE_S)
    received = b""
    for _ in range(MAX_ANSWERS):
        answer = yield Receive(patience_s)
        if answer.ended:
            return REFUSED if prey.at_capacity(received) else CLOSED
        if answer.stalled:
            return HELD_OPEN
        received += answer.data
        right = prey.is_answer(received)
        if right is not None:
            return ANSWERED if right else REFUSED if prey.at_capacity(received) else WRONG_ANSWER
    return TALKS_ON


def _random_bytes(prey: Prey, patience_s: float) -> Attack:
    if (yield Connect()).ended:
        return NO_CONNECTION
    yield Send(prey.random.randbytes(RANDOM_BYTES))
    return (yield from _end(patience_s))


def _partial_header(prey: Prey, patience_s: float) -> Attack:
    if (yield Connect()).ended:
        return NO_CONNECTION
    yield Send(prey.first_message()[:PARTIAL_HEADER_BYTES])
    return (yield from _end(patience_s))


def _oversize_length(prey: Prey, patience_s: float) -> Attack:
    refused = yield from _open(prey)
    if refused is not None:
        return refused
    yield Send(prey.oversize())
    return (yield from _end(patience_s))


def _half_frame(prey: Prey, patience_s: float) -> Attack:
    refused = yield from _open(prey)
    if refused is not None:
        return refused
    message = prey.message(2000)
    yield Send(message[: len(message) // 2 + 1])
    yield Leave(reset=True)
    return LEFT


def _never_reading(prey: Prey, patience_s: float) -> Attack:
    refused = yield from _open(prey, SMALL_WINDOW_BYTES)
    if refused is not None:
        return refused
    sent = 0
    stalled_s = 0.0
    while stalled_s < patience_s:
        data = prey.message(FLOOD_PAYLOAD_BYTES)
        answer = yield Send(data)
        if answer.ended:
            return CLOSED
        if answer.stalled:
            stalled_s += SEND_S
        else:
            stalled_s = 0.0
            sent += len(data)
            if prey.small_answers and sent > SMALL_ANSWERS_LIMIT_BYTES:
                return LEFT
            if sent > FLOOD_LIMIT_BYTES:
                return TOOK_ALL
    return HELD_OPEN


def _churn(prey: Prey, patience_s: float) -> Attack:
    for number in range(CHURNED_CONNECTIONS):
        if (yield Connect()).ended:
            return NO_CONNECTION
        yield Leave(reset=number % 2 == 1)
    return LEFT


def _version_roulette(prey: Prey, patience_s: float) -> Attack:
    if (yield Connect()).ended:
        return NO_CONNECTION
    yield Send(prey.another_version())
    received = b""
    for _ in range(MAX_ANSWERS):
        answer = yield Receive(patience_s)
        if answer.ended:
            return REFUSED if prey.is_refusal(received) or prey.at_capacity(received) else WRONG_ANSWER
        if answer.stalled:
            return HELD_OPEN
        received = (received + answer.data)[:MAX_ANSWER_BYTES]
    return TALKS_ON


_ATTACKS: Final[dict[str, Callable[[Prey, float], Attack]]] = {
    SLOW_SENDER: _slow_sender,
    RANDOM: _random_bytes,
    PARTIAL_HEADER: _partial_header,
    OVERSIZE_LENGTH: _oversize_length,
    HALF_FRAME: _half_frame,
    NEVER_READING: _never_reading,
    CHURN: _churn,
    VERSION_ROULETTE: _version_roulette,
}
KINDS: Final = tuple(_ATTACKS)


def _open(prey: Prey, receive_buffer_bytes: int = 0) -> Generator[Action, Answer, Outcome | None]:
    """Connect and get through the opening; None when it worked, otherwise what to say of the attack."""
    if (yield Connect(receive_buffer_bytes)).ended:
        return NO_CONNECTION
    opening = prey.opening()
    if not opening:
        return None
    yield Send(opening)
    received = b""
    for _ in range(MAX_ANSWERS):
        answer = yield Receive(OPENING_S)
        if answer.stalled:
            return HELD_OPEN
        received += answer.data
        if answer.ended:
            return REFUSED if prey.at_capacity(received) else NO_CONNECTION
        if prey.is_open(received):
            return None
    return TALKS_ON


def _end(patience_s: float) -> Generator[Action, Answer, Outcome]:
    """Await that the server ends the connection; what it says meanwhile is its own affair."""
    for _ in range(MAX_ANSWERS):
        answer = yield Receive(patience_s)
        if answer.ended:
            return CLOSED
        if answer.stalled:
            return HELD_OPEN
    return TALKS_ON
