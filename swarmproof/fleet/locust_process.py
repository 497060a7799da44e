"""Starts Locust as processes: one standalone, or a master and its workers, headless or with the web UI.

Everything on loopback; the records are written by the extension that every scenario imports, into the run directory
that it is told by `--run-dir`.
"""

import math
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from records.run_directory import RunDirectory
from swarmproof.targets.base import LOOPBACK
from swarmproof.targets.errors import TargetError
from swarmproof.targets.guard import Guard
from swarmproof.targets.ports import free_ports
from swarmproof.targets.process import ChildProcess

SCENARIOS_PACKAGE = "locustfiles"
WORKERS_WITHIN_S = 60  # Locust imports in 1-2 s; N workers on two loaded cores take a while
# SIGTERM lets Locust stop its users, write the last reports and the tables.
STOP_WITHIN_S = 20.0
# Locust's own: 0 = fine, 1 = some requests failed. Everything else is a process that broke.
LOCUST_EXITS = (0, 1)


@dataclass(frozen=True)
class Load:
    """How to run a scenario. `hosts`: option name without dashes -> address, such as {"host": "tcp://..."}."""

    scenario: Path
    users: int
    spawn_rate: float | None = None
    run_time_s: float | None = None
    rate: str | None = None  # an open load, as records.rates reads it
    arrivals: str = "constant"
    arrivals_seed: int = 0
    max_lateness_s: float | None = None
    workers: int = 0
    web_port: int | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)


def scenario_names() -> list[str]:
    """The scenarios that come with the program."""
    names = (entry.name for entry in resources.files(SCENARIOS_PACKAGE).iterdir())
    return sorted(name.removesuffix(".py") for name in names if name.endswith(".py") and not name.startswith("_"))


def find_scenario(name: str, beside: Path | None = None) -> Path:
    """A built-in scenario by name, or a locustfile by path (also relative to `beside`). Errors: TargetError."""
    if name in scenario_names():
        return Path(str(resources.files(SCENARIOS_PACKAGE) / f"{name}.py"))
    for base in (Path(), *([beside] if beside is not None else [])):
        path = base / name
        if path.is_file():
            return path.resolve()
    raise TargetError(
        f"there is no scenario {name!r}; the built-in ones are: {', '.join(scenario_names())} "
        "(or give the path of a locustfile)"
    )


class LocustFleet:
    """The Locust processes of one run. `finished` is set when the process that commands the load has ended."""

    def __init__(self, run: RunDirectory, load: Load, guard: Guard, say: Callable[[str], None]) -> None:
        self.finished = threading.Event()
        self.lost_workers: list[str] = []
        self.web_address: str | None = None
        self._say = say
        self._stopping = False
        command = [sys.executable, "-m", "locust", "-f", str(load.scenario)]
        common = {"guard": guard, "on_death": self._on_end}
        if load.workers:
            (port,) = free_ports(1)
            master = [*command, "--master", "--master-bind-host", LOOPBACK, "--master-bind-port", str(port)]
            master += ["--expect-workers", str(load.workers), "--expect-workers-max-wait", str(WORKERS_WITHIN_S)]
            master += ["--enable-rebalancing", *self._commander_arguments(run, load)]
            self.commander = ChildProcess("locust", master, directory=run.nodes_dir / "locust", **common)  # type: ignore[arg-type]
            worker = [*command, "--worker", "--master-host", LOOPBACK, "--master-port", str(port)]
            self.workers = [
                ChildProcess(name, worker, directory=run.nodes_dir / name, **common)  # type: ignore[arg-type]
                for name in (f"locust-worker-{number}" for number in range(1, load.workers + 1))
            ]
        else:
            alone = [*command, *self._commander_arguments(run, load)]
            self.commander = ChildProcess("locust", alone, directory=run.nodes_dir / "locust", **common)  # type: ignore[arg-type]
            self.workers = []

    @property
    def processes(self) -> Sequence[ChildProcess]:
        return [self.commander, *self.workers]

    def start(self) -> None:
        """Start all processes. Errors: TargetError."""
        for process in self.processes:
            process.start()

    def stop(self) -> None:
        """End the load early and well: records are written first. Idempotent."""
        self._stopping = True
        self.commander.stop(STOP_WITHIN_S)
        for worker in self.workers:
            worker.stop(STOP_WITHIN_S)

    def wait_for_workers(self) -> None:
        """After the end: workers report last and leave by themselves; those that do not are stopped."""
        for worker in self.workers:
            if not worker.wait_for_exit(STOP_WITHIN_S):
                worker.stop()

    def problem(self) -> str | None:
        """What was wrong with the load generator, as a sentence; None when it ended as it should."""
        code = self.commander.exit_code
        if code is not None and code not in LOCUST_EXITS and not self._stopping:
            lines = " | ".join(self.commander.last_lines()) or "nothing"
            return f"Locust {self.commander.describe_end()}; it says: {lines} ({self.commander.log_path})"
        if self.lost_workers:
            return f"{', '.join(self.lost_workers)} died during the run, and what it had not reported is lost"
        return None

    def _commander_arguments(self, run: RunDirectory, load: Load) -> list[str]:
        arguments = ["--run-dir", str(run.path.resolve()), "-u", str(load.users)]
        arguments += ["-r", f"{load.spawn_rate if load.spawn_rate is not None else load.users:g}"]
        if load.run_time_s is not None:
            arguments += ["-t", f"{max(1, math.ceil(load.run_time_s))}s"]
        if load.web_port is not None:
            arguments += ["--web-host", LOOPBACK, "--web-port", str(load.web_port)]
            base = load.options.get("web_base_path", "")
            self.web_address = f"http://{LOOPBACK}:{load.web_port}{base}"
        else:
            arguments += ["--headless", "--only-summary"]
        if load.rate is not None:
            arguments += ["--rate", load.rate, "--arrivals", load.arrivals]
            arguments += ["--arrivals-seed", str(load.arrivals_seed)]
            if load.max_lateness_s is not None:
                arguments += ["--max-lateness", f"{load.max_lateness_s:g}"]
        for name, address in load.hosts.items():
            arguments += [f"--{name}", address]
        for name, value in load.options.items():
            flag = f"--{name.replace('_', '-')}"
            if value is True:
                arguments.append(flag)
            elif value is not False:
                arguments += [flag, str(value)]
        return arguments

    def _on_end(self, child: ChildProcess, sentence: str) -> None:
        if child is self.commander:
            self.finished.set()
        elif child.exit_code not in LOCUST_EXITS and not self._stopping:
            self.lost_workers.append(child.name)
            self._say(sentence)
