"""A WebSocket server from RFC 6455 with hashlib and struct alone, that breaks a rule of echo or RPC now and then."""

import base64
import hashlib
import json
import struct
import time
from typing import Any

from tests.dishonest.tcp import MisbehavingServer, Peer

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

FLIP = "change a character"
TWICE = "answer twice"
DROP = "drop a reply"
OTHER_TYPE = "answer text with binary and the other way round"
CLOSE_FRAME = "close with a code"
HALF_FRAME = "close in the middle of a frame"
MASKED = "mask a frame, which servers must not"
STUTTER = "begin a frame, and then send it whole"
# Alone on the wire for so long that the client reads it alone.
STUTTER_S = 0.01

ANOTHER_RESULT = "give the result of another request"
BOTH = "both result and error"
NEITHER = "neither result nor error"
NOT_JSON = "a reply that is not JSON"
OTHER_ID = "a reply to an id that nobody sent"
NO_ERROR = "a result where an error is due"


def frame(opcode: int, payload: bytes) -> bytes:
    head = bytes([0x80 | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return head + b"\x7e" + struct.pack(">H", len(payload)) + payload
    return head + b"\x7f" + struct.pack(">Q", len(payload)) + payload


class WebSocketServer(MisbehavingServer):
    """Handshake and frames; a subclass answers messages."""

    def on_message(self, peer: Peer, opcode: int, payload: bytes) -> None:
        raise NotImplementedError

    def on_data(self, peer: Peer) -> None:
        if not peer.state.get("open") and not self._shake_hands(peer):
            return
        while not peer.closing:
            message = self._next_frame(peer)
            if message is None:
                return
            opcode, payload = message
            if opcode == CLOSE:
                self.send(peer, frame(CLOSE, payload))
                self.close(peer)
            elif opcode == PING:
                self.send(peer, frame(PONG, payload))
            elif opcode in (TEXT, BINARY):
                self.on_message(peer, opcode, payload)

    def _shake_hands(self, peer: Peer) -> bool:
        head, separator, _ = bytes(peer.received).partition(b"\r\n\r\n")
        if not separator:
            return False
        del peer.received[: len(head) + 4]
        key = next(
            line.split(b":", 1)[1].strip()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        self.send(
            peer,
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n",
        )
        peer.state["open"] = True
        return True

    def _next_frame(self, peer: Peer) -> tuple[int, bytes] | None:
        data = peer.received
        if len(data) < 6:
            return None
        size, start = data[1] & 0x7F, 2
        if size == 126:
            size, start = struct.unpack_from(">H", data, 2)[0], 4
        elif size == 127:
            size, start = struct.unpack_from(">Q", data, 2)[0], 10
        end = start + 4 + size
        if len(data) < end:
            return None
        mask = data[start : start + 4]
        payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data[start + 4 : end]))
        opcode = data[0] & 0x0F
        del data[:end]
        return opcode, payload


class EchoServer(WebSocketServer):
    def on_message(self, peer: Peer, opcode: int, payload: bytes) -> None:
        kind = self.misdeed()
        if kind == DROP:
            return
        if kind == FLIP:
            # In the very first character: that is where users keep the id.
            payload = bytes([payload[0] ^ 0x01]) + payload[1:]
        elif kind == OTHER_TYPE:
            opcode = BINARY
        elif kind == CLOSE_FRAME:
            self.send(peer, frame(CLOSE, struct.pack(">H", 1011)))
            self.close(peer)
            return
        elif kind == HALF_FRAME:
            self.send(peer, frame(opcode, payload)[:-3])
            self.close(peer)
            return
        elif kind == MASKED:
            self.send(peer, bytes([0x80 | opcode, 0x80 | 4]) + b"\0\0\0\0abcd")
            return
        reply = frame(opcode, payload)
        if kind == STUTTER:
            # One byte: the next one, the second of a frame, then says that it is masked.
            self.send(peer, reply[:1])
            time.sleep(STUTTER_S)
        self.send(peer, reply * 2 if kind == TWICE else reply)


class RpcServer(WebSocketServer):
    """The seed's four methods in the first dialect."""

    def on_message(self, peer: Peer, opcode: int, payload: bytes) -> None:
        request = json.loads(payload)
        reply = self._honest(request)
        possible = self.kinds if reply["error"] is None else [kind for kind in self.kinds if kind == NO_ERROR]
        if reply["error"] is None:
            possible = [kind for kind in possible if kind != NO_ERROR]
        kind = self.misdeed(possible=tuple(possible))
        if kind == DROP:
            return
        text = json.dumps(self._spoil(reply, kind)).encode()
        if kind == NOT_JSON:
            text = b"{" + text
        message = frame(TEXT, text)
        self.send(peer, message * 2 if kind == TWICE else message)

    def _spoil(self, reply: dict[str, Any], kind: str) -> dict[str, Any]:
        if kind == ANOTHER_RESULT:
            reply["result"] = {"result": 1 << 62}
        elif kind == BOTH:
            reply["error"] = {"code": -32603, "message": "both"}
        elif kind == NEITHER:
            del reply["result"]
        elif kind == OTHER_ID:
            reply["id"] = "no-such-request"
        elif kind == NO_ERROR:
            reply["result"], reply["error"] = {"fine": True}, None
        return reply

    def _honest(self, request: dict[str, Any]) -> dict[str, Any]:
        result: Any = None
        error = None
        params = request["params"]
        if request["method"] == "echo":
            result = params
        elif request["method"] == "add":
            result = {"result": params["a"] + params["b"]}
        elif request["method"] == "get_time":
            result = {"timestamp": int(time.time())}
        else:
            error = {"code": -32603, "message": "Test error"}
        return {"id": request["id"], "result": result, "error": error}
