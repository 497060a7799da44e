"""Which of a plan's targets a scenario is told to talk to."""

import re
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from swarmproof.load_hosts import MULTI_TARGET, hosts_for
from swarmproof.targets.errors import TargetError
from users import options


def target(kind: str, address: str) -> Any:
    return SimpleNamespace(kind=kind, address=address)


ENVELOPE = target("envelope", "tcp://127.0.0.1:19001")
F00D = target("f00d", "tcp://127.0.0.1:19002")
ECHO = target("websocket_echo", "ws://127.0.0.1:19003")
RPC = target("websocket_rpc", "ws://127.0.0.1:19004")
ETCD = target("etcd", "etcd://127.0.0.1:19005")


def test_hostile_users_attack_the_targets_of_their_plan_and_nothing_else() -> None:
    assert hosts_for("hostile", [F00D, ENVELOPE, ECHO], None) == {
        "envelope-host": ENVELOPE.address,
        "f00d-host": F00D.address,
        "echo-host": ECHO.address,
    }


def test_each_protocol_of_mixed_has_its_target() -> None:
    hosts = hosts_for("mixed", [ENVELOPE, F00D, ECHO, RPC, ETCD], None)
    assert (len(hosts), hosts["kv-host"], hosts["rpc-host"]) == (5, ETCD.address, RPC.address)


@pytest.mark.parametrize("scenario", ["hostile", "mixed"])
def test_a_host_that_a_scenario_with_several_targets_would_ignore_is_refused(scenario: str) -> None:
    with pytest.raises(
        TargetError, match=f"the scenario {scenario} has several targets and takes no host in \\[load\\]"
    ):
        hosts_for(scenario, [ENVELOPE, F00D, ECHO, RPC, ETCD], "tcp://10.0.0.1:9000")


def test_a_missing_target_is_named_instead_of_attacking_a_default_port() -> None:
    with pytest.raises(TargetError, match=r"missing: f00d, websocket_echo or websocket_load$"):
        hosts_for("hostile", [ENVELOPE], None)


def test_a_target_that_the_options_name_need_not_be_in_the_plan() -> None:
    own: dict[str, object] = {"f00d_host": "tcp://10.0.0.1:9500", "echo-host": "ws://10.0.0.1:8080"}
    assert hosts_for("hostile", [ENVELOPE], None, own) == {"envelope-host": ENVELOPE.address}


def test_the_scenario_of_one_target_takes_the_one_of_its_kind_or_the_host() -> None:
    assert hosts_for("f00d", [ENVELOPE, F00D], None) == {"host": F00D.address}
    assert hosts_for("f00d", [ENVELOPE, F00D], "tcp://10.0.0.1:9500") == {"host": "tcp://10.0.0.1:9500"}


@pytest.mark.parametrize("scenario", sorted(MULTI_TARGET))
def test_the_table_has_exactly_the_host_options_of_the_scenario(scenario: str) -> None:
    source = import_module(f"locustfiles.{scenario}").__file__
    assert source is not None
    with open(source, encoding="utf-8") as file:
        offered = re.findall(r'options\.offer_host\("(\w+)"', file.read())
    assert [f"{name}-host" for name in offered] == list(MULTI_TARGET[scenario])
    assert {f"{name}_host" for name in offered} <= set(options._offered)
