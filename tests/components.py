"""Programs that tests need and a machine may lack: skip with the reason, but fail in CI, which installs them."""

import os
import shutil

import pytest

#: program -> the distribution package that has it (.ci/run installs these)
PACKAGES = {
    "etcd": "etcd-server",
    "chromium": "chromium",
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "docker-compose": "docker-compose",
}


def require(program: str) -> str:
    """The path of ``program``; skips the test (fails it in CI) where there is none."""
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not installed (distribution package {PACKAGES[program]})"
        if os.environ.get("CI"):
            pytest.fail(reason + ", and CI must have it")
        pytest.skip(reason)
    return path
