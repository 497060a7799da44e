"""From a plan's [[target]] tables (or names on the command line) to targets that can be started."""

from collections.abc import Callable, Sequence
from pathlib import Path

from swarmproof.plan import (
    TARGET_KINDS,
    CommandTable,
    EtcdTable,
    PySyncObjTable,
    RaftTable,
    ServerTable,
    TargetTable,
)
from swarmproof.plan_errors import PlanError
from swarmproof.targets.base import Surroundings, Target
from swarmproof.targets.command import CommandTarget
from swarmproof.targets.etcd import EtcdTarget
from swarmproof.targets.pysyncobj import PySyncObjTarget
from swarmproof.targets.raft import RaftTarget
from swarmproof.targets.servers import ServerTarget

# What `swarmproof up` starts when nothing is named: everything that needs no argument.
EVERYTHING = ("envelope", "f00d", "websocket_echo", "websocket_rpc", "raft")
# What must be asked for: these need a program that does not come with us, or a scenario with options of its own.
ON_REQUEST = (
    "etcd",
    "pysyncobj",
    "websocket_tools",
    "websocket_performance",
    "websocket_load",
    "websocket_security",
)
_TABLES: dict[str, type[RaftTable | EtcdTable | PySyncObjTable]] = {
    "raft": RaftTable,
    "etcd": EtcdTable,
    "pysyncobj": PySyncObjTable,
}
_CLUSTERS: dict[str, Callable[..., Target]] = {"raft": RaftTarget, "etcd": EtcdTarget, "pysyncobj": PySyncObjTarget}


def build_targets(tables: Sequence[TargetTable], around: Surroundings) -> list[Target]:
    """Targets in the order of the plan. Errors: TargetError."""
    return [_build(table, around) for table in tables]


def table_for(word: str) -> TargetTable:
    """A target from the command line: `envelope`, `envelope:9000` (port), `raft:5` (nodes). Errors: PlanError."""
    kind, colon, number = word.partition(":")
    kind = kind.replace("-", "_")
    if kind not in EVERYTHING + ON_REQUEST:
        raise PlanError(
            f"there is no target {word!r}; there are: {', '.join(EVERYTHING + ON_REQUEST)} "
            "(envelope:9000 sets the port, raft:5 the number of nodes)"
        )
    if colon and not number.isdecimal():
        raise PlanError(f"in {word!r} a number must follow the colon")
    if kind in _TABLES:
        if colon and number not in ("1", "3", "5"):
            raise PlanError(f"{word!r}: a cluster has 1, 3 or 5 nodes")
        return _TABLES[kind].model_validate({"kind": kind, "nodes": int(number) if colon else 3})
    if colon and not 0 < int(number) < 65536:
        raise PlanError(f"{word!r}: a port is a number from 1 to 65535")
    return ServerTable.model_validate({"kind": kind, "port": int(number) if colon else None})


def _build(table: TargetTable, around: Surroundings) -> Target:
    assert table.kind in TARGET_KINDS
    if isinstance(table, RaftTable | EtcdTable | PySyncObjTable):
        name = table.name or table.kind
        return _CLUSTERS[table.kind](
            table.nodes, around, name=name, ports=table.ports, arguments=table.arguments, links=table.link_kinds
        )
    if isinstance(table, CommandTable):
        return CommandTarget(
            table.command,
            around,
            name=table.name or table.kind,
            ready=table.ready,
            port=table.port,
            host=table.host,
            env=table.env or None,
            cwd=Path(table.cwd) if table.cwd else None,
            ready_within_s=table.ready_within,
            links=table.link_kinds,
        )
    return ServerTarget(
        table.kind, around, name=table.name, port=table.port, arguments=table.arguments, links=table.link_kinds
    )
