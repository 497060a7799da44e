"""The client's and the server's side of our WebSocket against every case, without a socket."""

import base64
import hashlib

import pytest

from protocols.websocket import Binary, Closed, Event, Ping, Text, WebSocketClient, WebSocketServer
from tests.websocket_cases import CLOSE, PONG, SECTIONS, Case

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def opened_client() -> WebSocketClient:
    client = WebSocketClient("ws://localhost/")
    request = b"".join(client.data_to_send())
    key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())
    client.receive_data(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    assert client.open
    return client


def opened_server() -> WebSocketServer:
    server = WebSocketServer(compression=False)
    server.receive_data(REQUEST)
    server.data_to_send()
    assert server.open
    return server


def control_frames(data: bytes, masked: bool) -> list[tuple[int, bytes]]:
    """The control frames (all short) that an endpoint wrote."""
    frames = []
    while data:
        opcode, size = data[0] & 0x0F, data[1] & 0x7F
        assert size < 126, "only control frames are expected"
        start = 6 if masked else 2
        payload = data[start : start + size]
        if masked:
            payload = bytes(byte ^ data[2 + n % 4] for n, byte in enumerate(payload))
        frames.append((opcode, payload))
        data = data[start + size :]
    return frames


def check(endpoint: WebSocketClient | WebSocketServer, case: Case, peer_masks: bool) -> None:
    wire = b"".join(frame.wire(peer_masks) for frame in case.sent)
    step = case.chop or len(wire)
    events: list[Event] = []
    for start in range(0, len(wire), step):
        events += endpoint.receive_data(wire[start : start + step])
    messages = tuple(event.data for event in events if isinstance(event, Text | Binary))
    assert messages == case.messages
    assert tuple(event.data for event in events if isinstance(event, Ping))[: len(case.pongs)] == case.pongs
    written = control_frames(b"".join(endpoint.data_to_send()), not peer_masks)
    assert tuple(payload for opcode, payload in written if opcode == PONG) == case.pongs
    closes = [payload for opcode, payload in written if opcode == CLOSE]
    if case.close is None:
        assert not closes
        assert endpoint.open
    else:
        assert len(closes) == 1, "one close frame, whatever follows"
        assert (int.from_bytes(closes[0][:2], "big") if closes[0] else 1005) == case.close
        assert isinstance(events[-1], Closed)
        assert not endpoint.open


@pytest.mark.parametrize("section", SECTIONS)
def test_client_conforms(section: str) -> None:
    for case in SECTIONS[section]:
        try:
            check(opened_client(), case, peer_masks=False)
        except AssertionError as error:
            raise AssertionError(f"case {case.id}: {error}") from error


@pytest.mark.parametrize("section", SECTIONS)
def test_server_conforms(section: str) -> None:
    for case in SECTIONS[section]:
        try:
            check(opened_server(), case, peer_masks=True)
        except AssertionError as error:
            raise AssertionError(f"case {case.id}: {error}") from error


def test_masked_frame_to_a_client_and_unmasked_frame_to_a_server_are_violations() -> None:
    case = SECTIONS["1 framing"][2]._replace(messages=(), close=1002)
    client, server = opened_client(), opened_server()
    client.receive_data(case.sent[0].wire(masked=True))
    server.receive_data(case.sent[0].wire(masked=False))
    for endpoint, masked in ((client, True), (server, False)):
        assert control_frames(b"".join(endpoint.data_to_send()), masked)[0][1][:2] == b"\x03\xea"
        assert endpoint.error is not None
