"""The most obvious Locust users for these protocols, as somebody would write them without this project.

They check that the reply's payload is the request's, and fire Locust's request event; that is all.
"""

import os
import socket
import struct
import time

import websocket
from locust import User, constant, task


class StockTcpUser(User):
    """A blocking socket, a header packed by struct, a recv until all is there."""

    wait_time = constant(0)

    def on_start(self) -> None:
        host, port = self.host.removeprefix("tcp://").split(":") if self.host else self._address()
        self.sock = socket.create_connection((host, int(port)))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request_id = 0

    def _address(self) -> tuple[str, str]:
        host, port = self.environment.host.removeprefix("tcp://").split(":")
        return host, port

    @task
    def echo(self) -> None:
        self.request_id += 1
        payload = os.urandom(64)
        start = time.perf_counter()
        exception = None
        try:
            header = struct.pack(">IBBQQI", 22 + 64, 1, 0, self.request_id, int(time.time() * 1000), 64)
            self.sock.sendall(header + payload)
            head = self._read(4)
            body = self._read(struct.unpack(">I", head)[0])
            _, _, request_id, _, _ = struct.unpack_from(">BBQQI", body)
            if request_id != self.request_id or body[22:] != payload:
                exception = ValueError("wrong reply")
        except OSError as error:
            exception = error
        self.environment.events.request.fire(
            request_type="tcp",
            name="echo",
            response_time=(time.perf_counter() - start) * 1000,
            response_length=64,
            exception=exception,
            context={},
        )

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            if not piece:
                raise ConnectionError("closed")
            data += piece
        return data


class StockWebSocketUser(User):
    """websocket-client, one message and its echo at a time."""

    wait_time = constant(0)

    def on_start(self) -> None:
        self.ws = websocket.create_connection(self.host or self.environment.host)

    @task
    def echo(self) -> None:
        message = os.urandom(32).hex()
        start = time.perf_counter()
        exception = None
        try:
            self.ws.send(message)
            if self.ws.recv() != message:
                exception = ValueError("wrong reply")
        except (OSError, websocket.WebSocketException) as error:
            exception = error
        self.environment.events.request.fire(
            request_type="ws",
            name="echo",
            response_time=(time.perf_counter() - start) * 1000,
            response_length=64,
            exception=exception,
            context={},
        )
