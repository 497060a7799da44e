"""When a reply came, while this process was busy with something else: the kernel knows.

Servers are threads, which go on while the event loop stands still.
"""

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic_ns
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from locust import constant

from protocols.envelope import EnvelopeCodec
from records.recorder import recorder
from tests.servers.test_websocket_kinds import make_certificate
from tests.users.engine.test_kinds import KINDS, Kind
from tests.users.in_process import in_process
from users import connection_life, kernel_times
from users.call import Call
from users.connection import Connection
from users.engine import loop
from users.envelope import EnvelopeSession, EnvelopeUser
from users.pace import OWN_PAUSE_NS, Pace
from users.statistics import statistics_of
from users.transport import Endpoint

DEADLINE_S = 30.0
ANSWER_AFTER_S = 0.05
BUSY_S = 0.5
#: Between what the server took and how long this process was busy.
HALFWAY_S = 0.3
S = 1_000_000_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's times are Linux's")


@contextmanager
def slow_server(peer: Any = None, tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, threading.Event]]:
    """Answers each request of one connection as `peer` says (None: with the same bytes), a while after it was told to.

    Its port, and what tells it.
    """
    told = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_side=True)
        with sock:
            try:
                if peer is not None:
                    peer.shake_hands(sock)
                while data := sock.recv(65_536):
                    answer = data if peer is None else b"".join(peer.replies(data))
                    if answer:
                        told.wait(DEADLINE_S)
                        time.sleep(ANSWER_AFTER_S)
                        sock.sendall(answer)
            except OSError:
                pass  # the client is gone

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], told
    finally:
        told.set()
        listener.close()
        thread.join(DEADLINE_S)


@contextmanager
def asking(*, kernel: bool) -> Iterator[tuple[Call, gevent.Greenlet, threading.Event]]:
    """A request that has gone, who waits for its reply, and what tells the server to send that."""
    with slow_server() as (port, told):
        endpoint = Endpoint("127.0.0.1", port)
        connection = Connection(endpoint, lambda: EnvelopeSession(EnvelopeCodec()), kernel_times=kernel)
        connection.open()
        call, request_id = Call(), connection.next_id()
        data = EnvelopeCodec().encode(request_id, b"x")
        caller = gevent.spawn(connection.exchange, request_id, data, call)
        await_(lambda: call.call_ns)
        yield call, caller, told
        connection.close()


def one_call(*, kernel: bool) -> Call:
    """A request whose reply comes while this process is busy."""
    with asking(kernel=kernel) as (call, caller, told):
        told.set()
        time.sleep(BUSY_S)
        caller.get(timeout=DEADLINE_S)
    return call


def test_a_busy_process_measures_the_server_and_learns_how_late_it_was() -> None:
    recorder.take_unread()
    call = one_call(kernel=True)
    taken_s = (call.return_ns - call.call_ns) / S
    assert ANSWER_AFTER_S <= taken_s < HALFWAY_S
    assert call.unread_ns / S > BUSY_S - HALFWAY_S
    unread = recorder.take_unread().histogram()
    assert unread.total == 1
    assert unread.max_us == call.unread_ns // 1_000


def test_without_the_kernels_word_its_own_delay_is_in_the_measurement() -> None:
    recorder.take_unread()
    call = one_call(kernel=False)
    assert (call.return_ns - call.call_ns) / S > HALFWAY_S
    assert call.unread_ns == 0
    assert recorder.take_unread().histogram().total == 0


ENGINE_KINDS = {"envelope": Kind(EnvelopeUser, "tcp", {}, lambda: None), **KINDS}


def longest_ms(kind: Kind, think_s: float, receive_times: str, tls: ssl.SSLContext | None = None) -> float:
    """What Locust's table says of one request in the engine whose reply came while the process was busy."""
    user_class = type(kind.user_class.__name__, (kind.user_class,), {"abstract": True, "wait_time": constant(think_s)})
    peer = kind.peer()
    with slow_server(peer, tls) as (port, told):
        options = {"engine": True, "receive_times": receive_times, "timeout": DEADLINE_S, **kind.options}
        host = f"{kind.scheme}://127.0.0.1:{port}" if tls is None else f"wss://localhost:{port}"
        with in_process(user_class, host, **options) as (user, heard):
            user.exchange.begin()
            user.exchange.connect()
            await_(lambda: user.exchange._places or user.exchange._pending)
            told.set()
            time.sleep(BUSY_S)
            entries = user.environment.stats.entries
            measured: list[float] = []

            def is_counted() -> bool:
                statistics_of(user.environment).flush()
                measured[:] = [entry.min_response_time for (name, _), entry in entries.items() if name != "connect"]
                return bool(measured)

            await_(is_counted)
            user.exchange.cancel_all()
            assert not heard.bad
            return measured[0]


def await_(condition: Callable[[], Any]) -> None:
    with gevent.Timeout(DEADLINE_S):
        while not condition():
            gevent.sleep(0.0005)


@pytest.mark.parametrize("kind", ENGINE_KINDS.values(), ids=list(ENGINE_KINDS))
def test_so_does_the_engine_where_load_has_a_pace(kind: Kind) -> None:
    assert ANSWER_AFTER_S <= longest_ms(kind, 60, "auto") / 1e3 < HALFWAY_S


@pytest.mark.parametrize(
    ("payload_bytes", "below_s"),
    [(64, HALFWAY_S), (300_000, DEADLINE_S)],  # the rest of a large one can only come when the first part was read
    ids=["one read", "several reads"],
)
@pytest.mark.parametrize("is_encrypted", [False, True], ids=["ws", "wss"])
def test_replies_of_all_sizes_come_with_and_without_tls(
    tmp_path: Path, payload_bytes: int, below_s: float, is_encrypted: bool
) -> None:
    tls, options = None, {"message": "binary", "payload_bytes": payload_bytes}
    if is_encrypted:
        ca, chain = make_certificate(tmp_path)
        tls, options = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), {**options, "tls_ca": str(ca)}
        tls.load_cert_chain(chain)
    kind = KINDS["texts"]._replace(options=options)
    assert ANSWER_AFTER_S <= longest_ms(kind, 60, "auto", tls) / 1e3 < below_s


@pytest.mark.parametrize(
    ("think_s", "receive_times"), [(0, "auto"), (60, "process")], ids=["at full throttle", "as asked"]
)
def test_else_the_engine_takes_the_time_itself(think_s: float, receive_times: str) -> None:
    kind = ENGINE_KINDS["envelope"]
    assert longest_ms(kind, think_s, receive_times) / 1e3 > HALFWAY_S


@pytest.mark.parametrize("kind", ENGINE_KINDS.values(), ids=list(ENGINE_KINDS))
def test_at_full_throttle_it_asks_the_kernel_if_told_to(kind: Kind) -> None:
    assert longest_ms(kind, 0, "kernel") / 1e3 < HALFWAY_S


def test_scripted_users_with_a_pace_ask_the_kernel_and_those_without_do_not() -> None:
    for think_s, receive_times, wanted in (
        (0, "auto", False),
        (1, "auto", True),
        (0, "kernel", True),
        (1, "process", False),
    ):
        thinking = type("Thinking", (EnvelopeUser,), {"abstract": True, "wait_time": constant(think_s)})
        with in_process(thinking, "tcp://127.0.0.1:1", receive_times=receive_times) as (user, _):
            assert user.client.connection._kernel_times is wanted


# -- while a request is about to be due ------------------------------------------------------------------------------


def awaited_for_a_while(monkeypatch: pytest.MonkeyPatch, module: Any, seconds: float) -> int:
    """Until when (monotonic) a timer is about to go off."""
    until_ns = monotonic_ns() + int(seconds * S)
    monkeypatch.setattr(module, "somebody_is_awaited", lambda: monotonic_ns() < until_ns)
    return until_ns


@pytest.mark.parametrize("kernel", [True, False])
def test_replies_wait_for_a_request_that_is_about_to_be_due_if_it_is_known_when_they_came(
    monkeypatch: pytest.MonkeyPatch, kernel: bool
) -> None:
    with asking(kernel=kernel) as (call, caller, told):
        until_ns = awaited_for_a_while(monkeypatch, connection_life, 2)
        told.set()
        caller.get(timeout=DEADLINE_S)
        assert (monotonic_ns() >= until_ns) is kernel
        assert (call.return_ns - call.call_ns) / S < 1


@pytest.mark.parametrize("receive_times", ["kernel", "process"])
def test_so_they_do_in_the_engine(monkeypatch: pytest.MonkeyPatch, receive_times: str) -> None:
    monkeypatch.setattr(loop, "_engines", {})
    monkeypatch.setattr(loop, "TICK_S", 3600)  # its ticks read, too
    user_class = type("Thinking", (EnvelopeUser,), {"abstract": True, "wait_time": constant(60)})
    with slow_server() as (port, told):
        options = {"engine": True, "receive_times": receive_times, "timeout": DEADLINE_S}
        with in_process(user_class, f"tcp://127.0.0.1:{port}", **options) as (user, _):
            user.exchange.begin()
            user.exchange.connect()
            await_(lambda: user.exchange._places)
            until_ns = awaited_for_a_while(monkeypatch, loop, 2)
            told.set()
            await_(lambda: not user.exchange._places)
            assert (monotonic_ns() >= until_ns) is (receive_times == "kernel")
            entries = user.environment.stats.entries
            user.exchange.cancel_all()
            assert all(entry.min_response_time < 1_000 for entry in entries.values())


# -- the kernel's clock is the wall's ------------------------------------------------------------------------------


class Pair:
    """A socket with the kernel's times, and the other end of its connection."""

    def __init__(self, ours: Any, theirs: socket.socket) -> None:
        timed = kernel_times.kernel_times(ours, wanted=True)
        assert timed is not None
        self.timed = timed
        self._theirs = theirs
        with gevent.Timeout(DEADLINE_S):
            while not self.lay_unread_ns(0.001):
                pass  # the kernel begins a little later, and another test may have set the clock

    def send(self) -> None:
        self._theirs.sendall(b"x")

    def lay_unread_ns(self, seconds: float = 0.02) -> int:
        """Something came, and was read so much later."""
        self.send()
        time.sleep(seconds)
        assert self.timed.recv(10) == b"x"
        return self.timed.unread_ns


@contextmanager
def connected() -> Iterator[tuple[Any, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        with ours, theirs:
            yield ours, theirs


@contextmanager
def another_pair() -> Iterator[Pair]:
    with connected() as (ours, theirs):
        yield Pair(ours, theirs)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with another_pair() as made:
        yield made


def test_when_it_came_is_between_sending_and_reading(pair: Pair) -> None:
    before_ns = monotonic_ns()
    unread_ns = pair.lay_unread_ns()
    assert before_ns <= pair.timed.came_ns
    assert pair.timed.came_ns - before_ns < 15_000_000
    assert unread_ns >= 20_000_000


@pytest.mark.parametrize("step_s", [-3600, -0.03, 0.03, 3600])
def test_a_wall_clock_that_was_set_is_not_believed(pair: Pair, monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    """By no socket, for what came before that; for what comes later it is as good as any."""
    with another_pair() as other:
        pair.send()
        other.send()
        time.sleep(0.02)
        monkeypatch.setattr(kernel_times, "time_ns", lambda: time.time_ns() + int(step_s * S))
        recorder.take_unread()
        for one in (pair, other):
            before_ns = monotonic_ns()
            one.timed.recv(10)
            assert one.timed.unread_ns == 0
            assert one.timed.came_ns >= before_ns
        assert recorder.take_unread().histogram().total == 0, "nobody knows how long they lay there"


def test_the_two_clocks_agree_again_after_that(pair: Pair) -> None:
    kernel_times._clocks._ahead_ns += 3600 * S
    assert pair.lay_unread_ns() == 0
    assert pair.lay_unread_ns() > 15_000_000


def test_a_reply_without_a_stamp_came_when_it_was_read(pair: Pair) -> None:
    pair.timed._recvmsg = lambda size, room: (b"x", [], 0, None)
    recorder.take_unread()
    before_ns = monotonic_ns()
    pair.timed.recv(10)
    assert pair.timed.came_ns >= before_ns
    assert recorder.take_unread().histogram().total == 0


def test_a_process_that_was_stopped_between_its_two_clocks_looks_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses_s = iter([0.05])

    def stopped_before() -> int:
        for pause_s in pauses_s:
            time.sleep(pause_s)
        return time.time_ns()

    monkeypatch.setattr(kernel_times, "time_ns", stopped_before)
    before_ns = monotonic_ns()
    assert pair.lay_unread_ns() >= 70_000_000
    assert before_ns <= pair.timed.came_ns < before_ns + 20_000_000


def test_one_that_was_stopped_there_unnoticed_is_late_and_not_early(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_times, "_READ_NS", S)

    def stopped_after() -> int:
        wall_ns = time.time_ns()
        time.sleep(0.005)
        return wall_ns

    monkeypatch.setattr(kernel_times, "time_ns", stopped_after)
    before_ns = monotonic_ns()
    pair.lay_unread_ns()
    assert before_ns + 5_000_000 <= pair.timed.came_ns


def test_a_reply_never_comes_before_its_request_went() -> None:
    call = Call()
    call.call_ns = 100
    timed = SimpleNamespace(unread_ns=25)
    connection: Any = SimpleNamespace(_pending={7: call}, _now=lambda: 90, _timed=timed, _out=[])
    Connection._dispatch(connection, [SimpleNamespace(request_id=7)])
    assert call.return_ns == 100
    assert call.unread_ns == 15, "it was read at 115"


@pytest.mark.parametrize("kind", ENGINE_KINDS.values(), ids=list(ENGINE_KINDS))
def test_nor_in_the_engine(kind: Kind) -> None:
    """What came before is acknowledged twice, or the clock was set a little: no time is negative."""
    user_class = type(kind.user_class.__name__, (kind.user_class,), {"abstract": True, "wait_time": constant(60)})
    with slow_server(kind.peer()) as (port, told):
        told.set()
        options = {"engine": True, "timeout": DEADLINE_S, **kind.options}
        with in_process(user_class, f"{kind.scheme}://127.0.0.1:{port}", **options) as (user, _):
            user.exchange.begin()
            user.exchange.connect()
            user.exchange._now = lambda: user.exchange._timed.came_ns - S
            entries = user.environment.stats.entries
            answered: list[Any] = []

            def is_counted() -> bool:
                statistics_of(user.environment).flush()
                answered[:] = [entry for (name, _), entry in entries.items() if name != "connect"]
                return bool(answered)

            await_(is_counted)
            user.exchange.cancel_all()
            assert 0 <= answered[0].min_response_time < ANSWER_AFTER_S * 1e3


def test_there_are_stamps_at_once_for_every_new_connection() -> None:
    """The kernel would begin to make them anew, some milliseconds later, when nobody else wants any."""
    with another_pair():
        pass
    for _ in range(20):
        with connected() as (ours, theirs):
            timed = kernel_times.kernel_times(ours, wanted=True)
            assert timed is not None
            theirs.sendall(b"x")
            time.sleep(0.002)
            timed.recv(10)
            assert timed.unread_ns > 1_000_000


def test_where_there_are_no_such_times_the_process_takes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        raise OSError("protocol not available")

    monkeypatch.setattr(kernel_times, "KernelTimes", refuse)
    call = one_call(kernel=True)
    assert (call.return_ns - call.call_ns) / S > HALFWAY_S
    assert call.unread_ns == 0


# -- closed load ---------------------------------------------------------------------------------------------------


def test_a_process_that_stood_still_before_it_read_has_not_thought() -> None:
    """What passes between a reply and the next request is the generator's: it is in that request's response time."""
    pace = Pace()
    came_ns = monotonic_ns() - 4 * OWN_PAUSE_NS
    pace.returned(came_ns, unread_ns=4 * OWN_PAUSE_NS)
    assert pace.intended() == came_ns
    pace.returned(came_ns, unread_ns=0)
    gevent.sleep(0.001)
    assert pace.intended() > came_ns, "it was the task that paused"
