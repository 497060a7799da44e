"""A bug is planted only by somebody who means it, and then everybody can read so in the log."""

import subprocess
import sys

import pytest

from servers.bugs import envelope, f00d, raft, websocket_rpc
from swarmproof.zoo.catalogue import CATALOGUE
from tests.processes import ROOT, ServerProcess

BUGS_OF = {
    "envelope": envelope.BUGS,
    "f00d": f00d.BUGS,
    "websocket_rpc": websocket_rpc.BUGS,
    "raft": raft.BUGS,
}
SWITCHED_ON = {"SWARMPROOF_ZOO": "1"}
START_DEADLINE_S = 60


def start(server: str, *options: str, switch: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"servers.{server}", "--port", "0", *options],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "SWARMPROOF_ZOO": switch},
        capture_output=True,
        text=True,
        timeout=START_DEADLINE_S,
        check=False,
    )


@pytest.mark.parametrize("server", BUGS_OF)
def test_a_bug_without_the_second_switch_is_refused_in_one_sentence(server: str) -> None:
    done = start(server, "--bug", next(iter(BUGS_OF[server])))
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "SWARMPROOF_ZOO=1" in done.stderr


@pytest.mark.parametrize("switch", ["0", "true", "yes"])
def test_the_switch_is_on_at_1_and_at_nothing_else(switch: str) -> None:
    assert start("envelope", "--bug", "wrong-version", switch=switch).returncode == 3


@pytest.mark.parametrize("server", BUGS_OF)
def test_an_unknown_bug_is_refused_with_the_names_that_there_are(server: str) -> None:
    done = start(server, "--bug", "bedbug", switch="1")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert all(name in done.stderr for name in BUGS_OF[server])


@pytest.mark.parametrize("server", BUGS_OF)
def test_a_planted_bug_is_said_loudly_at_the_start(server: str) -> None:
    name = next(iter(BUGS_OF[server]))
    with ServerProcess(server, "--bug", name, env=SWITCHED_ON) as process:
        line = process.wait_for_log("bug_planted")
    assert " WARNING " in line
    assert f"bug={name}" in line


@pytest.mark.parametrize("server", BUGS_OF)
def test_the_switch_alone_plants_nothing(server: str) -> None:
    with ServerProcess(server, env=SWITCHED_ON) as process:
        process.wait_for_log("listening")
    assert "bug_planted" not in process.startup_line


def test_a_healthy_server_does_not_even_load_the_bugs() -> None:
    code = """
import sys, servers.envelope, servers.f00d.__main__, servers.raft.__main__, servers.websocket_rpc
loaded = sorted(name for name in sys.modules if name.startswith("servers.bugs."))
assert loaded == ["servers.bugs.planting"], loaded
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=START_DEADLINE_S, check=True)


def test_every_bug_that_can_be_planted_stands_in_the_zoo_under_its_server() -> None:
    plantable = {(server, name) for server, bugs in BUGS_OF.items() for name in bugs}
    shown = {(exhibit.scenario.target, exhibit.bug) for exhibit in CATALOGUE.values() if exhibit.bug}
    assert shown == plantable


@pytest.mark.parametrize("server", BUGS_OF)
def test_every_bug_says_what_it_does(server: str) -> None:
    assert all(bug.__doc__ for bug in BUGS_OF[server].values())
