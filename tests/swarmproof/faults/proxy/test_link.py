"""A link between real sockets: what each toxic does to a connection, and that healing undoes it."""

import socket
import threading
import time

import pytest

from protocols.frames import FrameDecoder, encode_frame
from tests.processes import CONDITION_DEADLINE_S, wait_until
from tests.swarmproof.faults.proxy.conftest import EchoServer, RunningLink, receive

SILENCE_S = 0.2


def is_reset(sock: socket.socket) -> bool:
    """Whether the connection ends with RST, not with an orderly end."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return False


def connecting_is_reset(link: RunningLink) -> bool:
    """The reset may come before `connect` has returned."""
    try:
        with link.connect() as sock:
            return is_reset(sock)
    except ConnectionResetError:
        return True


def is_silent(sock: socket.socket) -> bool:
    sock.settimeout(SILENCE_S)
    try:
        return not sock.recv(1)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(CONDITION_DEADLINE_S)


def test_without_toxics_everything_arrives_and_is_counted(link: RunningLink) -> None:
    blob = bytes(range(256)) * 20_000
    with link.connect() as sock:
        threading.Thread(target=sock.sendall, args=(blob,), daemon=True).start()
        assert receive(sock, len(blob)) == blob
        counters = link.link.counters()
    assert (counters["up_bytes"], counters["down_bytes"]) == (len(blob), len(blob))
    assert (counters["accepted"], counters["connections"], counters["changed"]) == (1, 1, 0)
    wait_until(lambda: link.link.counters()["connections"] == 0, "the connection to end")


def test_an_end_of_the_requests_is_passed_on_and_replies_still_come(link: RunningLink) -> None:
    with link.connect() as sock:
        sock.sendall(b"last words")
        sock.shutdown(socket.SHUT_WR)
        assert receive(sock, 100) == b"last words"
    wait_until(lambda: not link.link.connections, "the connection to end")


def test_a_dead_server_resets_the_client(link: RunningLink, echo: EchoServer) -> None:
    echo.close()
    assert connecting_is_reset(link)
    assert link.link.counters()["unreachable"] == 1


def test_after_the_first_a_dead_server_refuses_as_without_a_link_until_it_is_back(
    link: RunningLink, echo: EchoServer
) -> None:
    echo.close()
    assert connecting_is_reset(link)
    wait_until(lambda: is_refused(link), "the link to refuse")
    for _ in range(20):
        assert is_refused(link)
    assert link.link.counters()["unreachable"] == 1, "nobody else was let in"
    with socket.create_server(link.link.upstream) as again:
        again.settimeout(CONDITION_DEADLINE_S)
        wait_until(lambda: not is_refused(link), "the link to let in again")
        with link.connect() as sock:
            sock.sendall(b"x")
            assert receive_from_one_of(again) == b"x"


def test_a_cut_link_does_not_tell_that_nobody_is_there(link: RunningLink, echo: EchoServer) -> None:
    echo.close()
    assert connecting_is_reset(link)
    wait_until(lambda: is_refused(link), "the link to refuse")
    link.set("drop")
    with link.connect() as sock:
        sock.sendall(b"x")
        assert is_silent(sock)


def is_refused(link: RunningLink) -> bool:
    try:
        with link.connect():
            return False
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False


def receive_from_one_of(listener: socket.socket) -> bytes:
    """The first bytes that any accepted connection brings: the link looked whether there is somebody, too."""
    while True:
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(CONDITION_DEADLINE_S)
            data = sock.recv(10)
            if data:
                return data


def test_latency_delays_replies_and_heals_at_once(link: RunningLink) -> None:
    with link.connect() as sock:
        link.set("latency=300ms±50ms")
        began = time.monotonic()
        sock.sendall(b"x")
        assert receive(sock, 1) == b"x"
        assert time.monotonic() - began >= 0.25
        link.set("latency=1h")
        sock.sendall(b"y")
        assert is_silent(sock)
        link.set()
        assert receive(sock, 1) == b"y"


def test_many_toxics_work_at_the_same_time(link: RunningLink) -> None:
    link.set("latency=5ms±5ms", "slicer=100/1ms", "bandwidth=1MB/s", "up:jitter=3ms")
    blob = bytes(range(256)) * 40
    with link.connect() as sock:
        sock.sendall(blob)
        assert receive(sock, len(blob)) == blob


def test_bandwidth_pushes_back_on_the_sender(link: RunningLink, echo: EchoServer) -> None:
    link.set("up:bandwidth=1KB/s")
    with link.connect() as sock:
        sock.setblocking(False)
        sent, quiet_since = 0, time.monotonic()
        while time.monotonic() - quiet_since < SILENCE_S:
            try:
                sent += sock.send(bytes(100_000))
                quiet_since = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        assert sent < 100_000_000
        assert len(echo.received) < 1_000_000


def test_drop_swallows_and_resets_what_has_a_hole_when_healed(link: RunningLink, echo: EchoServer) -> None:
    with link.connect() as sock, link.connect() as quiet:
        sock.sendall(b"before")
        assert receive(sock, 6) == b"before"
        link.set("drop")
        sock.sendall(b"lost")
        wait_until(lambda: link.link.counters()["up_swallowed_bytes"] == 4, "the bytes to be swallowed")
        assert is_silent(sock)
        with link.connect() as late:
            late.sendall(b"also lost")
            assert is_silent(late)
            assert echo.accepted == 2
            link.set()
            assert is_reset(late)
        assert is_reset(sock)
        quiet.sendall(b"nothing was lost here")
        assert receive(quiet, 7) == b"nothing"
    assert bytes(echo.received) == b"beforenothing was lost here"


def test_a_dropping_link_does_not_tell_that_a_side_is_gone(link: RunningLink, echo: EchoServer) -> None:
    with link.connect() as sock:
        sock.sendall(b"x")
        receive(sock, 1)
        link.set("drop")
        linger = b"\x01\0\0\0\0\0\0\0"
    with link.connect() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    link.set()
    wait_until(lambda: not link.link.connections, "everything to be reset")


def test_stall_holds_and_delivers_later(link: RunningLink, echo: EchoServer) -> None:
    with link.connect() as sock:
        sock.sendall(b"a")
        assert receive(sock, 1) == b"a"
        link.set("stall")
        sock.sendall(b"b")
        assert is_silent(sock)
        assert bytes(echo.received) == b"a"
        link.set()
        assert receive(sock, 1) == b"b"


def test_timeout_stays_silent_and_then_closes(link: RunningLink) -> None:
    with link.connect() as sock:
        link.set("timeout=400ms")
        sock.sendall(b"x")
        assert is_silent(sock)
        assert sock.recv(1) == b""


def test_timeout_that_is_healed_in_time_closes_nothing_that_is_whole(link: RunningLink) -> None:
    with link.connect() as sock:
        link.set("timeout=300ms")
        link.set()
        time.sleep(0.4)  # longer than the timeout that must not come any more
        sock.sendall(b"x")
        assert receive(sock, 1) == b"x"


def test_reset_hits_old_and_new_connections_until_it_is_healed(link: RunningLink) -> None:
    with link.connect() as sock:
        sock.sendall(b"x")
        receive(sock, 1)
        link.set("reset")
        assert is_reset(sock)
    assert connecting_is_reset(link)
    link.set()
    with link.connect() as again:
        again.sendall(b"y")
        assert receive(again, 1) == b"y"


def test_reset_in_the_middle_of_a_reply(link: RunningLink) -> None:
    with link.connect() as sock:
        sock.sendall(b"x")
        receive(sock, 1)
        link.set("reset=mid")
        sock.sendall(b"0123456789")
        assert receive(sock, 5) == b"01234"
        assert is_reset(sock)


def test_disconnecting_everybody_leaves_the_link_usable(link: RunningLink) -> None:
    socks = [link.connect() for _ in range(10)]
    wait_until(lambda: len(link.link.connections) == 10, "ten connections")
    link.do(link.link.reset_all)
    for sock in socks:
        assert is_reset(sock)
        sock.close()
    with link.connect() as again:
        again.sendall(b"y")
        assert receive(again, 1) == b"y"
    assert link.link.counters()["resets"] == 10


def test_limit_data_closes_after_so_many_bytes(link: RunningLink) -> None:
    link.set("limit_data=10")
    with link.connect() as sock:
        sock.sendall(b"0123456789abcdef")
        assert receive(sock, 100) == b"0123456789"


def test_corrupt_changes_a_bit(link: RunningLink) -> None:
    link.set("corrupt=100%")
    with link.connect() as sock:
        sock.sendall(bytes(100))
        got = receive(sock, 100)
    assert sum(byte.bit_count() for byte in got) >= 1
    assert link.link.counters()["changed"] >= 1


def test_frames_are_duplicated_also_when_asked_for_in_the_middle_of_one(framed_link: RunningLink) -> None:
    with framed_link.connect() as sock:
        begun = encode_frame(b"begun before")
        sock.sendall(begun[:7])
        assert receive(sock, 7) == begun[:7]
        framed_link.set("duplicate=100%")
        sock.sendall(begun[7:] + encode_frame(b"next"))
        data = begun[:7] + receive(sock, len(begun) - 7 + 16)
    assert FrameDecoder().receive_data(data) == [b"begun before", b"next", b"next"]


def test_frames_are_swapped_between_connections(framed_link: RunningLink) -> None:
    framed_link.set("swap=100%")
    with framed_link.connect() as first, framed_link.connect() as second:
        got = set()
        for _ in range(20):  # a frame that meets no other one in time goes where it belongs
            first.sendall(encode_frame(b"1st"))
            second.sendall(encode_frame(b"2nd"))
            got.add((receive(first, 7)[4:], receive(second, 7)[4:]))
            if (b"2nd", b"1st") in got:
                break
    assert (b"2nd", b"1st") in got


def hits(link: RunningLink) -> dict[str, int]:
    """What toxics have done, by direction and kind; read in the link's own thread."""
    found: dict[str, int] = {}
    link.do(lambda: found.update(link.link.counters()))
    return {name.removesuffix("_hits"): count for name, count in found.items() if name.endswith("_hits") and count}


def test_a_toxic_that_meets_nobody_has_done_nothing(link: RunningLink) -> None:
    for toxic in ("latency=1ms", "corrupt=100%", "limit_data=4", "drop", "stall", "timeout=5s", "reset", "reset=mid"):
        link.set(toxic)
        assert hits(link) == {}, toxic


@pytest.mark.parametrize(
    ("toxic", "done"),
    [
        ("latency=1ms", {"down_latency": 1}),
        ("jitter=1ms", {"down_jitter": 1}),
        ("bandwidth=1MB/s", {"down_bandwidth": 1}),
        ("slicer=4", {"down_slicer": 1}),
        ("slicer=64", {}),
        ("corrupt=100%", {"down_corrupt": 1}),
        ("limit_data=4", {"down_limit_data": 1}),
        ("limit_data=64", {}),
        ("reset=mid", {"down_reset": 1}),
        ("duplicate=100%", {}),  # there are no frames
    ],
)
def test_what_a_toxic_does_to_a_reply_is_counted(toxic: str, done: dict[str, int], link: RunningLink) -> None:
    link.set(toxic)
    with link.connect() as sock:
        sock.sendall(b"0123456789")
        receive(sock, 4)
        wait_until(lambda: hits(link) == done, f"{done}, not {hits(link)}")


@pytest.mark.parametrize("toxic", ["duplicate", "reorder", "drop"])
def test_what_a_toxic_does_to_frames_is_counted(toxic: str, framed_link: RunningLink) -> None:
    framed_link.set(f"{toxic}=99.99%")
    with framed_link.connect() as sock:
        sock.sendall(encode_frame(b"one") + encode_frame(b"two"))
        wait_until(lambda: hits(framed_link).get(f"down_{toxic}", 0) >= 1, "a hit")


def test_swapped_frames_are_counted_when_two_have_changed_places(framed_link: RunningLink) -> None:
    framed_link.set("swap=100%")
    with framed_link.connect() as first, framed_link.connect() as second:
        first.sendall(encode_frame(b"alone"))
        receive(first, 9)
        assert hits(framed_link) == {}, "it found nobody to change places with"
        for sock in (first, second):
            sock.sendall(encode_frame(b"together"))
        wait_until(lambda: hits(framed_link).get("down_swap"), "a hit")


def test_what_is_lost_held_or_reset_is_counted(link: RunningLink) -> None:
    with link.connect() as sock:
        sock.sendall(b"x")
        receive(sock, 1)
        link.set("stall")
        assert hits(link) == {}
        sock.sendall(b"y")
        wait_until(lambda: hits(link) == {"up_stall": 1}, "what is held back")
        link.set()
        assert hits(link) == {}
        receive(sock, 1)
        link.set("drop")
        sock.sendall(b"z")
        wait_until(lambda: hits(link) == {"up_drop": 1}, "what is lost")
    with link.connect():
        wait_until(lambda: hits(link) == {"up_drop": 2}, "a connection that reaches nobody")
        link.set("reset=50ms")
        wait_until(lambda: not link.link.connections, "the end of it")
    before = hits(link).get("up_reset", 0)
    with link.connect() as sock:
        assert is_reset(sock)
    assert hits(link)["up_reset"] == before + 1
