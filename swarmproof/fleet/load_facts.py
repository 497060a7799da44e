"""What run.json says of a load."""

import platform
import re
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

_SECRET_OPTION = re.compile(r"password|secret|token|auth|key", re.IGNORECASE)


def scenario_of(options: Any) -> str:
    """The name of the (first) locustfile, without its ending."""
    name = getattr(options, "locustfile", "") or "locust"
    return Path(str(name).split(",", maxsplit=1)[0]).stem


def versions() -> dict[str, str]:
    """Of Python and of what makes the load."""
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("locust", "gevent", "swarmproof")},
    }


def describe_load(environment: Any, role: str, start_ns: int, clock: list[int], rate: str) -> dict[str, Any]:
    """When it begins. `start_ns` is of the monotonic clock that `clock` is a reading of."""
    options = environment.parsed_options
    return {
        "locustfile": scenario_of(options),
        "users": options.num_users,
        "spawn_rate": options.spawn_rate,
        "host": environment.host,
        "role": role,
        "start_ns": start_ns,
        "start_time": time.time(),
        "clock": clock,
        "rate": rate,
        "versions": versions(),
        "arguments": without_secrets(sys.argv[1:]),
    }


def errors_of(runner: Any) -> list[dict[str, Any]]:
    """Locust's table of failures."""
    return [
        {"operation": error.name, "error": error.error, "count": error.occurrences} for error in runner.errors.values()
    ]


def without_secrets(arguments: list[str]) -> list[str]:
    """A command line with the values of passwords, tokens and keys left out."""
    result: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        secret = name.startswith("-") and _SECRET_OPTION.search(name) is not None
        result.append("***" if hide_next else f"{name}=***" if secret and equals else argument)
        hide_next = secret and not equals
    return result
