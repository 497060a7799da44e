"""What the whole suite shares: the performance report at the end of a session (tests/performance.py)."""

from typing import Any

import pytest

from tests import performance


def pytest_configure(config: pytest.Config) -> None:
    performance.begin(config)


def pytest_sessionfinish(session: pytest.Session) -> None:
    performance.hand_over(session.config)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_testnodedown(node: Any) -> None:
    performance.take_over(node.config, getattr(node, "workeroutput", {}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    block = performance.report(config)
    if block:
        terminalreporter.write_line("")
        terminalreporter.write_line(block)
