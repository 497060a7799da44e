"""One good client of seed 000: sends envelopes one at a time, and believes no reply that it has not checked.

For each frame the reply must have the same request id, the same payload, version 1 and type ECHO, and come exactly
once. Every way to break that has a name of its own (those of records.violations), so a report says what kind of liar
a server is. What is no lie has another name: a reply after the time to wait is late, a server that is full says so.
"""

import secrets
import socket
import threading
import time
from dataclasses import dataclass, field

from protocols.envelope import SERVER_BUSY, VERSION, Codec, Envelope, EnvelopeCodec, MsgType
from records.violations import DUPLICATE, LATE, MISSING, PAYLOAD, SHAPE, TYPE, UNKNOWN_ID
from records.violations import VERSION as WRONG_VERSION

CONNECT_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 5.0
RECEIVE_BYTES = 64 * 1024
# A server that has lost three replies of one connection is not waited for any longer: the rest count as not sent.
MISSING_LIMIT = 3
# After the last frame, this long for a reply too many to show up (an honest server closes at once).
LINGER_S = 1.0
# Seed 000's answer to `server busy`: 10 ms, doubling to 1 s, 5 retries.
BUSY_FIRST_WAIT_S = 0.01
BUSY_LONGEST_WAIT_S = 1.0
BUSY_RETRIES = 5

NOT_SENT = "frame not sent"
SERVER_ERROR = "server error"
CONNECTION_LOST = "connection lost"
NOT_CONNECTED = "cannot connect"


@dataclass
class ClientResult:
    """What one client saw. `failures` holds (name, frame number or None, detail)."""

    client: int
    frames: int
    passed: int = 0
    failures: list[tuple[str, int | None, str]] = field(default_factory=list)

    def fail(self, name: str, frame: int | None, detail: str = "") -> None:
        self.failures.append((name, frame, detail))

    @property
    def ok(self) -> bool:
        """Every frame went there and came back; a client that did not come to its end has not passed."""
        return not self.failures and self.passed == self.frames

    @property
    def failed(self) -> int:
        """How many failures this is: a frame without a result counts like one with a name."""
        return max(len(self.failures), self.frames - self.passed)

    def describe(self) -> str:
        """One line: `client  3  PASS  50/50 frames`."""
        head = f"client {self.client:>3}  {'PASS' if self.ok else 'FAIL'}  {self.passed}/{self.frames} frames"
        if self.ok:
            return head
        if not self.failures:
            return f"{head}: {self.frames - self.passed} of them without a result"
        told = []
        for name, frame, detail in self.failures[:3]:
            place = f" at frame {frame}" if frame is not None else ""
            told.append(f"{name}{place}{f' ({detail})' if detail else ''}")
        more = len(self.failures) - len(told)
        return f"{head}: {'; '.join(told)}{f'; and {more} more' if more else ''}"


class _Gone(Exception):
    """The connection ended; the text says how."""


class EnvelopeClient:
    """One client, run by a thread of its own: `run(barrier)` connects, waits for the others, sends its frames."""

    def __init__(
        self,
        client: int,
        address: tuple[str, int],
        *,
        frames: int,
        codec: Codec = "binary",
        timeout_s: float = REPLY_TIMEOUT_S,
        pause_s: float = 0.0,
    ) -> None:
        self.result = ClientResult(client, frames)
        self._pause_s = pause_s  # between two frames: spreads the work over the time that something else takes
        self._address = address
        self._timeout_s = timeout_s
        self._codec = EnvelopeCodec(codec)
        self._socket: socket.socket | None = None
        self._done: set[int] = set()
        self._given_up: dict[int, tuple[int, float]] = {}  # request id -> frame, when it was sent
        self._refusal: str | None = None  # what the server said of the whole connection

    def run(self, all_connected: threading.Barrier) -> None:
        """Never raises: whatever happens is in `result`."""
        result = self.result
        try:
            connection = socket.create_connection(self._address, CONNECT_TIMEOUT_S)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no resolver is even asked for
            result.fail(NOT_CONNECTED, None, getattr(error, "strerror", None) or str(error))
            all_connected.abort()  # the others need not wait for one that does not come
            return
        try:
            all_connected.wait(CONNECT_TIMEOUT_S)
        except threading.BrokenBarrierError:
            pass  # somebody could not connect; the rest is still worth knowing
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = connection
            missing = 0
            for frame in range(1, result.frames + 1):
                if self._pause_s:
                    time.sleep(self._pause_s)
                try:
                    before = len(result.failures)
                    self._exchange(frame)
                except _Gone as error:
                    why = str(error) if self._refusal is None else self._refusal
                    result.fail(CONNECTION_LOST if self._refusal is None else SERVER_ERROR, frame, why)
                    self._give_up_after(frame, why)
                    return
                missing += sum(name == MISSING for name, _, _ in result.failures[before:])
                if missing >= MISSING_LIMIT:
                    self._give_up_after(frame, f"{missing} replies were missing before")
                    return
            self._look_for_extra_replies()

    def _exchange(self, frame: int) -> None:
        payload = f"client-{self.result.client}-frame-{frame}".encode()
        wait_s = BUSY_FIRST_WAIT_S
        for attempt in range(BUSY_RETRIES + 1):
            request_id = self._new_id()
            self._send(request_id, payload)
            reply = self._reply_to(request_id, frame, time.monotonic())
            if reply is None:
                return
            self._done.add(request_id)
            busy = reply.msg_type == MsgType.ERROR and reply.payload == SERVER_BUSY
            if not busy or attempt == BUSY_RETRIES:
                self._check(reply, payload, frame)
                return
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, BUSY_LONGEST_WAIT_S)

    def _check(self, reply: Envelope, payload: bytes, frame: int) -> None:
        if reply.version != VERSION:
            self.result.fail(WRONG_VERSION, frame, f"{reply.version} instead of {VERSION}")
        elif reply.msg_type == MsgType.ERROR:
            self.result.fail(SERVER_ERROR, frame, _text_of(reply))
        elif reply.msg_type != MsgType.ECHO:
            self.result.fail(TYPE, frame, f"{reply.msg_type} instead of {int(MsgType.ECHO)}")
        elif reply.payload != payload:
            self.result.fail(PAYLOAD, frame, f"{reply.payload[:40]!r} instead of {payload!r}")
        else:
            self.result.passed += 1

    def _reply_to(self, request_id: int, frame: int, sent_s: float) -> Envelope | None:
        """The reply, or None after the failure was recorded."""
        deadline = sent_s + self._timeout_s
        while True:
            found: Envelope | None = None
            stranger = False
            for envelope in self._receive(deadline):
                if envelope.request_id == request_id and found is None:
                    found = envelope
                elif envelope.request_id in self._given_up:
                    self._late(envelope.request_id)
                elif envelope.request_id in self._done or envelope.request_id == request_id:
                    self.result.fail(DUPLICATE, frame)
                else:
                    stranger = True
                    self.result.fail(UNKNOWN_ID, frame, f"{envelope.request_id:#x} instead of {request_id:#x}")
            if found is not None:
                return found
            if self._refusal is not None:
                raise _Gone("the server refused the connection")
            if stranger:
                # One request was out and one reply came: this was meant to be it, so there is nothing to wait for.
                self._done.add(request_id)
                return None
            if self._codec.error is not None:
                self.result.fail(SHAPE, frame, str(self._codec.error))
                raise _Gone("the stream cannot be read any further")
            if time.monotonic() >= deadline:
                self._given_up[request_id] = (frame, sent_s)
                self.result.fail(MISSING, frame, f"none within {self._timeout_s:g} s")
                return None

    def _late(self, request_id: int) -> None:
        """The reply to a frame that was given up: it was not missing, and is no second reply either."""
        frame, sent_s = self._given_up.pop(request_id)
        self._done.add(request_id)
        detail = f"after {time.monotonic() - sent_s:.1f} s instead of {self._timeout_s:g} s"
        for index, (name, missed, _) in enumerate(self.result.failures):
            if (name, missed) == (MISSING, frame):
                self.result.failures[index] = (LATE, frame, detail)

    def _look_for_extra_replies(self) -> None:
        """Say that no more will come, and read to the end: whatever comes now is too much."""
        assert self._socket is not None
        deadline = time.monotonic() + LINGER_S
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while time.monotonic() < deadline and self._codec.error is None:
                for envelope in self._receive(deadline):
                    if envelope.request_id in self._given_up:
                        self._late(envelope.request_id)
                    else:
                        self.result.fail(DUPLICATE if envelope.request_id in self._done else UNKNOWN_ID, None)
            if not self._given_up:  # else the bytes may be the beginning of a reply that is late
                self._codec.receive_eof()
        except (OSError, _Gone):
            pass
        if self._codec.error is not None:
            self.result.fail(SHAPE, None, f"after the last reply: {self._codec.error}")
        if self._refusal is not None:
            self.result.fail(SERVER_ERROR, None, self._refusal)

    def _give_up_after(self, frame: int, why: str) -> None:
        for unsent in range(frame + 1, self.result.frames + 1):
            self.result.fail(NOT_SENT, unsent, why)

    def _new_id(self) -> int:
        """One that is new here, and not 0: that one stands for the connection."""
        while (request_id := secrets.randbits(64)) in self._done or request_id in self._given_up or not request_id:
            pass
        return request_id

    def _send(self, request_id: int, payload: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(self._codec.encode(request_id, payload, timestamp_ms=time.time_ns() // 1_000_000))
        except OSError as error:
            # A server that refuses says why before it closes; that is worth more than the reset that follows.
            self._receive(time.monotonic() + LINGER_S)
            raise _Gone(error.strerror or str(error)) from error

    def _receive(self, deadline: float) -> list[Envelope]:
        """The replies that one recv brings, none at the deadline; an ERROR with id 0 becomes the refusal."""
        assert self._socket is not None
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except TimeoutError:
            return []
        except OSError as error:
            raise _Gone(error.strerror or str(error)) from error
        if not data:
            self._codec.receive_eof()
            inside = " inside a reply" if self._codec.error is not None else ""
            raise _Gone(f"the server closed the connection{inside}")
        replies = []
        for envelope in self._codec.receive_data(data):
            if envelope.request_id == 0 and envelope.msg_type == MsgType.ERROR:
                self._refusal = _text_of(envelope)
            else:
                replies.append(envelope)
        return replies


def _text_of(error: Envelope) -> str:
    return error.payload[:100].decode("utf-8", "replace")
