"""A link to a peer that does not read: it never blocks, holds a bounded amount, and drops the oldest whole message."""

from collections.abc import Iterator

import gevent
import gevent.socket
import pytest

from protocols.frames import FrameDecoder
from servers.raft import peers
from servers.raft.peers import SEAL_BYTES, Membership, PeerLink, seal

KEY = b"k" * 32
LIMIT_BYTES = 1_000_000


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PeerLink, gevent.socket.socket, list[int]]]:
    """A connected link, the peer's end of the connection, and the peers reported as broken."""
    monkeypatch.setattr(peers, "MAX_QUEUE_BYTES", LIMIT_BYTES)
    listener = gevent.socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    ours = gevent.socket.create_connection(listener.getsockname())
    theirs, _ = listener.accept()
    listener.close()
    broken: list[int] = []
    link = PeerLink(Membership(1, (1, 2), "test", b"secret"), 2, ("127.0.0.1", 1), broken.append)
    link._connect(ours, KEY)
    yield link, theirs, broken
    link.stop()
    ours.close()
    theirs.close()


def numbered(number: int, size_bytes: int = 10_000) -> bytes:
    return number.to_bytes(8, "big").ljust(size_bytes, b".")


def read_numbers(sock: gevent.socket.socket, last: int) -> list[int]:
    """The numbers of the messages that arrive, up to the last one; their seals are checked."""
    decoder = FrameDecoder()
    numbers: list[int] = []
    with gevent.Timeout(20):
        while not numbers or numbers[-1] != last:
            data = sock.recv(65536)
            assert data, "the link ended"
            for frame in decoder.receive_data(data):
                assert frame[:SEAL_BYTES] == seal(KEY, frame[SEAL_BYTES:])
                numbers.append(int.from_bytes(frame[SEAL_BYTES:][:8], "big"))
            assert decoder.error is None
    return numbers


def test_messages_arrive_whole_and_in_order(ends: tuple[PeerLink, gevent.socket.socket, list[int]]) -> None:
    link, theirs, _ = ends
    for number in range(0, 100, 4):
        link.send([numbered(number + i) for i in range(4)])
        gevent.sleep(0)
    assert read_numbers(theirs, 99) == list(range(100))
    assert link.dropped == 0


def test_a_peer_that_does_not_read_costs_a_bounded_amount_and_the_oldest_messages(
    ends: tuple[PeerLink, gevent.socket.socket, list[int]],
) -> None:
    link, theirs, _ = ends
    total = 2000  # 20 MB: far more than the kernel's buffers and the queue take
    for number in range(total):
        link.send([numbered(number)])
        assert link._queued_bytes <= LIMIT_BYTES + 20_000
    assert link.dropped > 0
    numbers = read_numbers(theirs, total - 1)
    assert numbers == sorted(numbers), "out of order"
    assert len(numbers) == total - link.dropped
    assert numbers[-50:] == list(range(total - 50, total)), "the newest were dropped"


def test_a_link_that_breaks_says_so_once_and_sending_on_it_is_harmless(
    ends: tuple[PeerLink, gevent.socket.socket, list[int]],
) -> None:
    link, theirs, broken = ends
    theirs.close()
    with gevent.Timeout(20):
        while link.connected:
            link.send([numbered(1)])
            gevent.sleep(0.001)
    link.send([numbered(2)])
    assert broken == [2]
    assert link.dropped >= 1
    assert link._queued_bytes == 0


def test_the_secret_is_not_in_what_a_membership_shows() -> None:
    assert "secret" not in repr(Membership(1, (1, 2), "test", b"secret"))
