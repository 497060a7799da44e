"""A call that takes its time: its tool's steps, one after the other, on timers of the hub. No greenlet."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import gevent

from protocols.tool_call import INTERNAL_ERROR, TIMEOUT, CallTool, ToolError
from servers.log_lines import log
from servers.websocket_tools.tools import Chunk, Pause, Say, Steps, ToolFailed

if TYPE_CHECKING:
    from servers.websocket_tools.connection import ToolConnection

# Then the other connections get their turn.
STEPS_PER_TURN = 16
# A stream waits while so much of it lies unread: it goes as fast as its reader, not as fast as its tool.
MAX_UNREAD_BYTES = 256 * 1024
UNREAD_PAUSE_S = 0.01


class RunningCall:
    """One call in flight. `connection.call_ended` hears its end, unless it was `cancel`led."""

    __slots__ = ("_connection", "_deadline_s", "_steps", "_streams", "_timer", "call", "key", "started_s")

    def __init__(self, connection: ToolConnection, call: CallTool, key: bytes, steps: Steps, started_s: float) -> None:
        self.call = call
        self.key = key
        self.started_s = started_s
        self._connection = connection
        self._steps = steps
        self._streams = False
        self._deadline_s = started_s + connection.service.call_timeout_s
        self._timer: Any = None

    def start(self) -> None:
        """Begin with the next turn of the loop: the call is known as in flight by then."""
        self._sleep(0.0)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        self._steps.close()

    def _sleep(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.close()
        left_s = max(0.0, self._deadline_s - time.monotonic())
        self._timer = gevent.get_hub().loop.timer(min(seconds, left_s))
        self._timer.start(self._wake)

    def _wake(self) -> None:
        connection = self._connection
        try:
            self._advance()
            connection.flush()
        except Exception as error:
            connection.failed(error)

    def _advance(self) -> None:
        connection = self._connection
        if time.monotonic() >= self._deadline_s:
            connection.service.expired += 1
            self._end(ToolError(TIMEOUT, "the tool took longer than the call timeout"))
            return
        if connection.pending_bytes > MAX_UNREAD_BYTES:
            self._sleep(UNREAD_PAUSE_S)
            return
        for _ in range(STEPS_PER_TURN):
            try:
                step = next(self._steps)
            except StopIteration as end:
                if self._streams:
                    connection.stream_complete(self.call.request_id)
                self._end(end.value)
                return
            except ToolFailed as failed:
                self._end(ToolError(failed.code, failed.message))
                return
            except Exception as error:
                log.error("tool_failed", tool=self.call.name, error=type(error).__name__)
                self._end(ToolError(INTERNAL_ERROR, "the tool failed"))
                return
            if isinstance(step, Pause):
                self._sleep(step.seconds)
                return
            if isinstance(step, Say):
                connection.progress(self.call.request_id, step.message)
            elif isinstance(step, Chunk):
                self._streams = True
                connection.stream_chunk(self.call.request_id, step.text)
        self._sleep(0.0)

    def _end(self, outcome: list[Any] | ToolError) -> None:
        self.cancel()
        self._connection.call_ended(self, outcome)
