"""A guard and surroundings for each test; leaving it kills what the test started."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmproof.targets.base import Surroundings
from swarmproof.targets.guard import Guard


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard() as guard:
        yield guard


@pytest.fixture
def around(guard: Guard, tmp_path: Path) -> Surroundings:
    return Surroundings(guard, tmp_path / "nodes")
