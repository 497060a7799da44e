"""The smaller checks: linearizability as a check, duplicates, liveness, and the load generator's own health."""

from typing import Any

import numpy as np

from swarmproof.judge.appends import ABORTED, APPLIED_TWICE
from swarmproof.judge.case import NS_PER_S, Case
from swarmproof.judge.explain import counterexample
from swarmproof.judge.faulting import is_on_cluster
from swarmproof.judge.history import APPEND, CAS, NEVER, STATUS_OK
from swarmproof.judge.lineage import CYCLE, SPLIT_BRAIN
from swarmproof.judge.linearizability import REFUSED_MATCH
from swarmproof.judge.verdict import INVALID, NOT_APPLICABLE, UNKNOWN, VALID, Check, grouped

#: After the last heal a store must acknowledge writes again within this time: twenty election timeouts.
RECOVERY_BOUND_S = 10.0

#: A write called later than this before the bound (or its second half) says nothing of whether the store recovered.
FAIR_CHANCE_NS = NS_PER_S

#: The generator's own event loop may wake this late before its latencies are no longer the server's.
MAX_HUB_LAG_S = 0.25

#: What else the generator says of itself, for whoever doubts its figures.
_GENERATOR_FACTS = (
    "hub_lag_max_s",
    "unread_p99_s",
    "unread_max_s",
    "generator_cpu_share",
    "generator_advice",
    "issued",
    "unissued",
    "unreported_requests",
    "unsalvaged_requests_about",
    "lost_arrivals_about",
    "clocks",
    "little",
)

_KEYS_NAMED = 3

#: Findings that name the fault are shown before those that only say that something is impossible.
_TELLING = frozenset({ABORTED, APPLIED_TWICE, CYCLE, REFUSED_MATCH, SPLIT_BRAIN})


def linearizability(case: Case) -> Check:
    name = "linearizability"
    if not len(case.history):
        if case.expects_history():
            return Check(name, UNKNOWN, "the store was loaded but the history is empty")
        return Check(name, NOT_APPLICABLE, "no key-value operations in this run")
    result = case.linearizability
    keys = len(case.history.keys)
    evidence: dict[str, Any] = {
        "operations": result.operations,
        "keys": keys,
        "keys_by_version": len(result.by_version),
        "keys_searched": len(result.searched),
        "invalid_keys": len(result.findings),
        "unknown_keys": len(result.unknown),
    }
    if case.clock_errors_ns:
        evidence["widened_by_s"] = round(max(case.clock_errors_ns.values()) / NS_PER_S, 6)
    if result.findings:
        findings = [result.findings[key] for key in sorted(result.findings)]
        named = ", ".join(case.history.keys[finding.key] for finding in findings[:_KEYS_NAMED])
        kinds = sorted({finding.kind for finding in findings})
        reason = f"{len(findings)} of {keys} keys are not linearizable ({named}{', …' if len(findings) > 3 else ''})"
        evidence["kinds"] = kinds
        simplest = min(findings, key=lambda found: (found.kind not in _TELLING, len(found.rows), found.key))
        return Check(name, INVALID, reason, evidence, counterexample(case, simplest))
    if result.unknown:
        key, why = next(iter(sorted(result.unknown.items())))
        reason = f"{len(result.unknown)} of {keys} keys could not be decided; {case.history.keys[key]}: {why}"
        return Check(name, UNKNOWN, reason, evidence)
    if not result.operations:
        return Check(name, UNKNOWN, "no key-value operation was answered", evidence)
    return Check(name, VALID, f"linearizable: {grouped(result.operations)} operations on {keys} keys", evidence)


def duplicates(case: Case) -> Check:
    name = "duplicates"
    history = case.history
    writes = history.is_write
    appends = int(np.count_nonzero(writes & (history.kind == APPEND)))
    swaps = int(np.count_nonzero(writes & (history.kind == CAS)))
    if not appends and not swaps:
        return Check(name, NOT_APPLICABLE, "no append or cas in this run: nothing shows a request applied twice")
    findings = case.linearizability.lineage.findings
    twice = [finding for finding in findings.values() if finding.kind in (APPLIED_TWICE, CYCLE)]
    evidence: dict[str, Any] = {
        "appends": appends,
        "cas": swaps,
        "applied_twice": len(twice),
        "branched": sum(finding.kind == SPLIT_BRAIN for finding in findings.values()),
    }
    if twice:
        reason = f"a request was applied twice on {len(twice)} keys"
        return Check(name, INVALID, reason, evidence, counterexample(case, twice[0]))
    seen = int(np.count_nonzero(history.is_read))
    if not seen:
        return Check(name, UNKNOWN, "nothing was read, so nobody could see a request applied twice", evidence)
    return Check(
        name, VALID, f"none of {grouped(appends)} appends and {grouped(swaps)} cas was applied twice", evidence
    )


def liveness(case: Case) -> Check:
    """After the last heal, writes succeed again within a bound."""
    name = "liveness"
    healed = [fault.healed_ns for fault in case.faults if is_on_cluster(fault) and fault.healed_ns is not None]
    if not healed:
        return Check(name, NOT_APPLICABLE, "no fault of the cluster was healed in this run")
    last = max(healed)
    history = case.history
    bound_s = case.required("recovery_within_s", RECOVERY_BOUND_S)
    bound_ns = int(bound_s * NS_PER_S)
    # A write that had waited through the outage counts as well as a new one.
    ended_after = (history.ret >= last) & (history.ret != NEVER)
    after = history.is_write & ((history.call >= last) | ended_after)
    # One that was called just before the bound could not be acknowledged by then, whatever the store did.
    chance_ns = min(FAIR_CHANCE_NS, bound_ns // 2)
    tried = int(np.count_nonzero(after & (history.call <= last + bound_ns - chance_ns)))
    done = history.ret[after & (history.status == STATUS_OK)]
    evidence: dict[str, Any] = {
        "last_heal_s": round(case.seconds(last), 3),
        "writes_tried_after": int(np.count_nonzero(after)),
        "writes_tried_within_bound": tried,
        "writes_acknowledged_after": len(done),
        "bound_s": bound_s,
    }
    if len(done):
        took_s = (int(done.min()) - last) / NS_PER_S
        evidence["first_write_after_s"] = round(took_s, 3)
        if took_s <= bound_s:
            return Check(name, VALID, f"writes succeeded again {took_s:.2f} s after the last heal", evidence)
    if not tried:
        when = "after the last heal" if not after.any() else f"in the {bound_s:g} s after the last heal"
        return Check(name, UNKNOWN, f"no write was tried {when}", evidence)
    watched_s = (_watched_until(case) - last) / NS_PER_S
    if watched_s < bound_s and not len(done):
        reason = f"no write succeeded after the last heal, but the load ended {max(watched_s, 0):.1f} s after it"
        return Check(name, UNKNOWN, reason, evidence)
    told = f"no write succeeded within {bound_s:g} s of the last heal, though {tried} were tried"
    return Check(name, INVALID, f"{told}: the store did not recover", evidence)


def _watched_until(case: Case) -> int:
    """Until when writes were tried: the end of the load, or the last write after it; else the last operation."""
    history = case.history
    ended = np.where(history.ret != NEVER, history.ret, history.call)
    end_ns = case.load.get("end_ns")
    if not isinstance(end_ns, int) or isinstance(end_ns, bool):
        return int(ended.max())
    return max(end_ns, int(ended[history.is_write].max()))


def generator(case: Case) -> Check | None:
    """The load generator dropped nothing, was not the bottleneck itself, and lost no worker unnoticed."""
    name = "generator"
    load = case.load
    if not load:
        return None
    lost = load.get("lost_workers")
    lost = lost if isinstance(lost, list) else []
    dropped = load.get("dropped", 0)
    lag_s = load.get("hub_lag_p99_s")
    evidence: dict[str, Any] = {"lost_workers": len(lost), "dropped": dropped, "hub_lag_p99_s": lag_s}
    evidence |= {name: load[name] for name in _GENERATOR_FACTS if name in load}
    if isinstance(dropped, int) and dropped > 0:
        return Check(
            name, UNKNOWN, f"the generator dropped {dropped} arrivals that it could not issue in time", evidence
        )
    if isinstance(lag_s, int | float) and lag_s > MAX_HUB_LAG_S:
        reason = f"the generator itself was the bottleneck: its event loop woke up to {lag_s:.2f} s late"
        return Check(name, UNKNOWN, reason, evidence)
    if lost:
        reason = f"{len(lost)} workers were lost; what they had not yet written is missing from the percentiles"
        return Check(name, UNKNOWN, reason, evidence)
    return Check(name, VALID, "the generator kept up and no worker was lost", evidence)
