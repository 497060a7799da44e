"""`swarmproof run PLAN --web`: tests are started and stopped in the web UI, and each is judged when it has ended.

    web UI up -> a test begins -> it ends -> heal, read back, judge -> its report is in the web UI -> the next one ...

Targets, web UI and control socket stay from the first test to Ctrl-C. Every test has a run directory of its own: the
first that of the command, later ones are asked for by Locust (`next-run`) when they begin.
"""

import contextlib
import threading
import time
from typing import Any, Final

from records.progress import ProgressReader
from records.run_directory import RUN_JSON, RunDirectory, RunDirectoryError
from swarmproof.ending import EXIT_HARNESS, EXIT_INVALID, EXIT_THRESHOLD, EXIT_UNKNOWN, EXIT_VALID
from swarmproof.leadership import LeadershipLog
from swarmproof.live import LiveProgress
from swarmproof.run import LOOK_AGAIN_S, HarnessFailed, Session
from swarmproof.run_facts import facts_at_start

#: There is a line of progress every second while there is load; a Locust that says nothing for so long has no test.
SILENT_S: Final = 15.0
#: After its last line of progress Locust writes its histograms and its part of run.json.
WRITTEN_WITHIN_S: Final = 30.0

#: Who starts the next test before the last is judged waits so long: less than the control channel does.
JUDGED_WITHIN_S: Final = 45.0

#: What Locust calls itself when a test is over.
OVER: Final = frozenset({"stopping", "stopped", "cleanup", "ready"})

#: The exit code of several tests is that of the worst of them.
_WORST_FIRST: Final = (EXIT_INVALID, EXIT_HARNESS, EXIT_UNKNOWN, EXIT_THRESHOLD, EXIT_VALID)


class _Test:
    """One test, as its lines of progress show it."""

    def __init__(self, run: RunDirectory, leadership: LeadershipLog) -> None:
        self.run = run
        self.leadership = leadership
        self.reader = ProgressReader(run)
        self.started = False
        self.over = False
        self.judged = threading.Event()
        self.heard_at = time.monotonic()


class WebSession(Session):
    """All tests between the start of the web UI and its end."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._lock = threading.Lock()
        self._codes: list[int] = []
        self._test = _Test(self._run, LeadershipLog(self._run, self._supervisor.clusters))
        self._supervisor.next_run = self.next_run

    def next_run(self) -> RunDirectory:
        """A directory for the test that is about to begin, once the last is judged. Errors: ValueError."""
        if not self._test.judged.wait(JUDGED_WITHIN_S):
            raise ValueError("the last test is still being read back and judged; start the next one in a moment")
        with self._lock:
            request = self._request
            run = RunDirectory.create(request.root, request.name)
            targets = self._supervisor.targets
            run.write_json(RUN_JSON, facts_at_start(request.name, self._plan, request.text, self._schedule, targets))
            self._supervisor.begin_records(run)
            self._run, self._problems = run, []
            self._test = _Test(run, LeadershipLog(run, self._supervisor.clusters))
            return run

    def settle(self) -> None:
        """At the end of the command: what was not judged yet is read back, then the targets are stopped."""
        if self._test.judged.is_set():
            self._supervisor.stop_targets()
        else:
            super().settle()

    def conclude(self) -> int:
        if not self._test.judged.is_set():
            self._codes.append(super().conclude())
        elif self._problems:  # what went wrong when the last test was over already
            for problem in self._problems:
                self._printer.error(problem)
            self._codes.append(EXIT_HARNESS)
        return next(code for code in _WORST_FIRST if code in self._codes)

    def _follow(self, live: LiveProgress) -> None:
        while not self._fleet.finished.wait(LOOK_AGAIN_S):
            if self._supervisor.ended.is_set():
                raise KeyboardInterrupt  # `swarmproof down` is a Ctrl-C from elsewhere
            with self._lock:
                test = self._test
            if test.judged.is_set():
                continue
            self._look_at(test, live)
            if test.over:
                self._judge(test)
            else:
                self._check_targets()
        if not self._test.started and not self._codes:
            lines = " | ".join(self._fleet.commander.last_lines()) or "nothing"
            raise HarnessFailed(f"Locust ended before any load; it says: {lines} ({self._fleet.commander.log_path})")

    def _look_at(self, test: _Test, live: LiveProgress) -> None:
        test.leadership.look(time.monotonic_ns())
        for line in test.reader.read_new():
            if not test.started:
                test.started = True
                self._supervisor.stage = "loading"
                self._supervisor.engine.begin(self._schedule, int(line.get("start_ns", line["at_ns"])))
            self._supervisor.progress = line
            test.heard_at = time.monotonic()
            test.over = line.get("state") in OVER
            live.show(line)
        live.refresh()
        if test.started and time.monotonic() - test.heard_at > SILENT_S:
            test.over = True

    def _judge(self, test: _Test) -> None:
        """Heal, read back and judge one test, while the web UI and the targets stay."""
        self._printer.say("the test has ended: healing, reading everything back, judging")
        self._supervisor.stage = "settling"
        self._supervisor.engine.end_load()
        self._await_written(test)
        self.read_back()
        self.note_end()
        self._supervisor.history.flush()
        self._supervisor.stage = "judging"
        self._codes.append(super().conclude())
        self._problems = []
        self._supervisor.stage = "judged"
        test.judged.set()
        self._printer.say(f"web UI still at {self._fleet.web_address}; start the next test there, or end with Ctrl-C")

    @staticmethod
    def _await_written(test: _Test) -> None:
        """run.json has one writer at a time: Locust first, when it has stopped its users."""
        deadline = time.monotonic() + WRITTEN_WITHIN_S
        while time.monotonic() < deadline:
            with contextlib.suppress(RunDirectoryError):
                if (test.run.read_json(RUN_JSON) or {}).get("load", {}).get("end_ns"):
                    return
            time.sleep(LOOK_AGAIN_S)
