"""Child processes: readiness, death, faults, stop."""

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarmproof.targets.errors import TargetNotReady, TargetNotStarted
from swarmproof.targets.guard import Guard
from swarmproof.targets.process import ChildProcess, State
from tests.processes import wait_until

MakeChild = Callable[..., ChildProcess]
SLEEPER = ["sh", "-c", "echo up; exec sleep 300"]
IGNORES_TERM = [
    sys.executable,
    "-uc",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(300)",
]
UP = re.compile("^up$", re.MULTILINE)


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard() as guard:
        yield guard


@pytest.fixture
def deaths() -> list[str]:
    return []


@pytest.fixture
def child(guard: Guard, tmp_path: Path, deaths: list[str]) -> MakeChild:
    def make(command: list[str], **options: object) -> ChildProcess:
        return ChildProcess(
            "child",
            command,
            directory=tmp_path / "child",
            guard=guard,
            on_death=lambda _, text: deaths.append(text),
            **options,  # type: ignore[arg-type]
        )

    return make


def test_a_child_is_ready_when_its_line_is_in_the_log(child: MakeChild) -> None:
    process = child(SLEEPER)
    process.start()
    assert process.wait_for_line(UP, 30).group() == "up"
    assert process.state is State.RUNNING
    assert process.log_path.read_text() == "up\n"


def test_a_child_that_dies_at_start_is_reported_at_once_with_its_last_lines(child: MakeChild) -> None:
    process = child(["sh", "-c", "echo the disk is full >&2; exit 3"])
    began = time.monotonic()
    process.start()
    with pytest.raises(
        TargetNotStarted, match=r"child did not start: it exited with code 3; it says: the disk is full"
    ):
        process.wait_for_line(UP, 300)
    assert time.monotonic() - began < 60, "it waited for the deadline instead of for the death"


def test_a_child_that_never_becomes_ready_is_a_sentence_with_the_end_of_its_log(child: MakeChild) -> None:
    process = child(["sh", "-c", "echo warming; exec sleep 300"])
    process.start()
    process.wait_for_line(re.compile("warming"), 30)
    with pytest.raises(TargetNotReady, match=r"within 0.1 s; its log ends with: warming"):
        process.wait_for_line(UP, 0.1)


def test_a_missing_program_is_named(child: MakeChild) -> None:
    with pytest.raises(TargetNotStarted, match="there is no program 'no-such-program'"):
        child(["no-such-program"]).start()


def test_an_unexpected_death_is_reported_with_the_last_lines(child: MakeChild, deaths: list[str]) -> None:
    process = child(["sh", "-c", "echo up; sleep 0.2; echo out of memory; exit 7"])
    process.start()
    wait_until(lambda: deaths, "the report of the death")
    assert re.search(r"child died: it exited with code 7; it says: up \| out of memory", deaths[0])


def test_a_death_that_was_asked_for_is_not_reported(child: MakeChild, deaths: list[str]) -> None:
    for end in ("kill", "terminate", "stop"):
        process = child(SLEEPER)
        process.start()
        getattr(process, end)()
        assert process.wait_for_exit(30)
    assert process._waiter is not None
    process._waiter.join(30)
    assert deaths == []


def test_a_killed_child_says_what_killed_it_and_starts_again_into_the_same_log(child: MakeChild) -> None:
    process = child(SLEEPER)
    process.start()
    process.wait_for_line(UP, 30)
    first = process.pid
    process.kill()
    assert (process.state, process.describe_end(), process.pid) == (State.EXITED, "was killed by SIGKILL", None)
    process.start()
    process.wait_for_line(UP, 30)
    assert process.pid not in (None, first)
    assert process.log_path.read_text() == "up\nup\n"


def test_the_line_of_an_earlier_start_does_not_count(child: MakeChild, tmp_path: Path) -> None:
    flag = tmp_path / "second"
    process = child(["sh", "-c", f"[ -e {flag} ] || echo up; exec sleep 300"])
    process.start()
    process.wait_for_line(UP, 30)
    process.kill()
    flag.touch()
    process.start()
    with pytest.raises(TargetNotReady):
        process.wait_for_line(UP, 0.1)


def test_a_paused_child_stands_still_until_it_is_resumed(child: MakeChild) -> None:
    process = child(SLEEPER)
    process.start()
    assert not process.is_stopped_by_kernel()
    process.pause()
    wait_until(process.is_stopped_by_kernel, "the kernel to report it as stopped")
    assert process.state is State.PAUSED
    process.resume()
    wait_until(lambda: not process.is_stopped_by_kernel(), "the kernel to report it as running")
    assert process.state is State.RUNNING


def test_stop_ends_a_paused_child(child: MakeChild) -> None:
    process = child(SLEEPER)
    process.start()
    process.pause()
    process.stop()
    assert process.describe_end() == "was killed by SIGTERM"


def test_stop_kills_a_child_that_ignores_sigterm(child: MakeChild) -> None:
    process = child(IGNORES_TERM)
    process.start()
    process.wait_for_line(UP, 30)
    process.stop(timeout_s=0.2)
    assert process.describe_end() == "was killed by SIGKILL"


def test_what_a_child_started_does_not_outlive_it(child: MakeChild, tmp_path: Path) -> None:
    pid_file = tmp_path / "grandchild"
    process = child(["sh", "-c", f"sleep 300 & echo $! > {pid_file}; echo up; exec sleep 300"])
    process.start()
    process.wait_for_line(UP, 30)
    grandchild = pid_file.read_text().strip()
    process.signal(signal.SIGTERM, ends_it=True)
    wait_until(lambda: not _lives(grandchild), "the grandchild to be gone")


def test_signals_to_a_child_that_has_ended_do_nothing(child: MakeChild) -> None:
    process = child(["true"])
    process.start()
    assert process.wait_for_exit(30)
    assert process.signal(signal.SIGTERM) is False
    process.pause()
    assert process.state is State.EXITED
    process.stop()


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
