"""A link in a thread, in front of a server that a test scripts."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from swarmproof.faults.proxy.link import Link
from swarmproof.faults.proxy.loop import Loop
from swarmproof.faults.proxy.toxics import Direction, parse_toxics
from tests.processes import CONDITION_DEADLINE_S


class EchoServer:
    """Sends back what it gets; `received` is all of it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._echo, args=(sock,), daemon=True).start()

    def _echo(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(65536):
                self.received += data
                sock.sendall(data)


class RunningLink:
    """A link whose loop runs in a thread; everything that touches it is done there."""

    def __init__(self, upstream: tuple[str, int], *, framed: bool = False) -> None:
        self.loop = Loop()
        self.link = Link(self.loop, "test", ("127.0.0.1", 0), upstream, framed=framed)
        self._thread = threading.Thread(target=self.loop.run, daemon=True)
        self._thread.start()

    def set(self, *toxics: str, default: Direction = "down") -> None:
        self.do(lambda: self.link.set_toxics(parse_toxics(toxics, default)))

    def do(self, action: Callable[[], object]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self.loop.call_at(0.0, act)
        self.loop.wake()
        assert done.wait(CONDITION_DEADLINE_S)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.link.address, CONDITION_DEADLINE_S)

    def close(self) -> None:
        self.do(self.link.close)
        self.loop.stop()
        self._thread.join(CONDITION_DEADLINE_S)
        self.loop.close()


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    server = EchoServer()
    yield server
    server.close()


@pytest.fixture
def link(echo: EchoServer) -> Iterator[RunningLink]:
    running = RunningLink(echo.address)
    yield running
    running.close()


@pytest.fixture
def framed_link(echo: EchoServer) -> Iterator[RunningLink]:
    running = RunningLink(echo.address, framed=True)
    yield running
    running.close()


def receive(sock: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes, or what came before the end."""
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            break
        data += part
    return data
