"""The engine: carries out a schedule and live requests, one decision at a time, and heals everything in the end.

A cluster fault is decided only while the cluster has a leader and every earlier victim of it is back; until then the
engine waits, and the record says so. What was not carried out before the end of the load did not take effect.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from records.faults import FaultRecord
from swarmproof.durations import show_s
from swarmproof.faults.active import ActiveFault
from swarmproof.faults.catalogue import CATALOGUE
from swarmproof.faults.fault import Strike
from swarmproof.faults.fitness import check_live, hit_by
from swarmproof.faults.probe import Probe
from swarmproof.faults.schedule import MAX_SCHEDULED, FaultSpec, ScheduledFault, check_spec
from swarmproof.faults.selection import (
    CLUSTER_SELECTORS,
    Choice,
    NotNow,
    check_target,
    choose,
    normal_target,
    split_target,
)
from swarmproof.faults.triggers import Moment, NotReached
from swarmproof.targets.base import Target, member_named
from swarmproof.targets.links import LinkBoard

LOOK_AGAIN_S = 0.02
# A live request does not wait for ever for a leader to kill.
LIVE_WAIT_S = 10.0
# Longer than most effects take to be seen or given up, shorter than whoever asked waits for the answer.
EFFECT_WAIT_S = 50.0
# A schedule counts from 1; live requests come at any time, and must not take a number that it has given away.
FIRST_LIVE_ID = MAX_SCHEDULED + 1
LOAD_IS_OVER = "the load is over: nothing is struck while everything is read back and judged"


class FaultRefused(ValueError):
    """A live request that is not carried out, and leaves no record; the text is one sentence."""


class FaultEngine:
    """One per run. `write` stores a record (again each time it changes), `say` tells a person."""

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        seed: int,
        write: Callable[[FaultRecord], None],
        say: Callable[[str], None],
        probes: Mapping[str, Probe] | None = None,
        board: LinkBoard | None = None,
        operations: Callable[[], int] = lambda: 0,
    ) -> None:
        """`operations`: how many the load has done so far, for faults that strike after so many."""
        self._targets = targets
        self._seed = seed
        self._write = write
        self._say = say
        self._probes = probes or {}
        self._board = board
        self._operations = operations
        self._lock = threading.Lock()
        self._deciding = threading.Lock()
        self._active: list[ActiveFault] = []
        self._next_live_id = FIRST_LIVE_ID
        self._ending = threading.Event()
        self._load_start_ns: int | None = None
        self._scheduler: threading.Thread | None = None
        self._waiting: list[threading.Thread] = []

    def begin(self, schedule: Sequence[ScheduledFault], load_start_ns: int) -> None:
        """Carry out `schedule` from now on; its times count from `load_start_ns` (monotonic)."""
        self._load_start_ns = load_start_ns
        self._scheduler = threading.Thread(target=self._follow, args=(list(schedule),), name="faults", daemon=True)
        self._scheduler.start()

    def inject(self, kind: str, target: str, heal_after_s: float | None = None) -> FaultRecord:
        """Carry out one fault now; gives its record when its effect was seen. Errors: see `inject_spec`."""
        return self.inject_spec(FaultSpec(kind, normal_target(target), at_s=0.0, heal_after_s=heal_after_s))

    def inject_spec(self, spec: FaultSpec) -> FaultRecord:
        """As `inject`, with everything that a fault can be told.

        Errors, all without a record: FaultMistake and NoSuchTarget when it can never be done here, FaultRefused when
        it cannot be done now.
        """
        check_spec(spec)
        check_target(self._targets, spec.target)
        check_live(spec, self._targets, self._board)
        with self._lock:
            number = self._next_live_id
            self._next_live_id += 1
        record = FaultRecord(number, spec.kind, spec.target, requested_ns=time.monotonic_ns(), how=spec.how)
        active = self._start_when_allowed(record, spec, time.monotonic() + LIVE_WAIT_S, refuse=self._in_the_way_of)
        if active is None:
            raise FaultRefused(f"{spec.kind} {spec.target} was not carried out: {record.error}")
        active.effect_seen.wait(EFFECT_WAIT_S)
        return record

    def heal(self, name: str | None = None) -> list[str]:
        """Heal all active faults, or those of one process; waits, and gives the names of what was healed."""
        healed = [
            active for active in self._unfinished() if name is None or name in {m.name for m in active.choice.members}
        ]
        for active in healed:
            active.heal_now()
        for active in healed:
            active.done.wait()
        return [active.record.chosen for active in healed]

    def end_load(self) -> None:
        """The load is over: nothing new begins, everything is healed. Returns when that is done. Idempotent."""
        with self._deciding:  # what was decided before is among those to be healed
            self._ending.set()
        if self._scheduler is not None:
            self._scheduler.join()
        for waiting in self._waiting:
            waiting.join()
        self.heal()

    def abandon(self) -> None:
        """The targets are about to be stopped: continue what is paused, restart nothing, wait for nothing."""
        self._ending.set()
        for active in self._unfinished():
            active.abandon()

    def active(self) -> list[FaultRecord]:
        """The records of faults that are not healed yet."""
        return [active.record for active in self._unfinished()]

    # The schedule.

    def _follow(self, schedule: list[ScheduledFault]) -> None:
        assert self._load_start_ns is not None
        for scheduled in schedule:
            due_ns = self._load_start_ns + int(scheduled.due_s * 1e9)
            spec = scheduled.spec
            record = FaultRecord(
                scheduled.id, spec.kind, spec.target, requested_ns=due_ns, elapsed_s=scheduled.due_s, how=spec.how
            )
            if self._ending.wait(max((due_ns - time.monotonic_ns()) / 1e9, 0.0)):
                record.error = f"the load ended before it was due at {show_s(scheduled.due_s)}"
                self._write(record)
                continue
            if scheduled.spec.is_conditional:  # it must not keep the others waiting
                thread = threading.Thread(
                    target=self._carry_out, args=(record, scheduled.spec), name=f"await-{record.id}", daemon=True
                )
                self._waiting.append(thread)
                thread.start()
            else:
                self._carry_out(record, scheduled.spec)

    def _carry_out(self, record: FaultRecord, spec: FaultSpec) -> None:
        try:
            met = Moment(spec, self._targets, self._operations).wait(self._ending)
        except NotReached as error:
            record.error = str(error)
        else:
            if self._start_when_allowed(record, spec, float("inf"), met) is not None:
                return
        self._write(record)
        self._say_when(f"{record.kind} {record.target}: not carried out, {record.error}")

    def _start_when_allowed(
        self,
        record: FaultRecord,
        spec: FaultSpec,
        deadline: float,
        met: str = "",
        refuse: Callable[[str], str] = lambda target: "",
    ) -> ActiveFault | None:
        """Choose whom to hit and strike as soon as that is allowed; None when it never was (the record says why).

        `refuse(target)` gives a reason not to wait at all, "" for none.
        """
        rng = random.Random(f"{self._seed}/victim/{record.id}")
        began = time.monotonic()
        reasons: list[str] = []
        while True:
            with self._deciding:  # a live request and the schedule must not each take half of a quorum
                is_over = self._ending.is_set()
                refused = refuse(record.target)
                try:
                    choice = CATALOGUE[spec.kind].widen(choose(self._targets, record.target, rng), rng)
                    reason = self._not_yet(record.target, choice)
                except NotNow as error:
                    reason = str(error)
                if not (reason or refused or is_over):
                    record.why = choice.why + (f"; {met}" if met else "")
                    if reasons:
                        record.why += f"; waited {show_s(time.monotonic() - began)} because {', then '.join(reasons)}"
                    return self._start(record, spec, choice, rng)
            if refused or (is_over and not reason):
                record.error = refused or LOAD_IS_OVER
                return None
            if reason not in reasons:
                reasons.append(reason)
            if is_over or time.monotonic() > deadline:
                record.error = f"waited {show_s(time.monotonic() - began)} in vain because {reason}"
                return None
            self._ending.wait(LOOK_AGAIN_S)

    def _in_the_way_of(self, target: str) -> str:
        """Why a live fault on `target` is not even waited for; "" for nothing.

        Two people who ask for the same mean it once; and what is down has nobody to kill.
        """
        if self._ending.is_set():
            return LOAD_IS_OVER
        hit = hit_by(target, self._targets)
        selector, _ = split_target(target)
        named = selector not in CLUSTER_SELECTORS | {"all"}
        names = {member.name for home in hit for member in home.members}
        if named:
            names = {member_named(self._targets, selector).name}
        for active in self._unfinished():
            if active.silences and names & {member.name for member in active.choice.members}:
                return (
                    f"{active.record.kind} {', '.join(member.name for member in active.choice.members)} is under way; "
                    "wait until it is healed, or heal it"
                )
        down = sorted(
            member.name
            for home in hit
            for member in home.members
            if member.name in names and member.process.pid is None
        )
        return f"{', '.join(down)} does not run" if down else ""

    def _not_yet(self, target: str, choice: Choice) -> str:
        """Why these must not be hit now; empty when they may."""
        down = {member.name for active in self._unfinished() if active.silences for member in active.choice.members}
        members = choice.members
        of_the_cluster = split_target(target)[0] in CLUSTER_SELECTORS
        if of_the_cluster and choice.cluster is not None:
            members = choice.cluster.members  # a quorum is not to be lost by two faults that each would leave one
        waiting_for = [
            member.name for member in members if member.name in down or (of_the_cluster and member.process.pid is None)
        ]
        return f"{', '.join(waiting_for)} was not back yet" if waiting_for else ""

    def _start(self, record: FaultRecord, spec: FaultSpec, choice: Choice, rng: random.Random) -> ActiveFault:
        strike = Strike(
            record.id,
            choice,
            dict(spec.options),
            spec.toxics,
            spec.links,
            spec.heal_after_s,
            rng,
            self._board,
            self._targets,
        )
        active = ActiveFault(
            record,
            CATALOGUE[record.kind],
            strike,
            load_start_ns=self._load_start_ns,
            probe=self._probes.get(choice.cluster.name) if choice.cluster is not None else None,
            write=self._write,
            say=self._say_when,
        )
        with self._lock:
            self._active.append(active)
        threading.Thread(target=active.run, name=f"fault-{record.id}", daemon=True).start()
        return active

    def _say_when(self, text: str) -> None:
        """With the seconds since the load began, when there is one."""
        if self._load_start_ns is not None:
            text = f"{(time.monotonic_ns() - self._load_start_ns) / 1e9:6.1f} s  {text}"
        self._say(text)

    def _unfinished(self) -> list[ActiveFault]:
        with self._lock:
            self._active = [active for active in self._active if not active.done.is_set()]
            return list(self._active)
