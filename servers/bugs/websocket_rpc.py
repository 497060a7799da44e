"""RPC servers that break one rule for one reply in a hundred."""

import json
from collections.abc import Mapping
from typing import Any, Final

from servers.websocket_serving import Reply, WebSocketConnection

# One reply in so many is spoiled.
EVERY: Final = 100


class LyingConnection(WebSocketConnection):
    """Calls `spoil` for the text whose turn it is; what it gives is sent instead, message by message."""

    __slots__ = ()

    def _reply(self, reply: Reply) -> None:
        if not isinstance(reply, str) or self.service.messages % EVERY:
            super()._reply(reply)
            return
        for text in self.spoil(reply):
            super()._reply(text)

    def spoil(self, text: str) -> list[str]:
        raise NotImplementedError


class ResultOfAnother(LyingConnection):
    """The result of the request before it, under its own id."""

    __slots__ = ("_last_result",)

    def __init__(self, *arguments: Any) -> None:
        self._last_result: object = {"result": 0}
        super().__init__(*arguments)

    def _reply(self, reply: Reply) -> None:
        super()._reply(reply)
        if isinstance(reply, str):
            self._last_result = json.loads(reply).get("result")

    def spoil(self, text: str) -> list[str]:
        message = json.loads(text)
        if "result" in message:
            message["result"] = self._last_result
        return [json.dumps(message)]


class ResultAndError(LyingConnection):
    """A result and an error in one reply."""

    __slots__ = ()

    def spoil(self, text: str) -> list[str]:
        message = json.loads(text)
        message["result"] = message.get("result") or 0
        message["error"] = message.get("error") or {"code": -32603, "message": "Internal error"}
        return [json.dumps(message)]


class MissingReply(LyingConnection):
    """No reply at all."""

    __slots__ = ()

    def spoil(self, text: str) -> list[str]:
        return []


class DuplicatedReply(LyingConnection):
    """The same reply twice."""

    __slots__ = ()

    def spoil(self, text: str) -> list[str]:
        return [text, text]


BUGS: Final[Mapping[str, type[WebSocketConnection]]] = {
    "result-of-another": ResultOfAnother,
    "result-and-error": ResultAndError,
    "missing-reply": MissingReply,
    "duplicated-reply": DuplicatedReply,
}
