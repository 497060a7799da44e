"""Whatever kills the supervisor, nothing that it started stays: not the paused ones, not the grandchildren."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmproof.targets.guard import Guard
from tests.processes import ROOT, Process, wait_until
from tests.swarmproof.leftovers import MARK, await_nothing_left, processes_with

# A supervisor with a running child, a paused one, one with a paused grandchild, and a temporary directory.
SUPERVISOR = """
import os, signal, sys, time
from pathlib import Path
from swarmproof.targets.guard import Guard
guard = Guard()
directory = Path(sys.argv[1])
guard.protect(directory)
directory.mkdir()
(directory / "secret").write_text("x")
log = open(os.devnull, "ab")
guard.spawn(["sleep", "300"], output=log)
paused = guard.spawn(["sleep", "300"], output=log)
parent = guard.spawn(["sh", "-c", "sleep 300 & echo $! > " + sys.argv[2] + "; wait"], output=log)
while not Path(sys.argv[2]).exists() or not Path(sys.argv[2]).read_text().strip():
    time.sleep(0.01)
# Paused before its launcher has bound it to this process, it would be out of the kernel's reach.
while sys.platform.startswith("linux") and Path(f"/proc/{paused.pid}/comm").read_text() != "sleep\\n":
    time.sleep(0.01)
os.killpg(paused.pid, signal.SIGSTOP)
os.killpg(parent.pid, signal.SIGSTOP)
print("ready", flush=True)
if sys.argv[3] == "close":
    guard.close()
elif sys.argv[3] == "crash":
    os.abort()
else:
    time.sleep(300)
"""


class Supervisor(Process):
    def __init__(self, end: str, directory: Path) -> None:
        self.mark = secrets.token_hex(8)
        self.directory = directory / "protected"
        arguments = [str(self.directory), str(directory / "grandchild"), end]
        super().__init__([sys.executable, "-c", SUPERVISOR, *arguments], env={MARK: self.mark})
        assert self.read_line() == "ready"


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard() as guard:
        yield guard


def assert_nothing_left(supervisor: Supervisor) -> None:
    try:
        await_nothing_left(supervisor.mark)
        wait_until(lambda: not supervisor.directory.exists(), "the protected directory to be removed")
    finally:
        supervisor.close()


def test_nothing_is_left_after_an_orderly_end(tmp_path: Path) -> None:
    supervisor = Supervisor("close", tmp_path)
    assert supervisor.wait() == 0
    assert_nothing_left(supervisor)


def test_nothing_is_left_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    supervisor = Supervisor("wait", tmp_path)
    assert len(processes_with(supervisor.mark)) == 6  # itself, three children, a grandchild, the watchdog
    supervisor.signal(signal.SIGKILL)
    supervisor.wait()
    assert_nothing_left(supervisor)


def test_nothing_is_left_when_its_whole_process_group_is_killed(tmp_path: Path) -> None:
    supervisor = Supervisor("wait", tmp_path)
    os.killpg(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    assert_nothing_left(supervisor)


def test_nothing_is_left_when_the_supervisor_crashes(tmp_path: Path) -> None:
    supervisor = Supervisor("crash", tmp_path)
    assert supervisor.wait() == -signal.SIGABRT
    assert_nothing_left(supervisor)


def test_children_die_with_the_supervisor_even_without_the_watchdog(tmp_path: Path) -> None:
    supervisor = Supervisor("wait", tmp_path)
    (watchdog,) = [line for line in processes_with(supervisor.mark) if "watchdog.py" in line]
    os.kill(int(watchdog.split()[0]), signal.SIGKILL)
    supervisor.signal(signal.SIGKILL)
    supervisor.wait()
    try:
        # The kernel's parent-death signal knows children only: the grandchild is the watchdog's part.
        wait_until(lambda: len(processes_with(supervisor.mark)) <= 1, "the children to be gone")
    finally:
        grandchild = (tmp_path / "grandchild").read_text().strip()
        subprocess.run(["kill", "-KILL", grandchild], check=False)
        supervisor.close()
    await_nothing_left(supervisor.mark)


def test_a_watchdog_that_was_killed_is_replaced(guard: Guard) -> None:
    first = guard.spawn(["sleep", "300"], output=subprocess.DEVNULL)
    watchdog = guard._watchdog
    assert watchdog is not None
    watchdog.kill()
    watchdog.wait()
    second = guard.spawn(["sleep", "300"], output=subprocess.DEVNULL)
    assert guard._watchdog is not watchdog
    assert guard._watchdog is not None
    assert guard._watchdog.stdin is not None
    guard._watchdog.stdin.close()  # as if this process were gone
    assert {first.wait(30), second.wait(30)} == {-signal.SIGKILL}


def test_a_released_group_is_not_killed(guard: Guard) -> None:
    guard.spawn(["true"], output=subprocess.DEVNULL).wait()  # the watchdog runs from here on
    # Not a child of the guard: those die with the thread that started them, whatever is registered.
    process = subprocess.Popen(["sleep", "300"], start_new_session=True)
    with guard._lock:
        guard._groups[process.pid] = process
        guard._tell("+group", process.pid)
    guard.release(process.pid)
    guard.close()
    assert process.poll() is None
    process.kill()
    process.wait()


def test_a_child_whose_parent_is_gone_before_the_launcher_looks_does_not_start(tmp_path: Path) -> None:
    launcher = ROOT / "swarmproof" / "targets" / "launcher.py"
    stranger = str(os.getppid())
    marker = tmp_path / "started"
    done = subprocess.run([sys.executable, str(launcher), stranger, "touch", str(marker)], check=False)
    assert done.returncode == 1
    assert not marker.exists()


def test_a_closed_guard_starts_nothing(guard: Guard) -> None:
    guard.close()
    with pytest.raises(RuntimeError):
        guard.spawn(["true"], output=subprocess.DEVNULL)
