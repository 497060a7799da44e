"""A server of the tool-call dialect that crosses, repeats, alters or loses replies, chunks and progress."""

import json
import time
from typing import Any

from tests.dishonest.tcp import Peer
from tests.dishonest.websocket_server import TEXT, WebSocketServer, frame

OTHER_TEXT = "give the result of another call"
TWICE = "give the result twice"
DROP = "give no result"
CROSS = "give the result on another connection"
OTHER_ID = "give the result of a call that nobody made"
BOTH = "both outputs and an error"
NOT_A_FAILURE = "outputs where the tool must fail"
SECOND_HELLO = "acknowledge hello again"
LESS_PROGRESS = "leave out a progress message"
PROGRESS_AFTER = "progress after the result"

LOST_CHUNK = "leave out a chunk"
SWAPPED_CHUNKS = "change the order of two chunks"
CHUNK_TWICE = "give a chunk twice"
ALTERED_CHUNK = "change a chunk"
NO_COMPLETE = "never say that the stream is complete"
CROSSED_CHUNK = "give a chunk on another connection"

#: Which misdeeds the reply to a tool can suffer.
OF_A_TEXT = (OTHER_TEXT, TWICE, DROP, CROSS, OTHER_ID, BOTH, SECOND_HELLO)
OF_PROGRESS = (LESS_PROGRESS, PROGRESS_AFTER)
OF_A_STREAM = (LOST_CHUNK, SWAPPED_CHUNKS, CHUNK_TWICE, ALTERED_CHUNK, NO_COMPLETE, CROSSED_CHUNK)
POSSIBLE = {"echo": OF_A_TEXT, "add": OF_A_TEXT, "slow": OF_PROGRESS, "stream": OF_A_STREAM, "fail": (NOT_A_FAILURE,)}
ALL = (*OF_A_TEXT, *OF_PROGRESS, *OF_A_STREAM, NOT_A_FAILURE)

Message = dict[str, Any]


class ToolsServer(WebSocketServer):
    """hello, call_tool with the reference server's five tools, list_tools."""

    def on_message(self, peer: Peer, opcode: int, payload: bytes) -> None:
        message = json.loads(payload)
        if message["op"] == "hello":
            self._say(peer, {"op": "hello_ack", "ok": True, "session_id": message["session_id"]})
        elif message["op"] == "list_tools":
            answer = {"op": "list_tools_res", "tools": [{"name": "echo"}], "timestamp": time.time()}
            self._say(peer, answer | {"request_id": message["request_id"]})
        else:
            self._call(peer, message)

    def _call(self, peer: Peer, message: Message) -> None:
        request_id, name, arguments = message["request_id"], message["name"], message["arguments"]
        kind = self.misdeed(possible=tuple(k for k in self.kinds if k in POSSIBLE[name]))
        steps = self._steps(name, arguments)
        result = {"op": "call_tool_res", "request_id": request_id, "ok": True}
        result["outputs"] = [{"type": "text", "text": self._text(name, arguments)}]
        failure = {"op": "call_tool_res", "request_id": request_id}
        failure["error"] = {"code": "TOOL_EXECUTION_ERROR", "message": "it fails"}
        if name == "fail" and kind != NOT_A_FAILURE:
            result = failure
        elif kind == OTHER_TEXT:
            result["outputs"] = [{"type": "text", "text": "of another call"}]
        elif kind == OTHER_ID:
            result["request_id"] = "f" * 15
        elif kind == BOTH:
            result |= failure
        for number, step in enumerate(self._spoiled(steps, kind)):
            elsewhere = self.another(peer) if kind == CROSSED_CHUNK and number == 0 else None
            self._say(elsewhere or peer, step | {"request_id": request_id})
        if kind == SECOND_HELLO:
            self._say(peer, {"op": "hello_ack", "ok": True, "session_id": "again"})
        if kind != DROP:
            self._say((self.another(peer) or peer) if kind == CROSS else peer, result)
        if kind == TWICE:
            self._say(peer, result)
        if kind == PROGRESS_AFTER:
            self._say(peer, steps[0] | {"request_id": request_id})

    @staticmethod
    def _text(name: str, arguments: Message) -> str:
        if name == "add":
            return str(arguments["a"] + arguments["b"])
        return str(arguments["chunks"] if name == "stream" else arguments.get("text", ""))

    @staticmethod
    def _steps(name: str, arguments: Message) -> list[Message]:
        """What comes before the result."""
        if name == "slow":
            count = arguments["progress"]
            return [{"op": "progress", "message": f"{number} of {count}"} for number in range(1, count + 1)]
        if name != "stream":
            return []
        chunks = range(arguments["chunks"])
        said = [{"op": "stream_chunk", "chunk": f"{number}:{arguments['text']}"} for number in chunks]
        return [*said, {"op": "stream_complete"}]

    @staticmethod
    def _spoiled(steps: list[Message], kind: str) -> list[Message]:
        if kind in (LESS_PROGRESS, LOST_CHUNK):
            return steps[1:]
        if kind == SWAPPED_CHUNKS:
            return [steps[1], steps[0], *steps[2:]]
        if kind == CHUNK_TWICE:
            return [steps[0], *steps]
        if kind == ALTERED_CHUNK:
            return [steps[0] | {"chunk": steps[0]["chunk"] + "!"}, *steps[1:]]
        return steps[:-1] if kind == NO_COMPLETE else steps

    def _say(self, peer: Peer, message: Message) -> None:
        self.send(peer, frame(TEXT, json.dumps(message).encode()))
