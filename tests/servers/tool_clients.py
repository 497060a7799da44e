"""A blocking client of the tool-call server on a third-party library (websocket-client), unchecked: tests check."""

import json
from types import TracebackType
from typing import Any, Self

import websocket

from tests.servers.clients import DEADLINE_S

TOKEN = "a-secret-of-the-tests"


class ToolClient:
    """Says hello unless told not to (`session_id` None)."""

    def __init__(self, address: tuple[str, int], session_id: str | None = "tests", token: str = TOKEN) -> None:
        self.socket = websocket.create_connection(f"ws://{address[0]}:{address[1]}/", timeout=DEADLINE_S)
        if session_id is not None:
            self.say({"op": "hello", "session_id": session_id, "token": token})
            self.hello = self.hear()

    def say(self, message: Any) -> None:
        self.socket.send(message if isinstance(message, str) else json.dumps(message))

    def hear(self) -> Any:
        """The next message, decoded; AssertionError when a close comes instead."""
        opcode, data = self.socket.recv_data()
        assert opcode == websocket.ABNF.OPCODE_TEXT, (opcode, data)
        return json.loads(data)

    def call(self, request_id: str, name: str, **arguments: Any) -> None:
        self.say({"op": "call_tool", "request_id": request_id, "name": name, "arguments": arguments})

    def result(self, request_id: str, name: str, **arguments: Any) -> Any:
        """Call and hear the next message."""
        self.call(request_id, name, **arguments)
        return self.hear()

    def close_code(self) -> int:
        """The code of the close frame that comes; what comes before it is skipped."""
        while True:
            opcode, data = self.socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big")

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def text_of(result: Any) -> str:
    assert result["op"] == "call_tool_res", result
    assert result["ok"] is True, result
    return str(result["outputs"][0]["text"])


def code_of(result: Any) -> str:
    assert result["op"] == "call_tool_res", result
    assert "ok" not in result, result
    return str(result["error"]["code"])
