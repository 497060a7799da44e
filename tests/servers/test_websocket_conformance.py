"""Every case of tests/websocket_cases.py against every WebSocket server, over real sockets.

Servers that do not echo get the cases about control frames and violations: what a violation does to a connection
must not depend on what the messages mean.
"""

from collections.abc import Iterator

import pytest
from websockets.sync.client import connect

from tests.processes import ServerProcess
from tests.servers.tool_clients import TOKEN, ToolClient
from tests.servers.websocket_clients import CLOSE, PONG, TEXT, RawWebSocket
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
        if server.name not in ECHOES and (case.messages or any(frame.opcode < 3 for frame in case.sent)):
            continue
        try:
            run_case(server.address, case)
        except (AssertionError, OSError) as error:
            raise AssertionError(f"case {case.id}: {error!r}") from error


@pytest.mark.parametrize("name", ECHOES)
def test_compressed_messages_come_back(name: str) -> None:
    """Cases 12 and 13, with permessage-deflate."""
    with (
        ServerProcess(name, *ECHOES[name], "--compression") as server,
        connect(f"ws://{server.host}:{server.port}/", compression="deflate", max_size=None) as client,
    ):
        assert client.response is not None
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        for size in (0, 1, 16, 64, 256, 1024, 16_384, 131_072, 1_000_000):
            for number in range(5):
                text = (f"{number} the quick brown fox " * (size // 20 + 1))[:size]
                client.send(text)
                assert client.recv(15) == text
                client.send([text[: size // 2].encode(), text[size // 2 :].encode()])
                assert client.recv(15) == text.encode()


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
