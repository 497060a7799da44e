"""The judge: was every reply right, and is the history one that a correct store could have produced?

>>> from swarmproof.judge import judge
>>> judge("runs/latest").verdict
'valid'

Pure and offline: it reads a run directory (or a history) and writes verdict.json; it imports only ``records``.
"""

from swarmproof.judge.judging import check_history, judge
from swarmproof.judge.linearizability import Limits
from swarmproof.judge.verdict import (
    EXIT_HARNESS_FAILED,
    EXIT_INVALID,
    EXIT_THRESHOLD,
    EXIT_UNKNOWN,
    EXIT_VALID,
    INVALID,
    MISSED,
    NOT_APPLICABLE,
    UNKNOWN,
    VALID,
    Check,
    Verdict,
)

__all__ = [
    "EXIT_HARNESS_FAILED",
    "EXIT_INVALID",
    "EXIT_THRESHOLD",
    "EXIT_UNKNOWN",
    "EXIT_VALID",
    "INVALID",
    "MISSED",
    "NOT_APPLICABLE",
    "UNKNOWN",
    "VALID",
    "Check",
    "Limits",
    "Verdict",
    "check_history",
    "judge",
]
