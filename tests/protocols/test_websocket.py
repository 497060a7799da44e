"""An open WebSocket: the RFC's own frames, messages of every size, closing, compression."""

import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import websocket_events as ws
from protocols.errors import LocalProtocolError
from protocols.websocket import (
    Binary,
    Closed,
    Event,
    Ping,
    Pong,
    Text,
    WebSocketClient,
    WebSocketServer,
)
from tests.protocols.streams import bytewise, cut, cut_places, feed
from tests.protocols.websockets_talking import (
    exchange,
    masked,
    new_client,
    opened_client,
    opened_server,
    talking,
)

SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 100_000]
HELLO = "48656c6c6f"


def sent(connection: WebSocketClient | WebSocketServer) -> str:
    return b"".join(connection.data_to_send()).hex()


# --- RFC 6455, section 5.7: examples ----------------------------------------------------------------------


def test_the_rfcs_unmasked_text_frame():
    server = opened_server()
    server.send_text("Hello")
    assert sent(server) == "8105" + HELLO
    assert opened_client().receive_data(bytes.fromhex("8105" + HELLO)) == [Text("Hello")]


def test_the_rfcs_masked_text_frame():
    client = opened_client()
    client.send_text(b"Hello")
    assert sent(client) == "818537fa213d7f9f4d5158"
    assert opened_server().receive_data(bytes.fromhex("818537fa213d7f9f4d5158")) == [Text("Hello")]


def test_the_rfcs_fragmented_text_message():
    assert opened_client().receive_data(bytes.fromhex("010348656c 80026c6f")) == [Text("Hello")]


def test_the_rfcs_ping_and_its_masked_pong():
    client = opened_client()
    assert client.receive_data(bytes.fromhex("8905" + HELLO)) == [Ping(b"Hello")]
    pong = b"".join(client.data_to_send())
    assert pong[:2].hex() == "8a85"
    assert opened_server().receive_data(pong) == [Pong(b"Hello")]


@pytest.mark.parametrize(("size", "head"), [(256, "827e0100"), (65_536, "827f0000000000010000")])
def test_the_rfcs_binary_frames(size: int, head: str):
    server = opened_server()
    server.send_binary(b"x" * size)
    data = b"".join(server.data_to_send())
    assert data.hex() == head + "78" * size
    assert opened_client().receive_data(data) == [Binary(b"x" * size)]


# --- messages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("compression", [False, True])
def test_messages_of_every_size_arrive_on_both_sides(size: int, compression: bool):
    client, server = talking(new_client(compression=compression))
    for one in (client, server):
        one.send_text("é" * (size // 2))
        one.send_binary(b"\xff" * size)
    expected = [Text("é" * (size // 2)), Binary(b"\xff" * size)]
    assert exchange(client, server) == (expected, expected)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 300])
def test_messages_arrive_byte_by_byte(size: int):
    client, server = talking()
    for one in (client, server):
        one.send_text("x" * size)
        one.send_ping(b"p")
        one.send_binary(b"y" * size)
    expected = [Text("x" * size), Ping(b"p"), Binary(b"y" * size)]
    assert feed(server, bytewise(b"".join(client.data_to_send()))) == expected
    pong, *rest = feed(client, bytewise(b"".join(server.data_to_send())))
    # The server's own messages were written before the pong was due, the pong comes last.
    assert [pong, *rest] == [*expected, Pong(b"p")]


def test_a_ping_between_fragments_is_answered_at_once():
    server = opened_server()
    data = masked("01", b"Hel") + masked("89", b"?") + masked("00", b"l") + masked("80", b"o") + masked("81", b"next")
    assert server.receive_data(data) == [Ping(b"?"), Text("Hello"), Text("next")]
    assert sent(server) == "8a013f"


def test_a_close_between_fragments_is_a_close_like_any_other():
    server = opened_server()
    assert server.receive_data(masked("01", b"first") + masked("88", b"\x03\xe8")) == [Closed(1000, "")]
    assert server.error is None
    assert b"".join(server.data_to_send()) == b"\x88\x02\x03\xe8"
    assert server.pending_bytes == 0


def test_a_character_may_be_cut_between_fragments():
    assert opened_server().receive_data(masked("01", b"\xc3") + masked("80", b"\xa9")) == [Text("é")]


def test_texts_may_be_sent_as_str_or_utf8_and_always_arrive_as_str():
    client, server = talking()
    client.send_text("é")
    client.send_text("é".encode())
    assert exchange(client, server) == ([], [Text("é"), Text("é")])


def test_a_ping_and_a_pong_of_the_same_bytes_are_not_equal():
    assert Ping(b"") != Pong(b"")
    assert Text("a") != Binary(b"a")


def test_a_client_masks_every_frame_by_a_fresh_key():
    client, _ = talking(WebSocketClient("ws://h/"))
    keys = set()
    for _ in range(1000):
        client.send_binary(b"")
        (frame,) = client.data_to_send()
        keys.add(frame[2:6])
    assert len(keys) > 990


# --- faults: each ends the connection with its close code, and good messages before it are delivered -------


def fault_of(server: WebSocketServer, data: bytes) -> tuple[str, int]:
    """Feed good messages and the fault, in every cut; the reason and the code that went out."""
    *good, closed = server.receive_data(masked("81", b"good") + data)
    assert good[0] == Text("good")
    assert isinstance(closed, Closed)
    assert server.error is not None
    assert server.close_now
    assert not server.open
    assert server.receive_data(masked("81", b"more")) == []
    assert server.receive_eof() == []
    frame = b"".join(server.data_to_send())
    assert frame[0] == 0x88
    assert int.from_bytes(frame[2:4], "big") == closed.code
    return server.error.reason, closed.code


VIOLATIONS = [
    bytes.fromhex("8105") + b"Hello",  # a client must mask
    masked("c1", b"reserved bit 1"),
    masked("a1", b"reserved bit 2"),
    masked("91", b"reserved bit 3"),
    masked("83", b"reserved opcode"),
    masked("8b", b"reserved opcode"),
    masked("80", b"continuation of nothing"),
    masked("01", b"first") + masked("81", b"not a continuation"),
    masked("09", b"fragmented ping"),
    masked("89", b"x" * 126),
    masked("88", b"\x03"),
    masked("88", b"\x03\xec"),  # 1004 is reserved
    masked("88", b"\x00\x00"),
    masked("88", b"\x03\xed"),  # 1005 must not be sent
]


@pytest.mark.parametrize("data", VIOLATIONS)
def test_a_violation_is_answered_with_1002(data: bytes):
    assert fault_of(opened_server(), data) == (ws.VIOLATION, ws.PROTOCOL_ERROR)


@pytest.mark.parametrize("data", VIOLATIONS)
def test_a_violation_is_the_same_byte_by_byte(data: bytes):
    server = opened_server()
    events = feed(server, bytewise(masked("81", b"good") + data))
    assert events[0] == Text("good")
    assert events[-1] == Closed(ws.PROTOCOL_ERROR, ws.VIOLATION)


@pytest.mark.parametrize(
    "data",
    [
        masked("81", b"\xff"),
        masked("81", b"\xed\xa0\x80"),
        masked("81", b"half \xc3"),
        masked("01", b"\xc3") + masked("80", b"x"),
        masked("88", b"\x03\xe8\xff"),
    ],
)
def test_text_that_is_not_utf8_is_answered_with_1007(data: bytes):
    assert fault_of(opened_server(), data) == (ws.INVALID_UTF8, ws.INVALID_DATA)


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("81fe0065"),
        bytes.fromhex("82ff7fffffffffffffff"),
        bytes.fromhex("82ffffffffffffffffff"),
        masked("02", b"x" * 60) + bytes.fromhex("80a9"),
        masked("02", b"x" * 100) + masked("00", b"x") + masked("80", b"x"),
    ],
)
def test_a_message_above_the_limit_is_answered_with_1009_before_its_body(data: bytes):
    assert fault_of(opened_server(max_size=100), data) == (ws.MESSAGE_TOO_BIG, ws.TOO_BIG)


def test_a_message_of_exactly_the_limit_is_accepted():
    server = opened_server(max_size=100)
    whole, fragments = masked("81", b"x" * 100), masked("01", b"x" * 60) + masked("80", b"x" * 40)
    assert server.receive_data(whole + fragments) == [Text("x" * 100), Text("x" * 100)]


def test_a_server_that_masks_is_refused_by_the_client():
    client = opened_client()
    assert client.receive_data(masked("81", b"Hello")) == [Closed(ws.PROTOCOL_ERROR, ws.VIOLATION)]
    assert client.error is not None
    assert client.error.reason == ws.VIOLATION
    assert client.close_now


def test_endless_empty_fragments_do_not_grow_memory():
    server = opened_server()
    server.receive_data(masked("01", b""))
    for _ in range(50):
        server.receive_data(masked("00", b"") * 1000)
    assert server.pending_bytes == 0
    assert server.error is None


# --- closing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_first", [True, False])
def test_both_sides_hear_of_a_close_with_its_code(client_first: bool):
    client, server = talking()
    (client if client_first else server).send_close(4001, "missing_hello")
    closed: list[Event] = [Closed(4001, "missing_hello")]
    assert exchange(client, server) == (closed, closed)
    assert client.error is None
    assert server.error is None
    assert server.close_now, "the server closes the TCP connection first (RFC 6455, 7.1.1)"
    assert not client.close_now
    assert client.receive_eof() == server.receive_eof() == []


def test_a_close_without_a_code_is_1005():
    server = opened_server()
    assert server.receive_data(masked("88", b"")) == [Closed(ws.NO_STATUS, "")]
    assert sent(server) == "8800"


def test_what_follows_a_close_frame_is_ignored():
    server = opened_server()
    assert server.receive_data(masked("88", b"\x03\xe8") + masked("81", b"late")) == [Closed(1000, "")]
    assert server.receive_data(masked("81", b"later")) == []


def test_messages_still_arrive_between_our_close_and_the_peers():
    server = opened_server()
    server.send_close(ws.GOING_AWAY)
    assert not server.open
    assert server.receive_data(masked("81", b"last words")) == [Text("last words")]
    assert server.receive_data(masked("88", b"\x03\xe9")) == [Closed(1001, "")]


def test_a_stream_that_ends_without_a_close_frame_is_1006():
    for data in (b"", b"\x81", masked("01", b"half")):
        server = opened_server()
        assert server.receive_data(data) == []
        assert server.receive_eof() == [Closed(ws.ABNORMAL_CLOSURE, "connection lost without a close frame")]
        assert server.receive_eof() == []
        assert server.error is None, "a lost connection is not the peer's breach of the protocol"
        assert server.pending_bytes == 0


@pytest.mark.parametrize(
    "send",
    [
        lambda one: one.send_text("x"),
        lambda one: one.send_binary(b"x"),
        lambda one: one.send_ping(),
        lambda one: one.send_close(),
    ],
)
def test_sending_when_it_is_not_open_is_our_own_error(send: Callable[[WebSocketClient], None]):
    closing, ended = opened_client(), opened_client()
    closing.send_close()
    ended.receive_eof()
    for one in (new_client(), closing, ended):
        with pytest.raises(LocalProtocolError, match="not open"):
            send(one)


def test_what_cannot_be_sent_is_our_own_error_and_leaves_the_connection_open():
    client, server = talking()
    with pytest.raises(LocalProtocolError, match="no UTF-8"):
        client.send_text("\ud800")
    with pytest.raises(LocalProtocolError, match="ping"):
        client.send_ping(b"x" * 126)
    for code, reason in [(1005, ""), (999, ""), (1000, "x" * 124), (1000, "\ud800")]:
        with pytest.raises(LocalProtocolError, match="close"):
            client.send_close(code, reason)
    client.send_text("still open")
    assert exchange(client, server) == ([], [Text("still open")])


# --- compression ------------------------------------------------------------------------------------------


def test_compression_is_used_when_both_want_it():
    client, server = talking(new_client(compression=True))
    client.send_text("a" * 10_000)
    data = b"".join(client.data_to_send())
    assert len(data) < 200
    assert server.receive_data(data) == [Text("a" * 10_000)]


@pytest.mark.parametrize(("client_wants", "server_wants"), [(False, True), (True, False)])
def test_compression_is_not_used_when_one_side_does_not_want_it(client_wants: bool, server_wants: bool):
    client, _ = talking(new_client(compression=client_wants), WebSocketServer(compression=server_wants))
    client.send_text("a" * 10_000)
    assert len(b"".join(client.data_to_send())) > 10_000


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_a_compression_bomb_is_stopped_at_the_limit():
    _, server = talking(new_client(compression=True), WebSocketServer(max_size=10_000))
    bomb = deflated(bytes(5_000_000))
    assert len(bomb) < 10_000
    assert server.receive_data(masked("c2", bomb)) == [Closed(ws.TOO_BIG, ws.MESSAGE_TOO_BIG)]


def test_what_does_not_decompress_is_a_violation():
    _, server = talking(new_client(compression=True))
    assert server.receive_data(masked("c1", b"\xff\xff\xff")) == [Closed(ws.PROTOCOL_ERROR, ws.VIOLATION)]


def test_compressed_fragments_are_put_together_and_checked():
    _, server = talking(new_client(compression=True))
    data = deflated("é".encode() * 500)
    assert server.receive_data(masked("41", data[:5]) + masked("80", data[5:])) == [Text("é" * 500)]
    bad = deflated(b"\xff")
    assert server.receive_data(masked("c1", bad)) == [Closed(ws.INVALID_DATA, ws.INVALID_UTF8)]


# --- everything -------------------------------------------------------------------------------------------

messages = st.lists(
    st.builds(Text, st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
    | st.builds(Binary, st.binary(max_size=200)),
    max_size=10,
)


@given(messages, messages, cut_places, st.booleans())
def test_whatever_is_sent_arrives_however_it_is_cut(
    up: list[Event], down: list[Event], places: list[int], compression: bool
):
    client, server = talking(new_client(compression=compression))
    for one, events in ((client, up), (server, down)):
        for event in events:
            if isinstance(event, Text):
                one.send_text(event.data)
            elif isinstance(event, Binary):
                one.send_binary(event.data)
    assert feed(server, cut(b"".join(client.data_to_send()), places)) == up
    assert feed(client, cut(b"".join(server.data_to_send()), places)) == down
    assert client.pending_bytes == server.pending_bytes == 0
