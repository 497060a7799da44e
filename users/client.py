"""One caller of a protocol: sends a request, checks its reply, records what happened.

A protocol's client says how a request is put into bytes (`_encode`) and what its reply must be (`_check`); this
class does the rest: connecting, ids, waiting, backing off from a busy server, stopping, Locust's event, and the
three timestamps. A client belongs to one greenlet; clients of one user share a connection (`for_lane`).

A request that fails is recorded and gives None: a scenario goes on as with Locust's own clients, where a failed
response raises nothing either.
"""

import copy
from time import monotonic_ns
from typing import Any, ClassVar, Final, Self

import gevent

from users import open_load, options
from users.call import Call
from users.connection import Connection
from users.failures import CheckFailed, ConnectFailed, RequestFailure, ServerRefused
from users.pace import never_thinks
from users.recording import Recording
from users.session import Session
from users.transport import Endpoint

options.offer("receive_times")

# "A client waits 10 ms doubling to 1 s, 5 retries" (seed 000, server busy).
BUSY_BACKOFF_S: Final = 0.010
BUSY_BACKOFF_MAX_S: Final = 1.0
BUSY_RETRIES: Final = 5


def wants_kernel_times(user: Any) -> bool:
    """Whether the kernel shall say when replies come to this user (`--receive-times`)."""
    who: str = options.value(user.environment.parsed_options, "receive_times")
    has_pace = open_load.of(user.environment) is not None or not never_thinks(type(user))
    return who == "kernel" or (who == "auto" and has_pace)


class Busy(ServerRefused):
    """The server asked to be asked again later."""

    def __init__(self) -> None:
        super().__init__("server busy", busy=True)


class Client:
    """Base of the protocols' clients. Subclasses set `request_type`, and define `_session`, `_encode`, `_check`."""

    #: Locust's "type" column and the first word of every operation's name.
    request_type: ClassVar[str]
    #: In open load a user connects before its first request is due, unless each request has its own connection.
    connects_ahead: bool = True
    #: Protocols whose specification sets the reply timeout do not take it from `--timeout`.
    fixed_timeout_s: ClassVar[float] = 0.0
    #: The option that sets the reply timeout otherwise.
    timeout_option: ClassVar[str] = "timeout"

    def __init__(self, user: Any, endpoint: Endpoint) -> None:
        self.user = user
        parsed = user.environment.parsed_options
        self.timeout_s: float = self.fixed_timeout_s or options.value(parsed, self.timeout_option)
        self.connect_deadline_s: float = options.value(parsed, "connect_deadline")
        self.pace = open_load.new_pace(user)
        self._kernel_times = wants_kernel_times(user)
        self.recording = Recording(user.environment, self.request_type, endpoint.address, user.context)
        self.connection = self._connection_to(endpoint)
        self._call = Call()

    def _connection_to(self, endpoint: Endpoint) -> Connection:
        return Connection(
            endpoint,
            self._session,
            timeout_s=self.timeout_s,
            on_stray=self.recording.stray,
            kernel_times=self._kernel_times,
        )

    def for_lane(self, user: Any) -> Self:
        """A client of the same connection for another greenlet."""
        lane = copy.copy(self)
        lane.user = user
        lane.pace = open_load.new_pace(user)
        lane._call = Call()
        return lane

    def connect(self) -> None:
        """Connect now instead of with the first request. A failure is recorded, not raised."""
        try:
            self._open()
        except ConnectFailed:
            pass

    def close(self) -> None:
        """Close the connection, listening a moment longer for what the server may still say."""
        self.connection.close()

    # -- what a protocol defines ---------------------------------------------------------------------------------

    def _session(self) -> Session:
        """A fresh session for a new connection."""
        raise NotImplementedError

    def _encode(self, request_id: int, request: Any) -> tuple[Any, bytes, Any]:
        """The id as the reply will name it, the bytes to send, and what `_check` needs to know."""
        raise NotImplementedError

    def _check(self, name: str, reply: Any, expected: Any) -> RequestFailure | None:
        """Why this reply is not the right one, or None. Violations are recorded here (`_violation`)."""
        raise NotImplementedError

    # -- one request -----------------------------------------------------------------------------------------------

    def perform(self, name: str, request: Any, length: int = 0) -> Any | None:
        """One checked round trip of operation `name`: the reply, or None when it failed.

        `length` is what Locust shows as the response's size, in bytes.
        """
        pace, call, connection = self.pace, self._call, self.connection
        intended_ns = pace.intended()
        recording = self.recording
        if recording.breaker is not None and recording.refuses():
            pace.refused()
            return None
        call.call_ns = call.return_ns = call.unread_ns = 0
        first_call_ns = busy = 0
        try:
            while True:
                if not connection.is_open:
                    self._open()
                request_id, data, expected = self._encode(connection.next_id(), request)
                reply = connection.exchange(request_id, data, call)
                failure = self._check(name, reply, expected)
                if failure is None:
                    return_ns = call.return_ns
                    pace.returned(return_ns, call.unread_ns)
                    recording.succeeded(
                        name, intended_ns, first_call_ns or call.call_ns, return_ns, length=length, response=reply
                    )
                    return reply
                if not isinstance(failure, Busy) or busy == BUSY_RETRIES:
                    break
                first_call_ns = first_call_ns or call.call_ns
                call.return_ns = call.unread_ns = 0
                gevent.sleep(min(BUSY_BACKOFF_S * 2**busy, BUSY_BACKOFF_MAX_S))
                busy += 1
        except RequestFailure as caught:
            failure = caught
        except BaseException:
            self.recording.cancelled(name, intended_ns)
            raise
        return_ns = call.return_ns or monotonic_ns()
        pace.returned(return_ns, call.unread_ns)
        self.recording.failed(name, intended_ns, first_call_ns or call.call_ns, return_ns, failure)
        return None

    def post(self, name: str, request: Any) -> bool:
        """Send a request that the protocol does not answer: success is that it could be sent."""
        pace, connection = self.pace, self.connection
        intended_ns = call_ns = pace.intended()
        if self.recording.refuses():
            pace.refused()
            return False
        failure: RequestFailure | None = None
        try:
            if not connection.is_open:
                self._open()
            request_id, data, _ = self._encode(connection.next_id(), request)
            call_ns = monotonic_ns()
            connection.post(request_id, data)
        except RequestFailure as caught:
            failure = caught
        except BaseException:
            self.recording.cancelled(name, intended_ns)
            raise
        return_ns = monotonic_ns()
        pace.returned(return_ns)
        pace.has_yielded = False  # nothing was waited for
        if failure is not None:
            self.recording.failed(name, intended_ns, call_ns, return_ns, failure)
            return False
        self.recording.succeeded(name, intended_ns, call_ns, return_ns)
        return True

    def _open(self) -> None:
        """Connect; each attempt is recorded as an operation of its own. Raises ConnectFailed after the deadline."""
        self.connection.open(self.connect_deadline_s, on_attempt=self._on_attempt)

    def _on_attempt(self, started_ns: int, ended_ns: int, failure: ConnectFailed | None) -> None:
        if failure is None:
            self.recording.succeeded("connect", started_ns, started_ns, ended_ns)
        else:
            self.recording.failed("connect", started_ns, started_ns, ended_ns, failure)

    def _violation(
        self, kind: str, name: str, expected: bytes, got: bytes, detail: str = "", *, text: str = ""
    ) -> CheckFailed:
        """Record a reply that was not the right one; gives the failure (`text` if it says more than the kind)."""
        self.recording.violation(
            kind,
            name,
            detail,
            request_id=self._call.request_id,
            connection=self.connection.label,
            expected=expected,
            got=got,
        )
        return CheckFailed(text or kind)


def first_difference(expected: bytes, got: bytes) -> str:
    """Where two payloads part, in words."""
    size = f"{len(got)} bytes"
    if len(expected) != len(got):
        size += f" instead of {len(expected)}"
    for place, (ours, theirs) in enumerate(zip(expected, got, strict=False)):
        if ours != theirs:
            return f"{size}, byte {place} is 0x{theirs:02x} instead of 0x{ours:02x}"
    return size
