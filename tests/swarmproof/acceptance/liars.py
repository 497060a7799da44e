"""Envelope servers of somebody else's, on threads: one honest, and one for each way to lie, now and then."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Frame = tuple[int, int, int, int, bytes]  # version, type, request id, timestamp, payload
# What goes back for the n-th request of a connection.
Lie = Callable[[int, Frame], list[Frame]]

LIE_EVERY = 10
# Above every time that a client waits for a reply.
TOGETHER_WITHIN_S = 30.0


def honest(_number: int, frame: Frame) -> list[Frame]:
    return [frame]


def swap_ids(_number: int, frame: Frame) -> list[Frame]:
    version, kind, request_id, timestamp, payload = frame
    return [(version, kind, request_id ^ 1, timestamp, payload)]


def flip_byte(_number: int, frame: Frame) -> list[Frame]:
    return [(*frame[:4], bytes([frame[4][0] ^ 0x20]) + frame[4][1:])]


def answer_twice(_number: int, frame: Frame) -> list[Frame]:
    return [frame, frame]


def another_version(_number: int, frame: Frame) -> list[Frame]:
    return [(2, *frame[1:])]


def another_type(_number: int, frame: Frame) -> list[Frame]:
    return [(frame[0], 1, *frame[2:])]


def drop(_number: int, _frame: Frame) -> list[Frame]:
    return []


def say_error(_number: int, frame: Frame) -> list[Frame]:
    return [(1, 2, frame[2], 0, b"server at capacity")]


class LyingServer:
    """Lies with `lie` on every LIE_EVERY-th request of a connection, beginning with the LIE_EVERY-th.

    With `at_once`, nobody is answered before so many connections are open at the same time. `farewell` is what follows
    the last reply, when the client has said that no more requests will come.
    """

    def __init__(self, lie: Lie, *, at_once: int = 0, farewell: bytes = b"") -> None:
        self.lies = 0
        self.most_open = 0
        self._open = 0
        self._lie = lie
        self._at_once = at_once
        self._enough_open = threading.Event()
        self._farewell = farewell
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "LyingServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, self._counted():
            for number, frame in enumerate(_frames(connection), start=1):
                replies = [frame]
                if number % LIE_EVERY == 0:
                    replies = self._lie(number, frame)
                    with self._lock:
                        self.lies += 1
                connection.sendall(b"".join(map(encode, replies)))
            connection.sendall(self._farewell)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._open += 1
            self.most_open = max(self.most_open, self._open)
            if self._open >= self._at_once:
                self._enough_open.set()
        try:
            # Clients one after the other would wait for each other here: each has its own time to wait for a reply.
            self._enough_open.wait(TOGETHER_WITHIN_S)
            yield
        finally:
            with self._lock:
                self._open -= 1


def _frames(connection: socket.socket) -> Iterator[Frame]:
    buffer = b""
    while data := connection.recv(65536):
        buffer += data
        while len(buffer) >= 4 and len(buffer) >= 4 + (size := struct.unpack(">I", buffer[:4])[0]):
            body, buffer = buffer[4 : 4 + size], buffer[4 + size :]
            version, kind, request_id, timestamp, _ = struct.unpack(">BBQQI", body[:22])
            yield version, kind, request_id, timestamp, body[22:]


def encode(frame: Frame) -> bytes:
    version, kind, request_id, timestamp, payload = frame
    body = struct.pack(">BBQQI", version, kind, request_id, timestamp, len(payload)) + payload
    return struct.pack(">I", len(body)) + body


class OneConnection:
    """A server of one connection: `serve(socket)` in a thread, which ends the connection when it returns."""

    def __init__(self, serve: Callable[[socket.socket], object]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "OneConnection":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(TOGETHER_WITHIN_S)

    def _run(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            self._serve(connection)


def requests(connection: socket.socket) -> Iterator[Frame]:
    """The frames of a client, until it sends no more."""
    return _frames(connection)
