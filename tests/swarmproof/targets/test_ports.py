"""Free ports stay clear of the ports that the kernel gives to clients."""

import socket

from swarmproof.targets import ports
from swarmproof.targets.ports import free_ports, is_free


def test_ports_are_different_free_and_below_the_ephemeral_range() -> None:
    found = free_ports(20)
    assert len(set(found)) == 20
    assert all(ports.LOWEST <= port < ports._ephemeral_start() for port in found)
    assert all(is_free(port) for port in found)


def test_a_port_is_not_given_out_twice() -> None:
    assert not set(free_ports(10)) & set(free_ports(10))


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])


def test_a_port_whose_last_connection_is_in_time_wait_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # closing first leaves TIME_WAIT on this side
            assert client.recv(1) == b""
    assert is_free(port)


def test_a_kernel_with_an_unusual_range_chooses_by_itself(monkeypatch: object, tmp_path: object) -> None:
    import pathlib

    range_file = pathlib.Path(str(tmp_path)) / "range"
    range_file.write_text("1024 65535\n")
    monkeypatch.setattr(ports, "EPHEMERAL_RANGE", range_file)  # type: ignore[attr-defined]
    assert len(set(free_ports(5))) == 5
