"""A key-value node on PySyncObj 0.3.17 that speaks our key-value protocol: the positive control.

    python -m servers.controls.pysyncobj_kv --id 1 --port 9001 --peers 127.0.0.1:9101,127.0.0.1:9102,127.0.0.1:9103 \
        --data-dir DIR

The store on top is written with care: every operation, reads included, goes through the replicated log, retries are
applied once, and an outcome that is not certain is said to be UNKNOWN. What is lost, PySyncObj loses. It keeps journal
and dump files, but never syncs them, and between the moment a new dump is in place and the moment the journal is cut a
restart throws the whole journal away (SyncObj.__loadDumpFile).

Loopback only: PySyncObj unpickles whatever its peer port receives.
"""

import argparse
import contextlib
import signal
import socket
import struct
import sys
import threading
import warnings
from pathlib import Path
from typing import Final

from protocols.envelope import Envelope, EnvelopeCodec, MsgType
from protocols.errors import RemoteProtocolError
from protocols.kv import (
    APPEND,
    BUSY,
    CAS,
    CAS_FAILED,
    DELETE,
    ERROR,
    GET,
    MAX_VALUE_BYTES,
    NOT_FOUND,
    NOT_LEADER,
    OK,
    STATUS,
    UNKNOWN,
    KvReply,
    KvStatus,
    Leader,
    Value,
    decode_request,
    encode_reply,
)
from servers.arguments import count, port_number

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of its own use of pickle's internals
    from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, SyncObjConsumer, replicated

LOOPBACK: Final = "127.0.0.1"
RECEIVE_BYTES: Final = 65_536
# Replies are sent from the thread that also drives the cluster: a client that does not read must not hold it up.
SEND_WITHIN_S: Final = 0.5
# The same heartbeat and election timeouts as our own cluster (PySyncObj wants three heartbeats in an election).
HEARTBEAT_S: Final = 0.05
ELECTION_S: Final = (0.3, 0.6)
# PySyncObj's default of 5 s would leave a restarted node alone for longer than a run's fault lasts.
CONNECT_AGAIN_S: Final = 0.1
# Small, so that a short run compacts often; the library's default is 5000.
COMPACTION_ENTRIES: Final = 100
EXIT_IN_USE: Final = 3

Outcome = tuple[str, Value | None, int | None]  # result, value, version

_LEADER_STATE: Final = 2  # pysyncobj.syncobj._RAFT_STATE.LEADER
_ROLES: Final = {0: "follower", 1: "candidate", 2: "leader"}

#: What an entry's outcome is when the library says that it was not applied.
_REFUSALS: Final = {
    FAIL_REASON.QUEUE_FULL: BUSY,
    FAIL_REASON.MISSING_LEADER: NOT_LEADER,
}


class Store(SyncObjConsumer):  # type: ignore[misc]  # the library ships no types
    """The replicated map. Attributes that are set after the base's __init__ are replicated state and in the dumps."""

    def __init__(self) -> None:
        super().__init__()
        self.data: dict[str, tuple[Value | None, int]] = {}  # key -> (value or tombstone, version)
        self.sessions: dict[int, tuple[int, Outcome]] = {}
        self.applied = 0

    @replicated  # type: ignore[untyped-decorator]
    def operate(  # noqa: PLR0917 (the library replicates positional arguments)
        self,
        op: str,
        key: str,
        value: Value | None,
        expect: Value | None,
        client_id: int | None,
        seq: int | None,
    ) -> Outcome:
        """Apply one operation; deterministic. Gives (result, value, version)."""
        if client_id is not None and seq is not None:
            last = self.sessions.get(client_id)
            if last is not None and seq <= last[0]:
                return last[1]
        outcome = self._apply(op, key, value, expect)
        if client_id is not None and seq is not None:
            self.sessions[client_id] = (seq, outcome)
        return outcome

    def _apply(self, op: str, key: str, value: Value | None, expect: Value | None) -> Outcome:
        self.applied += 1
        present, version = self.data.get(key, (None, None))
        if op == GET:
            return (NOT_FOUND if present is None else OK), present, version
        if op == CAS and present != expect:
            return CAS_FAILED, present, version
        if op == DELETE and present is None:
            return NOT_FOUND, None, version
        if op == APPEND and present is not None:
            if type(present) is not type(value) or len(present) + len(value or "") > MAX_VALUE_BYTES:
                return ERROR, None, version
            value = present + value  # type: ignore[operator]
        self.data[key] = (None if op == DELETE else value, self.applied)
        return OK, None, self.applied


class _Client:
    """One client's connection; replies come from several threads."""

    def __init__(self, connection: socket.socket) -> None:
        self.codec = EnvelopeCodec()
        self._connection = connection
        self._lock = threading.Lock()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seconds, rest = divmod(SEND_WITHIN_S, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(seconds), int(rest * 1e6)))

    def reply(self, request_id: int, reply: KvReply) -> None:
        data = self.codec.encode(request_id, encode_reply(reply), MsgType.KV)
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(data)


class Node:
    """The client port in front of a Store: one thread per connection, which is plenty for a control."""

    def __init__(self, node_id: int, port: int, peers: list[str], data_dir: Path, compaction_entries: int) -> None:
        self.node_id = node_id
        self.peers = peers
        data_dir.mkdir(parents=True, exist_ok=True)
        self._listener = socket.create_server((LOOPBACK, port), backlog=128)
        own = peers[node_id - 1]
        conf = SyncObjConf(
            bindAddress=own,
            appendEntriesPeriod=HEARTBEAT_S,
            raftMinTimeout=ELECTION_S[0],
            raftMaxTimeout=ELECTION_S[1],
            connectionRetryTime=CONNECT_AGAIN_S,
            commandsWaitLeader=False,
            logCompactionMinEntries=compaction_entries,
            journalFile=str(data_dir / "journal"),
            fullDumpFile=str(data_dir / "dump"),
        )
        self.store = Store()
        self.cluster = SyncObj(own, [peer for peer in peers if peer != own], conf, consumers=[self.store])

    def serve_forever(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        client = _Client(connection)
        with connection, contextlib.suppress(OSError):
            while client.codec.error is None:
                data = connection.recv(RECEIVE_BYTES)
                if not data:
                    return
                for envelope in client.codec.receive_data(data):
                    self._answer(client, envelope)

    def _answer(self, client: "_Client", envelope: Envelope) -> None:
        """Answer now, or when this node has applied the operation. Without an answer the client's time runs out."""
        request_id = envelope.request_id
        if envelope.msg_type != MsgType.KV:
            client.reply(request_id, KvReply(ERROR, error="this is a key-value port: message type 3 is expected"))
            return
        try:
            request = decode_request(envelope.payload)
        except RemoteProtocolError as error:
            client.reply(request_id, KvReply(ERROR, error=error.reason))
            return
        if request.op == STATUS:
            client.reply(request_id, self._status())
        elif request.op == GET and request.stale:
            value, version = self.store.data.get(request.key, (None, None))
            client.reply(request_id, KvReply(NOT_FOUND if value is None else OK, value, version))
        else:

            def on_applied(outcome: Outcome | None, reason: int) -> None:
                if reason != FAIL_REASON.SUCCESS or outcome is None:
                    client.reply(request_id, KvReply(_REFUSALS.get(reason, UNKNOWN)))
                    return
                result, value, version = outcome
                error = "the value would be too long" if result == ERROR else ""
                client.reply(request_id, KvReply(result, value, version, error=error))

            op, key, value, expect, client_id, seq, _ = request
            self.store.operate(op, key, value, expect, client_id, seq, callback=on_applied)

    def _status(self) -> KvReply:
        status = self.cluster.getStatus()
        leader = status["leader"]
        found = None
        if leader is not None and leader.id in self.peers:
            found = Leader(self.peers.index(leader.id) + 1, leader.id)
        role = _ROLES.get(status["state"], "follower")
        if status["state"] == _LEADER_STATE and not status["has_quorum"]:
            role = "candidate"  # it would lead on alone for 30 s
        return KvReply(
            OK,
            leader=found,
            status=KvStatus(
                self.node_id,
                role,
                status["raft_term"],
                found,
                status["commit_idx"],
                status["last_applied"],
                status["last_applied"],
                tuple(Leader(number, address) for number, address in enumerate(self.peers, start=1)),
            ),
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m servers.controls.pysyncobj_kv", description="A key-value node on PySyncObj; a control."
    )
    parser.add_argument("--id", type=count, required=True, help="this node's number, from 1: its place in --peers")
    parser.add_argument("--port", type=port_number, required=True, help="client port")
    parser.add_argument("--peers", required=True, help="peer addresses of all nodes, on loopback: HOST:PORT,...")
    parser.add_argument("--data-dir", type=Path, required=True, help="journal and dump")
    parser.add_argument("--compaction-entries", type=count, default=COMPACTION_ENTRIES, help="log length to compact at")
    options = parser.parse_args()
    peers = options.peers.split(",")
    if any(peer.rpartition(":")[0] != LOOPBACK for peer in peers):
        parser.error(f"every peer must be on {LOOPBACK}: PySyncObj unpickles what its peers send")
    if options.id > len(peers):
        parser.error(f"--id {options.id} has no address among the {len(peers)} peers")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        node = Node(options.id, options.port, peers, options.data_dir, max(options.compaction_entries, 2))
    except OSError as error:
        print(f"cannot listen on {LOOPBACK}:{options.port}: {error.strerror}", file=sys.stderr)
        return EXIT_IN_USE
    print(f"pysyncobj listening on {LOOPBACK}:{options.port}", flush=True)
    node.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
