"""`--engine` where users have no engine mode: said in a sentence, and not silently something else."""

import subprocess
import sys

import pytest

from tests.processes import ROOT

DEADLINE_S = 60


@pytest.mark.parametrize(
    ("scenario", "host", "why"),
    [
        ("websocket_tools", "ws://127.0.0.1:9", "WebSocketTools: leave it out"),
        ("raft_kv", "kv://127.0.0.1:9", "RaftKv: leave it out"),
        ("f00d", "tcp://127.0.0.1:9", "Device: it needs connections that stay; add --f00d-connections reuse"),
    ],
)
def test_engine_is_refused_where_no_user_has_one(scenario: str, host: str, why: str) -> None:
    command = [sys.executable, "-m", "locust", "-f", f"locustfiles/{scenario}.py", "--headless", "--engine"]
    command += ["-u", "1", "-t", "1s", "--host", host]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert f"locust: error: --engine is not offered for {why}" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
