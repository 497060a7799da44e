"""Every bug of the zoo: what it does, where it is planted, the scenario that shows it, and what must be said of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from swarmproof.judge.verdict import INVALID, MISSED, UNKNOWN, VALID
from swarmproof.zoo.scenario import Scenario


@dataclass(frozen=True)
class Exhibit:
    """One bug. It is caught when the run's verdict is `verdict` because one of `checks` says so.

    `bug` is the name for `--bug` ("" = nothing is planted, the scenario itself is the trap); `shown_by` a text that
    the target's log must hold: for a bug that must NOT be complained about, the proof that it happened.
    `twin` is the scenario of the healthy twin when that is not the same without the bug.
    """

    name: str
    title: str
    scenario: Scenario
    checks: tuple[str, ...]
    verdict: str = INVALID
    bug: str = ""
    shown_by: str = ""
    twin: Scenario | None = None
    #: The run as a whole may be unknown: the check is what counts, the load may be too much for the generator.
    or_unknown: bool = False

    @property
    def twin_plan_of(self) -> Scenario:
        return self.twin or self.scenario


_LINEARIZABLE: Final = ("linearizability", "durability", "duplicates")
_LOST: Final = ("durability", "linearizability")

# --- replicated store: short runs, many writes at risk at each fault --------------------------------------------
# A starved machine spends the first seconds of a run on starting users; the faults keep away from the end therefore.

_KILLS = Scenario(
    "raft",
    "raft_kv",
    run_time_s=9,
    users=10,
    options={"depth": 4, "keys": 20},
    faults=("kill leader @1.5s restart 0.7s", "kill leader @4.5s restart 0.7s"),
    jitter_s=0.8,
)
# So many keys that what is lost is nearly always the last write of its key: no later one covers it.
_MANY_KEYS = Scenario(
    "raft",
    "raft_kv",
    run_time_s=9,
    users=20,
    options={"depth": 4, "keys": 2000},
    faults=("kill leader @1.5s restart 0.7s", "kill leader @4.5s restart 0.7s"),
    jitter_s=0.8,
)
_STEADY = Scenario("raft", "raft_kv", run_time_s=6, users=10, options={"depth": 2, "keys": 10})
_PAUSES = Scenario(
    "raft",
    "raft_kv",
    run_time_s=10,
    users=20,
    options={"depth": 2, "keys": 8},
    faults=("pause leader @1s for 2s", "pause leader @4.5s for 2s"),
    jitter_s=0.5,
)
# Each lane asks now and then: at the end of the pause some still wait for the old leader, others have left it.
_SHORT_PAUSES = Scenario(
    "raft",
    "raft_kv",
    run_time_s=10,
    users=40,
    rate="120/s",
    options={"keys": 6},
    faults=("pause leader @1.5s for 1.25s", "pause leader @5s for 1.25s"),
    jitter_s=0.5,
)
_PIPELINED = Scenario("raft", "raft_kv", run_time_s=6, users=4, options={"depth": 16, "keys": 4})
_FOLLOWER_KILLED = Scenario(
    "raft",
    "raft_kv",
    run_time_s=8,
    users=10,
    options={"depth": 2, "keys": 20},
    faults=("kill follower @2.5s restart 0.5s",),
    jitter_s=0.5,
)
_SNAPSHOTS = Scenario(
    "raft",
    "raft_kv",
    run_time_s=8,
    users=10,
    arguments=("--snapshot-entries", "300"),
    options={"depth": 2, "keys": 20},
    faults=("kill follower @2.5s restart 0.5s",),
    jitter_s=0.5,
)
# Half a minute of patience for the late write; at this rate it is late in every respect, and the run stays small.
_TIMEOUTS = Scenario("raft", "raft_kv", run_time_s=36, users=20, rate="200/s", options={"keys": 10, "timeout": 1})
_HOT_KEY = Scenario("raft", "raft_kv", run_time_s=10, users=500, options={"keys": 1, "timeout": 1})
_TERM = Scenario("raft", "raft_kv", run_time_s=6, users=5, faults=("term n1 @1s restart 0.5s",), jitter_s=0.5)
_ONE_KILL = Scenario(
    "raft",
    "raft_kv",
    run_time_s=8,
    users=5,
    faults=("kill leader @2s restart 0.7s",),
    jitter_s=0.5,
    evidence={"recovery_within_s": 4},
)
_HARDLY_ANY_LOAD = Scenario(
    "raft", "raft_kv", run_time_s=8, users=1, rate="1/s", faults=("kill leader @3s restart 0.5s",), jitter_s=0.5
)

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

_ECHOES = Scenario("envelope", "envelope", run_time_s=6, users=8, options={"depth": 8, "timeout": 1})
_LARGE = Scenario(
    "envelope", "envelope", run_time_s=6, users=4, options={"payload_bytes": 400_000, "depth": 2, "timeout": 2}
)
_OPEN_LOAD = Scenario(
    "envelope", "envelope", run_time_s=8, users=20, rate="200/s", thresholds={"p99{envelope echo}": "< 1s"}
)
_PACKETS = Scenario(
    "f00d",
    "f00d",
    run_time_s=6,
    users=8,
    arguments=("--ack", "framed"),
    options={"ack": "framed", "f00d_connections": "reuse", "depth": 4},
)
_CALLS = Scenario(
    "websocket_rpc",
    "websocket_rpc",
    run_time_s=6,
    users=8,
    options={"depth": 4, "timeout": 1, "dialect": "jsonrpc"},
)

_PROTOCOL: Final = ("protocol",)


def _store(name: str, title: str, scenario: Scenario, checks: tuple[str, ...] = _LINEARIZABLE) -> Exhibit:
    return Exhibit(name, title, scenario, checks, bug=name)


def _wire(name: str, title: str, scenario: Scenario) -> Exhibit:
    return Exhibit(name, title, scenario, _PROTOCOL, bug=name)


_EXHIBITS: Final = (
    _store("ack-before-replication", "acknowledged before replication, the leader is killed", _KILLS, _LOST),
    Exhibit(
        "lost-last-write",
        "the same when it is the last write of its key",
        _MANY_KEYS,
        _LOST,
        bug="ack-before-replication",
    ),
    _store("stale-follower-read", "a follower answers reads from what it has", _STEADY),
    _store("stale-leader-read", "a paused and resumed leader answers reads from what it had", _PAUSES),
    _store(
        "applied-twice",
        "a retry is applied twice when its acknowledgement was lost in a failover",
        _KILLS,
        ("duplicates",),
    ),
    _store("swapped-replies", "two pipelined cas replies of one key with swapped ids", _PIPELINED),
    _store("other-key", "a read is answered with a value of another key", _STEADY),
    _store("split-brain", "two leaders accept a write from one version", _SHORT_PAUSES),
    _store("rejected-write-visible", "a refused write is applied all the same", _STEADY),
    Exhibit(
        "late-write",
        "a write that timed out lands 30 s later: allowed",
        _TIMEOUTS,
        ("linearizability",),
        VALID,
        bug="late-write",
        shown_by="late_write_landed",
    ),
    _store("diverged-replay", "one restarted node leaves out entries of its log", _FOLLOWER_KILLED),
    _store("diverged-snapshot", "one restarted node restores its snapshot wrongly", _SNAPSHOTS),
    Exhibit(
        "hot-key",
        "500 clients on two keys, 5 % of the outcomes unknown: an answer, no hang",
        _HOT_KEY,
        ("linearizability",),
        VALID,
        bug="unanswered-writes",
        or_unknown=True,
    ),
    Exhibit(
        "silent-fault",
        "a node does not hear SIGTERM: the fault did not happen",
        _TERM,
        ("faults",),
        UNKNOWN,
        bug="deaf-to-term",
    ),
    Exhibit(
        "too-little-load",
        "a leader is killed while hardly anything is written",
        _HARDLY_ANY_LOAD,
        ("faults",),
        UNKNOWN,
        twin=_ONE_KILL,
    ),
    _store("livelock", "after a failover no write succeeds again", _ONE_KILL, ("liveness",)),
    Exhibit(
        "freeze",
        "the server stands still for 2 s: p99 must show it",
        _OPEN_LOAD,
        ("thresholds",),
        MISSED,
        bug="freeze",
    ),
    _wire("swapped-ids", "two pipelined echoes with swapped ids", _ECHOES),
    _wire("wrong-connection", "a reply on the wrong connection", _ECHOES),
    _wire("reused-id", "a late reply under the id of a later request", _ECHOES),
    _wire("chunk-boundary", "a payload damaged where two chunks meet", _LARGE),
    _wire("wrong-version", "the echo names another version", _ECHOES),
    _wire("altered-timestamp", "the echo has another timestamp", _ECHOES),
    _wire("ack-never-sent", "a device acknowledges a packet that was never sent", _PACKETS),
    _wire("ack-of-another", "a device acknowledges another packet", _PACKETS),
    _wire("result-of-another", "the result of another call", _CALLS),
    _wire("result-and-error", "a result and an error in one reply", _CALLS),
    _wire("missing-reply", "a call without reply", _CALLS),
    _wire("duplicated-reply", "a reply twice", _CALLS),
)

CATALOGUE: Final[Mapping[str, Exhibit]] = {exhibit.name: exhibit for exhibit in _EXHIBITS}
