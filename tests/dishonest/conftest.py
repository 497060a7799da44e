"""The same servers, lies and figures for scripted users and for the engine."""

import pytest


@pytest.fixture(params=["scripted", "engine"])
def mode(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The options that make users what the parameter says."""
    return ("--engine",) if request.param == "engine" else ()
