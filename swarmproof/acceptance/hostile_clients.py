"""Hostile clients beside the good ones of seed 000: each in a thread, attacking until the good ones are done.

A client goes through the attacks of `protocols.hostile` in turn, the n-th client beginning with the n-th, and is
*handled* when the server handled every attack that it began.
"""

import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from protocols.hostile import (
    KINDS,
    NO_CONNECTION,
    SEND_S,
    Action,
    Answer,
    Connect,
    Leave,
    Outcome,
    Pause,
    Receive,
    Send,
    attack,
    play,
)

CONNECT_TIMEOUT_S = 5.0
RECEIVE_BYTES = 64 * 1024
MAX_HOSTILE = 1000  # one thread each
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class HostileResult:
    """What came of one hostile client's attacks: how often each kind ended how."""

    client: int
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    unhandled: list[tuple[str, str]] = field(default_factory=list)

    @property
    def handled(self) -> bool:
        return bool(self.outcomes) and not self.unhandled

    def add(self, kind: str, outcome: Outcome) -> None:
        self.outcomes[kind, outcome.how] += 1
        if not outcome.handled:
            self.unhandled.append((kind, outcome.how))

    def describe(self) -> str:
        """One line: `hostile   3  NOT HANDLED  partial header: held open beyond the server's timeouts`."""
        kind, how = self.unhandled[0] if self.unhandled else ("no attack", "begun")
        more = f"; and {len(self.unhandled) - 1} more" if len(self.unhandled) > 1 else ""
        return f"hostile {self.client:>3}  NOT HANDLED  {kind}: {how}{more}"


class SocketWire:
    """The connection of one attack, on a blocking socket."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._socket: socket.socket | None = None

    def act(self, action: Action) -> Answer:
        try:
            if isinstance(action, Connect):
                self._connect(action.receive_buffer_bytes)
                return Answer()
            if isinstance(action, Pause):
                time.sleep(action.seconds)
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
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self, receive_buffer_bytes: int) -> None:
        self.close()
        if not receive_buffer_bytes:
            self._socket = socket.create_connection(self._address, CONNECT_TIMEOUT_S)
            return
        family = socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            # The window is settled when the connection is made: the buffer must be small before.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            sock.settimeout(CONNECT_TIMEOUT_S)
            sock.connect(self._address)
        except OSError:
            sock.close()
            raise
        self._socket = sock


class HostileClients:
    """`start` all, `await_begun`, and `finish` once the good ones are done: no attack is begun after that."""

    def __init__(
        self, address: tuple[str, int], clients: int, *, patience_s: float, protocol: str = "envelope"
    ) -> None:
        self.results = [HostileResult(number) for number in range(1, clients + 1)]
        self._address = address
        self._patience_s = patience_s
        self._protocol = protocol
        self._done = threading.Event()
        self._begun = threading.Barrier(clients + 1)
        self._threads = [threading.Thread(target=self._attack, args=(result,), daemon=True) for result in self.results]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def await_begun(self, timeout_s: float) -> None:
        """Until every hostile client stands before its first attack."""
        try:
            self._begun.wait(timeout_s)
        except threading.BrokenBarrierError:
            pass

    def finish(self) -> list[HostileResult]:
        """No new attacks; wait for those under way (at most about the server's timeouts)."""
        self._done.set()
        for thread in self._threads:
            if thread.ident is not None:  # started at all
                thread.join()
        return self.results

    def _attack(self, result: HostileResult) -> None:
        random = Random(result.client)
        try:
            self._begun.wait()
        except threading.BrokenBarrierError:
            pass  # somebody waited too long; the attack goes on
        turn = result.client - 1
        while True:
            kind = KINDS[turn % len(KINDS)]
            wire = SocketWire(self._address)
            outcome = play(attack(kind, self._protocol, random, self._patience_s), wire)
            result.add(kind, outcome)
            turn += 1
            if self._done.is_set() or outcome == NO_CONNECTION:
                return
