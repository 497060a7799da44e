"""One direction of one connection of a link, and what all connections of a link share in that direction."""

import contextlib
import fcntl
import socket
import struct
import termios
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal

from swarmproof.faults.proxy.pipeline import MAX_HELD_BYTES, Exchange, FrameTracker, Pipeline
from swarmproof.faults.proxy.toxics import Direction, Toxic

if TYPE_CHECKING:
    from swarmproof.faults.proxy.link import Connection

READ_BYTES: Final = 64 * 1024
# One thread, one recv at a time: a buffer of its own for each would only be allocated and thrown away.
_BUFFER = bytearray(READ_BYTES)
_VIEW = memoryview(_BUFFER)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with zero time: close sends RST
# Long enough for a client to read the half of its reply, shorter than any timeout.
CUT_AFTER_S: Final = 0.02

Mode = Literal["carry", "swallow", "stall"]


class Flow:
    """One direction of a link, shared by its connections: the toxics there and the counters."""

    def __init__(self, direction: Direction) -> None:
        self.direction = direction
        self.mode: Mode = "carry"
        self.toxics: tuple[Toxic, ...] = ()  # those that need a pipeline
        self.reset_mid_reply = False
        self.carried_bytes = 0
        self.swallowed_bytes = 0
        self.changed = 0
        self.hits: Counter[str] = Counter()  # kind of toxic -> how often it really did something
        self.silent: tuple[str, ...] = ()  # the toxics that lose or hold everything
        self.exchange = Exchange()


class Stream:
    """One direction of one connection: from `source` to `sink`."""

    def __init__(self, connection: "Connection", flow: Flow) -> None:
        self.connection = connection
        self.flow = flow
        self.source: socket.socket | None = None
        self.sink: socket.socket | None = None
        self.backlog = bytearray()  # what the sink would not take
        self.done = False
        self._ended = False  # the source has said its last
        self._pipeline: Pipeline | None = None
        self._tracker = FrameTracker() if connection.link.framed else None
        self._timer_s: float | None = None
        self._plain = False

    def set_pipeline(self) -> None:
        """A new pipeline for the link's present toxics; what the old one held leaves now."""
        if self._pipeline is not None:
            self._count(self._pipeline)
            held = self._pipeline.release()
            self._pipeline = None
            if held:
                self._send(held)
        if self.flow.toxics:
            rest = self._tracker.rest_bytes if self._tracker is not None else None
            self._pipeline = Pipeline(
                self.flow.toxics, self.connection.link.rng, self.flow.exchange, skip_bytes=rest, wake=self._schedule
            )
        self.set_plain()

    def set_plain(self) -> None:
        """Whether bytes may go from one socket to the other without being looked at."""
        flow = self.flow
        self._plain = (
            flow.mode == "carry"
            and not flow.reset_mid_reply
            and self._pipeline is None
            and self._tracker is None
            and self.connection.connected
        )

    def wants_to_read(self) -> bool:
        if self._ended or self.flow.mode == "stall":
            return False
        held = len(self.backlog) + (self._pipeline.held_bytes if self._pipeline is not None else 0)
        return held < MAX_HELD_BYTES if self._pipeline is not None else not self.backlog

    def holds_back(self) -> bool:
        """Whether the source has sent something that was not read."""
        if self.source is None:
            return False
        waiting = bytearray(4)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.source.fileno(), termios.FIONREAD, waiting)
        return any(waiting)

    def _count(self, pipeline: Pipeline) -> None:
        """What the toxics have done since the last time."""
        self.flow.changed += pipeline.changed
        pipeline.changed = 0
        if pipeline.hits:
            self.flow.hits.update(pipeline.hits)
            pipeline.hits.clear()

    def pull(self) -> None:
        """The source has something."""
        source = self.source
        if source is None:
            return
        try:
            count = source.recv_into(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            self.connection.broken(source)
            return
        if not count:
            self._end_of_source()
            return
        if self._plain and not self.backlog:  # nothing wrong with this link: the bytes of one recv in one send
            self.flow.carried_bytes += count
            try:
                sent = self.sink.send(_VIEW[:count])  # type: ignore[union-attr]
            except BlockingIOError:
                sent = 0
            except OSError:
                self.connection.broken(self.sink)
                return
            if sent < count:
                self.backlog += _VIEW[sent:count]
                self.flow.carried_bytes -= count - sent
                self.connection.update()
            return
        self._pass_on(bytes(_VIEW[:count]))

    def _end_of_source(self) -> None:
        self._ended = True
        if self.flow.mode == "swallow":
            self.connection.lost_bytes = True
        else:
            self._finish_if_empty()
        self.connection.update()

    def _pass_on(self, data: bytes) -> None:
        flow = self.flow
        if self._tracker is not None:
            self._tracker.skip(data)
        if flow.mode == "swallow":
            flow.swallowed_bytes += len(data)
            flow.hits.update(flow.silent)
            self.connection.lost_bytes = True
            return
        if flow.reset_mid_reply:
            self._cut(data)
            return
        if self._pipeline is not None:
            self._pipeline.feed(data, time.monotonic())
            self._drain()
            return
        self._send(data)

    def flush(self) -> None:
        """The sink takes bytes again."""
        data, self.backlog = self.backlog, bytearray()
        if data:
            self._send(data)
        self._drain()
        self._finish_if_empty()
        self.connection.update()

    def _send(self, data: bytes | bytearray) -> None:
        flow = self.flow
        if self.backlog or not self.connection.connected:
            self.backlog += data
            self.connection.update()
            return
        sink = self.sink
        if sink is None:
            flow.swallowed_bytes += len(data)
            return
        try:
            sent = sink.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.connection.broken(sink)
            return
        flow.carried_bytes += sent
        if sent < len(data):
            self.backlog += memoryview(data)[sent:]
            self.connection.update()

    def _drain(self) -> None:
        """Send what the pipeline lets go, and come back when there is more."""
        pipeline = self._pipeline
        if pipeline is None:
            return
        self._count(pipeline)
        while not self.backlog and (data := pipeline.ready(time.monotonic())):
            self._send(data)
        if pipeline.ended and pipeline.next_due_s() is None and not self.backlog:
            self.connection.end(reset=False)
            return
        self._schedule()
        self._finish_if_empty()
        self.connection.update()

    def _schedule(self) -> None:
        pipeline = self._pipeline
        due_s = pipeline.next_due_s() if pipeline is not None and not self.backlog else None
        if due_s is None or (self._timer_s is not None and self._timer_s <= due_s):
            return
        self._timer_s = due_s

        def wake() -> None:
            if self._timer_s == due_s:
                self._timer_s = None
            if self.connection in self.connection.link.connections:
                self._drain()

        self.connection.loop.call_at(due_s, wake)

    def _cut(self, data: bytes) -> None:
        """Half of a reply, and then a reset: the client must not take it for a whole one."""
        half = data[: max(len(data) // 2, 1)]
        if self.sink is not None:
            with contextlib.suppress(OSError):
                self.flow.carried_bytes += self.sink.send(half)
        self.flow.changed += 1
        self.flow.hits["reset"] += 1
        # The reset must not overtake the half: RST throws away what the receiver has not read yet.
        self._ended = True
        self.connection.update()
        connection = self.connection
        connection.loop.call_at(time.monotonic() + CUT_AFTER_S, lambda: connection.end(reset=True))

    def _finish_if_empty(self) -> None:
        empty = not self.backlog and (self._pipeline is None or self._pipeline.next_due_s() is None)
        if not self._ended or self.done or not empty or not self.connection.connected:
            return
        if self._pipeline is not None:
            rest = self._pipeline.release()
            if rest:
                self._send(rest)
        self.done = True
        if self.sink is not None:
            with contextlib.suppress(OSError):
                self.sink.shutdown(socket.SHUT_WR)
        self.connection.finished()


def close_socket(sock: socket.socket, *, reset: bool) -> None:
    if reset:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    sock.close()
