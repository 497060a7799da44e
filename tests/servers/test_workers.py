"""`--workers N`: one port, several processes, one life."""

import os
import signal
import socket

import psutil
import pytest

from tests.processes import ServerProcess, wait_until
from tests.servers.clients import EnvelopeClient, http_request, metric


def workers_of(server: ServerProcess) -> list[psutil.Process]:
    return psutil.Process(server.pid).children()


@pytest.mark.parametrize("name", ["envelope", "websocket_echo", "websocket_rpc"])
def test_workers_share_one_port_and_end_with_the_parent(name: str) -> None:
    with ServerProcess(name, "--workers", "2") as server:
        workers = workers_of(server)
        assert len(workers) == 2
        socket.create_connection(server.address).close()
        assert server.stop() == 0
        assert not any(worker.is_running() for worker in workers)


def test_every_worker_serves() -> None:
    with ServerProcess("envelope", "--workers", "2", "--metrics-port", "0") as server:

        def doors() -> list[tuple[str, int]]:
            lines = [line for line in server.log().splitlines() if " metrics_listening " in line]
            return [("127.0.0.1", int(line.rsplit(":", 1)[1])) for line in lines]

        first, second = wait_until(lambda: doors() if len(doors()) == 2 else [], "both metrics ports")
        sent = 0

        def served() -> tuple[float, float]:
            texts = [http_request(door, "GET", "/metrics")[1] for door in (first, second)]
            return metric(texts[0], "envelope_echoes_total"), metric(texts[1], "envelope_echoes_total")

        # The kernel hashes addresses: after enough connections each worker has had some.
        while sent < 400 and (sent < 10 or not all(served())):
            with EnvelopeClient(server.address) as client:
                sent += 1
                assert client.echo(sent, b"x").payload == b"x"
        assert all(served())
        assert sum(served()) == sent


def test_death_of_a_worker_ends_the_server_and_is_said() -> None:
    server = ServerProcess("envelope", "--workers", "2")
    try:
        victim, other = workers_of(server)
        victim.kill()
        assert server.wait() == 1
        assert not other.is_running()
        assert "worker_died" in server.log()
    finally:
        server.close()


def test_workers_end_when_the_parent_is_killed() -> None:
    server = ServerProcess("envelope", "--workers", "2")
    try:
        workers = workers_of(server)
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not any(_alive(worker) for worker in workers), "the workers' end")
    finally:
        server.close()


def test_port_of_another_server_with_workers_is_in_use() -> None:
    with ServerProcess("envelope", "--workers", "2") as server:
        with pytest.raises(AssertionError, match="the port is already in use"):
            ServerProcess("envelope", "--workers", "2", port=server.port)
        with pytest.raises(AssertionError, match="the port is already in use"):
            ServerProcess("envelope", port=server.port)


def test_worker_that_cannot_start_ends_the_server_with_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(AssertionError, match="a worker did not start; its log says why"):
            ServerProcess("envelope", "--workers", "2", "--metrics-port", str(port))


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
