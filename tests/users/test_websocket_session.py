"""A session whose server has said goodbye: whoever still wants to send has lost the connection, as with any other."""

import pytest

from protocols.websocket import Opened, WebSocketServer
from users.failures import ConnectionLost
from users.transport import Endpoint
from users.websocket_echo import EchoSession
from users.websocket_tools import PING_BYTES, ToolSession

ENDPOINT = Endpoint("127.0.0.1", 1)


def opened(session: EchoSession | ToolSession) -> WebSocketServer:
    """The server's side of the session, after the handshake."""
    server = WebSocketServer()
    assert any(isinstance(event, Opened) for event in server.receive_data(session.opening()))
    session.receive_data(b"".join(server.data_to_send()))
    return server


def test_a_message_after_the_servers_close_is_a_lost_connection() -> None:
    session = EchoSession(ENDPOINT, has_ids=True)
    server = opened(session)
    assert session.frame("before")
    server.send_close(1001)
    session.receive_data(b"".join(server.data_to_send()))
    for payload in ("text", b"binary"):
        with pytest.raises(ConnectionLost, match="websocket closed by server with code 1001"):
            session.frame(payload)


def test_so_is_a_keepalive_ping_and_a_message_before_the_handshake() -> None:
    with pytest.raises(ConnectionLost, match="websocket is not open"):
        EchoSession(ENDPOINT, has_ids=True).frame("too early")
    session = ToolSession(ENDPOINT, "tests", "")
    server = opened(session)
    assert session.ping(bytes(PING_BYTES))
    server.send_close(1001)
    session.receive_data(b"".join(server.data_to_send()))
    with pytest.raises(ConnectionLost, match="code 1001"):
        session.ping(bytes(PING_BYTES))
