"""Workers that join late, hang or die, and masters that die: what was sent is kept, and nobody is left running."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from records.latency import LatencyStore
from records.operations import read_operations
from records.progress import ProgressReader
from records.run_directory import RUN_JSON, RunDirectory
from swarmproof.judge import judge
from tests.fleet.test_extension import free_port
from tests.processes import Process, wait_until

SCENARIO = Path(__file__).with_name("clockwork.py")
LOCUST = [sys.executable, "-m", "locust", "-f", str(SCENARIO), "--only-summary"]


class Fleet:
    """A master and some workers, started one by one."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.run = RunDirectory(folder / "run")
        self.port = str(free_port())
        self._folder, self._stack = folder, stack
        self._progress = ProgressReader(self.run)
        self._line: dict[str, Any] = {}

    def master(self, *options: str, workers: int = 1, users: int = 4) -> Process:
        command = [*LOCUST, "--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", self.port]
        command += ["--expect-workers", str(workers), "--enable-rebalancing", "--headless", "-u", str(users), "-r", "9"]
        return self._start([*command, "--run-dir", str(self.run.path), *options])

    def worker(self, **environment: str) -> Process:
        return self._start([*LOCUST, "--worker", "--master-port", self.port], environment)

    def _start(self, command: list[str], environment: dict[str, str] | None = None) -> Process:
        process = Process(command, env={"TMPDIR": str(self._folder), **(environment or {})})
        self._stack.callback(process.close)
        return process

    def progress(self) -> dict[str, Any]:
        for line in self._progress.read_new():
            self._line = line
        return self._line

    def wait(self, what: str, **values: int) -> dict[str, Any]:
        def matches() -> bool:
            line = self.progress()
            return bool(line) and all(line.get(key) == value for key, value in values.items())

        wait_until(matches, what, 60)
        return self._line

    def wait_for_count(self, more_than: int) -> None:
        wait_until(lambda: self.progress().get("count", 0) > more_than, f"more than {more_than} operations", 60)

    def wait_until_recorded(self, worker: Process) -> None:
        """Until an operation of that worker has ended in the history: a worker is there before its users are."""
        process = f"worker-{os.uname().nodename}-{worker.pid}"

        def is_recorded() -> bool:
            return any(one.process == process and one.status == "ok" for one in read_operations(self.run))

        wait_until(is_recorded, f"an operation of {process}", 60)

    @property
    def load(self) -> dict[str, Any]:
        load: dict[str, Any] = json.loads(self.run.file(RUN_JSON).read_text())["load"]
        return load

    def assert_is_complete(self) -> None:
        """Every operation that was completed is in the histograms as well, whosever it was."""
        ended = sum(one.status == "ok" for one in read_operations(self.run))
        assert LatencyStore.load(self.run).summary("clock tick").count == ended > 0


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(tmp_path, stack)


def test_a_worker_that_joins_late_takes_its_part_of_the_users(fleet: Fleet) -> None:
    master = fleet.master("-t", "120s")
    first = fleet.worker()
    fleet.wait("all users on the first", users=4, workers=1)
    # The order to spawn is there before this worker has come to be set up.
    second = fleet.worker(CLOCKWORK_SLOW_TO_INIT="1")
    fleet.wait("both at work", users=4, workers=2)
    fleet.wait_until_recorded(second)
    fleet.wait_for_count(fleet.progress()["count"] + 200)
    master.signal(signal.SIGTERM)
    assert master.wait(60) == 0, master.log_tail()
    for worker in (first, second):
        worker.wait(30)
    by_process = {one.process for one in read_operations(fleet.run)}
    assert len(by_process) == 2
    fleet.assert_is_complete()
    assert fleet.load["lost_workers"] == []


@pytest.mark.parametrize("shared_disk", [True, False], ids=["one-machine", "no-shared-disk"])
def test_a_killed_workers_records_are_salvaged_and_the_others_take_its_users(fleet: Fleet, shared_disk: bool) -> None:
    environment = {} if shared_disk else {"CLOCKWORK_NO_SHARED_DISK": "1"}
    master = fleet.master("-t", "120s", workers=2)
    first, second = fleet.worker(**environment), fleet.worker(**environment)
    fleet.wait("all users", users=4, workers=2)
    fleet.wait_for_count(400)
    fleet.wait_until_recorded(first)  # the other may have reported first
    first.signal(signal.SIGKILL)
    fleet.wait("the other to have all users", users=4, workers=1, lost_workers=1)
    fleet.wait_for_count(fleet.progress()["count"] + 400)
    master.signal(signal.SIGTERM)
    assert master.wait(60) == 0, master.log_tail()
    second.wait(30)
    operations = list(read_operations(fleet.run))
    of_first = [one for one in operations if one.process.endswith(f"-{first.pid}")]
    assert sum(one.status == "ok" for one in of_first) > 0
    if shared_disk:  # every operation that was sent is known, also those that nobody heard the end of
        assert any(one.status == "info" for one in of_first)
    histogram = LatencyStore.load(fleet.run).summary("clock tick").count
    assert histogram >= sum(one.status == "ok" for one in operations if one not in of_first)
    assert len(fleet.load["lost_workers"]) == 1
    assert len(fleet.load["unsalvaged_workers"]) == (0 if shared_disk else 1)
    generator = judge(fleet.run, write=False).check("generator")
    assert generator.verdict == "unknown"
    assert generator.evidence["lost_workers"] == 1


def test_a_worker_that_hangs_is_missed_and_welcome_when_it_goes_on(fleet: Fleet) -> None:
    master = fleet.master("-t", "120s", workers=2)
    first, second = fleet.worker(), fleet.worker()
    fleet.wait("all users", users=4, workers=2)
    fleet.wait_for_count(200)
    first.signal(signal.SIGSTOP)
    fleet.wait("the hanging one to be missed, its users moved", users=4, workers=1, lost_workers=1)
    first.signal(signal.SIGCONT)
    fleet.wait("it to be back, and no user too many", users=4, workers=2, lost_workers=0)
    fleet.wait_for_count(fleet.progress()["count"] + 200)
    master.signal(signal.SIGTERM)
    assert master.wait(60) == 0, master.log_tail()
    for worker in (first, second):
        worker.wait(30)
    assert fleet.load["lost_workers"] == []
    assert len(fleet.load["returned_workers"]) == 1
    fleet.assert_is_complete()
    assert judge(fleet.run, write=False).check("generator").evidence["lost_workers"] == 0


def test_a_worker_that_hangs_to_the_end_does_not_hold_up_the_run(fleet: Fleet) -> None:
    master = fleet.master("-t", "10s", workers=2)
    first, second = fleet.worker(), fleet.worker()
    fleet.wait_for_count(100)
    fleet.wait_until_recorded(first)
    first.signal(signal.SIGSTOP)
    assert master.wait(60) == 0, master.log_tail()
    second.wait(30)
    assert len(fleet.load["lost_workers"]) == 1
    assert fleet.load["unsalvaged_workers"] == []
    assert len({one.process for one in read_operations(fleet.run)}) == 2


def test_workers_end_by_themselves_when_their_master_is_killed(fleet: Fleet) -> None:
    master = fleet.master("-t", "120s", workers=2)
    workers = [fleet.worker(), fleet.worker()]
    fleet.wait_for_count(200)
    master.signal(signal.SIGKILL)
    for worker in workers:
        worker.wait(30)
        assert "the master has died" in worker.log()
        assert "Traceback" not in worker.log(), worker.log_tail()
    fleet.assert_is_complete()
    verdict = judge(fleet.run)
    assert verdict.verdict == "unknown"
    assert "died before it could end the run" in verdict.check("generator").reason


@contextmanager
def processes(folder: Path, *options: str) -> Iterator[tuple[Process, RunDirectory]]:
    """`locust --processes 2`: the workers are children of the master."""
    run = RunDirectory(folder / "run")
    command = [*LOCUST, "--processes", "2", "--headless", "-u", "4", "-r", "9", "--enable-rebalancing"]
    command += ["--master-bind-port", (port := str(free_port())), "--master-port", port]
    process = Process([*command, "--run-dir", str(run.path), *options], env={"TMPDIR": str(folder)})
    try:
        yield process, run
    finally:
        process.close()


def recorders(run: RunDirectory) -> list[int]:
    """The processes that record: their numbers, of the names of their files."""
    return [int(path.stem.rpartition("-")[2]) for path in run.latency_dir.glob("*.msgpack") if path.stat().st_size]


def test_with_processes_a_killed_worker_is_reported_and_its_records_are_kept(tmp_path: Path) -> None:
    with processes(tmp_path, "-t", "15s") as (master, run):
        first = wait_until(lambda: len(recorders(run)) == 2 and recorders(run)[0], "both to record", 60)
        os.kill(first, signal.SIGKILL)
        assert master.wait(90) in (0, 1), master.log_tail()
    load = json.loads(run.file(RUN_JSON).read_text())["load"]
    assert len(load["lost_workers"]) == 1
    assert load["unsalvaged_workers"] == []
    assert len({one.process for one in read_operations(run)}) == 2


def test_with_processes_nobody_outlives_a_killed_master(tmp_path: Path) -> None:
    with processes(tmp_path, "-t", "120s") as (master, run):
        wait_until(lambda: len(recorders(run)) == 2, "both to record", 60)
        pids = recorders(run)
        os.kill(master.pid, signal.SIGKILL)
        master.popen.wait()

        def gone() -> bool:
            return not any(psutil.pid_exists(p) and psutil.Process(p).status() != "zombie" for p in pids)

        wait_until(gone, "the workers to end", 30)
    ended = sum(one.status == "ok" for one in read_operations(run))
    assert LatencyStore.load(run).summary("clock tick").count == ended > 0
    assert judge(run).verdict == "unknown"
