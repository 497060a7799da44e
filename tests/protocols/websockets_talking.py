"""A client and a server of `protocols.websocket` talking to each other in memory."""

from protocols.websocket import Event, Opened, WebSocketClient, WebSocketServer

# RFC 6455, section 5.7: the masking key of its examples.
RFC_MASK = bytes.fromhex("37fa213d")
# RFC 6455, section 1.3.
RFC_REQUEST = (
    b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def exchange(client: WebSocketClient, server: WebSocketServer) -> tuple[list[Event], list[Event]]:
    """Carry bytes both ways until there are none; what the client saw, and what the server saw."""
    client_saw: list[Event] = []
    server_saw: list[Event] = []
    while True:
        to_server, to_client = b"".join(client.data_to_send()), b"".join(server.data_to_send())
        if not to_server and not to_client:
            return client_saw, server_saw
        server_saw += server.receive_data(to_server)
        client_saw += client.receive_data(to_client)


def talking(
    client: WebSocketClient | None = None, server: WebSocketServer | None = None
) -> tuple[WebSocketClient, WebSocketServer]:
    """Both sides after the handshake."""
    client = client or new_client()
    server = server or WebSocketServer()
    for saw in exchange(client, server):
        assert [type(event) for event in saw] == [Opened]
    return client, server


def new_client(max_size: int = 1_048_576, compression: bool = False) -> WebSocketClient:
    """A client whose masks are the RFC's example."""
    return WebSocketClient(
        "ws://127.0.0.1:8080/chat",
        max_size=max_size,
        compression=compression,
        random_bytes=lambda count: RFC_MASK * (count // 4),
    )


def opened_server(max_size: int = 1_048_576) -> WebSocketServer:
    """A server after the RFC's handshake, with nothing left to send."""
    server = WebSocketServer(max_size)
    assert [type(event) for event in server.receive_data(RFC_REQUEST)] == [Opened]
    server.data_to_send()
    return server


def opened_client(max_size: int = 1_048_576) -> WebSocketClient:
    """A client after the handshake, with nothing left to send."""
    return talking(new_client(max_size))[0]


def masked(head: str, payload: bytes) -> bytes:
    """A client's frame: its first byte as hex, any payload, the RFC's mask."""
    length = len(payload)
    if length < 126:
        size = bytes([0x80 | length])
    elif length < 65_536:
        size = b"\xfe" + length.to_bytes(2, "big")
    else:
        size = b"\xff" + length.to_bytes(8, "big")
    body = bytes(byte ^ RFC_MASK[i % 4] for i, byte in enumerate(payload))
    return bytes.fromhex(head) + size + RFC_MASK + body
