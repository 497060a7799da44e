"""Targets and an engine whose records and words can be looked at."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import pytest

from records.faults import FaultRecord
from records.run_directory import RunDirectory
from swarmproof.faults.engine import FaultEngine
from swarmproof.faults.probe import Probe
from swarmproof.history import SupervisorHistory
from swarmproof.targets.base import Surroundings, Target
from swarmproof.targets.command import CommandTarget
from swarmproof.targets.guard import Guard
from swarmproof.targets.links import LinkBoard
from swarmproof.targets.raft import RaftTarget


class Harness:
    """An engine over targets; `lines` is what a person would read, `written` every state of every record."""

    def __init__(
        self, targets: Sequence[Target], run: RunDirectory, seed: int = 1, board: LinkBoard | None = None
    ) -> None:
        self.lines: list[str] = []
        self.written: list[FaultRecord] = []
        self.history = SupervisorHistory(run)
        self.engine = FaultEngine(
            targets,
            seed=seed,
            write=lambda record: self.written.append(deepcopy(record)),
            say=self.lines.append,
            probes={t.name: Probe(t, self.history) for t in targets if isinstance(t, RaftTarget)},
            board=board,
        )

    def last(self, number: int) -> FaultRecord:
        return [record for record in self.written if record.id == number][-1]


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard() as guard:
        yield guard


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, "test")


@pytest.fixture
def sleeper(guard: Guard, run: RunDirectory) -> CommandTarget:
    """A running process that does nothing, called `sleeper`."""
    target = CommandTarget("sleep 300", Surroundings(guard, run.nodes_dir), name="sleeper", ready="log:^")
    target.start()
    return target


@pytest.fixture
def cluster(guard: Guard, run: RunDirectory) -> Iterator[RaftTarget]:
    """Three nodes and a leader."""
    target = RaftTarget(3, Surroundings(guard, run.nodes_dir))
    target.start()
    yield target
    target.stop()


@pytest.fixture
def harness(run: RunDirectory) -> Callable[..., Harness]:
    return lambda *targets, **options: Harness(targets, run, **options)
