"""Opening a WebSocket, from both sides, and every way it can fail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import websocket_events as ws
from protocols.errors import LocalProtocolError
from protocols.websocket import Binary, Closed, HttpAnswer, Opened, Text, WebSocketClient, WebSocketServer
from tests.protocols.streams import cut, cut_places, feed
from tests.protocols.websockets_talking import RFC_REQUEST, exchange, masked, new_client, talking

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n"


def response_of(server: WebSocketServer) -> str:
    return b"".join(server.data_to_send()).decode()


def answered(response: bytes) -> WebSocketClient:
    """A client that got these bytes for an answer."""
    client = new_client()
    client.receive_data(response)
    return client


def test_the_request_names_path_host_and_headers():
    client = WebSocketClient(
        "ws://127.0.0.1:8080/chat?room=1",
        headers={"Authorization": "Bearer x"},
        subprotocols=["rpc"],
        origin="http://me",
    )
    request = b"".join(client.data_to_send()).decode()
    assert request.startswith("GET /chat?room=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nOrigin: http://me\r\n")
    assert "\r\nAuthorization: Bearer x\r\n" in request
    assert "\r\nSec-WebSocket-Protocol: rpc\r\n" in request
    assert "Sec-WebSocket-Extensions" not in request, "compression is off by default"
    assert request.endswith("\r\n\r\n")


def test_the_server_answers_the_rfcs_request_with_the_rfcs_key():
    server = WebSocketServer()
    (event,) = server.receive_data(RFC_REQUEST)
    assert isinstance(event, Opened)
    assert (event.path, event.headers["host"], event.subprotocol) == ("/chat", "server.example.com", None)
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in response_of(server)
    assert server.open
    assert not server.close_now


def test_both_sides_open_however_the_bytes_are_cut():
    for size in range(1, 200):
        client, server = new_client(), WebSocketServer()
        request = b"".join(client.data_to_send())
        seen = feed(server, [request[i : i + size] for i in range(0, len(request), size)])
        assert [type(event) for event in seen] == [Opened]
        response = b"".join(server.data_to_send())
        seen = feed(client, [response[i : i + size] for i in range(0, len(response), size)])
        assert [type(event) for event in seen] == [Opened]


@given(cut_places)
def test_frames_that_come_along_with_the_handshake_follow_it(places: list[int]):
    data = RFC_REQUEST + masked("81", b"early") + masked("82", b"bird")
    server = WebSocketServer()
    opened, *messages = feed(server, cut(data, places))
    assert isinstance(opened, Opened)
    assert messages == [Text("early"), Binary(b"bird")]
    assert b"".join(server.data_to_send()).startswith(b"HTTP/1.1 101 ")


def test_a_greeting_that_comes_along_with_the_servers_answer_follows_it():
    client, server = new_client(), WebSocketServer()
    server.receive_data(b"".join(client.data_to_send()))
    server.send_text("welcome")
    opened, greeting = client.receive_data(b"".join(server.data_to_send()))
    assert isinstance(opened, Opened)
    assert greeting == Text("welcome")


def test_a_subprotocol_is_agreed_on():
    client, server = talking(
        WebSocketClient("ws://h/", subprotocols=["v2", "v1"]), WebSocketServer(subprotocols=["v1"])
    )
    assert client.subprotocol == server.subprotocol == "v1"


def test_a_client_without_the_servers_subprotocol_is_refused():
    client, server = new_client(), WebSocketServer(subprotocols=["v1"])
    client_saw, server_saw = exchange(client, server)
    assert server.error is not None
    assert server.error.reason == ws.BAD_HANDSHAKE
    assert str(client.error) == "websocket handshake refused: HTTP 400"
    assert client_saw == [Closed(1006, ws.HANDSHAKE_REFUSED)]
    assert server_saw == [Closed(1006, ws.BAD_HANDSHAKE)]
    assert client.close_now
    assert server.close_now


@pytest.mark.parametrize(("origin", "status"), [("http://good", 101), ("http://evil", 403), (None, 403)])
def test_only_allowed_origins_may_connect(origin: str | None, status: int):
    client, server = WebSocketClient("ws://h/", origin=origin), WebSocketServer(origins=["http://good"])
    server.receive_data(b"".join(client.data_to_send()))
    assert response_of(server).startswith(f"HTTP/1.1 {status} ")
    assert (server.error is None) is (status == 101)


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"GET", b"POST", 405),
        (b"Upgrade: websocket\r\n", b"", 426),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"short", 400),
        (b"Version: 13", b"Version: 12", 400),
        (b"HTTP/1.1", b"HTTP/1.0", 505),
        (b"/chat", b"/" + b"x" * 9000, 414),
        (b"Host: ", b"X: " + b"x" * 9000 + b"\r\nHost: ", 431),
        (b"Host: ", b"X: y\r\n" * 200 + b"Host: ", 431),
    ],
)
def test_a_request_that_is_no_handshake_is_answered_by_an_http_status(old: bytes, new: bytes, status: int):
    server = WebSocketServer()
    assert server.receive_data(RFC_REQUEST.replace(old, new)) == [Closed(1006, ws.BAD_HANDSHAKE)]
    assert response_of(server).startswith(f"HTTP/1.1 {status} ")
    assert server.error is not None
    assert server.error.reason == ws.BAD_HANDSHAKE
    assert server.close_now
    assert server.receive_data(masked("81", b"still there?")) == []


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # TLS knocking at a plain port
        b"\r\n\r\n",
        b"GET /\n\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_not_http_is_one_clear_error(data: bytes):
    server = WebSocketServer()
    assert server.receive_data(data) == [Closed(1006, ws.BAD_HANDSHAKE)]
    assert server.error is not None
    assert server.error.reason == ws.BAD_HANDSHAKE
    assert server.close_now


def test_a_head_without_end_is_given_up_at_the_limit():
    server = WebSocketServer()
    server.receive_data(b"GET / HTTP/1.1\r\n")
    most = 0
    for number in range(200):
        server.receive_data(f"X-{number}: {'x' * 4000}\r\n".encode())
        most = max(most, server.pending_bytes)
        if server.error:
            break
    assert server.error is not None
    assert server.error.reason == ws.BAD_HANDSHAKE
    assert "65536" in server.error.detail
    assert most <= ws.MAX_HANDSHAKE_BYTES


def test_a_server_may_answer_a_plain_request_instead():
    def respond(path: str, headers: object) -> HttpAnswer | None:
        return HttpAnswer(200, "total_messages 5\n", "text/plain; version=0.0.4") if path == "/metrics" else None

    server = WebSocketServer(respond=respond)
    assert server.receive_data(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n") == [Closed(1006, "answered with HTTP 200")]
    response = response_of(server)
    assert response.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Type: text/plain; version=0.0.4\r\n" in response
    assert response.endswith("\r\n\r\ntotal_messages 5\n")
    assert server.error is None
    assert server.close_now
    assert [type(event) for event in WebSocketServer(respond=respond).receive_data(RFC_REQUEST)] == [Opened]


@pytest.mark.parametrize(
    ("response", "detail"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy", "HTTP 503"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "HTTP 302"),
    ],
)
def test_a_refusal_is_told_with_its_status(response: bytes, detail: str):
    client = new_client()
    assert feed(client, [response[i : i + 1] for i in range(len(response))]) == [Closed(1006, ws.HANDSHAKE_REFUSED)]
    assert client.error is not None
    assert (client.error.reason, client.error.detail) == (ws.HANDSHAKE_REFUSED, detail)
    assert client.close_now


def test_a_refusal_without_length_is_told_at_the_end_of_the_stream():
    client = answered(b"HTTP/1.1 404 Not Found\r\n\r\nnothing here")
    assert client.error is None
    assert client.receive_eof() == [Closed(1006, ws.HANDSHAKE_REFUSED)]
    assert str(client.error) == "websocket handshake refused: HTTP 404"


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        SWITCHING + b"\r\n",
        SWITCHING + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        SWITCHING + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
    ],
)
def test_an_answer_that_is_no_handshake_is_one_clear_error(response: bytes):
    client = new_client()
    assert client.receive_data(response) == [Closed(1006, ws.BAD_HANDSHAKE)]
    assert client.error is not None
    assert client.error.reason == ws.BAD_HANDSHAKE
    assert client.close_now
    assert client.receive_data(b"\x81\x02hi") == []


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 101 Swi"])
def test_a_stream_that_ends_during_the_handshake_is_an_error(sent: bytes):
    client = answered(sent)
    (closed,) = client.receive_eof()
    assert isinstance(closed, Closed)
    assert client.error is not None
    assert client.error.reason == ws.BAD_HANDSHAKE
    assert client.receive_eof() == []


def test_a_refusals_body_is_bounded():
    client = answered(b"HTTP/1.1 500 Oops\r\n\r\n")
    for _ in range(64):
        client.receive_data(b"x" * 65_536)
        assert client.pending_bytes <= ws.MAX_MESSAGE_BYTES + 2 * 65_536
    assert client.error is not None


@pytest.mark.parametrize(
    "arguments",
    [
        {"uri": "http://h/"},
        {"uri": "ws://"},
        {"uri": "ws://h:99999/"},
        {"uri": "ws://h/#part"},
        {"uri": "ws://h/", "headers": {"X": "a\r\nInjected: b"}},
        {"uri": "ws://h/", "headers": {"X y": "a"}},
    ],
)
def test_a_handshake_that_cannot_be_sent_is_our_own_error(arguments: dict[str, object]):
    with pytest.raises(LocalProtocolError, match="no websocket handshake can be made"):
        WebSocketClient(**arguments)  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=80)), st.booleans())
def test_garbage_in_the_handshake_never_raises(chunks: list[bytes], as_server: bool):
    connection = WebSocketServer() if as_server else new_client()
    feed(connection, chunks)
    connection.receive_eof()
    assert connection.error is not None
    assert connection.receive_eof() == []


http_lines = st.sampled_from(
    [
        *(b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 200 OK", b"GET / HTTP/1.1", b"Upgrade: websocket"),
        *(b"Connection: Upgrade", b"Connection: ,,", b"Upgrade: \xff", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        *(
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Extensions: permessage-deflate; a=\x80",
            b"Content-Length: \xb2",
        ),
        *(b"Transfer-Encoding: chunked", b"Content-Length: 99999999999", b"Sec-WebSocket-Protocol: a,,b", b"Origin: x"),
        *(b"ffffffffff", b"", b"0", b"Sec-WebSocket-Extensions: permessage-deflate", b"Sec-WebSocket-Key: \xff="),
    ]
)


@given(st.lists(http_lines, max_size=12), cut_places, st.booleans())
def test_almost_http_in_the_handshake_never_raises(lines: list[bytes], places: list[int], as_server: bool):
    connection = WebSocketServer() if as_server else new_client(compression=True)
    events = feed(connection, cut(b"\r\n".join(lines) + b"\r\n\r\n", places)) + connection.receive_eof()
    assert [type(event) for event in events][-1] is Closed
    assert connection.receive_data(b"more") == []
