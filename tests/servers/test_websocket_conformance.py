"""Every case of tests/websocket_cases.py against every WebSocket server, over real sockets.

Servers that do not echo are spared only the cases whose outcome is an echoed message: what a violation does to a
connection must not depend on what the messages mean. With compression (cases 12 and 13) each is spoken to in its own
dialect.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection, connect

from tests.processes import ServerProcess
from tests.servers.tool_clients import TOKEN, ToolClient
from tests.servers.websocket_clients import CLOSE, CONTINUATION, HANDSHAKE, PING, PONG, TEXT, RawWebSocket
from tests.websocket_cases import SECTIONS, Case, Frame, close_frame

ECHOES = {
    "websocket_echo": (),
    "websocket_load": (),
    "websocket_security": ("--burst", "100000", "--requests-per-minute", "600000"),
}
OTHERS = {
    "websocket_rpc": (),
    "websocket_performance": (),
    "websocket_tools": ("--no-limits",),
}
ALL = ECHOES | OTHERS


@pytest.fixture(scope="module", params=ALL)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with ServerProcess(request.param, *ALL[request.param], env={"SWARMPROOF_TOKEN": TOKEN}) as process:
        yield process


def run_case(address: tuple[str, int], case: Case) -> None:
    with RawWebSocket(address) as client:
        wire = b"".join(frame.wire(masked=True) for frame in case.sent)
        if case.close is None:
            wire += close_frame(1000).wire(masked=True)
        step = case.chop or len(wire)
        try:
            for start in range(0, len(wire), step):
                client.send(wire[start : start + step])
        except OSError:
            assert case.close is not None, "the server hung up on a good client"
        messages: list[str | bytes] = []
        pongs: list[bytes] = []
        code: int | None = None
        while (received := client.next_frame()) is not None:
            opcode, payload = received
            if opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big") if payload else 1005
                break
            if opcode == PONG:
                pongs.append(payload)
            else:
                messages.append(payload.decode() if opcode == TEXT else payload)
        assert tuple(messages) == case.messages
        assert tuple(pongs) == case.pongs
        assert code == (case.close or 1000)
        assert client.closed_by_server()


@pytest.mark.parametrize("section", SECTIONS)
def test_server_conforms(server: ServerProcess, section: str) -> None:
    for case in SECTIONS[section]:
        if server.name not in ECHOES and case.messages:
            continue
        try:
            run_case(server.address, case)
        except (AssertionError, OSError) as error:
            raise AssertionError(f"case {case.id}: {error!r}") from error


# --- cases 12 and 13: permessage-deflate


def echoes(client: ClientConnection, text: str) -> None:
    client.send(text)
    assert client.recv(15) == text
    client.send([text[: len(text) // 2].encode(), text[len(text) // 2 :].encode()])
    assert client.recv(15) == text.encode()


def answers_rpc(client: ClientConnection, text: str) -> None:
    client.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "echo", "params": [text]}))
    assert json.loads(client.recv(15)) == {"jsonrpc": "2.0", "id": 1, "result": [text]}


def counts(client: ClientConnection, text: str) -> None:
    client.send("metrics")
    before = json.loads(client.recv(15))["total_messages"]
    client.send(text)
    client.send(text.encode())
    client.send("metrics")
    assert json.loads(client.recv(15))["total_messages"] == before + 2


_numbers = itertools.count()


def answers_tool_calls(client: ClientConnection, text: str) -> None:
    call = {"op": "call_tool", "request_id": f"r{next(_numbers)}", "name": "echo", "arguments": {"text": text}}
    client.send(json.dumps(call))
    assert json.loads(client.recv(15))["outputs"] == [{"type": "text", "text": text}]


TALKS: dict[str, Callable[[ClientConnection, str], None]] = {
    **dict.fromkeys(ECHOES, echoes),
    "websocket_rpc": answers_rpc,
    "websocket_performance": counts,
    "websocket_tools": answers_tool_calls,
}


@pytest.fixture(scope="module", params=ALL)
def compressing(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with ServerProcess(request.param, *ALL[request.param], "--compression", env={"SWARMPROOF_TOKEN": TOKEN}) as process:
        yield process


@contextmanager
def compressed(server: ServerProcess, **parameters: bool | int) -> Iterator[ClientConnection]:
    """A connection with permessage-deflate and these parameters of it."""
    with connect(
        f"ws://{server.host}:{server.port}/",
        compression=None,
        extensions=[ClientPerMessageDeflateFactory(**parameters)],  # type: ignore[arg-type]
        max_size=None,
    ) as client:
        assert client.response is not None
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        if server.name == "websocket_tools":
            client.send(json.dumps({"op": "hello", "session_id": "tests", "token": TOKEN}))
            assert json.loads(client.recv(15))["ok"] is True
        yield client


def test_compressed_messages_are_served(compressing: ServerProcess) -> None:
    """Cases 12: sizes from nothing to nearly the limit."""
    with compressed(compressing) as client:
        for size in (0, 1, 16, 64, 256, 1024, 16_384, 131_072, 1_000_000):
            for number in range(5):
                TALKS[compressing.name](client, (f"{number} the quick brown fox " * (size // 20 + 1))[:size])


@pytest.mark.parametrize(
    "parameters",
    [
        {"server_no_context_takeover": True},
        {"client_no_context_takeover": True},
        {"server_max_window_bits": 9, "client_max_window_bits": 9},
        {"server_no_context_takeover": True, "client_no_context_takeover": True, "server_max_window_bits": 15},
    ],
)
def test_parameters_of_compression_are_agreed_upon(compressing: ServerProcess, parameters: dict[str, int]) -> None:
    """Cases 13: with and without the context of earlier messages, and with small windows."""
    with compressed(compressing, **parameters) as client:
        for size in (0, 64, 4096, 65_536):
            TALKS[compressing.name](client, ("0123456789 the quick brown fox " * (size // 20 + 1))[:size])


@pytest.mark.parametrize(
    ("bad", "close"),
    [
        ((Frame(TEXT, b"\xff" * 16, reserved=4),), 1002),  # no deflate stream
        ((Frame(PING, b"x", reserved=4),), 1002),
        ((Frame(TEXT, b"x", False), Frame(CONTINUATION, b"x", reserved=4)), 1002),
        ((Frame(TEXT, b"\xce", False), Frame(CONTINUATION, b"\xce")), 1007),  # not compressed, which is allowed
    ],
)
def test_wrong_frames_under_compression_close(compressing: ServerProcess, bad: tuple[Frame, ...], close: int) -> None:
    headers = {**HANDSHAKE, "Sec-WebSocket-Extensions": "permessage-deflate"}
    with RawWebSocket(compressing.address, headers) as client:
        client.send(b"".join(frame.wire(masked=True) for frame in bad))
        assert client.close_code() == close
    with compressed(compressing) as good:
        TALKS[compressing.name](good, "still serving")


def test_unmasked_frame_closes_with_1002_and_others_are_served(server: ServerProcess) -> None:
    with RawWebSocket(server.address) as bad, RawWebSocket(server.address) as good:
        bad.send(Frame(TEXT, b"x").wire(masked=False))
        assert bad.close_code() == 1002
        good.send(Frame(9, b"alive?").wire(masked=True))
        assert good.next_frame() == (PONG, b"alive?")


def test_tools_still_serve_after_all_cases(server: ServerProcess) -> None:
    if server.name == "websocket_tools":
        with ToolClient(server.address) as client:
            assert client.result("r", "echo", text="well")["ok"] is True
