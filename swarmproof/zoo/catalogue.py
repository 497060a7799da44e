"""Every bug of the zoo: what it does, where it is planted, the scenario that shows it, and what must be said of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from swarmproof.judge.verdict import INVALID, MISSED, UNKNOWN, VALID
from swarmproof.zoo.scenario import Option, Scenario


@dataclass(frozen=True)
class Exhibit:
    """One bug. It is caught when the run's verdict is `verdict` because one of `checks` says so.

    `planted` is what `--bug` plants, by default the exhibit's own name ("" = nothing is planted, the scenario itself
    is the trap). `shown_by`: a text that the target's log must hold, for a bug that must NOT be complained about: the
    proof that it happened. `twin`: the scenario of the healthy twin when that is not the same without the bug.
    `or_unknown`: the run as a whole may be unknown; the check is what counts, the load may be too much for the
    generator.
    """

    name: str
    title: str
    scenario: Scenario
    checks: tuple[str, ...]
    verdict: str = INVALID
    planted: str | None = None
    shown_by: str = ""
    twin: Scenario | None = None
    or_unknown: bool = False

    @property
    def bug(self) -> str:
        return self.name if self.planted is None else self.planted

    @property
    def twin_plan_of(self) -> Scenario:
        return self.twin or self.scenario


def _raft(run_time_s: float, users: int, *faults: str, jitter_s: float = 0.5, **more: Any) -> Scenario:
    return Scenario("raft", "raft_kv", run_time_s, users, faults=faults, jitter_s=jitter_s, **more)


# --- replicated store: short runs, many writes at risk at each fault --------------------------------------------
# A starved machine spends the first seconds of a run on starting users; the faults keep away from the end therefore.

_TWO_KILLS: Final = ("kill leader @1.5s restart 0.7s", "kill leader @4.5s restart 0.7s")
_KILLS = _raft(9, 10, *_TWO_KILLS, jitter_s=0.8, options={"depth": 4, "keys": 20})
# So many keys that what is lost is nearly always the last write of its key: no later one covers it.
_MANY_KEYS = _raft(9, 20, *_TWO_KILLS, jitter_s=0.8, options={"depth": 4, "keys": 2000})
_STEADY = _raft(6, 10, options={"depth": 2, "keys": 10})
_PAUSES = _raft(10, 20, "pause leader @1s for 2s", "pause leader @4.5s for 2s", options={"depth": 2, "keys": 8})
# Each lane asks now and then: at the end of the pause some still wait for the old leader, others have left it.
_SHORT_PAUSES = _raft(
    10, 40, "pause leader @1.5s for 1.25s", "pause leader @5s for 1.25s", rate="120/s", options={"keys": 6}
)
_PIPELINED = _raft(6, 4, options={"depth": 16, "keys": 4})
_FOLLOWER_KILLED = _raft(8, 10, "kill follower @2.5s restart 0.5s", options={"depth": 2, "keys": 20})
_SNAPSHOTS = replace(_FOLLOWER_KILLED, arguments=("--snapshot-entries", "300"))
# Half a minute of patience for the late write; at this rate it is late in every respect, and the run stays small.
_TIMEOUTS = _raft(36, 20, rate="200/s", options={"keys": 10, "timeout": 1})
_HOT_KEY = _raft(10, 500, options={"keys": 1, "timeout": 1})
_TERM = _raft(6, 5, "term n1 @1s restart 0.5s")
_ONE_KILL = _raft(8, 5, "kill leader @2s restart 0.7s", evidence={"recovery_within_s": 4})
# A kill waits up to a second for writes that it may meet (docs/faults.md); here none come.
_ONLY_READS = _raft(8, 2, "kill leader @3s restart 0.5s", rate="10/s", options={"mix": "get=1"})

# --- healthy stores whose leader is killed: nobody may be accused ---------------------------------------------------

HEALTHY: Final[Mapping[str, Scenario]] = {
    "raft": _KILLS,
    # etcd elects within a second or two; the second kill comes when the first victim is long back.
    "etcd": Scenario(
        "etcd",
        "raft_kv",
        run_time_s=12,
        users=10,
        options={"depth": 2, "keys": 20},
        faults=("kill leader @1.5s restart 1s", "kill leader @6s restart 1s"),
        jitter_s=1.0,
    ),
}

# --- request and reply --------------------------------------------------------------------------------------------

_ECHOES = Scenario("envelope", "envelope", 6, users=8, options={"depth": 8, "timeout": 1})
_LARGE = Scenario("envelope", "envelope", 6, users=4, options={"payload_bytes": 400_000, "depth": 2, "timeout": 2})
_OPEN_LOAD = Scenario("envelope", "envelope", 8, users=20, rate="200/s", thresholds={"p99{envelope echo}": "< 1s"})
_FRAMED_ACKS: Final[Mapping[str, Option]] = {"ack": "framed", "f00d_connections": "reuse", "depth": 4}
_PACKETS = Scenario("f00d", "f00d", 6, users=8, arguments=("--ack", "framed"), options=_FRAMED_ACKS)
_JSONRPC: Final[Mapping[str, Option]] = {"depth": 4, "timeout": 1, "dialect": "jsonrpc"}
_CALLS = Scenario("websocket_rpc", "websocket_rpc", 6, users=8, options=_JSONRPC)

# --- the table ----------------------------------------------------------------------------------------------------

_ORDER: Final = ("linearizability", "durability", "duplicates")
_LOST: Final = ("durability", "linearizability")
_TWICE: Final = ("duplicates",)
_DECIDED: Final = ("linearizability",)
_FAULTS: Final = ("faults",)
_LIVENESS: Final = ("liveness",)
_LIMITS: Final = ("thresholds",)
_REPLIES: Final = ("protocol",)

# fmt: off
_EXHIBITS: Final = (
    Exhibit("ack-before-replication", "acknowledged before replication, the leader is killed", _KILLS, _LOST),
    Exhibit("lost-last-write", "the same when it is the last write of its key", _MANY_KEYS, _LOST,
            planted="ack-before-replication"),
    Exhibit("stale-follower-read", "a follower answers reads from what it has", _STEADY, _ORDER),
    Exhibit("stale-leader-read", "a paused and resumed leader answers reads from what it had", _PAUSES, _ORDER),
    Exhibit("applied-twice", "a retry is applied twice when its reply was lost in a failover", _KILLS, _TWICE),
    Exhibit("swapped-replies", "two pipelined cas replies of one key with swapped ids", _PIPELINED, _ORDER),
    Exhibit("other-key", "a read is answered with a value of another key", _STEADY, _ORDER),
    Exhibit("split-brain", "two leaders accept a write from one version", _SHORT_PAUSES, _ORDER),
    Exhibit("rejected-write-visible", "a refused write is applied all the same", _STEADY, _ORDER),
    Exhibit("late-write", "a write that timed out lands 30 s later: allowed", _TIMEOUTS, _DECIDED, VALID,
            shown_by="late_write_landed"),
    Exhibit("diverged-replay", "one restarted node leaves out entries of its log", _FOLLOWER_KILLED, _ORDER),
    Exhibit("diverged-snapshot", "one restarted node restores its snapshot wrongly", _SNAPSHOTS, _ORDER),
    Exhibit("hot-key", "500 clients on two keys, 5 % of the outcomes unknown: an answer, no hang", _HOT_KEY, _DECIDED,
            VALID, planted="unanswered-writes", or_unknown=True),
    Exhibit("silent-fault", "a node does not hear SIGTERM: the fault did not happen", _TERM, _FAULTS, UNKNOWN,
            planted="deaf-to-term"),
    Exhibit("too-little-load", "a leader is killed while nothing is written", _ONLY_READS, _FAULTS,
            UNKNOWN, planted="", twin=_ONE_KILL),
    Exhibit("livelock", "after a failover no write succeeds again", _ONE_KILL, _LIVENESS),
    Exhibit("freeze", "the server stands still for 2 s: p99 must show it", _OPEN_LOAD, _LIMITS, MISSED),
    Exhibit("swapped-ids", "two pipelined echoes with swapped ids", _ECHOES, _REPLIES),
    Exhibit("wrong-connection", "a reply on the wrong connection", _ECHOES, _REPLIES),
    Exhibit("reused-id", "a late reply under the id of a later request", _ECHOES, _REPLIES),
    Exhibit("chunk-boundary", "a payload damaged where two chunks meet", _LARGE, _REPLIES),
    Exhibit("wrong-version", "the echo names another version", _ECHOES, _REPLIES),
    Exhibit("altered-timestamp", "the echo has another timestamp", _ECHOES, _REPLIES),
    Exhibit("ack-never-sent", "a device acknowledges a packet that was never sent", _PACKETS, _REPLIES),
    Exhibit("ack-of-another", "a device acknowledges another packet", _PACKETS, _REPLIES),
    Exhibit("result-of-another", "the result of another call", _CALLS, _REPLIES),
    Exhibit("result-and-error", "a result and an error in one reply", _CALLS, _REPLIES),
    Exhibit("missing-reply", "a call without reply", _CALLS, _REPLIES),
    Exhibit("duplicated-reply", "a reply twice", _CALLS, _REPLIES),
)
# fmt: on

CATALOGUE: Final[Mapping[str, Exhibit]] = {exhibit.name: exhibit for exhibit in _EXHIBITS}
