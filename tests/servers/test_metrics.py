"""The metrics port: text that Prometheus reads, and a side door that nobody can block."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from servers.metrics import MAX_LISTED_CLIENTS, _clients
from servers.worker_metrics import all_clients
from tests.processes import ServerProcess
from tests.servers.clients import EnvelopeClient, RawClient, http_json, http_request


@pytest.mark.parametrize("name", ["envelope", "f00d", "websocket_echo", "websocket_rpc"])
def test_metrics_are_prometheus_text(name: str) -> None:
    with ServerProcess(name, "--metrics-port", "0") as server:
        status, text = http_request(server.logged_address("metrics_listening"), "GET", "/metrics")
        assert status == 200
        families = {family.name: family.type for family in text_string_to_metric_families(text)}
        assert families[f"{name}_connections"] == "counter"
        assert families[f"{name}_connections_active"] == "gauge"
        assert all(line.startswith("# HELP ") for line in text.splitlines() if line.startswith("# H"))


def test_clients_are_listed_with_their_own_counters() -> None:
    with ServerProcess("envelope", "--metrics-port", "0") as server:
        address = server.logged_address("metrics_listening")
        assert http_json(address, "GET", "/clients") == []
        with EnvelopeClient(server.address) as one, EnvelopeClient(server.address) as two:
            for _ in range(3):
                one.echo(1, b"x")
            two.echo(2, b"y")
            listed = http_json(address, "GET", "/clients")
            peers = {"{}:{}".format(*client.sock.getsockname()): n for client, n in ((one, 3), (two, 1))}
            assert {client["peer"]: client["messages"] for client in listed} == peers
            assert [client["pending_bytes"] for client in listed] == [0, 0]


def test_a_list_of_clients_that_is_cut_says_how_many_are_missing() -> None:
    def group(size: int) -> Any:
        one = SimpleNamespace(peer="127.0.0.1:5000", messages=1, last_message_s=0.0, pending_bytes=0)
        return SimpleNamespace(connections=[one] * size)

    assert len(_clients(group(MAX_LISTED_CLIENTS))) == MAX_LISTED_CLIENTS
    cut = _clients(group(MAX_LISTED_CLIENTS + 7))
    assert (len(cut), cut[-1]) == (MAX_LISTED_CLIENTS + 1, {"not_listed": 7})
    of_two_workers = all_clients([json.dumps(cut), json.dumps(cut)])
    assert (len(of_two_workers), of_two_workers[-1]) == (2 * MAX_LISTED_CLIENTS + 1, {"not_listed": 14})


def test_metrics_port_in_use_is_one_sentence_and_exit_code_3() -> None:
    with ServerProcess("envelope", "--metrics-port", "0") as server:
        taken = server.logged_address("metrics_listening")[1]
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{taken}: the port is already in use"):
            ServerProcess("envelope", "--metrics-port", str(taken))


def test_rude_visitors_do_not_end_the_server() -> None:
    with ServerProcess("envelope", "--metrics-port", "0") as server:
        address = server.logged_address("metrics_listening")
        for data in (b"\xff" * 2000 + b"\r\n\r\n", b"GET", b"GET /metrics HTTP/9.9\r\n\r\n", b"X" * 100_000):
            with RawClient(address) as rude:
                rude.send(data)
                rude.reset()
        with RawClient(address) as silent:
            assert http_request(address, "GET", "/metrics")[0] == 200
            silent.reset()
        with EnvelopeClient(server.address) as client:
            assert client.echo(1, b"x").payload == b"x"
