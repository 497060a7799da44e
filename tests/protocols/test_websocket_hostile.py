"""Hostile bytes on an open WebSocket: the short way through must decide as the library alone does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, Protocol

from protocols.websocket import Binary, Closed, Event, Ping, Pong, Text
from protocols.websocket_events import ABNORMAL_CLOSURE, INTERNAL, INTERNAL_ERROR
from tests.protocols.streams import cut, cut_places, feed
from tests.protocols.websockets_talking import masked, opened_client, opened_server

LIMIT_BYTES = 300

first_bytes = st.sampled_from(["81", "82", "01", "02", "00", "80", "88", "89", "8a", "c1", "83", "09"])
payloads = st.binary(max_size=140) | st.text(max_size=40).map(str.encode) | st.just(b"\x03\xe8bye")
frames = st.builds(masked, first_bytes, payloads)
# Mostly well-formed, so that runs get somewhere.
good_frames = st.builds(masked, st.sampled_from(["81", "82", "89"]), st.text(max_size=40).map(str.encode))
streams = st.lists(st.one_of(good_frames, good_frames, frames, frames, st.binary(max_size=5)), max_size=10).map(
    b"".join
)


def by_the_library_alone(data: bytes) -> list[Event]:
    """What the library makes of a client's bytes, with messages put together and texts decoded."""
    protocol = Protocol(SERVER, max_size=LIMIT_BYTES)
    protocol.receive_data(data)
    events: list[Event] = []
    message, is_text = b"", False
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)
        payload = bytes(frame.data)
        if frame.opcode is Opcode.PING:
            events.append(Ping(payload))
        elif frame.opcode is Opcode.PONG:
            events.append(Pong(payload))
        elif frame.opcode is Opcode.CLOSE:
            assert protocol.close_rcvd is not None
            return [*events, Closed(int(protocol.close_rcvd.code), "")]
        else:
            is_text = frame.opcode is Opcode.TEXT if frame.opcode is not Opcode.CONT else is_text
            message += payload
            if frame.fin:
                try:
                    events.append(Text(message.decode()) if is_text else Binary(message))
                except UnicodeDecodeError:
                    return [*events, Closed(1007, "")]
                message = b""
    if protocol.parser_exc is not None:
        assert protocol.close_sent is not None
        events.append(Closed(int(protocol.close_sent.code), ""))
    return events


def without_close_reasons(events: list[Event]) -> list[Event]:
    return [Closed(event.code, "") if isinstance(event, Closed) else event for event in events]


@given(streams, cut_places)
def test_every_stream_means_what_it_means_to_the_library(data: bytes, places: list[int]):
    server = opened_server(max_size=LIMIT_BYTES)
    assert without_close_reasons(feed(server, cut(data, places))) == by_the_library_alone(data)


@given(st.lists(st.binary(max_size=100) | frames), st.booleans())
def test_garbage_never_raises_nor_grows_memory(chunks: list[bytes], as_server: bool):
    connection = opened_server(max_size=LIMIT_BYTES) if as_server else opened_client(max_size=LIMIT_BYTES)
    closed = 0
    for chunk in chunks:
        events = connection.receive_data(chunk)
        assert not (closed and events), "nothing follows Closed"
        closed += sum(isinstance(event, Closed) for event in events)
        assert connection.pending_bytes <= LIMIT_BYTES + 14 + len(chunk)
        connection.data_to_send()
    closed += sum(isinstance(event, Closed) for event in connection.receive_eof())
    assert closed == 1, "every connection ends with exactly one Closed"


@pytest.mark.parametrize("method", ["receive_data", "receive_eof"])
def test_a_bug_of_the_parser_is_an_error_and_not_an_exception(method: str, monkeypatch: pytest.MonkeyPatch):
    def bug(*data: bytes) -> None:
        raise AssertionError("unreachable")

    server = opened_server()
    monkeypatch.setattr(server._protocol, method, bug)
    events = server.receive_data(masked("89", b"ping")) + server.receive_eof()
    assert events[-1] == Closed(INTERNAL_ERROR if method == "receive_data" else ABNORMAL_CLOSURE, INTERNAL)
    assert str(server.error) == "websocket parser failed: AssertionError('unreachable')"
    assert server.close_now


def test_a_buffer_that_its_owner_reuses_does_not_change_what_was_received():
    buffer = bytearray(masked("82", b"first"))
    events = opened_server().receive_data(memoryview(buffer))  # type: ignore[arg-type]
    buffer[:] = bytes(len(buffer))
    assert events == [Binary(b"first")]
