"""`swarmproof run PLAN`: targets up, load on, faults on schedule, everything healed and read back, then the verdict.

    start targets -> load (progress, faults) -> heal -> wait for every node -> final reads -> stop -> judge -> report

The first Ctrl-C ends the load early and still gives a verdict; a second one, SIGTERM or SIGHUP only cleans up.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from records.operations import HistoryError
from records.progress import ProgressReader
from records.run_directory import RUN_JSON, RunDirectory, RunDirectoryError
from swarmproof.console import Printer, targets_table
from swarmproof.durations import show_s
from swarmproof.ending import EXIT_HARNESS, EXIT_INVALID, undisturbed
from swarmproof.faults.schedule import FaultSpec, ScheduledFault, build_schedule
from swarmproof.final_reads import keys_of, read_everything
from swarmproof.fleet.locust_process import Load, LocustFleet, find_scenario
from swarmproof.judging import judge_and_report
from swarmproof.leadership import LeadershipLog
from swarmproof.live import LiveProgress
from swarmproof.load_hosts import hosts_for
from swarmproof.outages import write_outages
from swarmproof.plan import CommandTable, Plan, TargetTable
from swarmproof.run_facts import facts_at_start
from swarmproof.supervisor import Supervisor
from swarmproof.targets.base import Target
from swarmproof.targets.errors import TargetError
from swarmproof.targets.ports import free_ports

LOOK_AGAIN_S = 0.1
# Locust imports, its workers connect and the first second passes before there is a line of progress.
FIRST_PROGRESS_WITHIN_S = 90.0
# Beyond its run time Locust may take this long to stop its users and write its files.
OVERTIME_S = 60.0
ALL_BACK_WITHIN_S = 30.0
LAST_WRITE_WITHIN_S = 15.0
DEFAULT_WEB_PORT = 8089

# Figures of outages.csv that the end of a run shows, with the words for them.
RECOVERY_WORDS = {
    "detection_s": "first error or silence",
    "new_leader_s": "new leader",
    "first_ack_s": "first acknowledged write",
    "back_to_baseline_s": "back to the baseline",
}
TOLD_WITH_THE_FAULT = frozenset({"new_leader_s", "first_ack_s"})


@dataclass(frozen=True)
class RunRequest:
    """A checked plan and how to run it. `text` is the plan as it was written."""

    name: str
    plan: Plan
    text: str
    root: Path
    beside: Path | None = None
    web: bool = False
    quiet: bool = False
    dry_run: bool = False


class HarnessFailed(Exception):
    """The harness, not the system under test, failed. One sentence."""


def run(request: RunRequest) -> int:
    """Run a plan; the exit code. Errors: TargetError, FaultMistake, RunDirectoryError before anything was loaded."""
    plan = request.plan
    scenario = find_scenario(plan.load.locustfile, request.beside)
    schedule = build_schedule(plan.faults(), plan.seed, plan.load.run_time)
    printer = Printer(quiet=request.quiet)
    if request.dry_run:
        print_schedule(request, schedule, printer)
        return 0
    if plan.load.run_time is None and not request.web:
        raise TargetError("the plan has no run_time; give it one in [load] or with -t, such as -t 60s")
    directory = RunDirectory.create(request.root, request.name)
    printer.say(plan.title or request.name)
    tables = started_in(request.beside, plan.targets_with_links())
    supervisor = Supervisor(directory, tables, seed=plan.seed, say=printer.say)
    try:
        _hosts(request, scenario, supervisor.targets)  # a mistake shows before anything starts
        supervisor.start()
        printer.say("")
        if not request.quiet:
            printer.table(targets_table([row._asdict() for target in supervisor.targets for row in target.rows()]))
        directory.write_json(RUN_JSON, facts_at_start(request.name, plan, request.text, schedule, supervisor.targets))
        session = _session_class(request)(request, supervisor, schedule, scenario, printer)
        session.load()
        session.settle()
    finally:
        with undisturbed():
            supervisor.close()
    return session.conclude()


def _session_class(request: RunRequest) -> "type[Session]":
    if not request.web:
        return Session
    from swarmproof.web_session import WebSession  # it builds on this module

    return WebSession


class Session:
    """One run from the start of the load to the verdict."""

    def __init__(
        self,
        request: RunRequest,
        supervisor: Supervisor,
        schedule: Sequence[ScheduledFault],
        scenario: Path,
        printer: Printer,
    ) -> None:
        self._request = request
        self._plan = request.plan
        self._supervisor = supervisor
        self._run = supervisor.run
        self._schedule = schedule
        self._printer = printer
        self._problems: list[str] = []
        self._interrupted = False
        load = self._plan.load
        self._fleet = LocustFleet(
            self._run,
            Load(
                scenario,
                users=load.users,
                spawn_rate=load.spawn_rate,
                run_time_s=load.run_time,
                rate=load.schedule(),
                arrivals=load.arrivals,
                arrivals_seed=self._plan.seed,
                max_lateness_s=load.max_lateness,
                workers=load.workers,
                web_port=_web_port() if request.web else None,
                hosts=_hosts(request, scenario, supervisor.targets),
                options=load.locust_options,
            ),
            supervisor.guard,
            printer.say,
        )

    def load(self) -> None:
        """Run Locust to its end, with the faults on schedule."""
        fleet = self._fleet
        try:
            fleet.start()
            if fleet.web_address:
                self._printer.say(f"web UI at {fleet.web_address}; start the load there, end it here with Ctrl-C")
            with self._live_progress() as live:
                self._follow(live)
        except KeyboardInterrupt:
            self._interrupted = True
            self._printer.say("Ctrl-C: ending the load early; once more to leave without a verdict")
            fleet.stop()
        except HarnessFailed as error:
            self._problems.append(str(error))
            fleet.stop()
        fleet.wait_for_workers()
        problem = fleet.problem()
        if problem:
            self._problems.append(problem)

    def _live_progress(self) -> LiveProgress:
        return LiveProgress(
            self._printer,
            self._supervisor.clusters,
            self._plan.load.run_time,
            active=self._supervisor.engine.active,
            upcoming=[(fault.due_s, fault.spec.what) for fault in self._schedule],
        )

    def settle(self) -> None:
        """Heal and read everything back, then stop."""
        self._supervisor.engine.end_load()
        self.read_back()
        self._supervisor.stop_targets()
        self.note_end()

    def read_back(self) -> None:
        """When all is healed: wait for every node, see one more write, read every key at every node."""
        supervisor = self._supervisor
        self._reads: dict[str, Any] = {}
        for cluster in supervisor.clusters:
            silent = cluster.wait_until_all_answer(ALL_BACK_WITHIN_S, skip_the_dead=True)
            if silent:
                self._printer.say(f"not back within {show_s(ALL_BACK_WITHIN_S)}: {', '.join(silent)}")
            supervisor.last_write(cluster, LAST_WRITE_WITHIN_S)
            try:
                keys = keys_of(self._run)
            except HistoryError as error:
                self._problems.append(str(error))
                continue
            self._reads[cluster.name] = read_everything(cluster, keys, supervisor.history)
            self._printer.say(f"final read of {len(keys)} keys at {len(cluster.members)} nodes")

    def note_end(self) -> None:
        """The part of run.json that is known when everything is over."""
        self._run.update_json(
            RUN_JSON,
            {
                "end_ns": time.monotonic_ns(),
                "end_time": time.time(),
                "interrupted": self._interrupted,
                "final_reads": self._reads,
                "unexpected_deaths": [sentence for _, sentence in self._supervisor.deaths],
                "harness_problems": self._problems,
            },
        )

    def conclude(self) -> int:
        """Judge, print, and give the exit code: a lie of the server outranks a failure of the harness."""
        try:
            recovery = write_outages(self._run)
        except (HistoryError, RunDirectoryError) as error:
            recovery = {}
            self._problems.append(str(error))
        self._run.update_json(RUN_JSON, {"recovery": recovery})
        code = judge_and_report(self._run, self._printer)
        for line in recovery_lines(recovery):
            self._printer.result(line)
        for problem in self._problems:
            self._printer.error(problem)
        if self._problems and code != EXIT_INVALID:
            code = EXIT_HARNESS
        self._run.update_json(RUN_JSON, {"exit": code})
        return code

    def _follow(self, live: LiveProgress) -> None:
        reader = ProgressReader(self._run)
        began = time.monotonic()
        started = False
        run_time_s = self._plan.load.run_time
        leadership = LeadershipLog(self._run, self._supervisor.clusters)
        while not self._fleet.finished.wait(LOOK_AGAIN_S):
            leadership.look(time.monotonic_ns())
            for line in reader.read_new():
                if not started:
                    started = True
                    self._supervisor.engine.begin(self._schedule, int(line.get("start_ns", line["at_ns"])))
                self._supervisor.progress = line
                live.show(line)
            live.refresh()
            if self._supervisor.ended.is_set():
                raise KeyboardInterrupt  # `swarmproof down` is a Ctrl-C from elsewhere
            self._check_targets()
            waited_s = time.monotonic() - began
            if not started and waited_s > FIRST_PROGRESS_WITHIN_S:
                raise HarnessFailed(
                    f"Locust began no load within {FIRST_PROGRESS_WITHIN_S:g} s; see {self._fleet.commander.log_path}"
                )
            if run_time_s is not None and waited_s > run_time_s + OVERTIME_S + (FIRST_PROGRESS_WITHIN_S):
                raise HarnessFailed(f"Locust did not end by itself; see {self._fleet.commander.log_path}")
        if not started:
            lines = " | ".join(self._fleet.commander.last_lines()) or "nothing"
            raise HarnessFailed(f"Locust ended before any load; it says: {lines} ({self._fleet.commander.log_path})")

    def _check_targets(self) -> None:
        """A single server that died takes the point out of the load; a cluster may lose a node and go on."""
        singles = {
            member.process
            for target in self._supervisor.targets
            if len(target.members) == 1
            for member in target.members
        }
        board = self._supervisor.board
        if board is not None:
            singles.add(board.process)  # without its links nobody reaches anybody
        for child, sentence in self._supervisor.deaths:
            if child in singles:
                raise HarnessFailed(sentence)


def _hosts(request: RunRequest, scenario: Path, targets: Sequence[Target]) -> dict[str, str]:
    load = request.plan.load
    return hosts_for(scenario.stem, targets, load.host, load.options)


def started_in(folder: Path | None, tables: Sequence[TargetTable]) -> list[TargetTable]:
    """Commands start in the folder of their plan: a relative `cwd`, or none, is seen from there."""
    return [
        table.model_copy(update={"cwd": str((folder / (table.cwd or "")).resolve())})
        if folder is not None and isinstance(table, CommandTable)
        else table
        for table in tables
    ]


def print_schedule(request: RunRequest, schedule: Sequence[ScheduledFault], printer: Printer) -> None:
    """What --dry-run shows: the targets, the load, and when each fault is due."""
    plan = request.plan
    for target in plan.target:
        printer.result(f"target  {target.name or target.kind}")
    run_time = f"for {show_s(plan.load.run_time)}" if plan.load.run_time is not None else "until it is stopped"
    per_s = plan.load.schedule()
    rate = f" at {per_s} a second" if per_s is not None else ""
    printer.result(f"load    {plan.load.locustfile}, {plan.load.users} users{rate}, {run_time}, seed {plan.seed}")
    for fault in schedule:
        heal = f", healed after {show_s(fault.spec.heal_after_s)}" if fault.spec.heal_after_s is not None else ""
        printer.result(f"fault   {fault.due_s:8.3f} s  {fault.spec.what}{_condition(fault.spec)}{heal}")


def recovery_lines(recovery: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The figures over the faults of a run; of a single one those that its own line does not have."""
    lines = []
    for name, words in RECOVERY_WORDS.items():
        figures = recovery.get(name)
        if figures is None:
            continue
        if figures["count"] > 1:
            times = f"min {figures['min']:.2f} s, median {figures['median']:.2f} s, max {figures['max']:.2f} s"
            lines.append(f"outages {words} over {figures['count']:.0f} faults: {times}")
        elif name not in TOLD_WITH_THE_FAULT:
            lines.append(f"outages {words}: {figures['max']:.2f} s")
    return lines


def _condition(spec: FaultSpec) -> str:
    """What it waits for beyond its time."""
    if spec.after_operations is not None:
        return f" after {spec.after_operations} operations"
    return f" when {spec.in_flight} are in flight on the leader" if spec.in_flight is not None else ""


def _web_port() -> int:
    from swarmproof.targets.ports import is_free

    return DEFAULT_WEB_PORT if is_free(DEFAULT_WEB_PORT) else free_ports(1)[0]
