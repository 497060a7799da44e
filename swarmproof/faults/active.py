"""One fault from strike to heal, in a thread of its own, with everything that is seen of it in its record.

    strike -> effect observed -> (new leader, first acknowledged write) ... heal due -> healed -> the victims are back

The outage is observed while the heal time runs: a majority that was killed has no leader before it is healed.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from records.faults import FaultRecord
from swarmproof.durations import show_s
from swarmproof.faults.fault import Fault, NoEffect, Strike
from swarmproof.faults.probe import Probe
from swarmproof.faults.triggers import await_commits
from swarmproof.targets.base import Member
from swarmproof.targets.cluster import ClusterMember, ClusterTarget
from swarmproof.targets.errors import TargetError

LOOK_AGAIN_S = 0.005
# A healed cluster whose old leader still leads after this much has not elected another one, and will not.
SETTLED_AFTER_HEAL_S = 2.0
# An outage that lasts longer is reported without a new leader; the liveness of the cluster is judged elsewhere.
OBSERVE_AFTER_HEAL_S = 15.0
BACK_WITHIN_S = 30.0


class ActiveFault:
    """A fault that has been decided: `run` carries it out and returns when all is healed and observed."""

    def __init__(
        self,
        record: FaultRecord,
        fault: Fault,
        strike: Strike,
        *,
        load_start_ns: int | None,
        probe: Probe | None,
        write: Callable[[FaultRecord], None],
        say: Callable[[str], None],
    ) -> None:
        self.record = record
        self.choice = strike.choice
        self.effect_seen = threading.Event()  # or given up
        self.done = threading.Event()
        self._fault = fault
        self._doing = strike
        strike.is_abandoned = lambda: self._abandoned
        strike.wait = self._wait_unless_abandoned
        self._load_start_ns = load_start_ns
        self._probe = probe
        self._write_record = write
        self._say = say
        self._lock = threading.Lock()
        self._heal_now = threading.Event()
        self._healed = threading.Event()
        self._abandoned = False

    def run(self) -> None:
        """Never raises: what goes wrong is in the record, and healing is tried in any case."""
        observer: threading.Thread | None = None
        try:
            self._strike()
            timed = self.silences and self._fault.has_one_outage
            if self.record.took_effect and self.choice.cluster is not None and timed:
                observer = threading.Thread(target=self._observe_outage, args=(self.choice.cluster,), daemon=True)
                observer.start()
            self._wait_for_heal_time()
        except (NoEffect, TargetError) as error:
            self.record.error = str(error)
            self._say(f"{self._describe()}: {error}")
        except Exception as error:  # the harness must survive a bug here and still heal
            self.record.error = f"{type(error).__name__}: {error}"
        finally:
            self.effect_seen.set()
            try:
                self._heal()
                if observer is not None:
                    observer.join()
                self.record.after = self.record.after or cluster_state(self.choice.cluster)
                self._write()
            except OSError as error:  # a full disk: the fault is healed, its record is not complete
                self._say(f"the record of {self._describe()} could not be written: {error.strerror or error}")
            finally:
                self.done.set()  # somebody waits for it

    @property
    def silences(self) -> bool:
        """Whether the victims cannot do their work meanwhile."""
        return self._fault.silences_in(self._doing)

    def heal_now(self) -> None:
        """Heal without waiting for the time."""
        self._heal_now.set()

    def abandon(self) -> None:
        """Continue what is paused, restart nothing: the targets are about to be stopped."""
        self._abandoned = True
        self._heal_now.set()

    # The steps.

    def _strike(self) -> None:
        record, members = self.record, self.choice.members
        record.chosen = ", ".join(member.name for member in members)
        missed = self._fault.await_moment(members)
        if missed:
            record.error = missed
            self._write()
            self._say(f"{record.kind} {record.chosen}: {missed}")
            return
        if self._load_start_ns is not None and self._fault.is_deadly and self.choice.cluster is not None:
            waited = await_commits(self.choice.cluster, lambda: self._abandoned)
            record.why += f"; {waited}" if waited else ""
        record.before = cluster_state(self.choice.cluster)
        record.requested_ns = time.monotonic_ns()
        if self._load_start_ns is not None:
            record.elapsed_s = round((record.requested_ns - self._load_start_ns) / 1e9, 3)
        self._write()  # known before it happens: a harness that dies now leaves a trace
        self._fault.begin(self._doing)
        window_s = self._fault.window_s(self._doing)
        deadline = time.monotonic() + window_s
        seen: list[str | None] = []
        while time.monotonic() < deadline:
            seen = list(self._fault.evidence(self._doing))
            if all(seen):
                break
            if self._heal_now.is_set():  # not by its time: the load is over, or somebody heals it
                deadline = min(deadline, time.monotonic() + self._fault.effect_within_s)
            time.sleep(LOOK_AGAIN_S)
        record.observed = "; ".join(text for text in seen if text)
        if members and seen and all(seen):
            record.took_effect, record.effect_ns = True, time.monotonic_ns()
        else:
            record.error = f"no effect was seen on {self._fault.unseen(self._doing, seen)} within {window_s:g} s"
        self._write()
        what = record.observed if record.took_effect else record.error
        self._say(f"{self._describe()}: {what}")
        self.effect_seen.set()

    def _observe_outage(self, cluster: ClusterTarget) -> None:
        try:
            self._observe(cluster)
        except OSError as error:
            self._say(f"the outage could not be observed to its end: {error.strerror or error}")

    def _observe(self, cluster: ClusterTarget) -> None:
        """Who leads next, and when a write is acknowledged again; in seconds from the strike."""
        record, watch = self.record, cluster.watch
        victims = {member.node_id for member in self.choice.members if isinstance(member, ClusterMember)}
        leader_before = record.before.get("node")
        if watch is None:
            return
        said = []
        with watch.urgently():
            if leader_before in victims:
                found = None
                while found is None and not self._outage_is_over() and not self._settled(cluster):
                    found = watch.wait_for_leader(0.1, after_ns=record.requested_ns, min_term=record.before["term"] + 1)
                if found is not None:
                    seconds = (found.since_ns - record.requested_ns) / 1e9
                    name = cluster.member_of(found.node).name
                    with self._lock:
                        record.figures["new_leader_s"] = round(seconds, 4)
                        record.observed += f"; {name} leads term {found.term} after {show_s(seconds)}"
                        record.after = {"leader": name, "term": found.term, "node": found.node}
                    said.append(f"{name} leads term {found.term} after {show_s(seconds)}")
            if self._probe is not None:
                acknowledged_ns = self._probe.first_acknowledged_ns(
                    float("inf"),
                    avoid=lambda: set() if self._healed.is_set() else victims,
                    give_up=self._outage_is_over,
                )
                if acknowledged_ns is not None:
                    seconds = (acknowledged_ns - record.requested_ns) / 1e9
                    with self._lock:
                        record.figures["first_ack_s"] = round(seconds, 4)
                    said.append(f"first acknowledged write after {show_s(seconds)}")
        self._write()
        if said:
            self._say("; ".join(said))

    def _outage_is_over(self) -> bool:
        """Healed so long ago that what has not come by now will not be waited for."""
        healed_ns = self.record.healed_ns
        return self._abandoned or (
            healed_ns is not None and time.monotonic_ns() - healed_ns > OBSERVE_AFTER_HEAL_S * 1e9
        )

    def _settled(self, cluster: ClusterTarget) -> bool:
        healed_ns = self.record.healed_ns
        if healed_ns is None or time.monotonic_ns() - healed_ns < SETTLED_AFTER_HEAL_S * 1e9:
            return False
        return cluster.leader() is not None

    def _wait_unless_abandoned(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._abandoned and time.monotonic() < deadline:
            time.sleep(min(0.05, seconds))

    def _wait_for_heal_time(self) -> None:
        if self._fault.is_instant:
            return
        rest_s = self._doing.heal_after_s
        if rest_s is not None and self._fault.heals_from_strike:
            rest_s = max(rest_s - (time.monotonic_ns() - self.record.requested_ns) / 1e9, 0.0)
        if self.record.took_effect or rest_s is not None:
            self._heal_now.wait(rest_s)

    def _heal(self) -> None:
        problems: list[str] = []
        try:
            more = self._fault.end(self._doing)
        except (NoEffect, TargetError) as error:
            problems.append(str(error))
            more = ""
        except Exception as error:  # a bug there must not leave the victims unhealed
            problems.append(f"{type(error).__name__}: {error}")
            more = ""
        threads = [
            threading.Thread(target=self._heal_one, args=(m, problems), daemon=True) for m in self.choice.members
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with self._lock:
            self.record.healed_ns = time.monotonic_ns()
            self.record.observed += more + self._doing.memory.get("after", "")
            if problems:
                self.record.error = "; ".join([*([self.record.error] if self.record.error else []), *problems])
        self._healed.set()
        told = "; ".join(problems) or self._fault.healed(self.choice.members)
        if told:
            self._say(told)
        self._write()

    def _heal_one(self, member: Member, problems: list[str]) -> None:
        if self._abandoned:
            member.process.resume()
            return
        try:
            self._fault.heal_one(self._doing, member)
        except (NoEffect, TargetError) as error:
            problems.append(f"{member.name} did not come back: {error}")
            return
        except Exception as error:  # in a thread of its own nobody else would hear of it
            problems.append(f"{member.name} did not come back: {type(error).__name__}: {error}")
            return
        cluster = self.choice.cluster
        if cluster is None or cluster.watch is None or not isinstance(member, ClusterMember):
            return
        began_ns = time.monotonic_ns()
        deadline = time.monotonic() + BACK_WITHIN_S
        while (
            time.monotonic() < deadline and not self._abandoned
        ):  # it is back when it follows (or leads) again, not when its process runs
            status = cluster.watch.status(member.node_id, began_ns)
            if status is not None and status.leader is not None:
                return
            time.sleep(LOOK_AGAIN_S)
        problems.append(f"{member.name} runs, but knows no leader within {BACK_WITHIN_S:g} s")

    # Words.

    def _describe(self) -> str:
        record = self.record
        led = record.before.get("leader")
        if led is not None and led == record.chosen:
            return f"{record.kind} leader {led} (term {record.before['term']})"
        return f"{record.kind} {record.chosen}"

    def _write(self) -> None:
        with self._lock:
            self._write_record(self.record)


def cluster_state(cluster: ClusterTarget | None) -> dict[str, Any]:
    """`{"leader": "n1", "term": 3, "node": 1}`, the leader None while there is none; empty without a cluster."""
    if cluster is None or cluster.watch is None:
        return {}
    found = cluster.leader()
    if found is None:
        return {"leader": None, "term": cluster.watch.term(), "node": None}
    return {"leader": cluster.member_of(found.node).name, "term": found.term, "node": found.node}
