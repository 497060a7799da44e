"""Whose operations a fault is costed with."""

from typing import Any

import pytest

from records.faults import FaultRecord
from swarmproof.affected import PROTOCOLS, Affected, Clients
from users.envelope import EnvelopeClient
from users.f00d import F00DClient
from users.raft_kv import RaftKvClient
from users.websocket_echo import WebSocketEchoClient
from users.websocket_rpc import WebSocketRpcClient
from users.websocket_tools import WebSocketToolsClient

MIXED = ("envelope connect", "envelope echo", "f00d toggle", "kv append", "kv get", "rpc echo", "websocket echo text")


def target(kind: str, port: int, *members: str, name: str = "", scheme: str = "tcp") -> dict[str, Any]:
    name = name or kind
    address = f"{scheme}://127.0.0.1:{port}"
    return {"name": name, "kind": kind, "address": address, "members": [{"name": m} for m in members or (name,)]}


def kill(chosen: str) -> FaultRecord:
    return FaultRecord(1, "kill", chosen, chosen=chosen)


ALL_FIVE = {
    "targets": [
        target("envelope", 1001),
        target("f00d", 1002),
        target("websocket_echo", 1003, scheme="ws"),
        target("websocket_rpc", 1004, scheme="ws"),
        target("raft", 1005, "n1", "n2", "n3", scheme="kv"),
    ],
    "load": {"host": None},
}


@pytest.mark.parametrize(
    ("chosen", "operations", "in_history"),
    [
        ("envelope", MIXED[:2], False),
        ("websocket_rpc", ("rpc echo",), False),
        ("websocket_echo", ("websocket echo text",), False),
        ("n2", ("kv append", "kv get"), True),
        ("n1, n2, n3", ("kv append", "kv get"), True),
        ("envelope, n1, n2, n3", (*MIXED[:2], "kv append", "kv get"), False),
        ("nobody", (), False),
    ],
)
def test_in_a_mixed_run_only_the_protocol_of_the_victim_counts(
    chosen: str, operations: tuple[str, ...], in_history: bool
) -> None:
    assert Clients(ALL_FIVE, MIXED).affected_by(kill(chosen)) == Affected(operations, in_history)


def test_a_command_alone_is_what_everybody_talks_to_whatever_they_speak() -> None:
    facts = {"targets": [target("command", 4444, name="mine")], "load": {"host": "tcp://127.0.0.1:9000"}}
    assert Clients(facts, ("lines add", "lines connect")).affected_by(kill("mine")).operations == (
        "lines add",
        "lines connect",
    )
    assert Clients(facts, ("kv get", "kv put")).affected_by(kill("mine")).in_history


def test_of_two_servers_of_a_kind_the_one_with_the_address_of_the_load_is_meant() -> None:
    targets = [target("envelope", 1001, name="old"), target("envelope", 1002, name="new")]
    clients = Clients({"targets": targets, "load": {"host": "tcp://127.0.0.1:1002"}}, ("envelope echo",))
    assert clients.affected_by(kill("new")).operations == ("envelope echo",)
    assert clients.affected_by(kill("old")).operations == ()
    unsaid = Clients({"targets": targets}, ("envelope echo",))
    assert unsaid.affected_by(kill("new")).operations == (), "nobody can tell which of them it was"


def test_a_command_behind_the_loaded_one_is_felt_by_its_clients() -> None:
    targets = [target("command", 1001, name="front"), target("command", 1002, name="behind"), target("f00d", 1003)]
    clients = Clients({"targets": targets, "load": {"host": "ws://127.0.0.1:1001/chat"}}, ("chat say",))
    assert clients.affected_by(kill("behind")).operations == ("chat say",)
    assert clients.affected_by(kill("f00d")).operations == ()


def test_a_command_is_known_by_the_port_of_its_probe() -> None:
    targets = [target("command", 4444, name="mine"), target("envelope", 1001)]
    plan = {"target": [{"name": "mine", "ready": "tcp:9000"}, {"kind": "envelope"}]}
    facts = {"targets": targets, "plan": plan, "load": {"host": "tcp://127.0.0.1:9000"}}
    clients = Clients(facts, ("envelope echo",))
    assert clients.affected_by(kill("mine")).operations == ("envelope echo",)
    assert clients.affected_by(kill("envelope")).operations == ()


def test_beside_servers_of_known_protocols_a_command_has_what_is_left() -> None:
    facts = {"targets": [*ALL_FIVE["targets"], target("command", 1006, name="mine")]}
    clients = Clients(facts, (*MIXED, "lines add"))
    assert clients.affected_by(kill("mine")).operations == ("lines add",)


def test_a_run_that_does_not_say_what_it_ran_is_costed_with_its_history() -> None:
    for facts in ({}, {"targets": [3], "plan": "x", "load": []}, {"targets": "?"}):
        assert Clients(facts, MIXED).affected_by(kill("n1")) == Affected(("kv append", "kv get"), True)


def test_the_protocols_are_named_as_their_users_name_them() -> None:
    spoken = {
        "envelope": EnvelopeClient,
        "f00d": F00DClient,
        "websocket_echo": WebSocketEchoClient,
        "websocket_rpc": WebSocketRpcClient,
        "websocket_tools": WebSocketToolsClient,
        "raft": RaftKvClient,
    }
    assert {kind: PROTOCOLS[kind] for kind in spoken} == {kind: c.request_type for kind, c in spoken.items()}
