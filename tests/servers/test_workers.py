"""`--workers N`: one port, several processes, one life."""

import json
import os
import signal
import socket

import psutil
import pytest

from servers.worker_metrics import add_up
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


def test_every_worker_serves_and_one_metrics_port_tells_the_sum_of_all() -> None:
    with ServerProcess("envelope", "--workers", "2", "--metrics-port", "0") as server:
        total = server.logged_address("metrics_listening")

        def doors() -> list[tuple[str, int]]:
            lines = [line for line in server.log().splitlines() if " worker_metrics_listening " in line]
            return [("127.0.0.1", int(line.rsplit(":", 1)[1])) for line in lines]

        assert len(doors()) == 2
        sent = 0

        def counted(name: str) -> tuple[float, float]:
            texts = [http_request(door, "GET", "/metrics")[1] for door in doors()]
            return metric(texts[0], name), metric(texts[1], name)

        with EnvelopeClient(server.address) as garbler:
            garbler.sock.sendall(b"\xff" * 64)
            assert garbler.sock.recv(1) == b""
        # The kernel hashes addresses: after enough connections each worker has had some.
        clients = []
        while sent < 400 and (sent < 10 or not all(counted("envelope_echoes_total"))):
            clients.append(EnvelopeClient(server.address))
            sent += 1
            assert clients[-1].echo(sent, b"x").payload == b"x"
        assert all(counted("envelope_echoes_total"))
        text = http_request(total, "GET", "/metrics")[1]
        for name in ("envelope_echoes_total", "envelope_requests_total", "envelope_connections_active"):
            assert metric(text, name) == sum(counted(name)) == sent
        closed = 'envelope_connections_closed_total{reason="frame too large"}'
        wait_until(lambda: metric(http_request(total, "GET", "/metrics")[1], closed) == 1, "the garbler counted")
        listed = json.loads(http_request(total, "GET", "/clients")[1])
        assert sorted(client["peer"] for client in listed) == sorted(
            ":".join(map(str, client.sock.getsockname())) for client in clients
        )
        for client in clients:
            client.sock.close()
        assert http_request(total, "GET", "/elsewhere")[0] == 404


def test_part_of_the_counts_is_never_told_as_the_whole() -> None:
    with ServerProcess("envelope", "--workers", "2", "--metrics-port", "0") as server:
        total = server.logged_address("metrics_listening")
        victim = workers_of(server)[0]
        victim.suspend()
        try:
            status, text = http_request(total, "GET", "/metrics")
        finally:
            victim.resume()
        assert status == 503
        assert "a worker does not answer" in text
        assert http_request(total, "GET", "/metrics")[0] == 200


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
            ServerProcess("envelope", "--workers", "2", "--metrics-port", str(port - 1))
        with pytest.raises(AssertionError, match="the port is already in use"):
            ServerProcess("envelope", "--workers", "2", "--metrics-port", str(port))


def test_samples_are_added_by_name_and_labels() -> None:
    one = '# HELP a_total A.\n# TYPE a_total counter\na_total{k="x"} 1\na_total{k="y"} 2\n# TYPE h histogram\n'
    one += 'h_bucket{le="1.0"} 1\nh_bucket{le="+Inf"} 2\nh_count 2\nh_sum 3.5\n'
    two = '# HELP a_total A.\n# TYPE a_total counter\na_total{k="y"} 40\na_total{k="z"} 5\n# TYPE g gauge\ng 1\n'
    text = add_up([one, two]).decode()
    for line in ('a_total{k="x"} 1.0', 'a_total{k="y"} 42.0', 'a_total{k="z"} 5.0', "g 1.0", 'h_bucket{le="+Inf"} 2.0'):
        assert line in text.splitlines()
    assert "# TYPE a_total counter" in text
    assert "h_sum 3.5" in text


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
