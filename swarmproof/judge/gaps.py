"""Operations that were sent and are in no history: what a worker on another machine had not shipped when it was lost.

Such a write may explain a value that nobody is known to have written, and such a delete a token that is not there. So
what would convict the store from the history alone is then only unknown, and says why.
"""

from swarmproof.judge.case import Case
from swarmproof.judge.verdict import INVALID, UNKNOWN, Check

#: Checks that take the history for all that was sent.
_OF_HISTORY = frozenset({"linearizability", "durability", "duplicates"})


def softened(check: Check, case: Case) -> Check:
    """The check as it may be said of a history with a gap; unchanged when there is none."""
    lost = case.load.get("unsalvaged_workers")
    if not isinstance(lost, list) or not lost or check.verdict != INVALID or check.name not in _OF_HISTORY:
        return check
    workers = "a worker" if len(lost) == 1 else f"{len(lost)} workers"
    reason = f"{check.reason} - but {workers} on another machine died with operations that are in no history"
    return Check(check.name, UNKNOWN, reason, {**check.evidence, "unsalvaged_workers": len(lost)}, check.counterexample)
