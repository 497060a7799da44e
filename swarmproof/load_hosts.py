"""Which addresses Locust is given: the targets of a plan that its scenario talks to.

Most scenarios talk to one target, by `--host`. Those of MULTI_TARGET have an option for each of theirs and never look
at `--host`: for them a single `host` would be ignored, and a missing target would leave the default port of a server
that is none of the plan's.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from swarmproof.targets.base import Target
from swarmproof.targets.errors import TargetError

_STORES: Final = ("raft", "etcd", "pysyncobj")
_ECHO_SERVERS: Final = ("websocket_echo", "websocket_load")

# Scenario -> the kinds of target that its --host means.
HOST_OF_SCENARIO: Final[Mapping[str, tuple[str, ...]]] = {
    "envelope": ("envelope",),
    "f00d": ("f00d",),
    "websocket_echo": _ECHO_SERVERS,
    "websocket_rpc": ("websocket_rpc",),
    "websocket_tools": ("websocket_tools",),
    "websocket_performance": ("websocket_performance",),
    "websocket_security": ("websocket_security",),
    "raft_kv": _STORES,
}
# Scenario -> its options for hosts, and the kinds of target that each of them means.
MULTI_TARGET: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "mixed": {
        "envelope-host": ("envelope",),
        "f00d-host": ("f00d",),
        "echo-host": _ECHO_SERVERS,
        "rpc-host": ("websocket_rpc",),
        "kv-host": _STORES,
    },
    "hostile": {
        "envelope-host": ("envelope",),
        "f00d-host": ("f00d",),
        "echo-host": _ECHO_SERVERS,
    },
}


def hosts_for(
    scenario: str, targets: Sequence[Target], given: str | None, options: Mapping[str, object] | None = None
) -> dict[str, str]:
    """Option name -> address for Locust. `given` is the plan's `host`, `options` are its own options of the scenario.

    Errors: TargetError when the scenario has nothing to talk to, or `host` says nothing to it.
    """
    by_kind: dict[str, Target] = {}
    for target in targets:
        by_kind.setdefault(target.kind, target)
    if scenario in MULTI_TARGET:
        return _hosts_of_each(scenario, by_kind, given, options or {})
    if given is not None:
        return {"host": given}
    wanted = HOST_OF_SCENARIO.get(scenario, ())
    chosen = _first(wanted, by_kind)
    if chosen is None:
        chosen = by_kind.get("command") or (targets[0] if targets and not wanted else None)
    if chosen is None:
        need = f" of kind {' or '.join(wanted)}" if wanted else ""
        raise TargetError(f"the scenario {scenario} has nothing to talk to; add a [[target]]{need}, or host in [load]")
    return {"host": chosen.address}


def _hosts_of_each(
    scenario: str, by_kind: Mapping[str, Target], given: str | None, options: Mapping[str, object]
) -> dict[str, str]:
    """The addresses of a scenario with several targets; options that the plan has already are left to it."""
    table = MULTI_TARGET[scenario]
    if given is not None:
        example = f'{next(iter(table))} = "{given}"'
        raise TargetError(
            f"the scenario {scenario} has several targets and takes no host in [load]; name each in its options "
            f"({', '.join(table)}), such as options = {{ {example} }}"
        )
    told = {name.replace("_", "-") for name in options}
    chosen = {option: _first(kinds, by_kind) for option, kinds in table.items() if option not in told}
    missing = [table[option] for option, target in chosen.items() if target is None]
    if missing:
        names = ", ".join(" or ".join(kinds) for kinds in missing)
        raise TargetError(f"the scenario {scenario} needs a [[target]] of each kind; missing: {names}")
    return {option: target.address for option, target in chosen.items() if target is not None}


def _first(kinds: Sequence[str], by_kind: Mapping[str, Target]) -> Target | None:
    """The target of the first of these kinds that there is."""
    return next((by_kind[kind] for kind in kinds if kind in by_kind), None)
