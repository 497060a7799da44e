"""F00D devices that acknowledge wrongly now and then. Written from the seed's text, with struct and json alone."""

import json
import struct
import time

from tests.dishonest.tcp import MisbehavingServer, Peer

NAK = "answer something that is not ACK"
TWICE = "acknowledge twice"
SILENT = "acknowledge nothing"
DISCONNECT = "close instead of acknowledging"
NEVER_SENT = "acknowledge a packet that was never sent"
ANOTHERS = "acknowledge the packet of another connection"
HALF = "close inside an acknowledgement"
STUTTER = "begin an acknowledgement, and then send it whole"
# Alone on the wire for so long that the client reads it alone.
STUTTER_S = 0.01


def framed(fields: dict[str, object]) -> bytes:
    body = json.dumps(fields).encode()
    return struct.pack(">HBI", 0xF00D, 1, len(body)) + body


class Device(MisbehavingServer):
    framed = False

    def on_data(self, peer: Peer) -> None:
        while len(peer.received) >= 7 and not peer.closing:
            magic, version, size = struct.unpack_from(">HBI", peer.received)
            assert (magic, version) == (0xF00D, 1)
            if len(peer.received) < 7 + size:
                return
            packet = json.loads(bytes(peer.received[7 : 7 + size]))
            del peer.received[: 7 + size]
            assert packet["opcode"] == "toggle"
            assert len(packet["msg_id"]) == 16
            self._acknowledge(peer, packet["msg_id"])

    def _acknowledge(self, peer: Peer, msg_id: str) -> None:
        other = self.another(peer)
        possible = tuple(kind for kind in self.kinds if kind != ANOTHERS or (other and "last" in other.state))
        kind = self.misdeed(possible=possible)
        ack = framed({"opcode": "ack", "msg_id": msg_id}) if self.framed else b"ACK"
        if kind == SILENT:
            return
        if kind == DISCONNECT:
            self.close(peer)
        elif kind == NAK:
            self.send(peer, b"NAK")
        elif kind == HALF:
            self.send(peer, ack[:2])
            self.close(peer)
        elif kind == NEVER_SENT:
            self.send(peer, framed({"opcode": "ack", "msg_id": "0123456789abcdef"}) + ack)
        elif kind == ANOTHERS and other is not None:
            self.send(peer, framed({"opcode": "ack", "msg_id": other.state["last"]}) + ack)
        else:
            if kind == STUTTER:
                self.send(peer, ack[:1])
                time.sleep(STUTTER_S)
            self.send(peer, ack * 2 if kind == TWICE else ack)
            peer.state["last"] = msg_id


class FramedDevice(Device):
    framed = True
