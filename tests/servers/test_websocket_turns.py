"""A client whose frames take long to inflate has a turn of the loop now and then, and so have the others.

Server and clients share one event loop here, so that what is handled between two steps can be counted.
"""

import _socket
import random
import zlib
from collections.abc import Iterator

import gevent
import pytest
from gevent import socket

from servers import websocket_serving
from servers.websocket_serving import WebSocketConnection, WebSocketService, websocket_parser
from tests.servers.websocket_clients import BINARY, HANDSHAKE, PING, PONG, frame, request

DEADLINE_S = 60.0
BOMB_BYTES = 1_000_000
BOMBS = 60


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    with gevent.Timeout(DEADLINE_S):
        yield


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebSocketService]:
    monkeypatch.setattr(websocket_serving, "INFLATE_TURN_S", 0.0)  # a turn is one step
    arguments = websocket_parser("echo", "", 1).parse_args(["--compression"])
    service = WebSocketService("echo", arguments, lambda message: message.data)
    yield service
    service.group.abort_all()


class Client:
    """The other end of one connection; `connection` is the server's."""

    def __init__(self, service: WebSocketService, headers: dict[str, str] | None = None) -> None:
        self.sock, theirs = socket.socketpair()
        before = set(service.group.connections)
        raw = _socket.socket(fileno=theirs.detach())
        raw.setblocking(False)
        service.group.accept(raw, "test")  # type: ignore[arg-type]
        (self.connection,) = service.group.connections - before
        assert isinstance(self.connection, WebSocketConnection)
        self.sock.sendall(request({**HANDSHAKE, **(headers or {})}))
        response = b""
        while not response.endswith(b"\r\n\r\n"):
            response += self.sock.recv(1)
        assert response.startswith(b"HTTP/1.1 101 ")

    def ping(self, payload: bytes) -> None:
        self.sock.sendall(frame(PING, payload))
        pong = frame(PONG, payload, masked=False)
        received = b""
        while len(received) < len(pong):
            received += self.sock.recv(len(pong) - len(received))
        assert received == pong


DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate; server_no_context_takeover"}


def deflated(messages: list[bytes]) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    frames = []
    for message in messages:
        data = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
        frames.append(frame(BINARY, data[:-4], reserved=0b100))
    return b"".join(frames)


def replies(sock: socket.socket, count: int) -> tuple[list[bytes], bytes]:
    """As many messages, inflated, each by itself; and what came behind them."""
    messages: list[bytes] = []
    buffer = b""
    while len(messages) < count:
        buffer += sock.recv(65_536)
        while len(messages) < count and len(buffer) >= 10:
            assert buffer[0] == 0x80 | 0x40 | BINARY
            size, start = buffer[1], 2
            if size == 126:
                size, start = int.from_bytes(buffer[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(buffer[2:10], "big"), 10
            if len(buffer) < start + size:
                break
            messages.append(zlib.decompressobj(-15).decompress(buffer[start : start + size] + b"\x00\x00\xff\xff"))
            buffer = buffer[start + size :]
    return messages, buffer


def test_others_are_served_between_frames_that_inflate_a_thousand_times(service: WebSocketService) -> None:
    flood, good = Client(service, DEFLATE), Client(service)
    flood.sock.sendall(deflated([bytes([number]) * BOMB_BYTES for number in range(BOMBS)]))
    rounds = 0
    while flood.connection.messages < BOMBS:
        before = flood.connection.messages
        good.ping(b"%d" % rounds)
        rounds += 1
        assert flood.connection.messages - before <= 6, "a ping waited for more than some turns of another client"
    assert rounds >= BOMBS / 6
    echoes, _ = replies(flood.sock, BOMBS)
    assert [(len(echo), set(echo)) for echo in echoes] == [(BOMB_BYTES, {number}) for number in range(BOMBS)]


def test_a_client_that_reads_late_gets_every_reply_in_order(service: WebSocketService) -> None:
    late = Client(service, DEFLATE)
    messages = [number.to_bytes(2, "big") + random.Random(number).randbytes(30_000) for number in range(80)]
    sender = gevent.spawn(late.sock.sendall, deflated(messages))
    while not late.connection.pending_bytes:
        gevent.sleep(0)
    assert replies(late.sock, len(messages)) == (messages, b"")
    sender.join()


@pytest.mark.parametrize("begun", [False, True])
def test_what_was_received_is_answered_before_the_server_stops(service: WebSocketService, begun: bool) -> None:
    client = Client(service, DEFLATE)
    messages = [random.Random(number).randbytes(100) for number in range(200)]
    data = deflated(messages)
    assert len(data) > 10 * websocket_serving.INFLATE_STEP_BYTES
    client.sock.sendall(data)
    while begun and not client.connection._rest:
        gevent.sleep(0)
    if begun:
        client.sock.sendall(frame(BINARY, b"too late"))
    drained = gevent.spawn(service.group.drain)
    echoes, farewell = replies(client.sock, len(messages))
    assert echoes == messages
    assert (farewell or client.sock.recv(100))[2:4] == (1001).to_bytes(2, "big")
    client.sock.close()
    drained.join()
