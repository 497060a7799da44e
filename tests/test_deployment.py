"""The composed services are valid, and what they run is what the code offers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.components import require
from tests.processes import ROOT

COMPOSE = ROOT / "docker-compose.yml"


def test_the_compose_file_is_valid() -> None:
    program = require("docker-compose")
    done = subprocess.run([program, "-f", str(COMPOSE), "config", "-q"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


_LOCUST_HELP = """
import runpy, sys
import locust
from locust.argument_parser import get_parser
runpy.run_path(sys.argv[1])
print(get_parser(default_config_files=[]).format_help())
"""


def _commands() -> list[list[str]]:
    """Every `python -m servers.X ...` and `locust ...` of the compose file, its folded lines joined."""
    text = COMPOSE.read_text(encoding="utf-8")
    folded = re.sub(r">-\n((?:      .*\n)+)", lambda match: " ".join(match[1].split()) + "\n", text)
    return [match[1].split() for match in re.finditer(r"command: ((?:python -m servers|locust)[^\n]*)", folded)]


def test_the_compose_file_names_a_server_for_each_protocol() -> None:
    modules = {command[2] for command in _commands() if command[0] == "python"}
    websockets = {f"websocket_{kind}" for kind in ("echo", "rpc", "tools", "performance", "load", "security")}
    assert modules == {f"servers.{name}" for name in {"envelope", "f00d", "raft"} | websockets}


@pytest.mark.parametrize("command", _commands(), ids=lambda command: "-".join(command[2:5]).replace("/", "-"))
def test_every_option_in_the_compose_file_exists(command: list[str]) -> None:
    if command[0] == "python":
        base = [sys.executable, *command[1:3], "--help"]
    else:  # Locust's own --help leaves out what a locustfile adds
        base = [sys.executable, "-c", _LOCUST_HELP, command[2]]
    done = subprocess.run(base, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    for option in (part for part in command if part.startswith("--")):
        assert option in done.stdout, f"{command[2]} knows no {option}"


def test_the_image_copies_every_package_and_installs_from_the_lock() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for package in ("protocols", "records", "servers", "users", "swarmproof", "locustfiles", "plans"):
        assert f"COPY {package} {package}" in text
        assert (ROOT / package).is_dir()
    assert "--require-hashes -r requirements.lock" in text
    assert "USER swarm" in text


def test_every_locked_requirement_has_a_hash_and_every_dependency_is_locked() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = {
        re.match(r"[A-Za-z0-9_.-]+", line)[0].lower() for line in lock.splitlines() if re.match(r"[A-Za-z0-9]", line)
    }  # type: ignore[index]
    entries = re.split(r"\n(?=[A-Za-z0-9])", lock.strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    wanted = re.findall(r'^    "([A-Za-z0-9-]+)>=', Path(ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert len(wanted) > 15
    assert {name.lower() for name in wanted} <= pinned
