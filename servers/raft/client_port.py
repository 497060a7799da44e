"""The port where clients ask: envelopes in, requests to the node, replies gathered and sent once a turn."""

import socket
import time
from typing import Any, Protocol

from protocols.envelope import UNSUPPORTED_VERSION, VERSION, EnvelopeCodec, MsgType
from protocols.errors import RemoteProtocolError
from protocols.kv import ERROR, KvReply, KvRequest, decode_request, encode_reply
from servers.connection import OPEN, RECEIVED_VIEW, Connection
from servers.connection_group import ConnectionGroup
from servers.log_lines import log

# `reason` of a connection that was closed for its envelope's version.
WRONG_VERSION = "unsupported protocol version"

_KV = int(MsgType.KV)
_ERROR = int(MsgType.ERROR)


class Service(Protocol):
    """What the node does for clients."""

    def on_request(self, client: "ClientConnection", request_id: int, request: KvRequest, payload: bytes) -> None:
        """Answer now or later by `client.reply`; `payload` is the request as it came."""

    def has_replies(self, client: "ClientConnection") -> None:
        """`client.flush` wants to be called at the end of this turn."""


class ClientConnection(Connection):
    """One client. Its requests may be pipelined; replies go out in any order, as many as there are in one send."""

    __slots__ = ("_codec", "_has_ended", "_replies", "_service", "_unanswered")

    def __init__(self, group: ConnectionGroup, sock: socket.socket, address: Any, service: Service) -> None:
        self._codec = EnvelopeCodec()
        self._service = service
        self._replies: list[bytes] = []
        self._unanswered = 0
        self._has_ended = False  # it sends nothing more, but may wait for replies
        super().__init__(group, sock, address)

    def received(self, count: int) -> None:
        codec = self._codec
        envelopes = codec.receive_data(bytes(RECEIVED_VIEW[:count]))
        if envelopes:
            self.messages += len(envelopes)
            self.last_message_s = time.monotonic()
        for version, msg_type, request_id, _, payload in envelopes:
            if version != VERSION:
                self._refuse(request_id, UNSUPPORTED_VERSION)
                log.warning("client_refused", peer=self.peer, reason=WRONG_VERSION, version=version)
                self.flush()
                self.finish(WRONG_VERSION)
                return
            if msg_type != _KV:
                self._refuse(request_id, b"this is a key-value port: message type 3 is expected")
                continue
            try:
                request = decode_request(payload)
            except RemoteProtocolError as error:
                self._unanswered += 1
                self.reply(request_id, KvReply(ERROR, error=error.reason))
                continue
            self._unanswered += 1
            self._service.on_request(self, request_id, request, payload)
        if codec.error is not None:
            self.flush()
            self.abort(codec.error.reason)

    def inside_message(self) -> bool:
        return self._codec.pending_bytes > 0

    def reply(self, request_id: int, reply: KvReply) -> None:
        """Queue the reply to a request for the end of this turn."""
        self._unanswered -= 1
        if not self._replies:
            self._service.has_replies(self)
        self._replies.append(self._codec.encode(request_id, encode_reply(reply), _KV))

    def flush(self) -> None:
        """Send what was queued; a connection that has ended meanwhile gets nothing."""
        replies = self._replies
        if replies:
            self._replies = []
            if self.state == OPEN:
                self.send(replies[0] if len(replies) == 1 else b"".join(replies))
                if self._has_ended and not self._unanswered:
                    super().end_of_stream()

    def end_of_stream(self) -> None:
        self._has_ended = True
        if not self._unanswered and not self._replies:
            super().end_of_stream()

    def stopping(self) -> None:
        self.read_once()
        self.flush()
        if self.state == OPEN:
            self.finish("server stopping")

    def _refuse(self, request_id: int, text: bytes) -> None:
        if not self._replies:
            self._service.has_replies(self)
        self._replies.append(self._codec.encode(request_id, text, _ERROR))
