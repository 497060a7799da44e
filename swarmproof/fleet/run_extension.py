"""One Locust process's part in a run: what begins with a test and ends with it, by Locust's events.

A process that loads records what its users tell and writes it down once a second; a worker sends it to its master
with Locust's own reports. Whoever commands (a master, or a process alone) adds all of it up, writes a line of progress
once a second, and in the end what is made of the whole run.
"""

import logging
import math
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
from locust.runners import MasterRunner, WorkerRunner

from records.clock import read_clock
from records.latency import Delta, LatencyStore
from records.offered import Offered
from records.progress import ProgressWriter
from records.recorder import recorder
from records.run_directory import RUN_JSON, RunDirectory, RunDirectoryError
from swarmproof.fleet import busy_poll, clocks, thresholds
from swarmproof.fleet.abort import Watch
from swarmproof.fleet.console import print_summary
from swarmproof.fleet.health import Health, HealthProbe
from swarmproof.fleet.last_reports import hear_out
from swarmproof.fleet.little import LittlesLaw, applies, lanes_of
from swarmproof.fleet.load_facts import describe_load, errors_of
from swarmproof.fleet.master_watch import MasterWatch, this_process
from swarmproof.fleet.metrics import MetricsDoor
from swarmproof.fleet.metrics import serve as serve_metrics
from swarmproof.fleet.pauses import take_pauses_now
from swarmproof.fleet.progress_line import progress_line
from swarmproof.fleet.results import Results
from swarmproof.fleet.roll import Roll
from swarmproof.fleet.run_home import RunHome, is_same_directory, mark
from swarmproof.fleet.shipping import Receiver, Shipper
from swarmproof.fleet.turns import at_once, in_turns
from swarmproof.fleet.unreported import Unreported
from swarmproof.judge.verdict import Check

logger = logging.getLogger(__name__)

FLUSH_EVERY_S = 1.0

#: Where the load is added up it is done so long after each whole second: whoever looks at the seconds that are over
#: (the live page, the rate) then finds them whole.
AFTER_THE_SECOND_S = 0.02

#: The key of our part in Locust's worker reports.
REPORT_KEY = "swarmproof"

#: Worker to master, when it begins: whether its files are the run directory's own.
HELLO = "swarmproof_hello"

#: Master to worker: which files to ship again, and from where on.
RESEND = "swarmproof_resend"


class RunExtension:
    """One process's part in a run. Holds what begins at test_start and ends at test_stop."""

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.run: RunDirectory | None = None
        self.store = LatencyStore()
        self._deltas: list[Delta] = []  # written down, and not yet added up
        self._home = RunHome(environment.parsed_options)
        self.problem = ""  # why the last test could not begin
        self._loads = False
        self._progress: ProgressWriter | None = None
        self._shipper: Shipper | None = None
        self._receiver: Receiver | None = None
        self._ticker: Any = None
        self._busy_poll = busy_poll.BusyPoll(environment)
        self._probe = HealthProbe(self._busy_poll.idle_ns)
        self.health = Health()
        self.offered = Offered()
        self._little = LittlesLaw()
        self._unreported = Unreported()
        self._results = Results()
        self._clock = read_clock()
        self._watch = Watch({})
        self._aborted = ""
        #: When the load began and ended (monotonic); 0 while it has not.
        self.start_ns = self.end_ns = 0
        self._stopping_ns = 0
        self._roll = Roll(environment.runner)
        self.limits: dict[str, str] = {}  # those of the command line or the start form, when the run began
        self.thresholds: Check | None = None  # what came of them
        self._metrics: MetricsDoor | None = None
        self._process = ""
        self._master_watch = MasterWatch("")
        self._clocks = clocks.attach(environment.runner, lambda: self._process)

    @property
    def supervised(self) -> bool:
        """Whether somebody else has told where the records go."""
        return self._home.is_given

    @property
    def lost_workers(self) -> set[str]:
        return self._roll.lost

    @property
    def is_worker(self) -> bool:
        return isinstance(self.environment.runner, WorkerRunner)

    @property
    def is_master(self) -> bool:
        return isinstance(self.environment.runner, MasterRunner)

    # -- a test begins ----------------------------------------------------------------------------------------

    def serve_metrics(self) -> None:
        """Offer Prometheus text of the whole run, in the process that commands it."""
        if not self.is_worker:
            self._metrics = serve_metrics(self)

    def on_test_start(self, **_: Any) -> None:
        take_pauses_now()
        self._results.forget()
        if self.is_worker:
            self._start_worker()
        else:
            self._start_commander()
        if getattr(self.environment.parsed_options, "busy_poll", False) and not self.is_master:
            self._busy_poll.start()
        self._probe.start()
        self._little.start()
        self._unreported.start()
        self._ticker = gevent.spawn(self._tick_forever)

    def _start_commander(self) -> None:
        options = self.environment.parsed_options
        try:
            self.run = self._home.next(options)
        except RunDirectoryError as error:
            logger.error("%s", error)
            self.problem, self._progress, self._loads = str(error), None, False
            if self.environment.web_ui:  # the page shows it, and another can be named in the form
                gevent.spawn(self.environment.runner.stop)
                return
            self.environment.process_exit_code = 3
            self.environment.runner.quit()
            return
        self.problem, self._loads = "", True
        options.run_dir = str(self.run.path.absolute())  # workers get it with the other options
        options.run_token = mark(self.run)
        options.run_master = this_process()
        options.run_users = options.num_users  # Locust keeps this one to itself
        self._clock = read_clock()
        self.health = Health()
        self.offered = Offered(getattr(options, "rate", ""))
        self._roll.start()
        self.start_ns, self._stopping_ns, self.end_ns = time.monotonic_ns(), 0, 0
        self.store = LatencyStore(self._clock, self.start_ns)
        self.limits = thresholds.given(options)
        thresholds.note(self.run, self.limits)
        self._watch, self._aborted = Watch(self.run.read_json(RUN_JSON) or {}), ""
        role = "master" if self.is_master else "standalone"
        described = describe_load(self.environment, role, self.start_ns, self._clock, self.offered.rate)
        self.run.update_json(RUN_JSON, {"load": described})
        self._progress = ProgressWriter(self.run)
        if self.is_master:
            self._receiver = Receiver(self.run)
            if self._clocks:
                self._clocks.start(self.run)
        else:
            recorder.start(self.run.path, f"standalone-{os.getpid()}")

    def _start_worker(self) -> None:
        options = self.environment.parsed_options
        process = f"worker-{socket.gethostname()}-{os.getpid()}"
        directory = Path(getattr(options, "run_dir", "") or "")
        self._shipper = Shipper(process)
        if not is_same_directory(directory, getattr(options, "run_token", "")):
            directory = self._shipper.local_directory()
        self._master_watch = MasterWatch(getattr(options, "run_master", ""))
        recorder.start(directory, process)
        self._process = process
        self.environment.runner.send_message(HELLO, {"is_remote": self._shipper.is_remote})

    # -- while it runs -----------------------------------------------------------------------------------------

    def _tick_forever(self) -> None:
        now = time.monotonic()
        due = now if self.is_worker else math.floor(now) + AFTER_THE_SECOND_S
        while True:
            due += FLUSH_EVERY_S
            gevent.sleep(max(0.0, due - time.monotonic()))
            in_turns(self._tick())

    def _tick(self) -> Iterator[None]:
        """In parts. Whoever does not go on to the end loses nothing: the next tick does it."""
        if self._master_watch.has_died():
            logger.error("the master has died: this worker stops its users, writes its records and ends")
            gevent.spawn(self.environment.runner.quit)  # not from the ticker, which the end of the run kills
        self._roll.look()
        if not self.is_master:
            yield from recorder.gathering()
            yield
            yield from self._reckon()
            yield
        if self._progress:
            line = yield from progress_line(
                self.environment.runner,
                self.store,
                self.start_ns,
                health=self.health,
                offered=self.offered,
                lost_workers=len(self._roll.lost),
            )
            yield
            self._progress.write(line)
            self._abort_if_missed()

    def _reckon(self) -> Iterator[None]:
        """What this process has recorded since the last time, and how it stands itself."""
        self._write_down()
        yield
        self._add_up()
        yield
        users = self.environment.runner.user_count
        lanes = lanes_of(self.environment, users)
        self._little.look(users, lanes, recorder.think_ns, time.monotonic_ns())
        if not self._shipper:
            yield
            self.health.add("standalone", self._probe.take())
            self.offered.add(recorder.offered.take())

    def _add_up(self) -> None:
        """What was written down goes where it is added up, or on its way there."""
        deltas, self._deltas = self._deltas, []
        for delta in deltas:
            self._little.gather(delta)
            if self._shipper:
                self._shipper.add(delta)
            else:
                self.store.add(delta)

    def _write_down(self) -> None:
        """What was recorded goes into the process's files."""
        self._deltas.append(recorder.flush())

    def _abort_if_missed(self) -> None:
        if self._aborted:
            return
        begin_ns = self.store.start_ns or self.start_ns
        missed = self._watch.missed(self.store, time.monotonic_ns(), begin_ns, has_workers=self.is_master)
        if missed:
            self._aborted = missed
            logger.error("the run is ended because %s", missed)
            runner = self.environment.runner
            # Not from the ticker itself, which the end of the run kills. The web UI stays for a next run.
            gevent.spawn(runner.stop if self.environment.web_ui else runner.quit)

    def register_messages(self) -> None:
        """What workers and master say to each other besides reports."""
        if self.is_worker:
            self.environment.runner.register_message(RESEND, self._on_resend)
        elif self.is_master:
            self.environment.runner.register_message(HELLO, self._on_hello)

    def _on_hello(self, msg: Any, **_: Any) -> None:
        if msg.data.get("is_remote") is False:
            self._roll.has_files_here(msg.node_id)

    def _on_resend(self, msg: Any, **_: Any) -> None:
        if self._shipper:
            self._shipper.rewind(msg.data)

    def on_report_to_master(self, data: dict[str, Any], **_: Any) -> None:
        if self._shipper:
            if recorder.run:
                self._write_down()
                self._add_up()
            data[REPORT_KEY] = self._shipper.take() | {
                "health": self._probe.take(),
                "offered": recorder.offered.take(),
                "little": self._little.take(),
            }

    def on_worker_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        report = data.get(REPORT_KEY)
        if not report or not self._receiver:
            return
        try:
            deltas = self._receiver.accept(report)
            for delta in deltas:
                self.store.add(delta)
            self._unreported.heard(client_id, deltas)
            if self._receiver.lacking:
                self.environment.runner.send_message(RESEND, self._receiver.lacking, client_id=client_id)
            self.health.add(client_id, report["health"])
            self.offered.add(report["offered"])
            self._little.add(client_id, report["little"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            logger.error("a report of worker %s could not be used: %s", client_id, error)

    # -- a test ends -------------------------------------------------------------------------------------------

    def on_test_stopping(self, **_: Any) -> None:
        """The users are told to stop: the load ends now, however long some of them need for it."""
        self._stopping_ns = time.monotonic_ns()

    def on_test_stop(self, **_: Any) -> None:
        if self._ticker:
            self._ticker.kill()
            self._ticker = None
        self._busy_poll.stop()
        at_once(self._tick())  # there is nothing more to read, and whoever ends the run must not come in between
        if self._clocks:
            self._clocks.stop()
        self._probe.stop()
        if not self.is_master:
            recorder.stop()
        if not self.is_worker and self._loads:
            self._loads, self.end_ns = False, self._stopping_ns or time.monotonic_ns()
            self.store.end_ns = self.end_ns
            if self.environment.web_ui:
                self._finish(is_last=False)
                thresholds.tell(self.environment, self.run, self.limits, self.recorded)
            elif self.run is not None:  # `quit` comes next, and a master's workers have not been told to stop yet
                self._note_end(self.run, is_last=False)

    def html_sections(self, theme: str) -> str:
        """For Locust's HTML report."""
        from swarmproof.report.locust_sections import locust_sections  # who asks for no report shall not wait for it

        return locust_sections(self.store, self.run, theme)

    def on_reset_stats(self, **_: Any) -> None:
        """Locust's table starts anew; so do the live percentiles. The files keep the whole run."""
        if recorder.run and not self.is_master:
            recorder.gather()
            self._write_down()
            self._add_up()  # what was before goes with the old ones
        self.store = LatencyStore(self._clock, time.monotonic_ns())
        self._unreported.reset()

    def on_quitting(self, **_: Any) -> None:
        if self.is_master:
            hear_out(self.environment.runner)

    def on_quit(self, **_: Any) -> None:
        if self.is_worker:
            if self._shipper:
                self._shipper.close()
            return
        if self._metrics:
            self._metrics.stop()
            self._metrics = None
        self._results.hurry()
        self._finish(is_last=True)  # the workers' last reports came after test_stop
        if self._progress:
            self._progress.close()
            self._progress = None
        if advice := self.health.advice():
            logger.warning("%s", advice)
        if advice := self.offered.advice():
            logger.error("%s", advice)
        if self.run and not self.supervised:
            print_summary(self.run, self.recorded(), self.offered)
        if self.thresholds:
            print("\n".join(thresholds.lines(self.thresholds)))

    def recorded(self) -> LatencyStore:
        """All that the processes of the run have written down by now. Errors: RunDirectoryError."""
        assert self.run is not None
        return self._results.store(self.run, self.end_ns or time.monotonic_ns())

    def _finish(self, *, is_last: bool) -> None:
        """Write what is made of the whole run; may be called again when more has arrived."""
        if self.run is not None:
            load = self._note_end(self.run, is_last=is_last)
            self._results.write(self.run, load["end_ns"], load.get("start_time", 0.0))

    def _note_end(self, run: RunDirectory, *, is_last: bool) -> dict[str, Any]:
        """What run.json says of the load when it is over. `is_last`: all workers have been heard out."""
        roll = self._roll.facts()
        lost = roll["lost_workers"]
        missing = self._unreported.facts(self.store, self.recorded(), lost, roll["unsalvaged_workers"]) if lost else {}
        if is_last and lost and self.offered.rate and hasattr(self.environment, "open_load_due"):
            missing["lost_arrivals_about"] = self.offered.lost_about(self.environment.open_load_due())
        load: dict[str, Any] = (run.read_json(RUN_JSON) or {}).get("load", {})
        load |= {
            "end_ns": self.end_ns or time.monotonic_ns(),
            "end_time": load.get("end_time") or time.time(),
            **roll,
            **(self._clocks.facts() if self._clocks else {}),
            "aborted": self._aborted,
            **self.health.facts(),
            **self.offered.facts(),
            **(self._little.facts() if applies(self.environment, self.offered.rate) else {}),
            **missing,
            "errors": errors_of(self.environment.runner),
        }
        run.update_json(RUN_JSON, {"load": load})
        return load
