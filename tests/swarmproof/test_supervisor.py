"""`swarmproof up` and its commands, and every way in which it can end: nothing is ever left."""

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from records.run_directory import CONTROL_SOCKET
from swarmproof.targets.ports import free_ports, is_free
from tests.processes import wait_until
from tests.swarmproof.leftovers import Command, await_nothing_left, processes_with, swarmproof

Up = Callable[..., Command]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started: list[Command] = []

    def start(*targets: str) -> Command:
        command = Command("up", *targets, directory=tmp_path)
        started.append(command)
        command.read_until("stop with Ctrl-C")
        return command

    yield start
    for command in started:
        command.close()


def assert_all_gone(command: Command, directory: Path, port: int | None = None) -> None:
    await_nothing_left(command.mark)
    run = (directory / "runs" / "latest").resolve()
    wait_until(lambda: not (run / CONTROL_SOCKET).exists(), "the control socket to be removed")
    assert not list(run.glob("nodes/*.secret"))
    if port is not None:
        assert is_free(port)


def status(directory: Path) -> dict[str, dict[str, object]]:
    reply = json.loads(swarmproof("status", "--json", directory=directory).stdout)
    return {row["name"]: row for row in reply["targets"]}


def test_up_shows_addresses_and_status_fault_heal_and_down_act_on_it(up: Up, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    command = up(f"envelope:{port}")
    row = status(tmp_path)["envelope"]
    assert (row["address"], row["state"]) == (f"tcp://127.0.0.1:{port}", "running")

    struck = swarmproof("fault", "kill", "envelope", directory=tmp_path)
    assert struck.returncode == 0
    assert "envelope is gone: it was killed by SIGKILL" in struck.stdout
    assert status(tmp_path)["envelope"]["state"] == "exited"
    assert "healed: envelope" in swarmproof("heal", directory=tmp_path).stdout
    assert status(tmp_path)["envelope"]["state"] == "running"
    assert "there was nothing to heal" in swarmproof("heal", directory=tmp_path).stdout
    mistake = swarmproof("fault", "kill", "leader", directory=tmp_path)
    assert mistake.returncode == 3
    assert "there is no leader without a Raft cluster" in mistake.stderr

    assert "stopped " in swarmproof("down", directory=tmp_path).stdout
    assert command.wait() == 0
    assert_all_gone(command, tmp_path, port)
    assert "no supervisor runs in" in swarmproof("down", directory=tmp_path).stderr


def test_a_cluster_shows_its_roles_and_loses_its_leader_on_command(up: Up, tmp_path: Path) -> None:
    up("raft")
    rows = status(tmp_path)
    assert sorted(str(row["role"]) for row in rows.values()) == ["follower", "follower", "leader"]
    struck = swarmproof("fault", "kill", "leader", "--restart", "1s", directory=tmp_path)
    victim = re.match(r"kill (n\d): ", struck.stdout)
    assert victim, struck
    wait_until(
        lambda: any(row["role"] == "leader" and name != victim[1] for name, row in status(tmp_path).items()),
        "another leader",
    )
    assert swarmproof("down", directory=tmp_path).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_everything(number: signal.Signals, up: Up, tmp_path: Path) -> None:
    command = up("envelope", "raft")
    command.signal(number)
    assert command.wait(60) == 0
    assert_all_gone(command, tmp_path)


def test_a_second_ctrl_c_does_not_disturb_the_cleanup(up: Up, tmp_path: Path) -> None:
    command = up("raft")
    command.signal(signal.SIGINT)
    command.read_until("stopping")
    command.signal(signal.SIGINT)
    assert command.wait(60) == 0
    assert_all_gone(command, tmp_path)


def test_killing_the_supervisor_kills_everything_also_what_is_paused(up: Up, tmp_path: Path) -> None:
    command = up("envelope", "raft")
    assert swarmproof("fault", "pause", "n1", directory=tmp_path).returncode == 0
    assert any(" T " in line for line in processes_with(command.mark))
    command.signal(signal.SIGKILL)
    command.wait()
    assert_all_gone(command, tmp_path)


def test_a_target_that_crashes_is_reported_at_once_and_the_others_stay(up: Up, tmp_path: Path) -> None:
    command = up("envelope", "f00d")
    pid = status(tmp_path)["envelope"]["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGSEGV)
    assert "envelope died: it was killed by SIGSEGV" in command.read_until("died")
    rows = status(tmp_path)
    assert (rows["envelope"]["state"], rows["f00d"]["state"]) == ("exited", "running")
    command.signal(signal.SIGINT)
    assert command.wait(60) == 0
    assert_all_gone(command, tmp_path)


def test_a_port_in_use_is_one_sentence_and_nothing_stays(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = swarmproof("up", "f00d", f"envelope:{port}", directory=tmp_path)
    assert done.returncode == 3
    assert done.stderr == (
        f"error: cannot start envelope: port {port} is in use; stop the program that uses it or choose another port\n"
    )
    assert not (tmp_path / "runs" / "latest" / CONTROL_SOCKET).exists()


def test_ctrl_c_while_targets_start_leaves_nothing(tmp_path: Path) -> None:
    command = Command("up", directory=tmp_path)
    command.read_until("envelope ready")
    command.signal(signal.SIGINT)
    assert command.wait(60) == 0
    assert_all_gone(command, tmp_path)
    command.close()


def test_links_can_be_cut_on_command_and_die_with_the_supervisor(up: Up, tmp_path: Path) -> None:
    command = up("--links", "raft", "envelope")
    rows = status(tmp_path)
    mistake = swarmproof("fault", "link", "leader", "poison=1", directory=tmp_path)
    assert "there is no toxic 'poison'" in mistake.stderr
    struck = swarmproof("fault", "partition", "leader", directory=tmp_path)
    assert struck.returncode == 0, struck
    assert "4 links carry nothing" in struck.stdout
    victim = next(name for name, row in rows.items() if row["role"] == "leader")
    wait_until(
        lambda: any(row["role"] == "leader" and name != victim for name, row in status(tmp_path).items()),
        "another leader",
    )
    proxies = [line for line in processes_with(command.mark) if "swarmproof.faults.proxy" in line]
    assert len(proxies) == 1
    command.signal(signal.SIGKILL)
    command.wait()
    assert_all_gone(command, tmp_path)
    run = (tmp_path / "runs" / "latest").resolve()
    wait_until(lambda: not list(run.glob("nodes/links/*.sock")), "the proxy's socket to be removed")


def test_links_end_with_a_signal_and_a_proxy_that_dies_is_reported(up: Up, tmp_path: Path) -> None:
    command = up("--links", "envelope")
    (proxy,) = [line for line in processes_with(command.mark) if "swarmproof.faults.proxy" in line]
    os.kill(int(proxy.split()[0]), signal.SIGKILL)
    assert "links died: it was killed by SIGKILL" in command.read_until("died")
    command.signal(signal.SIGINT)
    assert command.wait(60) == 0
    assert_all_gone(command, tmp_path)
    assert not list((tmp_path / "runs").glob("*/nodes/links/*.sock"))


def test_a_server_can_be_asked_to_misbehave(up: Up, tmp_path: Path) -> None:
    command = up("f00d")
    struck = swarmproof("fault", "mode", "f00d", "mode=TIMEOUT", directory=tmp_path)
    assert "f00d answers as TIMEOUT (before: SUCCESS)" in struck.stdout, struck
    assert "healed: f00d" in swarmproof("heal", directory=tmp_path).stdout
    again = swarmproof("fault", "mode", "f00d", "mode=DISCONNECT", directory=tmp_path)
    assert "f00d answers as DISCONNECT (before: SUCCESS)" in again.stdout, again
    missing = swarmproof("fault", "mode", "f00d", directory=tmp_path)
    assert "mode needs mode, such as mode=TIMEOUT" in missing.stderr
    command.signal(signal.SIGINT)
    assert command.wait(60) == 0
