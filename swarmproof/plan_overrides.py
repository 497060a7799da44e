"""Command-line options on top of a plan: they replace its values, are checked by the same rules, and named as typed."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from swarmproof.durations import parse_duration_s, parse_load_rate
from swarmproof.faults.schedule import FaultMistake, parse_fault
from swarmproof.judge.limits import ThresholdError, split_limit
from swarmproof.plan import FaultTable, Plan
from swarmproof.plan_errors import PlanError

T = TypeVar("T")


class Overrides(NamedTuple):
    """As typed; None = not given."""

    users: int | None = None
    spawn_rate: float | None = None
    run_time: str | None = None
    rate: str | None = None
    workers: int | None = None
    seed: int | None = None
    faults: list[str] | None = None
    thresholds: list[str] | None = None
    options: list[str] | None = None
    arrivals: str | None = None


def override(plan: Plan, given: Overrides) -> Plan:
    """The plan with the options applied; faults and thresholds are added to its own. Errors: PlanError."""
    load: dict[str, Any] = {}
    for name in ("users", "spawn_rate", "workers"):
        if (value := getattr(given, name)) is not None:
            load[name] = value
    if given.run_time is not None:
        load["run_time"] = _parsed("-t", parse_duration_s, given.run_time)
    if given.rate is not None:
        load |= {"rate": _parsed("--rate", parse_load_rate, given.rate), "stage": []}
    if given.arrivals is not None:
        if given.arrivals not in ("constant", "poisson"):
            raise PlanError(f"--arrivals {given.arrivals!r} must be constant or poisson")
        load["arrivals"] = given.arrivals
    if given.options:
        load["options"] = {**plan.load.options, **dict(_option(text) for text in given.options)}
    changes: dict[str, Any] = {"load": plan.load.model_copy(update=load)}
    if given.seed is not None:
        changes["seed"] = given.seed
    if given.thresholds:
        changes["thresholds"] = {**plan.thresholds, **dict(_threshold(text) for text in given.thresholds)}
    if given.faults:
        changes["fault"] = [*plan.fault, *(_fault(text) for text in given.faults)]
    if changes["load"].arrivals != "constant" and changes["load"].schedule() is None:
        raise PlanError("arrivals are of an open load; give it a rate with --rate")
    changed = plan.model_copy(update=changes)
    try:
        changed.check_fault_targets()
    except FaultMistake as error:
        raise PlanError(f"--fault: {error}") from error
    return changed


def _parsed(option: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise PlanError(f"{option}: {error}") from error


#: As in TOML: an option that takes no value is switched on or off.
_SWITCHES = {"true": True, "false": False}


def _option(text: str) -> tuple[str, str | bool]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise PlanError(f"--option {text!r} must be NAME=VALUE, such as depth=16")
    return name.strip().lstrip("-").replace("-", "_"), _SWITCHES.get(value, value)


def _threshold(text: str) -> tuple[str, str]:
    try:
        return split_limit(text)
    except ThresholdError as error:
        raise PlanError(f"--threshold {error}") from error


def _fault(text: str) -> FaultTable:
    try:
        spec = parse_fault(text)
        values: dict[str, Any] = {"kind": spec.kind, "target": spec.target, "count": spec.count, "at": spec.at_s}
        values["for"] = spec.heal_after_s
        values |= {"after_operations": spec.after_operations, "in_flight": spec.in_flight, "links": spec.links}
        values |= {"toxics": list(spec.toxics), **{name: _number(value) for name, value in spec.options}}
        table = FaultTable.model_validate(
            {key: value for key, value in values.items() if value is not None} | _every(spec)
        )
    except FaultMistake as error:
        raise PlanError(f"--fault: {error}") from error
    except ValidationError as error:
        raise PlanError(f"--fault {text!r}: {error.errors()[0]['msg']}") from error
    return table


def _number(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _every(spec: Any) -> dict[str, str]:
    return {"every": f"{spec.every_s}s ± {spec.jitter_s}s"} if spec.every_s is not None else {}
