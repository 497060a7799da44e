"""One client of the tool-call server, from hello to its last call_tool_res."""

import os
import socket
import time
from typing import Any

from protocols.errors import RemoteProtocolError
from protocols.tool_call import (
    HELLO_TIMEOUT_CODE,
    HELLO_UNAUTHORIZED,
    INTERNAL_ERROR,
    INVALID_HELLO,
    INVALID_HELLO_CODE,
    INVALID_REQUEST,
    MISSING_HELLO,
    MISSING_HELLO_CODE,
    OVER_CAPACITY,
    SERVICE_UNAVAILABLE,
    TOOL_NOT_FOUND,
    UNAUTHORIZED_CODE,
    VALIDATION_ERROR,
    CallTool,
    Hello,
    ListTools,
    ToolError,
    call_key,
    decode_client_message,
    encode_error,
    encode_failure,
    encode_hello_ack,
    encode_hello_failure,
    encode_progress,
    encode_result,
    encode_stream_chunk,
    encode_stream_complete,
    encode_tool_list,
    is_session_id,
    salvage_request_id,
)
from protocols.websocket import Binary, Opened, Text
from protocols.websocket_events import POLICY_VIOLATION
from servers.connection import OPEN
from servers.connection_group import ConnectionGroup
from servers.log_lines import log
from servers.websocket_serving import Refusal, Reply, WebSocketConnection
from servers.websocket_tools.calls import RunningCall
from servers.websocket_tools.service import Session, ToolService
from servers.websocket_tools.tools import TOOLS, BadArguments, ToolFailed

UNSUPPORTED_DATA = 1003  # RFC 6455, 7.4.1: "an endpoint that understands only text data"
HELLO_TIMEOUT = "hello timeout"
SESSION_ID_BYTES = 16  # of a session id that the server makes


class ToolConnection(WebSocketConnection):
    """Hello first; then calls, each answered once, in the order in which they end."""

    __slots__ = ("_counted_address", "_running", "session")

    service: ToolService

    def __init__(self, service: ToolService, group: ConnectionGroup, sock: socket.socket, address: Any) -> None:
        self.session: Session | None = None
        self._running: dict[str, RunningCall] = {}
        self._counted_address = ""
        super().__init__(service, group, sock, address)

    # --- the connection's life

    def opened(self, event: Opened) -> None:
        service, host = self.service, self._host()
        service.addresses[host] += 1
        self._counted_address = host
        if service.max_address_connections is not None and service.addresses[host] > service.max_address_connections:
            service.over_capacity("address")
            self._say_close(POLICY_VIOLATION, "too many connections of this address")

    def ended(self) -> None:
        service = self.service
        if self._counted_address:
            service.addresses[self._counted_address] -= 1
            if not service.addresses[self._counted_address]:
                del service.addresses[self._counted_address]
        for running in list(self._running.values()):
            running.cancel()
            self._forget(running)
        if self.session is not None:
            self.session.connections -= 1

    def stopping(self) -> None:
        self.read_once()
        for running in list(self._running.values()):
            running.cancel()
            self.call_ended(running, ToolError(SERVICE_UNAVAILABLE, "the server is stopping"))
        super().stopping()

    def check_deadlines(self, now_s: float) -> None:
        if (
            self.state == OPEN
            and self._opened_s
            and self.session is None
            and not self._closing_s
            and now_s - self._opened_s > self.service.hello_timeout_s
        ):
            self.service.hello_timeouts += 1
            log.warning("hello_timeout", peer=self.peer)
            self._say_close(HELLO_TIMEOUT_CODE, HELLO_TIMEOUT)
        super().check_deadlines(now_s)

    def flush(self) -> None:
        """Send what was said since the last one."""
        if self.state == OPEN:
            self._flush()

    def _host(self) -> str:
        return str(self.address[0]) if isinstance(self.address, tuple) else "local"

    # --- messages

    def answer(self, message: Text | Binary) -> Reply:
        if isinstance(message, Binary):
            return Refusal(UNSUPPORTED_DATA, "tool calls are text only")
        try:
            decoded = decode_client_message(message.data)
        except RemoteProtocolError as error:
            if self.session is None:
                return self._refuse_hello(INVALID_HELLO, INVALID_HELLO_CODE)
            if not self._is_let_through():
                return self._too_many(salvage_request_id(message.data))
            return self._refuse(salvage_request_id(message.data), error)
        if self.session is None:
            if not isinstance(decoded, Hello):
                return self._refuse_hello(MISSING_HELLO, MISSING_HELLO_CODE)
            return self._welcome(decoded)
        if isinstance(decoded, CallTool):
            return self._call(decoded, len(message.data))
        request_id = None if isinstance(decoded, Hello) else decoded.request_id
        if not self._is_let_through():
            return self._too_many(request_id)
        if isinstance(decoded, ListTools):
            tools = [tool.described() for tool in TOOLS.values()]
            return encode_tool_list(tools, time.time(), request_id)
        return encode_error(ToolError(INVALID_REQUEST, "unknown op"), request_id)

    def _is_let_through(self) -> bool:
        """Whether the token buckets allow one more request of this client, of whatever op: decoding costs too."""
        assert self.session is not None
        return self.service.lets_through(self.session, self._host(), time.monotonic())

    def _too_many(self, request_id: str | None) -> str:
        """What a request that is no call gets beyond the buckets."""
        self.service.failed += 1
        return encode_error(ToolError(OVER_CAPACITY, "too many requests", self._asked_to_wait("rate")), request_id)

    def _asked_to_wait(self, limit: str) -> dict[str, Any]:
        return dict(self.service.over_capacity(limit))

    def _welcome(self, hello: Hello) -> Reply:
        service = self.service
        if not service.authorized(hello.token):
            return self._refuse_hello(HELLO_UNAUTHORIZED, UNAUTHORIZED_CODE)
        session_id = hello.session_id if is_session_id(hello.session_id) else os.urandom(SESSION_ID_BYTES).hex()
        self.session = service.session(session_id)
        self.session.connections += 1
        return encode_hello_ack(session_id)

    def _refuse_hello(self, error: str, code: int) -> Refusal:
        self.service.failed_hellos[error] += 1
        self.say(encode_hello_failure(error))
        return Refusal(code, error.replace("_", " "))

    def _refuse(self, request_id: str | None, error: RemoteProtocolError) -> Reply:
        """A message after hello that cannot be read. The stream's framing is whole, so the connection stays."""
        self.service.failed += 1
        log.warning("bad_message", peer=self.peer, reason=error.reason)
        return encode_error(ToolError(INVALID_REQUEST, error.reason), request_id)

    # --- calls

    def _call(self, call: CallTool, size_bytes: int) -> Reply:
        service, session, now_s = self.service, self.session, time.monotonic()
        assert session is not None
        if not self._is_let_through():
            return self._failed(call, ToolError(OVER_CAPACITY, "too many requests", self._asked_to_wait("rate")))
        if size_bytes > service.max_call_bytes:
            return self._failed(
                call, ToolError(OVER_CAPACITY, "the call is too large", {"limit": service.max_call_bytes})
            )
        stored = service.stored.get(session.id, call.request_id, now_s)
        if stored is not None:
            service.deduplicated += 1
            return stored
        tool = TOOLS.get(call.name)
        if tool is None:
            return self._failed(call, ToolError(TOOL_NOT_FOUND, "unknown tool"))
        try:
            outcome = tool.run(call.arguments)
        except BadArguments as error:
            return self._failed(call, ToolError(VALIDATION_ERROR, str(error)))
        except ToolFailed as failed:
            return self._done(call, ToolError(failed.code, failed.message), now_s)
        except Exception as error:
            log.error("tool_failed", tool=call.name, error=type(error).__name__)
            return self._done(call, ToolError(INTERNAL_ERROR, "the tool failed"), now_s)
        if isinstance(outcome, list):
            return self._done(call, outcome, now_s)
        return self._begin(call, outcome, session, now_s)

    def _begin(self, call: CallTool, steps: Any, session: Session, now_s: float) -> Reply:
        service = self.service
        key = call_key(call.name, call.arguments)
        if key in service.in_flight or call.request_id in self._running:
            service.deduplicated += 1
            details = self._asked_to_wait("identical")
            return self._failed(call, ToolError(OVER_CAPACITY, "an identical call is in flight", details))
        if session.calls >= service.max_session_calls or service.calls >= service.max_calls:
            details = self._asked_to_wait("in flight")
            return self._failed(call, ToolError(OVER_CAPACITY, "too many calls in flight", details))
        running = RunningCall(self, call, key, steps, now_s)
        service.in_flight[key] = call.request_id
        self._running[call.request_id] = running
        session.calls += 1
        service.calls += 1
        running.start()
        return None

    def call_ended(self, running: RunningCall, outcome: list[Any] | ToolError) -> None:
        """The end of a call that took its time."""
        self._forget(running)
        self.say(self._done(running.call, outcome, running.started_s))

    def _forget(self, running: RunningCall) -> None:
        if self._running.pop(running.call.request_id, None) is None:
            return
        self.service.in_flight.pop(running.key, None)
        self.service.calls -= 1
        if self.session is not None:
            self.session.calls -= 1

    def _done(self, call: CallTool, outcome: list[Any] | ToolError, started_s: float) -> str:
        """A tool has run: its reply, which is also what the same request id gets from now on."""
        service, now_s = self.service, time.monotonic()
        if isinstance(outcome, ToolError):
            reply = self._failed(call, outcome)
        else:
            reply = encode_result(call.request_id, outcome)
            service.results += 1
        assert self.session is not None
        service.stored.put(self.session.id, call.request_id, reply, now_s)
        service.latency.observe(now_s - started_s)
        return reply

    def _failed(self, call: CallTool, error: ToolError) -> str:
        self.service.failed += 1
        self.service.results += 1
        return encode_failure(call.request_id, error)

    # --- what running calls say

    def say(self, text: str) -> None:
        """One text, to leave with the next flush; nothing when the client is gone."""
        if self.state == OPEN and self._websocket.open:
            self._websocket.send_text(text)
            self.service.replies += 1

    def progress(self, request_id: str, message: str) -> None:
        self.say(encode_progress(request_id, message))

    def stream_chunk(self, request_id: str, chunk: str) -> None:
        self.say(encode_stream_chunk(request_id, chunk))

    def stream_complete(self, request_id: str) -> None:
        self.say(encode_stream_complete(request_id))
