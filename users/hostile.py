"""Users that attack: hostile clients of the envelope, F00D and WebSocket servers, beside the good ones of a scenario.

    class Vandal(HostileEnvelopeUser):
        @task
        def attack(self):
            self.attack_next()        # each kind of protocols.hostile in turn

An attack is a request of its own (`hostile slow sender`): it succeeds when the server *handled* it as the wire formats
say, and fails when the server held a silent connection open for `--patience` seconds, answered wrongly, or was gone.
An attack that the end of the test cuts short counts as cancelled.
"""

import random
import socket
import struct
from random import Random
from time import monotonic_ns
from typing import Any, ClassVar, Final

import gevent
import gevent.socket

from protocols.hostile import KINDS, NO_CONNECTION, SEND_S, Action, Answer, Connect, Leave, Pause, Receive, Send, play
from protocols.hostile import attack as new_attack
from users import options
from users.client import Client
from users.failures import CheckFailed, ConnectFailed
from users.protocol_user import ProtocolUser
from users.session import Session
from users.transport import Endpoint

CONNECT_TIMEOUT_S: Final = 5.0
RECEIVE_BYTES: Final = 65_536
# A server that is gone fails every attack at once: this long between two, instead of spinning.
GONE_PAUSE_S: Final = 0.5
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

options.offer("patience")


class GeventWire:
    """The connection of one attack, on a cooperative socket."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._socket: Any = None

    def act(self, action: Action) -> Answer:
        """See protocols.hostile.Wire."""
        try:
            if isinstance(action, Connect):
                self._connect(action.receive_buffer_bytes)
                return Answer()
            if isinstance(action, Pause):
                gevent.sleep(action.seconds)
                return Answer()
            if self._socket is None:
                return Answer(ended=True)
            if isinstance(action, Send):
                self._socket.settimeout(SEND_S)
                self._socket.sendall(action.data)
                return Answer()
            if isinstance(action, Receive):
                self._socket.settimeout(action.timeout_s)
                data = self._socket.recv(RECEIVE_BYTES)
                return Answer(data, ended=not data)
            if isinstance(action, Leave) and action.reset:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.close()
            return Answer()
        except TimeoutError:
            return Answer(stalled=True, ended=self._socket is None)
        except OSError:
            return Answer(ended=True)

    def close(self) -> None:
        """Let go of whatever is open."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self, receive_buffer_bytes: int) -> None:
        self.close()
        address = (self._endpoint.host, self._endpoint.port)
        if not receive_buffer_bytes:
            self._socket = gevent.socket.create_connection(address, CONNECT_TIMEOUT_S)
            return
        family = gevent.socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        sock = gevent.socket.socket(family, socket.SOCK_STREAM)
        try:
            # The window is settled when the connection is made: the buffer must be small before.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            sock.settimeout(CONNECT_TIMEOUT_S)
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        self._socket = sock


class HostileClient(Client):
    """`attack`: one attack, and how the server took it."""

    request_type = "hostile"

    def __init__(self, user: Any, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._protocol: str = user.protocol
        self._patience_s: float = options.value(user.environment.parsed_options, "patience")
        self._random = Random(random.getrandbits(64))
        super().__init__(user, endpoint)
        self.recording.breaker = None  # an attack is no call: that one fails says nothing to the good users

    def attack(self, kind: str) -> bool:
        """Attack once, as `kind` (of protocols.hostile.KINDS). True when the server handled it."""
        intended_ns = self.pace.intended()
        call_ns = monotonic_ns()
        try:
            outcome = play(new_attack(kind, self._protocol, self._random, self._patience_s), GeventWire(self._endpoint))
        except BaseException:
            self.recording.cancelled(kind, intended_ns)
            raise
        return_ns = monotonic_ns()
        self.pace.returned(return_ns)
        if outcome.handled:
            self.recording.succeeded(kind, intended_ns, call_ns, return_ns, response=outcome)
            return True
        failure = ConnectFailed(outcome.how) if outcome == NO_CONNECTION else CheckFailed(outcome.how)
        self.recording.failed(kind, intended_ns, call_ns, return_ns, failure)
        if outcome == NO_CONNECTION:
            gevent.sleep(GONE_PAUSE_S)
        return False

    def _session(self) -> Session:
        raise NotImplementedError("a hostile client has no session: its attacks make their own connections")


class HostileUser(ProtocolUser):
    """Abstract user with a `HostileClient` as `client`; subclasses say which `protocol` they attack."""

    abstract = True
    client_class: ClassVar[type[Client]] = HostileClient
    #: Of protocols.hostile.PREY.
    protocol: ClassVar[str]
    client: HostileClient

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._turn = random.randrange(len(KINDS))  # users must not all do the same at the same time

    def attack_next(self) -> bool:
        """The next kind of attack. True when the server handled it."""
        self._turn += 1
        return self.client.attack(KINDS[self._turn % len(KINDS)])


class HostileEnvelopeUser(HostileUser):
    """Attacks an envelope server."""

    abstract = True
    protocol = "envelope"
    host = "tcp://127.0.0.1:9000"


class HostileF00DUser(HostileUser):
    """Attacks a F00D device."""

    abstract = True
    protocol = "f00d"
    host = "tcp://127.0.0.1:9000"


class HostileWebSocketUser(HostileUser):
    """Attacks a WebSocket echo server."""

    abstract = True
    protocol = "websocket"
    schemes = ("ws",)
    host = "ws://127.0.0.1:8080"
