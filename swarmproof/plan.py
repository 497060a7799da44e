"""Plans: what to start, how to load it, what to break, and what must hold. One TOML file, checked before any start.

Every mistake becomes one sentence that names the file, the line, the key and what is allowed there.
"""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from swarmproof.durations import parse_duration_s, parse_load_rate, parse_period_s
from swarmproof.faults.catalogue import SELECTORS
from swarmproof.faults.fault import CLIENT_LINKS, PEER_LINKS
from swarmproof.faults.fitness import Victim, check_fit, needed_links
from swarmproof.faults.schedule import FaultMistake, FaultSpec, check_kind, fault_spec
from swarmproof.faults.selection import CLUSTER_SELECTORS, split_target
from swarmproof.judge.limits import read_limit
from swarmproof.plan_errors import PlanError, sentence_for
from swarmproof.targets.cluster import NODE_COUNTS, node_names

BUILT_IN_PACKAGE = "plans"
SUFFIX = ".toml"

Duration = Annotated[float, BeforeValidator(parse_duration_s)]
Rate = Annotated[str, BeforeValidator(parse_load_rate)]
Port = Annotated[int, Field(ge=1, le=65535)]
# Keys of a [[fault]] that only some kinds have; the catalogue says which.
FAULT_OPTIONS = ("mode", "delay", "share", "bytes")
Option = str | int | float | bool


def _threshold(value: object) -> object:
    """{ limit = "< 5%", abort = true } as "< 5% abort"."""
    if isinstance(value, dict):
        if set(value) - {"limit", "abort"} or not isinstance(value.get("limit"), str):
            raise ValueError('a threshold is a text such as "< 50ms", or { limit = "< 50ms", abort = true }')
        return f"{value['limit']} abort" if value.get("abort") is True else value["limit"]
    return value


def _as_text(value: object) -> object:
    """`share = 1` means the same as "1"."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_as_text)]
Threshold = Annotated[str, BeforeValidator(_threshold)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _TargetTable(_Table):
    """`links`: its connections go through links that faults can change; faults that need them ask for them."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
    links: bool | Literal["peers", "clients"] = False

    @property
    def link_kinds(self) -> frozenset[str]:
        """Which of its connections: {"peers", "clients"}."""
        if isinstance(self.links, bool):
            return frozenset({PEER_LINKS, CLIENT_LINKS}) if self.links else frozenset()
        return frozenset({self.links})


class ServerTable(_TargetTable):
    """A reference server."""

    kind: Literal[
        "envelope",
        "f00d",
        "websocket_echo",
        "websocket_rpc",
        "websocket_tools",
        "websocket_performance",
        "websocket_load",
        "websocket_security",
    ]
    port: Port | None = None
    arguments: list[str] = []


class ClusterTable(_TargetTable):
    """What all replicated stores have. `ports` are the nodes' client ports."""

    nodes: Literal[1, 3, 5] = 3
    ports: list[Port] | None = None
    arguments: list[str] = []

    @model_validator(mode="after")
    def _one_port_per_node(self) -> "ClusterTable":
        if self.ports is not None and len(self.ports) != self.nodes:
            raise ValueError(f"ports must hold {self.nodes} numbers, one per node, not {len(self.ports)}")
        return self


class RaftTable(ClusterTable):
    """A Raft cluster of reference nodes."""

    kind: Literal["raft"]


class EtcdTable(ClusterTable):
    """An etcd cluster; the program comes with the distribution."""

    kind: Literal["etcd"]


class PySyncObjTable(ClusterTable):
    """A store on PySyncObj, which is known to lose writes: the judge must convict it."""

    kind: Literal["pysyncobj"]


class CommandTable(_TargetTable):
    """A program of the user's. `{port}` in command, ready and host stands for the port."""

    kind: Literal["command"]
    command: str | list[str]
    ready: str = "tcp"
    port: Port | None = None
    host: str | None = None
    env: dict[str, str] = {}
    cwd: str | None = None
    ready_within: Duration = 30.0


TargetTable = Annotated[
    ServerTable | RaftTable | EtcdTable | PySyncObjTable | CommandTable, Field(discriminator="kind")
]


class StageTable(_Table):
    """One stage of an open load: `rate` such as 500 or "0..5000", and for how long; only the last may go on."""

    rate: str | int | float
    duration: Duration | None = Field(None, gt=0)

    def __str__(self) -> str:
        return f"{self.rate}" if self.duration is None else f"{self.rate} for {self.duration:.12g}s"


class LoadTable(_Table):
    """The load: which scenario, how many users, how long. `rate` (or stages) makes it open, `engine` fast."""

    locustfile: str
    users: int = Field(20, ge=1)
    spawn_rate: float | None = Field(None, gt=0)
    rate: Rate | None = None
    stage: list[StageTable] = []
    arrivals: Literal["constant", "poisson"] = "constant"
    max_lateness: Duration | None = Field(None, gt=0)
    run_time: Duration | None = None
    workers: int = Field(0, ge=0, le=256)
    host: str | None = None
    engine: bool = False
    options: dict[str, Option] = {}

    @model_validator(mode="after")
    def _one_schedule(self) -> "LoadTable":
        if self.stage and self.rate is not None:
            raise ValueError("give rate or [[load.stage]], not both")
        if self.schedule() is None and (self.arrivals != "constant" or self.max_lateness is not None):
            raise ValueError("arrivals and max_lateness are of an open load; give it a rate")
        return self

    def schedule(self) -> str | None:
        """The rate with all its stages; None for a closed load."""
        if self.rate is not None:
            return self.rate
        return parse_load_rate(" then ".join(map(str, self.stage))) if self.stage else None

    @property
    def locust_options(self) -> dict[str, Option]:
        """`options`, and those that the other keys stand for."""
        return {**self.options, **({"engine": True} if self.engine else {})}


class FaultTable(_Table):
    """One fault. `restart_after` for kill and term, `for` for pause: how long it lasts."""

    kind: str
    target: str
    at: Duration | None = None
    every: Annotated[tuple[float, float], BeforeValidator(parse_period_s)] | None = None
    restart_after: Duration | None = None
    for_: Duration | None = Field(None, alias="for")
    count: int | None = Field(None, ge=1)
    after_operations: int | None = Field(None, ge=1)
    in_flight: int | None = Field(None, ge=1)
    toxics: list[str] = []
    links: Literal["peers", "clients"] | None = None
    mode: str | None = None
    delay: Text | None = None
    share: Text | None = None
    bytes: int | None = Field(None, ge=1)

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        return check_kind(kind)

    @model_validator(mode="after")
    def _complete(self) -> "FaultTable":
        if self.restart_after is not None and self.for_ is not None:
            raise ValueError("give restart_after or for, not both")
        self.spec()
        return self

    def spec(self) -> FaultSpec:
        return fault_spec(
            self.kind,
            self.target,
            at_s=self.at,
            period=self.every,
            count=self.count,
            heal_after_s=self.restart_after if self.restart_after is not None else self.for_,
            after_operations=self.after_operations,
            in_flight=self.in_flight,
            toxics=self.toxics,
            links=self.links,
            options=[(name, str(getattr(self, name))) for name in FAULT_OPTIONS if getattr(self, name) is not None],
        )


class Plan(_Table):
    """A whole plan."""

    title: str = ""
    seed: int = Field(1, ge=0)
    target: list[TargetTable] = []
    load: LoadTable
    fault: list[FaultTable] = []
    thresholds: dict[str, Threshold] = {}
    evidence: dict[str, int | float | str | bool] = {}

    @field_validator("thresholds")
    @classmethod
    def _readable(cls, thresholds: dict[str, str]) -> dict[str, str]:
        for left, right in thresholds.items():
            read_limit(left, right)
        return thresholds

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Plan":
        names = [target.name or target.kind for target in self.target]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two targets are called {name!r}; give one of them another `name`")
        self.check_fault_targets()
        return self

    def check_fault_targets(self) -> None:
        """Errors: FaultMistake for a fault that has nothing to hit here."""
        clusters = [table for table in self.target if isinstance(table, RaftTable | EtcdTable | PySyncObjTable)]
        if len(clusters) > 1:
            given = " and ".join(table.name or table.kind for table in clusters)
            raise ValueError(
                f"a run has one history, so it can have one cluster, not {given}; give each a plan of its own, and "
                "see them side by side with `swarmproof compare`"
            )
        names = [table.name or table.kind for table in self.target if not isinstance(table, ClusterTable)]
        names += [name for table in clusters for name in node_names(table.name or table.kind, table.nodes, table.kind)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two targets would have a process {name!r}; give one of them another `name`")
        for fault in self.fault:
            wanted, cluster = split_target(fault.target)
            if cluster is not None and cluster not in [table.name or table.kind for table in clusters]:
                raise FaultMistake(f"{fault.kind} {wanted} of {cluster}: there is no cluster {cluster!r} here")
            if wanted in CLUSTER_SELECTORS and not clusters:
                raise FaultMistake(f"{fault.kind} {wanted} needs a [[target]] of kind raft, etcd or pysyncobj")
            if wanted not in CLUSTER_SELECTORS and wanted != "all" and wanted not in names:
                words = ", ".join([*(SELECTORS if clusters else ["all"]), *names])
                raise FaultMistake(f"{fault.kind} {wanted} has nothing to hit; the targets here are: {words}")

            self._check_fit(fault, wanted)

    def _check_fit(self, fault: FaultTable, wanted: str) -> None:
        """Whether the fault can be done to what it is aimed at. Errors: FaultMistake."""
        clusters = [table for table in self.target if isinstance(table, ClusterTable)]
        cluster = _victim(clusters[0]) if clusters else None
        check_fit(fault.spec(), [_victim(table) for table in self._hit_by(wanted)], cluster)

    def _hit_by(self, wanted: str) -> Sequence[TargetTable]:
        """The targets that a fault aimed at `wanted` hits."""
        clusters = [table for table in self.target if isinstance(table, ClusterTable)]
        if wanted in CLUSTER_SELECTORS:
            return clusters[:1]
        if wanted == "all":
            return clusters[:1] or list(self.target)
        named = []
        for table in self.target:
            name = table.name or table.kind
            names = node_names(name, table.nodes, table.kind) if isinstance(table, ClusterTable) else [name]
            if wanted in names:
                named.append(table)
        return named

    def _links_for(self, fault: FaultTable) -> str | None:
        """Which links a fault acts on; None for most."""
        hit = self._hit_by(split_target(fault.target)[0])
        return needed_links(fault.spec(), [_victim(table) for table in hit])

    def targets_with_links(self) -> list[TargetTable]:
        """The targets, those with links that have a fault which needs them. Nobody else pays for a proxy."""
        needed: dict[int, set[str]] = {}
        for fault in self.fault:
            links = self._links_for(fault)
            if links is not None:
                for table in self._hit_by(split_target(fault.target)[0]):
                    needed.setdefault(id(table), set()).add(links)
        tables: list[TargetTable] = []
        for table in self.target:
            wanted = table.link_kinds | needed.get(id(table), set())
            links_value: Any = True if len(wanted) == 2 else next(iter(wanted), False)
            tables.append(table.model_copy(update={"links": links_value}))
        return tables

    def faults(self) -> list[FaultSpec]:
        """The faults in the order of the plan."""
        return [fault.spec() for fault in self.fault]


def _victim(table: TargetTable) -> Victim:
    return Victim(table.kind, table.nodes if isinstance(table, ClusterTable) else 1)


_MODELS: Mapping[str, type[BaseModel]] = {
    "": Plan,
    "load": LoadTable,
    "stage": StageTable,
    "fault": FaultTable,
    "envelope": ServerTable,
    "f00d": ServerTable,
    "websocket_echo": ServerTable,
    "websocket_rpc": ServerTable,
    "websocket_tools": ServerTable,
    "websocket_performance": ServerTable,
    "websocket_load": ServerTable,
    "websocket_security": ServerTable,
    "raft": RaftTable,
    "etcd": EtcdTable,
    "pysyncobj": PySyncObjTable,
    "command": CommandTable,
}
TARGET_KINDS = tuple(kind for kind in _MODELS if kind not in ("", "load", "stage", "fault"))
assert set(NODE_COUNTS) == {1, 3, 5}, "ClusterTable.nodes repeats them for the type checker"


def built_in_plans() -> dict[str, str]:
    """Name -> title of the plans that come with the program."""
    found: dict[str, str] = {}
    for entry in sorted(resources.files(BUILT_IN_PACKAGE).iterdir(), key=lambda item: item.name):
        if entry.name.endswith(SUFFIX):
            title = re.search(r'^title\s*=\s*"(.*)"', entry.read_text("utf-8"), re.MULTILINE)
            found[entry.name.removesuffix(SUFFIX)] = title[1] if title else ""
    return found


def load_plan(name_or_path: str) -> tuple[str, Plan, str]:
    """A built-in plan by name or a TOML file by path: its short name, the plan, its text. Errors: PlanError."""
    path = Path(name_or_path)
    built_in = built_in_plans()
    if name_or_path in built_in and not path.is_file():
        text = (resources.files(BUILT_IN_PACKAGE) / (name_or_path + SUFFIX)).read_text("utf-8")
        return name_or_path, parse_plan(text, f"plan {name_or_path}"), text
    if not path.is_file():
        looks_like_a_path = path.suffix == SUFFIX or os.sep in name_or_path
        what = f"there is no plan file {name_or_path}" if looks_like_a_path else f"there is no plan {name_or_path!r}"
        raise PlanError(f"{what}; the built-in plans are: {', '.join(built_in)} (or give the path of a TOML file)")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PlanError(f"cannot read the plan {path}: {reason}") from error
    return path.stem, parse_plan(text, str(path)), text


def parse_plan(text: str, where: str) -> Plan:
    """A checked plan. Errors: PlanError with one sentence for the first mistake."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{where} is not TOML: {str(error)[:1].lower()}{str(error)[1:]}") from error
    return check_plan(values, text, where)


def check_plan(values: Mapping[str, Any], text: str, where: str) -> Plan:
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        raise PlanError(sentence_for(error, _MODELS, TARGET_KINDS, text, where)) from error
    except FaultMistake as error:  # pragma: no cover - pydantic wraps it; kept so that no traceback can escape
        raise PlanError(f"{where}: {error}") from error
