"""Raw WebSocket frames for tests: what a well-behaved library refuses to send."""

import struct
from collections.abc import Mapping

from tests.servers.clients import RawClient

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
FIN = 0x80
MASK = b"\x12\x34\x56\x78"

HANDSHAKE: Mapping[str, str] = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def request(headers: Mapping[str, str] = HANDSHAKE, first_line: str = "GET / HTTP/1.1") -> bytes:
    lines = [first_line, *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """One frame as a client sends it, or as it must not."""
    first = (FIN if fin else 0) | reserved << 4 | opcode
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = struct.pack(">BB", first, bit | len(payload))
    elif len(payload) < 65_536:
        head = struct.pack(">BBH", first, bit | 126, len(payload))
    else:
        head = struct.pack(">BBQ", first, bit | 127, len(payload))
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[n % 4] for n, byte in enumerate(payload))


class RawWebSocket(RawClient):
    """Has made the handshake; sends what it is told, reads frames."""

    def __init__(self, address: tuple[str, int], headers: Mapping[str, str] = HANDSHAKE) -> None:
        super().__init__(address)
        self.send(request(headers))
        response = b""
        while not response.endswith(b"\r\n\r\n"):
            response += self.receive_exactly(1)
        assert response.startswith(b"HTTP/1.1 101 "), response

    def next_frame(self) -> tuple[int, bytes] | None:
        """(opcode, payload) of the next frame, None at the end of the stream."""
        try:
            first, second = self.receive_exactly(2)
        except AssertionError:
            return None
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self.receive_exactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self.receive_exactly(8))
        return first & 0x0F, self.receive_exactly(size)

    def close_code(self) -> int | None:
        """The code of the close frame that comes next; skips other frames. None when there is none."""
        while (received := self.next_frame()) is not None:
            if received[0] == CLOSE:
                return struct.unpack(">H", received[1][:2])[0] if received[1] else 1005
        return None
