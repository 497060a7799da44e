"""Thousands of simulated devices in one server process: each with a connection, packets and counts of its own."""

import resource
import selectors
import socket
from random import Random

import psutil
import pytest

from protocols.f00d import Packet, encode_packet, new_msg_id
from tests.processes import ServerProcess
from tests.servers.clients import http_json, http_request, metric

DEVICES = 5000
ROUNDS = 2
SPARE_DESCRIPTORS = 200
# What a connected device may cost the server; measured are about 3 KB, and its label in the metrics as much again.
MAX_BYTES_PER_DEVICE = 20_000


@pytest.fixture
def enough_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DEVICES + SPARE_DESCRIPTORS:
        if hard != resource.RLIM_INFINITY and hard < DEVICES + SPARE_DESCRIPTORS:
            pytest.skip(f"{DEVICES} connections need more than {hard} file descriptors (ulimit -n)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (DEVICES + SPARE_DESCRIPTORS, hard))


def acknowledgements(sockets: list[socket.socket], deadline_s: float = 60) -> int:
    """Read one acknowledgement from each; how many came."""
    came = 0
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(deadline_s)
            if not ready:
                break
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                came += key.fileobj.recv(16) == b"ACK"
                selector.unregister(key.fileobj)
    return came


@pytest.mark.usefixtures("enough_descriptors")
def test_thousands_of_devices_are_connected_at_once_and_counted_apart() -> None:
    ids = Random(5)
    with ServerProcess("f00d", "--admin-port", "0", "--metrics-port", "0") as device:
        process = psutil.Process(device.pid)
        before_bytes = process.memory_info().rss
        admin = device.logged_address("admin_listening")
        sockets = [socket.create_connection(device.address, 30) for _ in range(DEVICES)]
        try:
            for turn in range(ROUNDS):
                for number, sock in enumerate(sockets):
                    packet = Packet("toggle", f"device-{number:04d}", new_msg_id(ids), turn % 2 == 0)
                    sock.sendall(encode_packet(packet))
                assert acknowledgements(sockets) == DEVICES
            counts = http_json(admin, "GET", "/counts")
            assert (counts["received"], counts["connections"]) == (ROUNDS * DEVICES, DEVICES)
            grown_bytes = process.memory_info().rss - before_bytes
            assert grown_bytes < DEVICES * MAX_BYTES_PER_DEVICE
        finally:
            for sock in sockets:
                sock.close()
        for number in (0, 1234, DEVICES - 1):
            kept = http_json(admin, "GET", f"/packets?device_id=device-{number:04d}")["packets"]
            assert [packet["state"] for packet in kept] == [True, False]
        text = http_request(device.logged_address("metrics_listening"), "GET", "/metrics")[1]
        for number in (0, DEVICES - 1):
            sample = f'tcp_comm_packet_recv_total{{device_id="device-{number:04d}",outcome="success"}}'
            assert metric(text, sample) == ROUNDS
        assert text.count('tcp_comm_packet_sent_total{device_id="device-') == DEVICES
