"""How often each operation of a key-value workload is chosen: `--mix append=8,get=8,cas=6,put=2,delete=1`.

The default is what finds bugs. Appends and cas follow from what was there before, so one lost or doubled write shows
in all that follows; a put covers its own traces, and a delete those of others.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

OPERATIONS: Final = ("append", "get", "cas", "put", "delete")
DEFAULT_MIX: Final = "append=8,get=8,cas=6,put=2,delete=1"
#: The tasks that do each operation: {"get": [read_appended, read_register], ...}
Operations = Mapping[str, Sequence[Callable[[Any], None]]]

# Locust chooses from a list with each task as often as it weighs.
MAX_WEIGHT: Final = 1_000


def parse_mix(text: str) -> dict[str, int]:
    """`append=8,get=2` -> {"append": 8, "get": 2}. Errors: ValueError with one sentence."""
    weights: dict[str, int] = {}
    for part in text.split(","):
        name, equals, weight = (word.strip() for word in part.partition("="))
        if name not in OPERATIONS or not equals:
            raise ValueError(f"{part.strip()!r} is not one of {', '.join(OPERATIONS)} with its weight, such as get=8")
        if name in weights:
            raise ValueError(f"{name} is in the mix twice")
        if not weight.isdecimal() or int(weight) > MAX_WEIGHT:
            raise ValueError(f"the weight of {name} must be a whole number from 0 to {MAX_WEIGHT}, not {weight!r}")
        weights[name] = int(weight)
    if not any(weights.values()):
        raise ValueError("nothing in the mix has a weight above 0")
    return weights


def tasks_of(mix: Mapping[str, int], operations: Operations) -> list[Any]:
    """Locust's list of tasks: each operation as often as it weighs, shared evenly by the tasks that do it."""
    share = max(len(ways) for ways in operations.values())
    return [
        operations[name][place % len(operations[name])]
        for name, weight in mix.items()
        for place in range(weight * share)
    ]
