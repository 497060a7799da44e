"""Blocking clients for tests of the servers: plain sockets, deadlines everywhere, and nothing else in the way."""

import http.client
import json
import socket
import struct
from types import TracebackType
from typing import Any, Self

from protocols.envelope import Codec, Envelope, EnvelopeCodec, MsgType

DEADLINE_S = 15.0


class RawClient:
    """A socket with a deadline on everything. Closing it without unread bytes is a FIN, `reset()` a RST."""

    def __init__(self, address: tuple[str, int], receive_buffer_bytes: int | None = None) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if receive_buffer_bytes is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def receive(self, size_bytes: int = 65536) -> bytes:
        return self.sock.recv(size_bytes)

    def receive_exactly(self, size_bytes: int) -> bytes:
        received = bytearray()
        while len(received) < size_bytes:
            chunk = self.sock.recv(min(1 << 20, size_bytes - len(received)))
            if not chunk:
                raise AssertionError(f"closed after {len(received)} of {size_bytes} bytes")
            received += chunk
        return bytes(received)

    def receive_until_closed(self) -> bytes:
        """Everything up to an orderly close; ConnectionResetError when it is not orderly."""
        received = bytearray()
        while chunk := self.sock.recv(1 << 20):
            received += chunk
        return bytes(received)

    def closed_by_server(self) -> bool:
        """True when the server ends the connection, in whatever manner, within the deadline."""
        try:
            while self.sock.recv(1 << 20):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EnvelopeClient(RawClient):
    """Speaks envelopes and hands back what it gets, unchecked: the tests do the checking."""

    def __init__(
        self, address: tuple[str, int], codec: Codec = "binary", receive_buffer_bytes: int | None = None
    ) -> None:
        super().__init__(address, receive_buffer_bytes)
        self.codec = EnvelopeCodec(codec)
        self._received: list[Envelope] = []

    def send_envelope(self, request_id: int, payload: bytes, msg_type: int = MsgType.ECHO, **fields: int) -> None:
        self.send(self.codec.encode(request_id, payload, msg_type, **fields))

    def next_envelope(self) -> Envelope | None:
        """The next one, None at the end of the stream."""
        while not self._received:
            data = self.receive()
            if not data:
                return None
            self._received += self.codec.receive_data(data)
            assert self.codec.error is None, self.codec.error
        return self._received.pop(0)

    def echo(self, request_id: int, payload: bytes, **fields: int) -> Envelope | None:
        self.send_envelope(request_id, payload, **fields)
        return self.next_envelope()


def http_request(address: tuple[str, int], method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
    """One HTTP request: (status, text)."""
    connection = http.client.HTTPConnection(*address, timeout=DEADLINE_S)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def http_json(address: tuple[str, int], method: str, path: str, body: object = None) -> Any:
    status, text = http_request(address, method, path, None if body is None else json.dumps(body).encode())
    assert status == 200, (status, text)
    return json.loads(text)


def metric(text: str, sample: str) -> float:
    """The value of a sample line such as `envelope_requests_total` or `x{reason="y"}`; 0 when there is none."""
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name == sample:
            return float(value)
    return 0.0
