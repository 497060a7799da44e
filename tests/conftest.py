"""What the whole suite shares: an unpatched test process, and the performance report of a session.

Locust monkey-patches whatever process imports it. A test process is an observer: with its threads, sleeps and
subprocesses turned into greenlets it would hang where the programs under test do not. So Locust is imported here
first, told to leave this process alone (and its pytest plugin is switched off in pyproject.toml); the processes that
tests start patch themselves as ever.
"""

import os

os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"
import locust  # noqa: F401

del os.environ["LOCUST_SKIP_MONKEY_PATCH"]

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
