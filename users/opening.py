"""From an address to a connection that may be used: dialling, TLS, the protocol's own opening; trying again.

A server that is being restarted refuses for a moment. Clients come back with exponential backoff and jitter: those
that lost one server together must not come back together.
"""

import errno
from collections.abc import Callable
from random import random
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import gevent
from gevent.event import AsyncResult
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random

from users.failures import ConnectFailed
from users.session import Session
from users.transport import Endpoint, TlsFilter, dial, raw_socket

if TYPE_CHECKING:
    import _socket

CONNECT_TIMEOUT_S: Final = 3.0  # one attempt
CONNECT_DEADLINE_S: Final = 5.0  # all attempts of one open()
CONNECT_BACKOFF_S: Final = 0.05  # doubling
CONNECT_BACKOFF_MAX_S: Final = 1.0
CONNECT_JITTER_S: Final = 0.1

CLOSED_BY_SERVER: Final = "connection closed by server"
RESET_BY_SERVER: Final = "connection reset by server"

_HANDSHAKE_RECV_BYTES: Final = 65_536
_NS_PER_S: Final = 1_000_000_000


class Opened(NamedTuple):
    """A connection whose opening is through, and replies that came with it already."""

    sock: "_socket.socket"
    tls: TlsFilter | None
    replies: list[Any]


def retrying(deadline_s: float) -> Retrying:
    """How often to try: until `deadline_s` is over; once when it is 0."""
    return Retrying(
        stop=stop_after_delay(deadline_s),
        wait=wait_exponential(multiplier=CONNECT_BACKOFF_S, max=CONNECT_BACKOFF_MAX_S)
        + wait_random(0, CONNECT_JITTER_S),
        retry=retry_if_exception_type(ConnectFailed),
        sleep=gevent.sleep,
        reraise=True,
    )


def open_once(endpoint: Endpoint, session: Session, timeout_s: float) -> Opened:
    """One attempt, opening handshake included. Blocks this greenlet only. Raises ConnectFailed."""
    started_ns = monotonic_ns()
    sock, tls = dial(endpoint, timeout_s)
    replies: list[Any] = []
    left_s = timeout_s - (monotonic_ns() - started_ns) / _NS_PER_S
    try:
        with gevent.Timeout(max(left_s, 0.001), ConnectFailed("the opening handshake timed out")):
            _shake_hands(sock, tls, session, replies)
        return Opened(raw_socket(sock), tls, replies)
    finally:
        sock.close()  # a no-op once its descriptor has moved


def _shake_hands(sock: Any, tls: TlsFilter | None, session: Session, replies: list[Any]) -> None:
    """The protocol's own opening, on a blocking socket."""
    try:
        opening = session.opening()
        if opening:
            sock.sendall(tls.send(opening) if tls is not None else opening)
        while not session.ready:
            data = sock.recv(_HANDSHAKE_RECV_BYTES)
            if not data:
                session.receive_eof()
                reason = session.error.reason if session.error is not None else CLOSED_BY_SERVER
                raise ConnectFailed(f"opening handshake failed: {reason}")
            replies += session.receive_data(tls.receive(data) if tls is not None else data)
            if session.error is not None:
                raise ConnectFailed(f"opening handshake failed: {session.error.reason}")
            said = session.output()  # a protocol upon the protocol may have a greeting of its own
            if said:
                sock.sendall(tls.send(said) if tls is not None else said)
    except OSError as error:
        raise ConnectFailed(f"opening handshake failed: {loss(error)}") from None


def loss(error: OSError) -> str:
    """How a connection was lost, as failure text."""
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return RESET_BY_SERVER
    if error.errno == errno.ETIMEDOUT:
        return "connection timed out"
    return f"connection failed: {error.strerror or 'closed'}"


#: Told of each attempt to connect: when it began and ended, and why it failed (None: it did not).
OnAttempt = Callable[[int, int, ConnectFailed | None], None]


class Opener:
    """Opens one connection for all who need it: those that come while another one connects share its luck."""

    __slots__ = ("_opening",)

    def __init__(self) -> None:
        self._opening: AsyncResult | None = None

    def open(
        self,
        dial: Callable[[float], None],
        deadline_s: float,
        attempt_timeout_s: float,
        on_attempt: OnAttempt | None,
    ) -> None:
        """Call `dial(attempt_timeout_s)`, trying again until `deadline_s` is over. Raises ConnectFailed."""
        while self._opening is not None:
            if self._opening.get():  # False: the one who tried was stopped, the next in line tries
                return
        opening = self._opening = AsyncResult()

        def attempt() -> None:
            started_ns = monotonic_ns()
            try:
                dial(attempt_timeout_s)
            except ConnectFailed as failure:
                if on_attempt is not None:
                    on_attempt(started_ns, monotonic_ns(), failure)
                raise
            if on_attempt is not None:
                on_attempt(started_ns, monotonic_ns(), None)

        try:
            began_ns = monotonic_ns()
            try:
                # Nearly always this is all. Tenacity's objects are dear: with thousands of users that connect at once
                # a quarter of the time went into making them.
                attempt()
            except ConnectFailed:
                left_s = deadline_s - (monotonic_ns() - began_ns) / _NS_PER_S
                if left_s <= 0:
                    raise
                gevent.sleep(CONNECT_BACKOFF_S + random() * CONNECT_JITTER_S)
                retrying(left_s)(attempt)
            opening.set(True)
        except ConnectFailed as failure:
            opening.set_exception(failure)
            raise
        except BaseException:
            opening.set(False)
            raise
        finally:
            self._opening = None
