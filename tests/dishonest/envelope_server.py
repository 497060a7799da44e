"""An envelope echo server that now and then breaks one rule. Written from the seed's text, with struct alone."""

import random
import struct
import time

from tests.dishonest.tcp import MisbehavingServer, Peer

HEADER = struct.Struct(">IBBQQI")

FLIP = "flip a byte of the payload"
TWICE = "answer twice"
VERSION = "answer with another version"
TYPE = "answer with another type"
DROP = "drop a reply"
TIMESTAMP = "alter the timestamp"
UNKNOWN_ID = "answer an id that nobody sent"
CROSS = "send a reply to another client"
SWAP = "swap the ids of two pipelined replies"
CLOSE_MID_FRAME = "close in the middle of a frame"
OVERSIZE = "announce a frame of a gigabyte"
STUTTER = "begin a reply, and then send it whole"
# Alone on the wire for so long that the client reads it alone.
STUTTER_S = 0.01
STUTTER_BYTES = 20

Message = tuple[int, int, int, int, bytes]  # version, type, request id, timestamp, payload


def pack(message: Message) -> bytes:
    version, kind, request_id, timestamp, payload = message
    return HEADER.pack(22 + len(payload), version, kind, request_id, timestamp, len(payload)) + payload


class EnvelopeServer(MisbehavingServer):
    """Without kinds it is an honest one."""

    def on_data(self, peer: Peer) -> None:
        messages = self._messages(peer)
        while messages and not peer.closing:
            message = messages.pop(0)
            kind = self.misdeed(possible=self._possible(peer, messages))
            self._answer(peer, message, kind, messages)

    def _possible(self, peer: Peer, following: list[Message]) -> tuple[str, ...]:
        possible = [kind for kind in self.kinds if kind not in (SWAP, CROSS)]
        if following and SWAP in self.kinds:
            possible.append(SWAP)
        if CROSS in self.kinds and self.another(peer) is not None:
            possible.append(CROSS)
        return tuple(possible)

    def _messages(self, peer: Peer) -> list[Message]:
        messages = []
        while len(peer.received) >= HEADER.size:
            length, version, kind, request_id, timestamp, size = HEADER.unpack_from(peer.received)
            if len(peer.received) < 4 + length:
                break
            payload = bytes(peer.received[HEADER.size : HEADER.size + size])
            del peer.received[: 4 + length]
            messages.append((version, kind, request_id, timestamp, payload))
        return messages

    def _answer(self, peer: Peer, message: Message, kind: str, following: list[Message]) -> None:
        version, msg_type, request_id, timestamp, payload = message
        if kind == DROP:
            return
        if kind == FLIP:
            place = random.randrange(len(payload))
            payload = payload[:place] + bytes([payload[place] ^ 0x20]) + payload[place + 1 :]
        elif kind == VERSION:
            version = 2
        elif kind == TYPE:
            msg_type = 1
        elif kind == TIMESTAMP:
            timestamp += 1
        elif kind == UNKNOWN_ID:
            request_id = random.getrandbits(64)
        elif kind == SWAP:
            other = following.pop(0)
            self.requests += 1
            self.send(peer, pack((*message[:2], other[2], *message[3:])) + pack((*other[:2], message[2], *other[3:])))
            return
        elif kind == CROSS:
            other_peer = self.another(peer)
            assert other_peer is not None
            self.send(other_peer, pack(message))
            return
        elif kind == OVERSIZE:
            self.send(peer, struct.pack(">I", 1 << 30) + b"x" * 100)
            return
        frame = pack((version, msg_type, request_id, timestamp, payload))
        if kind == CLOSE_MID_FRAME:
            self.send(peer, frame[: len(frame) // 2])
            self.close(peer)
            return
        if kind == STUTTER:
            self.send(peer, frame[:STUTTER_BYTES])
            time.sleep(STUTTER_S)
        self.send(peer, frame * 2 if kind == TWICE else frame)
