"""What is missing from a run's records: the last of a worker that was lost on another machine, or the run's end.

A write that was sent and is in no history may explain a value that nobody is known to have written, and such a delete
a token that is not there. So what would convict the store from the history alone is then only unknown, and says why.
"""

from swarmproof.judge.case import Case
from swarmproof.judge.verdict import INVALID, UNKNOWN, VALID, Check

#: Checks that take the history for all that was sent.
_OF_HISTORY = frozenset({"linearizability", "durability", "duplicates"})


def softened(check: Check, case: Case) -> Check:
    """The check as it may be said of a history with a gap; unchanged when there is none."""
    if check.name == "generator" and check.verdict == VALID and _has_no_end(case):
        reason = "the process that commanded the load died before it could end the run: the records go up to there"
        return Check(check.name, UNKNOWN, reason, check.evidence)
    lost = case.unsalvaged_workers
    if not lost or check.verdict != INVALID or check.name not in _OF_HISTORY:
        return check
    workers = "a worker" if len(lost) == 1 else f"{len(lost)} workers"
    reason = f"{check.reason} - but {workers} on another machine died with operations that are in no history"
    return Check(check.name, UNKNOWN, reason, {**check.evidence, "unsalvaged_workers": len(lost)}, check.counterexample)


def _has_no_end(case: Case) -> bool:
    """A load generator writes when it began, and at its end when that was."""
    return "role" in case.load and "start_ns" in case.load and "end_ns" not in case.load
