"""Servers that several tests of one module attack in turn; see tests/processes.py for the process itself."""

from collections.abc import Iterator

import pytest

from tests.processes import ServerProcess


@pytest.fixture(scope="module")
def attacked(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """One server for a whole module: `ATTACKED = [name, options...]` there, the envelope server otherwise.

    At the end it must still be running and stop gracefully, or the module's last test fails.
    """
    name, *options = getattr(request.module, "ATTACKED", ["envelope"])
    with ServerProcess(name, *options) as server:
        yield server
