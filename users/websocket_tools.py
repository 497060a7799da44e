"""Users of a tool-call server over WebSocket (seed 002): hello, calls with progress and streams, list_tools, pings.

Every message is checked: its shape, the request it belongs to, and what it says. A stream must be complete and in
order, progress must be what was asked for, and each call ends with exactly one result. The hello is part of opening
the connection; after a disconnect the same session is opened again, with backoff.

The token is in the variable SWARMPROOF_TOKEN, or in the file that --token-file names; it is in no record.
"""

import os
import random
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from protocols.errors import RemoteProtocolError
from protocols.tool_call import (
    MAX_CALL_BYTES,
    MAX_FRAME_BYTES,
    TOOL_EXECUTION_ERROR,
    CallResult,
    HelloAck,
    Progress,
    Refused,
    StreamChunk,
    StreamComplete,
    ToolList,
    decode_server_message,
    encode_call,
    encode_hello,
    encode_list_tools,
)
from protocols.websocket import Binary, Closed, Opened, Pong, Text
from records.violations import PAYLOAD, SHAPE
from users import options, request_ids
from users.client import Client
from users.failures import RequestFailure, ServerRefused
from users.session import Session
from users.transport import Endpoint
from users.websocket import WebSocketSession, WebSocketUser

PING_BYTES: Final = 8
TOKEN_VARIABLE: Final = "SWARMPROOF_TOKEN"
# Calls whose streams are gathered at a time: more than any depth; those that timed out are forgotten first.
MAX_GATHERED: Final = 20_000
# Of one call. Its result is checked against the count, so dropping what exceeds this fails the call.
MAX_STREAM_CHARS: Final = 32 * 1024 * 1024
HELLO_REFUSED: Final = "hello refused"
SECOND_HELLO_ACK: Final = "second hello_ack"
OUT_OF_TURN: Final = "message out of turn"

options.OPTIONS["token_file"] = {
    "default": "",
    "help": f"file with the token of hello (default: the variable {TOKEN_VARIABLE})",
}
options.offer("payload_bytes", "depth", "timeout", "connect_deadline", "token_file", "engine")


class Gathered:
    """What a call has been sent before its result."""

    __slots__ = ("chars", "chunks", "completed", "progress")

    def __init__(self) -> None:
        self.progress: list[str] = []
        self.chunks: list[str] = []
        self.chars = 0
        self.completed = 0


class ToolAnswer(NamedTuple):
    """One reply: the end of a call, a tool list, a pong, or a message that none of them is (`fault`)."""

    request_id: str | None
    result: CallResult | ToolList | Refused | None
    fault: RemoteProtocolError | None
    gathered: Gathered | None
    text: str | bytes


class ToolSession(WebSocketSession):
    """WebSocket, then hello; after that, texts as replies. Progress and chunks are gathered for their call."""

    def __init__(self, endpoint: Endpoint, session_id: str, token: str) -> None:
        super().__init__(endpoint)
        self.session_id = session_id
        self._token = token
        self._refusal: RemoteProtocolError | None = None
        self._gathered: dict[str, Gathered] = {}

    @property
    def error(self) -> RemoteProtocolError | None:  # type: ignore[override]
        return self._ws.error or self._refusal

    def expect(self, request_id: str) -> None:
        """A call goes out: what comes for it is gathered."""
        self._gathered[request_id] = Gathered()
        if len(self._gathered) > MAX_GATHERED:
            del self._gathered[next(iter(self._gathered))]

    def receive_data(self, data: bytes) -> list[ToolAnswer]:
        replies: list[ToolAnswer] = []
        for event in self._receive(data):
            if isinstance(event, Text):
                answer = self._hear(event.data)
                if answer is not None:
                    replies.append(answer)
                continue
            self._has_chatter = True
            if isinstance(event, Opened):
                self._on_opened()
                self._ws.send_text(encode_hello(self.session_id, self._token))
            elif isinstance(event, Pong):
                if not self._take_pong(event) and len(event.data) == PING_BYTES:
                    replies.append(ToolAnswer(event.data.hex(), None, None, None, event.data))
            elif isinstance(event, Binary):
                fault = RemoteProtocolError("binary message in a text dialect")
                replies.append(ToolAnswer(None, None, fault, None, event.data))
            elif isinstance(event, Closed) and not self.finished:
                self.finished = f"websocket closed by server with code {event.code}"
        return replies

    def _hear(self, text: str) -> ToolAnswer | None:
        try:
            message = decode_server_message(text)
        except RemoteProtocolError as fault:
            return ToolAnswer(None, None, fault, None, text)
        if isinstance(message, HelloAck):
            if self.ready:
                # Under a name that no call has: it answers none, not even the oldest.
                out_of_turn = RemoteProtocolError(OUT_OF_TURN, "a second hello_ack")
                return ToolAnswer(SECOND_HELLO_ACK, None, out_of_turn, None, text)
            if message.ok:
                self.session_id = message.session_id
                self.ready = True
            else:
                self._refusal = RemoteProtocolError(HELLO_REFUSED, message.error)
            return None
        if isinstance(message, Progress | StreamChunk | StreamComplete):
            gathered = self._gathered.get(message.request_id)
            if gathered is None:  # a call that is over, or none of ours
                return ToolAnswer(message.request_id, None, RemoteProtocolError(OUT_OF_TURN), None, text)
            self._gather(gathered, message)
            return None
        request_id = message.request_id
        return ToolAnswer(request_id, message, None, self._gathered.pop(request_id or "", None), text)

    @staticmethod
    def _gather(gathered: Gathered, message: Progress | StreamChunk | StreamComplete) -> None:
        if isinstance(message, StreamComplete):
            gathered.completed += 1
            return
        said = message.message if isinstance(message, Progress) else message.chunk
        gathered.chars += len(said)
        if gathered.chars > MAX_STREAM_CHARS:
            return
        (gathered.progress if isinstance(message, Progress) else gathered.chunks).append(said)

    def identify(self, request_id: Any) -> int | None:
        return request_ids.from_hex(request_id)

    def example(self, reply: ToolAnswer) -> bytes:
        return reply.text.encode() if isinstance(reply.text, str) else reply.text


class _Wanted(NamedTuple):
    """What a right answer holds. `error` is the code of a call that must fail."""

    text: str | None = None
    progress: int = 0
    chunks: tuple[str, ...] = ()
    error: str = ""


class WebSocketToolsClient(Client):
    """Calls of the reference server's tools, each one checked from its first message to its result."""

    request_type = "tools"

    def __init__(self, user: Any, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._token = read_token(options.value(user.environment.parsed_options, "token_file"))
        self.session_id = f"user-{random.getrandbits(64):016x}"
        super().__init__(user, endpoint)

    def echo(self, text: str) -> str | None:
        """The text must come back. None when it failed."""
        return self._text("echo", {"text": text}, _Wanted(text))

    def add(self, a: int, b: int) -> int | None:
        """The sum, checked. None when it failed."""
        text = self._text("add", {"a": a, "b": b}, _Wanted(str(a + b)))
        return None if text is None else int(text)

    def slow(self, ms: int, progress: int = 0) -> str | None:
        """A call of `ms` milliseconds with so many progress messages. None when it failed."""
        text = f"{random.getrandbits(64):016x}"  # two users' calls must not be identical: those are refused
        return self._text("slow", {"ms": ms, "progress": progress, "text": text}, _Wanted(text, progress))

    def stream(self, chunks: int, text: str) -> str | None:
        """A streamed answer: each chunk, their order and their number are checked. None when it failed."""
        unique = f"{random.getrandbits(64):016x}{text}"
        wanted = _Wanted(str(chunks), chunks=tuple(f"{number}:{unique}" for number in range(chunks)))
        return self._text("stream", {"chunks": chunks, "text": unique}, wanted)

    def fail(self) -> bool:
        """A tool that must fail, with its code. False when it did not, or failed otherwise."""
        wanted = _Wanted(error=TOOL_EXECUTION_ERROR)
        return self.perform("fail", ("fail", {}, wanted)) is not None

    def list_tools(self) -> list[str] | None:
        """The names of the server's tools. None when it failed."""
        answer = self.perform("list_tools", None)
        return None if answer is None else [tool["name"] for tool in answer.result.tools]

    def ping(self) -> bool:
        """One keepalive round trip, measured as an operation of its own."""
        return self.perform("ping", PING_BYTES) is not None

    def reconnect(self) -> None:
        """Leave, and come back as the same session."""
        self.close()
        self.connect()

    def _text(self, tool: str, arguments: dict[str, Any], wanted: _Wanted) -> str | None:
        answer = self.perform(tool, (tool, arguments, wanted))
        return None if answer is None else str(answer.result.outputs[0]["text"])

    def _session(self) -> Session:
        return ToolSession(self._endpoint, self.session_id, self._token)

    def _encode(self, request_id: int, request: Any) -> tuple[str, bytes, Any]:
        session: Any = self.connection.session
        wire_id = f"{request_id:016x}"
        if request is None:
            return wire_id, session.frame(encode_list_tools(wire_id)), None
        if request == PING_BYTES:
            return wire_id, session.ping(bytes.fromhex(wire_id)), request
        tool, arguments, wanted = request
        session.expect(wire_id)
        return wire_id, session.frame(encode_call(wire_id, tool, arguments)), wanted

    def _check(self, name: str, answer: ToolAnswer, wanted: Any) -> RequestFailure | None:
        if answer.fault is not None:
            text = f"{SHAPE}: {answer.fault.reason}"
            return self._violation(SHAPE, name, b"", _bytes(answer.text), str(answer.fault), text=text)
        result = answer.result
        if isinstance(result, Refused):
            return ServerRefused(result.error.code)
        wrong = ""
        if wanted == PING_BYTES:
            wrong = "" if result is None else "a message instead of a pong"
        elif wanted is None:
            wrong = "" if isinstance(result, ToolList) else "no tool list"
        elif not isinstance(result, CallResult):
            wrong = "no call result"
        elif result.error is not None:
            if result.error.code != wanted.error:
                return ServerRefused(result.error.code)
        else:
            wrong = _wrong_result(result.outputs or [], answer.gathered, wanted)
        if not wrong:
            return None
        return self._violation(PAYLOAD, name, repr(wanted)[:256].encode(), _bytes(answer.text), wrong)


class WebSocketToolsUser(WebSocketUser):
    """Abstract user with a `WebSocketToolsClient` as `client`."""

    abstract = True
    client_class: ClassVar[type[Client]] = WebSocketToolsClient
    host = "ws://127.0.0.1:8079"
    client: WebSocketToolsClient
    default_message_bytes = MAX_FRAME_BYTES
    max_sent_bytes = MAX_CALL_BYTES
    # An id, a tool's name, what makes a call unlike all others, and what JSON puts around them.
    overhead_bytes = 1024

    def configure(self, parsed_options: Any) -> None:
        self._size_bytes: int = self.payload_bytes(parsed_options)

    def random_text(self, max_chars: int = MAX_CALL_BYTES) -> str:
        """`--payload-bytes` characters, or `max_chars` if they are fewer."""
        size_bytes = min(self._size_bytes, max_chars)
        return random.randbytes((size_bytes + 1) // 2).hex()[:size_bytes]


def _wrong_result(outputs: list[Any], gathered: Gathered | None, wanted: _Wanted) -> str:
    """What is wrong with a call that ended well, in words; "" when nothing is."""
    gathered = gathered or Gathered()
    if wanted.error:
        return "outputs where an error was due"
    if outputs != [{"type": "text", "text": wanted.text}]:
        return "other outputs"
    if gathered.progress != [f"{number} of {wanted.progress}" for number in range(1, wanted.progress + 1)]:
        return f"{len(gathered.progress)} progress messages, {wanted.progress} were due, each naming its number"
    if tuple(gathered.chunks) != wanted.chunks:
        return f"{len(gathered.chunks)} chunks, not the {len(wanted.chunks)} that were due in their order"
    if gathered.completed != bool(wanted.chunks):
        return f"{gathered.completed} stream_complete"
    return ""


def read_token(path: str) -> str:
    """The token for hello, "" when there is none. Raises OptionMistake."""
    if not path:
        return os.environ.get(TOKEN_VARIABLE, "")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise options.OptionMistake(f"--token-file: {path!r} cannot be read ({error})") from None


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
