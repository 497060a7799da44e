"""Users of an RPC server over WebSocket, in both dialects (seed 001).

Every reply is checked: its id, its shape in the dialect (exactly one of result and error in strict JSON-RPC; all
three members in the first dialect), and its content: `echo` gives its params back, `add` the sum, `get_time` a
plausible time, and `error_test` must be an error with the right code.
"""

import random
import time
from typing import Any, ClassVar, Final, NamedTuple, cast

import orjson

from protocols.errors import RemoteProtocolError
from protocols.rpc import INTERNAL_ERROR, Dialect, RpcReply, decode_reply, encode_request
from records.violations import PAYLOAD, SHAPE
from users import options, request_ids
from users.client import Client
from users.engine.exchange import Exchange, Request
from users.engine.websocket_rpc import WebSocketRpcExchange
from users.failures import RequestFailure, ServerRefused
from users.session import Session
from users.transport import Endpoint
from users.websocket import WebSocketSession, WebSocketUser

# How far a server's clock may be from ours before `get_time` is called implausible: hosts without NTP drift by
# minutes, a wrong unit (ms for s) or another id's result is off by years.
MAX_CLOCK_DIFFERENCE_S: Final = 86_400
# Summands small enough for any server's integers.
_MAX_SUMMAND: Final = 1_000_000_000
# Codes that may stand in the failure table; a server could invent any number.
_KNOWN_CODES: Final = frozenset({-32700, -32600, -32601, -32602, -32603})

options.offer("payload_bytes", "depth", "dialect", "timeout", "connect_deadline", "engine")


class RpcAnswer(NamedTuple):
    """One text message of the server: a reply, or why it is none (`reply` None, the `fault` set)."""

    request_id: str | None
    reply: RpcReply | None
    fault: RemoteProtocolError | None
    text: str | bytes


class RpcSession(WebSocketSession):
    """Messages as RPC replies. A malformed one still belongs to a request: the framing around it is whole."""

    def __init__(self, endpoint: Endpoint, dialect: Dialect) -> None:
        super().__init__(endpoint)
        self._dialect: Dialect = dialect

    def read(self, payload: str | bytes) -> RpcAnswer:
        try:
            reply = decode_reply(payload, self._dialect)
        except RemoteProtocolError as fault:
            return RpcAnswer(_salvaged_id(payload), None, fault, payload)
        if type(reply) is not RpcReply:
            return RpcAnswer(None, None, RemoteProtocolError("reply is a batch nobody asked for"), payload)
        request_id = reply.id
        # An id of another type than we send is an id that we never sent; null is what a server answers to a
        # request that it could not read.
        return RpcAnswer(request_id if request_id is None else str(request_id), reply, None, payload)

    def identify(self, request_id: Any) -> int | None:
        return request_ids.from_hex(request_id)

    def example(self, reply: RpcAnswer) -> bytes:
        return reply.text.encode() if isinstance(reply.text, str) else reply.text


class WebSocketRpcClient(Client):
    """The four methods of the seed's server, each one checked round trip."""

    request_type = "rpc"

    def __init__(self, user: Any, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.dialect: Dialect = options.value(user.environment.parsed_options, "dialect")
        super().__init__(user, endpoint)

    def echo(self, params: dict[str, Any]) -> Any | None:
        """The params must come back. None when it failed."""
        return self._result("echo", params)

    def add(self, a: int, b: int) -> int | None:
        """The sum, checked. None when it failed."""
        result = self._result("add", {"a": a, "b": b})
        return None if result is None else cast(int, result["result"])

    def get_time(self) -> float | None:
        """The server's time in seconds since the epoch. None when it failed."""
        result = self._result("get_time", {})
        return None if result is None else cast(float, result["timestamp"])

    def error_test(self) -> int | None:
        """The server must refuse; the error code. None when it did not, or failed otherwise."""
        answer = self.perform("error_test", {})
        return None if answer is None else cast(int, answer.reply.error["code"])

    def _result(self, method: str, params: dict[str, Any]) -> Any | None:
        answer = self.perform(method, params)
        return None if answer is None else answer.reply.result

    def perform(self, name: str, request: Any, length: int = 0) -> Any | None:
        return super().perform(name, (name, request), length)

    def _session(self) -> Session:
        return RpcSession(self._endpoint, self.dialect)

    def _encode(self, request_id: int, request: tuple[str, Any]) -> tuple[str, bytes, Any]:
        method, params = request
        wire_id = f"{request_id:016x}"
        session: Any = self.connection.session
        return wire_id, session.frame(encode_request(wire_id, method, params, self.dialect)), params

    def is_right(self, name: str, answer: RpcAnswer, params: Any) -> bool:
        """Whether this is what the method must answer."""
        reply = answer.reply
        if reply is None or reply.id is None:
            return False
        if name == "error_test":
            return reply.error is not None and reply.error["code"] == INTERNAL_ERROR
        return reply.error is None and not _wrong_result(name, params, reply.result)

    def _check(self, name: str, answer: RpcAnswer, params: Any) -> RequestFailure | None:
        if self.is_right(name, answer, params):
            return None
        reply = answer.reply
        if reply is None or reply.id is None:
            reason = answer.fault.reason if answer.fault is not None else "reply has no id"
            detail = str(answer.fault) if answer.fault is not None else "id null"
            return self._violation(SHAPE, name, b"", _bytes(answer.text), detail, text=f"{SHAPE}: {reason}")
        if name == "error_test":
            return self._check_error_test(reply, answer)
        if reply.error is not None:
            return ServerRefused(_error_text(reply.error))
        wrong = _wrong_result(name, params, reply.result)
        return self._violation(PAYLOAD, name, orjson.dumps(params), _bytes(answer.text), wrong)

    def _check_error_test(self, reply: RpcReply, answer: RpcAnswer) -> RequestFailure:
        if reply.error is None:
            detail = "a result where an error was due"
        else:
            detail = f"code {reply.error['code']} instead of {INTERNAL_ERROR}"
        return self._violation(PAYLOAD, "error_test", b"", _bytes(answer.text), detail)


class CompressedRpcExchange(Exchange):
    """Calls in the engine, by the client's own methods: what compressed replies look like cannot be foretold."""

    __slots__ = ()

    first_name = "echo"

    def next_request(self, intended_ns: int) -> Request:
        method, params = self.client.user.next_call()
        return Request(method, (method, params), 0, intended_ns)


class WebSocketRpcUser(WebSocketUser):
    """Abstract user with a `WebSocketRpcClient` as `client`."""

    abstract = True
    client_class: ClassVar[type[Client]] = WebSocketRpcClient
    host = "ws://127.0.0.1:8082"
    client: WebSocketRpcClient
    # An id, the name of a method, a number, and what JSON puts around them.
    overhead_bytes = 256
    #: Calls in engine mode, with their weights; the tasks are not run then.
    engine_mix: ClassVar[dict[str, int]] = {"echo": 10, "add": 10, "get_time": 2, "error_test": 1}

    def configure(self, parsed_options: Any) -> None:
        self._payload_bytes: int = self.payload_bytes(parsed_options)

    def exchange_class(self) -> type[Exchange]:
        is_compressed = options.value(self.environment.parsed_options, "compression")
        return CompressedRpcExchange if is_compressed else WebSocketRpcExchange

    def next_call(self) -> tuple[str, dict[str, Any]]:
        """A method of `engine_mix` by its weight, and params for it."""
        (method,) = random.choices(list(self.engine_mix), list(self.engine_mix.values()))
        if method == "echo":
            return method, self.random_params()
        return method, dict(zip("ab", self.random_summands(), strict=True)) if method == "add" else {}

    def random_params(self) -> dict[str, Any]:
        """Params with a random text of `--payload-bytes` and a number."""
        text = random.randbytes((self._payload_bytes + 1) // 2).hex()[: self._payload_bytes]
        return {"message": text, "number": random.randrange(_MAX_SUMMAND)}

    def random_summands(self) -> tuple[int, int]:
        return random.randrange(-_MAX_SUMMAND, _MAX_SUMMAND), random.randrange(-_MAX_SUMMAND, _MAX_SUMMAND)


def _wrong_result(method: str, params: Any, result: Any) -> str:
    """What is wrong with a method's result, or ""."""
    if method == "echo":
        return "" if result == params else "the result is not the params"
    if method == "add":
        if type(result) is dict and type(result.get("result")) is int and result["result"] == params["a"] + params["b"]:
            return ""
        return "the result is not the sum"
    if method == "get_time":
        timestamp = result.get("timestamp") if type(result) is dict else None
        if isinstance(timestamp, bool) or not isinstance(timestamp, (int, float)):
            return "the timestamp is not a number"
        if abs(timestamp - time.time()) > MAX_CLOCK_DIFFERENCE_S:
            return "the timestamp is more than a day from our clock"
    return ""


def _error_text(error: dict[str, Any]) -> str:
    code = error["code"]
    return f"rpc error {code}" if code in _KNOWN_CODES else "rpc error"


def _salvaged_id(payload: str | bytes) -> str | None:
    """The id of a reply that is malformed otherwise, so that its own request fails and no other."""
    try:
        message = orjson.loads(payload)
    except ValueError:
        return None
    request_id = message.get("id") if isinstance(message, dict) else None
    return request_id if isinstance(request_id, str) else None


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
