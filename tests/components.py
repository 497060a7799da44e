"""Programs that tests need and a machine may lack: skip with the reason, but fail in CI, which installs them."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

#: program -> the distribution package that has it (.ci/run installs these)
PACKAGES = {
    "etcd": "etcd-server",
    "chromium": "chromium",
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "docker-compose": "docker-compose",
    "curl": "curl",
    "openssl": "openssl",
    "node": "nodejs",
}

NPM_DIRECTORY = Path(__file__).parent / "npm"


def require(program: str) -> str:
    """The path of ``program``; skips the test (fails it in CI) where there is none."""
    path = shutil.which(program)
    if path is None:
        _miss(f"{program} is not installed (distribution package {PACKAGES[program]})")
    return path


def require_npm_peers() -> str:
    """The path of node, where the packages of tests/npm are installed; skips or fails as `require`."""
    node = require("node")
    if not (NPM_DIRECTORY / "node_modules").is_dir():
        _miss("the npm packages of tests/npm are not installed (`npm ci --prefix tests/npm`)")
    return node


def _miss(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason + ", and CI must have it")
    pytest.skip(reason)
