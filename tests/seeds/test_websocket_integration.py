"""The tests that seed 001 names, under their names, with our client against our servers over real sockets."""

import socket
import statistics
import time

import psutil

from protocols.rpc import RpcReply, decode_reply, encode_request
from protocols.websocket import Binary, Event, Opened, Text, WebSocketClient
from tests.processes import ServerProcess

DEADLINE_S = 15.0


class Connected:
    """Our sans-I/O client on a blocking socket."""

    def __init__(self, server: ServerProcess) -> None:
        self.client = WebSocketClient(f"ws://{server.host}:{server.port}/")
        self.sock = socket.create_connection(server.address, timeout=DEADLINE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._events: list[Event] = []
        self.flush()
        assert isinstance(self.next_event(), Opened)

    def flush(self) -> None:
        self.sock.sendall(b"".join(self.client.data_to_send()))

    def next_event(self) -> Event:
        while not self._events:
            data = self.sock.recv(65_536)
            assert data, "the server closed"
            self._events += self.client.receive_data(data)
        return self._events.pop(0)

    def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.client.send_text(message)
        else:
            self.client.send_binary(message)
        self.flush()

    def receive(self) -> str | bytes:
        event = self.next_event()
        assert isinstance(event, Text | Binary), event
        return event.data

    def close(self) -> None:
        if self.client.open:
            self.client.send_close()
            self.flush()
        self.sock.close()


def test_websocket_echo_integration() -> None:
    with ServerProcess("websocket_echo") as server:
        connection = Connected(server)
        connection.send("Hello, WebSocket!")
        assert connection.receive() == "Hello, WebSocket!"
        connection.close()


def test_websocket_binary_integration() -> None:
    with ServerProcess("websocket_echo") as server:
        connection = Connected(server)
        connection.send(bytes([0x00, 0x01, 0x02, 0x03, 0x04]))
        assert connection.receive() == bytes([0x00, 0x01, 0x02, 0x03, 0x04])
        connection.close()


def test_rpc_echo_integration() -> None:
    with ServerProcess("websocket_rpc") as server:
        connection = Connected(server)
        connection.send(encode_request("1", "echo", {"message": "Hello, RPC!"}))
        assert decode_reply(connection.receive()) == RpcReply("1", {"message": "Hello, RPC!"}, None, False)
        connection.close()


def test_rpc_add_integration() -> None:
    with ServerProcess("websocket_rpc") as server:
        connection = Connected(server)
        connection.send(encode_request("2", "add", {"a": 5, "b": 3}))
        assert decode_reply(connection.receive()) == RpcReply("2", {"result": 8}, None, False)
        connection.close()


def test_message_throughput_benchmark() -> None:
    """The seed's shape: a thousand messages as fast as they go; more than 100 a second."""
    with ServerProcess("websocket_performance") as server:
        connection = Connected(server)
        started_s = time.monotonic()
        for number in range(1000):
            connection.send(f"message_{number}")
        connection.send("metrics")
        counted = str(connection.receive())
        throughput = 1000 / (time.monotonic() - started_s)
        assert '"total_messages":1000' in counted
        assert throughput > 100
        connection.close()


def test_latency_benchmark() -> None:
    """The seed's shape: a hundred round trips. Its average would be of whatever else runs here: the median counts."""
    with ServerProcess("websocket_echo") as server:
        connection = Connected(server)
        latencies_s = []
        for _ in range(100):
            started_s = time.monotonic()
            connection.send("latency_test")
            assert connection.receive() == "latency_test"
            latencies_s.append(time.monotonic() - started_s)
        assert statistics.median(latencies_s) < 0.010
        connection.close()


def test_connection_establishment_and_memory() -> None:
    """Seed 001: establishment < 100 ms, memory < 50 MB under normal load."""
    with ServerProcess("websocket_echo") as server:
        times_s = []
        for _ in range(50):
            started_s = time.monotonic()
            connection = Connected(server)
            times_s.append(time.monotonic() - started_s)
            connection.send("x" * 1000)
            assert connection.receive() == "x" * 1000
            connection.close()
        assert statistics.median(times_s) < 0.100
        assert psutil.Process(server.pid).memory_info().rss < 50_000_000
