from pathlib import Path

import pytest

from records.run_directory import RunDirectory
from tests.report import made


@pytest.fixture(scope="session")
def valid(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return made.valid_run(tmp_path_factory.mktemp("valid"))


@pytest.fixture(scope="session")
def invalid(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return made.invalid_run(tmp_path_factory.mktemp("invalid"))


@pytest.fixture(scope="session")
def broken_replies(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return made.broken_replies_run(tmp_path_factory.mktemp("broken"))


@pytest.fixture(scope="session")
def without_effect(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return made.without_effect_run(tmp_path_factory.mktemp("noeffect"))


@pytest.fixture
def half_there(tmp_path: Path) -> list[RunDirectory]:
    return made.half_there_runs(tmp_path)
