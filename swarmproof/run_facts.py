"""`run.json`: what was run, where, with what; enough to run it again and to judge it later."""

import os
import platform
import socket
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from swarmproof.faults.schedule import ScheduledFault
from swarmproof.plan import Plan
from swarmproof.targets.base import Target

PACKAGES = ("swarmproof", "locust", "gevent", "msgpack", "websockets", "numpy")


def facts_at_start(
    name: str, plan: Plan, text: str, schedule: Sequence[ScheduledFault], targets: Sequence[Target]
) -> dict[str, Any]:
    """The part of run.json that is known before the load begins."""
    return {
        "name": name,
        "title": plan.title,
        "plan": plan.model_dump(by_alias=True),
        "plan_text": text,
        "arguments": sys.argv[1:],
        "seed": plan.seed,
        "versions": {"python": platform.python_version(), **_versions()},
        "host": {
            "name": socket.gethostname(),
            "system": platform.platform(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
        "start_ns": time.monotonic_ns(),
        "start_time": time.time(),
        "targets": [
            {
                "name": target.name,
                "kind": target.kind,
                "address": target.address,
                "members": [
                    {"name": member.name, "command": member.process.command, "pid": member.process.pid}
                    for member in target.members
                ],
            }
            for target in targets
        ],
        "planned_faults": len(schedule),
        "schedule": [{"id": fault.id, "due_s": fault.due_s, "fault": fault.spec.describe()} for fault in schedule],
        "thresholds": plan.thresholds,
        "evidence": plan.evidence,
    }


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
