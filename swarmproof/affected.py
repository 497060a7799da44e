"""Which operations a fault can be felt in: those of the clients of its target, not of other servers in the run."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from records.faults import FaultRecord

#: Kind of target -> the first word of its operations' names, which is the protocol that its clients speak.
PROTOCOLS: Final[Mapping[str, str]] = {
    "envelope": "envelope",
    "f00d": "f00d",
    "websocket_echo": "websocket",
    "websocket_performance": "websocket",
    "websocket_load": "websocket",
    "websocket_security": "websocket",
    "websocket_rpc": "rpc",
    "websocket_tools": "tools",
    "raft": "kv",
    "etcd": "kv",
    "pysyncobj": "kv",
}
#: The protocol whose operations are written down one by one, in the history.
WITH_HISTORY: Final = "kv"
COMMAND: Final = "command"

_PORT: Final = re.compile(r":(\d{1,5})(?=[,/?]|$)")


class Affected(NamedTuple):
    """Names of operations in the latencies; none when nobody can say which. `in_history`: the history has them all."""

    operations: tuple[str, ...]
    in_history: bool


class _Target(NamedTuple):
    kind: str
    members: frozenset[str]
    ports: frozenset[int]

    @property
    def protocol(self) -> str | None:
        """None: whatever the command of the user speaks."""
        return PROTOCOLS.get(self.kind)


class Clients:
    """Who talks to whom in a run, from its run.json and the `names` of all operations that ended in it."""

    def __init__(self, facts: Mapping[str, Any], names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._targets = _targets_in(facts)
        load = facts.get("load")
        host = load.get("host") if isinstance(load, dict) else None
        self._loaded_ports = _ports(host) if isinstance(host, str) else frozenset()

    def affected_by(self, fault: FaultRecord) -> Affected:
        """The operations of the clients of those that were hit."""
        if not self._targets:  # nobody says what there was: the history, if there is one, is what faults are about
            of_history = self._of(WITH_HISTORY)
            return Affected(of_history or self._names, True)
        chosen = {name.strip() for name in fault.chosen.split(",")}
        hit = [target for target in self._targets if target.members & chosen]
        found = {name for target in hit for name in self._operations_of(target)}
        operations = tuple(name for name in self._names if name in found)
        if operations:
            return Affected(operations, operations == self._of(WITH_HISTORY, operations))
        return Affected((), bool(hit) and all(target.protocol == WITH_HISTORY for target in hit))

    def _operations_of(self, target: _Target) -> Sequence[str]:
        if len(self._targets) == 1:
            return self._names
        if any(other.ports & self._loaded_ports for other in self._targets):
            # One address for all users. A command that is not it may well stand behind it; another server does not.
            return self._names if target.ports & self._loaded_ports or target.kind == COMMAND else ()
        others = [other for other in self._targets if other is not target]
        if any(other.protocol == target.protocol for other in others):
            return ()  # the names do not tell them apart
        if target.protocol is not None:
            return self._of(target.protocol)
        theirs = {name for other in others for name in self._of(other.protocol or "")}
        return [name for name in self._names if name not in theirs]

    def _of(self, protocol: str, names: Sequence[str] | None = None) -> tuple[str, ...]:
        return tuple(name for name in (self._names if names is None else names) if name.startswith(f"{protocol} "))


def _targets_in(facts: Mapping[str, Any]) -> list[_Target]:
    """What run.json says of the targets; none of what it says in another form."""
    plan = facts.get("plan")
    tables = _objects(plan.get("target")) if isinstance(plan, dict) else []
    ready = {str(table.get("name") or table.get("kind")): str(table.get("ready") or "") for table in tables}
    return [
        _Target(
            str(target.get("kind")),
            frozenset({str(member.get("name")) for member in _objects(target.get("members"))}),
            _ports(str(target.get("address"))) | _ports(_probe(ready.get(str(target.get("name")), ""))),
        )
        for target in _objects(facts.get("targets"))
    ]


def _probe(ready: str) -> str:
    """`tcp:9000` is an address; `log:listening` is none."""
    return ready if ready.startswith("tcp:") else ""


def _ports(text: str) -> frozenset[int]:
    return frozenset(int(port) for port in _PORT.findall(text))


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
