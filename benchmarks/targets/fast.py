"""Targets that answer as fast as Python can: one process, one epoll, one recv and one send for each batch.

    python -m benchmarks.targets.fast echo|f00d|websocket_echo|websocket_rpc

They check next to nothing and share no code with the project: the client is what is measured, and they must not be
what holds it back. An echo server of framed bytes need not read them. The others cut frames and answer with the bytes
that a server must answer with. Prints `listening on PORT`.
"""

import base64
import hashlib
import re
import select
import socket
import struct
import sys
import time
from collections.abc import Callable

import orjson

# Below malloc's 128 KiB: a larger buffer is mapped, shrunk and unmapped again for every message.
RECV_BYTES = 65_536
_MSG_ID = re.compile(rb'"msg_id":"([0-9a-f]{16})"')
_KEY = re.compile(rb"sec-websocket-key: *(\S+)", re.IGNORECASE)


class Peer:
    __slots__ = ("answer", "is_open", "rest", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.rest = b""
        self.is_open = False


def echo(peer: Peer, data: bytes) -> bytes:
    """Envelopes, and anything else: what came goes back."""
    return data


def f00d_raw(peer: Peer, data: bytes) -> bytes:
    """One `ACK` for each packet."""
    data = peer.rest + data
    start, count = 0, 0
    while len(data) - start >= 7:
        end = start + 7 + int.from_bytes(data[start + 3 : start + 7], "big")
        if end > len(data):
            break
        count += 1
        start = end
    peer.rest = data[start:]
    return b"ACK" * count


def f00d(peer: Peer, data: bytes) -> bytes:
    """A framed acknowledgement for each packet."""
    data = peer.rest + data
    cut = data.rfind(b"}") + 1  # packets are flat objects: they end at a brace
    peer.rest = data[cut:]
    head = b'\xf0\x0d\x01\0\0\0%c{"opcode":"ack","msg_id":"' % len(b'{"opcode":"ack","msg_id":"0123456789abcdef"}')
    return b"".join([head + msg_id + b'"}' for msg_id in _MSG_ID.findall(data[:cut])])


def _shake_hands(peer: Peer, data: bytes) -> bytes:
    peer.rest += data
    if b"\r\n\r\n" not in peer.rest:
        return b""
    key = _KEY.search(peer.rest)
    assert key is not None
    peer.rest = b""
    peer.is_open = True
    accept = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def _messages(peer: Peer, data: bytes) -> list[tuple[int, bytes]]:
    """(first byte, payload) of each whole frame."""
    if peer.rest:
        data = peer.rest + data
    start, size = 0, len(data)
    found = []
    while size - start >= 6:
        length = data[start + 1] & 0x7F
        body = start + 6
        if length == 126:
            if size - start < 8:
                break
            length, body = int.from_bytes(data[start + 2 : start + 4], "big"), start + 8
        elif length == 127:
            if size - start < 14:
                break
            length, body = int.from_bytes(data[start + 2 : start + 10], "big"), start + 14
        end = body + length
        if end > size:
            break
        mask = data[body - 4 : body] * (length // 4 + 1)
        plain = int.from_bytes(data[body:end], "big") ^ int.from_bytes(mask[:length], "big")
        found.append((data[start], plain.to_bytes(length, "big")))
        start = end
    peer.rest = data[start:]
    return found


def _frame(first: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 65_536:
        return struct.pack(">BBH", first, 126, length) + payload
    return struct.pack(">BBQ", first, 127, length) + payload


def websocket_echo(peer: Peer, data: bytes) -> bytes:
    """Messages back as they came; pings and closes too, near enough."""
    if not peer.is_open:
        return _shake_hands(peer, data)
    return b"".join([_frame(first, payload) for first, payload in _messages(peer, data)])


def websocket_rpc(peer: Peer, data: bytes) -> bytes:
    """The seed's four methods in the first dialect."""
    if not peer.is_open:
        return _shake_hands(peer, data)
    answers = []
    for first, payload in _messages(peer, data):
        if first != 0x81:
            answers.append(_frame(first, payload))
            continue
        request = orjson.loads(payload)
        method, params = request["method"], request["params"]
        result: object = params
        error = None
        if method == "add":
            result = {"result": params["a"] + params["b"]}
        elif method == "get_time":
            result = {"timestamp": time.time()}
        elif method == "error_test":
            result, error = None, {"code": -32603, "message": "Test error"}
        answers.append(_frame(0x81, orjson.dumps({"id": request["id"], "result": result, "error": error})))
    return b"".join(answers)


ANSWERS: dict[str, Callable[[Peer, bytes], bytes]] = {
    "echo": echo,
    "f00d": f00d,
    "f00d_raw": f00d_raw,
    "websocket_echo": websocket_echo,
    "websocket_rpc": websocket_rpc,
}


def serve(answer: Callable[[Peer, bytes], bytes]) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    peers: dict[int, Peer] = {}
    print(f"listening on {listener.getsockname()[1]}", flush=True)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[sock.fileno()] = Peer(sock)
                poll.register(sock.fileno(), select.EPOLLIN)
                continue
            peer = peers[fd]
            try:
                data = peer.sock.recv(RECV_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                poll.unregister(fd)
                del peers[fd]
                peer.sock.close()
                continue
            reply = answer(peer, data)
            try:
                sent = peer.sock.send(reply) if reply else 0
                if sent != len(reply):  # a client that reads slowly is waited for
                    peer.sock.setblocking(True)
                    peer.sock.sendall(reply[sent:])
                    peer.sock.setblocking(False)
            except OSError:
                pass  # its end is read in the next turn


if __name__ == "__main__":
    serve(ANSWERS[sys.argv[1]])
