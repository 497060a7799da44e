"""A key-value server of one node that breaks a rule now and then; msgpack and struct, none of the project's codecs.

It also plays the cluster's weather: refusals, hints, outcomes that it does not know.
"""

import struct
from typing import Any

import msgpack

from tests.dishonest.tcp import MisbehavingServer, Peer

HEADER = struct.Struct(">IBBQQI")
KV, ERROR = 3, 2

TWICE = "answer twice"
UNKNOWN_ID = "answer an id that nobody sent"
VERSION = "answer with another version"
GARBAGE = "a payload that is not msgpack"
WRONG_RESULT = "a result that this operation cannot have"
DROP = "drop a reply"
CLOSE = "apply it and close instead of answering"
NOT_LEADER = "refuse: not the leader, and no hint"
BUSY = "refuse: busy"
UNKNOWN = "apply it and say that the outcome is unknown"
BAD_REQUEST = "refuse: bad request"


class KvServer(MisbehavingServer):
    """`hint`: a (id, address) to which every write is sent on, as a follower would."""

    def __init__(self, kinds: tuple[str, ...] = (), every: int = 20, quota: int = 15, node: int = 1) -> None:
        super().__init__(kinds, every, quota)
        self.node = node
        self.hint: tuple[int, str] | None = None
        self.values: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.sessions: dict[int, tuple[int, dict[str, Any]]] = {}
        self.applied: list[tuple[int, int]] = []  # (client_id, seq) in order
        self.index = 0

    def on_data(self, peer: Peer) -> None:
        while len(peer.received) >= HEADER.size and not peer.closing:
            length, _, _, request_id, _, size = HEADER.unpack_from(peer.received)
            if len(peer.received) < 4 + length:
                return
            request = msgpack.unpackb(bytes(peer.received[HEADER.size : HEADER.size + size]))
            del peer.received[: 4 + length]
            self._answer(peer, request_id, request)

    def _answer(self, peer: Peer, request_id: int, request: dict[str, Any]) -> None:
        if request["op"] == "status":
            self._reply(peer, request_id, self._status())
            return
        if self.hint is not None and request["op"] != "get":
            leader = {"id": self.hint[0], "address": self.hint[1]}
            self._reply(peer, request_id, {"result": "NOT_LEADER", "leader": leader})
            return
        kind = self.misdeed()
        refusals = {NOT_LEADER: "NOT_LEADER", BUSY: "BUSY", BAD_REQUEST: "ERROR"}
        if kind in refusals:
            self._reply(peer, request_id, {"result": refusals[kind], "leader": None, "error": "no"})
            return
        reply = self._apply(request)
        if kind == DROP:
            return
        if kind == CLOSE:
            self.close(peer)
        elif kind == UNKNOWN:
            self._reply(peer, request_id, {"result": "UNKNOWN"})
        elif kind == WRONG_RESULT:
            self._reply(peer, request_id, {"result": "CAS_FAILED" if request["op"] != "cas" else "NOT_FOUND"})
        elif kind == GARBAGE:
            self._send(peer, request_id, b"\xc1\xc1\xc1")
        elif kind == VERSION:
            self._send(peer, request_id, msgpack.packb(reply), version=9)
        elif kind == UNKNOWN_ID:
            self._reply(peer, request_id ^ 0x5555_5555_5555_5555, reply)
        else:
            self._reply(peer, request_id, reply)
            if kind == TWICE:
                self._reply(peer, request_id, reply)

    def _apply(self, request: dict[str, Any]) -> dict[str, Any]:
        op, key = request["op"], request["key"]
        value = self.values.get(key)
        if op == "get":
            result = "OK" if value is not None else "NOT_FOUND"
            return {"result": result, "value": value, "version": self.versions.get(key)}
        client, seq = request["client_id"], request["seq"]
        if client in self.sessions and seq <= self.sessions[client][0]:
            return self.sessions[client][1] | {"replayed": True}
        self.index += 1
        reply: dict[str, Any] = {"result": "OK", "version": self.index}
        if op == "cas" and value != request["expect"]:
            reply = {"result": "CAS_FAILED", "value": value, "version": self.versions.get(key)}
        else:
            self.values[key] = {
                "put": request.get("value"),
                "cas": request.get("value"),
                "append": (value or "") + request.get("value", ""),
                "delete": None,
            }[op]
            self.versions[key] = self.index
            self.applied.append((client, seq))
        self.sessions[client] = (seq, reply)
        return reply

    def _status(self) -> dict[str, Any]:
        leader = {"id": self.hint[0] if self.hint else self.node, "address": f"127.0.0.1:{self.port}"}
        numbers = dict.fromkeys(("term", "commit_index", "applied_index", "last_log_index"), 1)
        role = "follower" if self.hint else "leader"
        return {"result": "OK", "id": self.node, "role": role, "leader": leader, "members": [leader], **numbers}

    def _reply(self, peer: Peer, request_id: int, reply: dict[str, Any]) -> None:
        self._send(peer, request_id, msgpack.packb(reply))

    def _send(self, peer: Peer, request_id: int, payload: bytes, version: int = 1) -> None:
        header = HEADER.pack(22 + len(payload), version, KV, request_id, 0, len(payload))
        self.send(peer, header + payload)
