"""Links as a target asks for them: opened, changed by several owners, and gone with their process."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmproof.targets.base import LOOPBACK
from swarmproof.targets.errors import TargetError, TargetNotStarted
from swarmproof.targets.guard import Guard
from swarmproof.targets.links import LinkBoard, LinkPlan, link_name
from swarmproof.targets.ports import free_ports, is_free
from tests.processes import CONDITION_DEADLINE_S, wait_until
from tests.swarmproof.faults.proxy.conftest import EchoServer, receive

NAME = link_name("clients", "echo")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[LinkBoard]:
    with Guard() as guard:
        board = LinkBoard(guard, tmp_path)
        yield board
        board.stop()


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    server = EchoServer()
    yield server
    server.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection((LOOPBACK, port), CONDITION_DEADLINE_S)


def test_a_link_carries_until_the_board_stops(board: LinkBoard, echo: EchoServer, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    board.open(LOOPBACK, [LinkPlan(NAME, port, echo.address[1])])
    with connect(port) as sock:
        sock.sendall(b"hello")
        assert receive(sock, 5) == b"hello"
    assert board.counters()[NAME]["up_bytes"] == 5
    assert (tmp_path / "links" / "links.sock").stat().st_mode & 0o777 == 0o600
    board.stop()
    board.stop()
    assert board.process.pid is None
    assert not (tmp_path / "links" / "links.sock").exists()
    wait_until(lambda: is_free(port), "the port to be free")


def test_toxics_of_two_owners_add_up_and_go_one_by_one(board: LinkBoard, echo: EchoServer) -> None:
    (port,) = free_ports(1)
    board.open(LOOPBACK, [LinkPlan(NAME, port, echo.address[1])])
    board.apply(1, {NAME: ["corrupt=100%"]})
    board.apply(2, {NAME: ["limit_data=4"]})
    with connect(port) as sock:
        sock.sendall(b"0123456789")
        got = receive(sock, 10)
    assert len(got) == 4
    assert board.counters()[NAME]["changed"] == 1
    board.withdraw(1)
    with connect(port) as sock:
        sock.sendall(b"0123456789")
        assert receive(sock, 10) == b"0123"
    board.withdraw(2)
    board.withdraw(2)
    with connect(port) as sock:
        sock.sendall(b"0123456789")
        assert receive(sock, 10) == b"0123456789"


def test_connections_are_reset_on_request(board: LinkBoard, echo: EchoServer) -> None:
    (port,) = free_ports(1)
    board.open(LOOPBACK, [LinkPlan(NAME, port, echo.address[1])])
    with connect(port):
        wait_until(lambda: board.counters()[NAME]["connections"] == 1, "the connection")
        assert board.reset_connections([NAME]) == 1


def test_a_link_can_be_opened_again_elsewhere(board: LinkBoard, echo: EchoServer) -> None:
    ports = free_ports(2)
    for port, framed in zip(ports, (True, False), strict=True):
        board.open(LOOPBACK, [LinkPlan(NAME, port, echo.address[1], framed)])
        assert board.framed == ({NAME} if framed else set())
    assert is_free(ports[0])
    with connect(ports[1]) as sock:
        sock.sendall(b"x")
        assert receive(sock, 1) == b"x"


def test_mistakes_are_sentences(board: LinkBoard, echo: EchoServer) -> None:
    with pytest.raises(TargetNotStarted, match=r"cannot listen on 127\.0\.0\.1:\d+: .*in use"):
        board.open(LOOPBACK, [LinkPlan(NAME, echo.address[1], 1)])
    with pytest.raises(TargetError, match="there is no link 'nowhere'"):
        board.apply(1, {"nowhere": ["drop"]})
    (port,) = free_ports(1)
    board.open(LOOPBACK, [LinkPlan(NAME, port, echo.address[1])])
    with pytest.raises(TargetError, match="there is no toxic 'poison'"):
        board.apply(2, {NAME: ["poison"]})
    board.withdraw(2)
    board.process.kill()
    with pytest.raises(TargetError, match="the link proxy does not answer"):
        board.counters()
