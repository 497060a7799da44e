"""What the judge says: three values, one per check, and the worst of them for the run.

``invalid`` > ``unknown`` > ``valid``. A check that has nothing to do with a run (no key-value operations, no
faults) says ``not applicable`` and does not count. Thresholds are apart: a run can be correct and too slow.
"""

from dataclasses import dataclass, field
from typing import Any

VALID = "valid"
INVALID = "invalid"
UNKNOWN = "unknown"
NOT_APPLICABLE = "not applicable"
#: Only the thresholds check says this: correct, but outside a limit of the plan.
MISSED = "missed"

EXIT_VALID = 0
EXIT_INVALID = 1
EXIT_UNKNOWN = 2
EXIT_HARNESS_FAILED = 3
EXIT_THRESHOLD = 4

_SEVERITY = {NOT_APPLICABLE: 0, MISSED: 0, VALID: 1, UNKNOWN: 2, INVALID: 3}


#: What a valid run's one line is about, in this order; the other checks stand in the report.
_HEADLINE = ("linearizability", "durability", "protocol", "faults", "thresholds")


def grouped(number: int) -> str:
    """Thousands apart: 118 204."""
    return f"{number:,}".replace(",", " ")


@dataclass(slots=True)
class Check:
    """One question and its answer. ``reason`` is one sentence; ``evidence`` the counts behind it."""

    name: str
    verdict: str
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)
    counterexample: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "name": self.name,
            "verdict": self.verdict,
            "reason": self.reason,
            "evidence": self.evidence,
        }
        if self.counterexample is not None:
            result["counterexample"] = self.counterexample
        return result


@dataclass(slots=True)
class Verdict:
    """The answer for a run or a history."""

    checks: list[Check]
    invalid_keys: list[str] = field(default_factory=list)
    unknown_keys: list[str] = field(default_factory=list)
    operations: int = 0
    judged_in_s: float = 0.0
    #: What failed in the harness itself, a sentence each: a lost worker, a load that did not begin.
    harness_problems: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The worst of the checks; without any that counts there was no data, which is ``unknown``."""
        counting = [check.verdict for check in self.checks if _SEVERITY[check.verdict]]
        return max(counting, key=_SEVERITY.__getitem__, default=UNKNOWN)

    @property
    def missed_threshold(self) -> bool:
        return any(check.verdict == MISSED for check in self.checks)

    @property
    def exit_code(self) -> int:
        """0 valid, 1 invalid, 2 unknown, 3 when the harness failed, 4 valid but a threshold was missed.

        What was proven against the server stands, whatever became of the harness.
        """
        if self.harness_problems and self.verdict != INVALID:
            return EXIT_HARNESS_FAILED
        code = {VALID: EXIT_VALID, INVALID: EXIT_INVALID, UNKNOWN: EXIT_UNKNOWN}[self.verdict]
        return EXIT_THRESHOLD if code == EXIT_VALID and self.missed_threshold else code

    @property
    def counterexample(self) -> dict[str, Any] | None:
        """The first counterexample of the checks."""
        return next((check.counterexample for check in self.checks if check.counterexample), None)

    def check(self, name: str) -> Check:
        """The check of that name. Errors: KeyError."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    @property
    def summary(self) -> str:
        """The reasons that carry the verdict, in one line."""
        worst = self.verdict
        reasons = [check.reason for check in self.checks if check.verdict == worst]
        if worst == VALID:
            valid = {check.name: check.reason for check in self.checks if check.verdict == VALID}
            reasons = [valid[name] for name in _HEADLINE if name in valid] or reasons
        reasons += [check.reason for check in self.checks if check.verdict == MISSED]
        return "; ".join(reasons) if reasons else "there is nothing to judge"

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "summary": self.summary,
            "checks": [check.to_json() for check in self.checks],
            "invalid_keys": self.invalid_keys,
            "unknown_keys": self.unknown_keys,
            "operations": self.operations,
            "harness_problems": self.harness_problems,
            "judged_in_s": round(self.judged_in_s, 3),
        }
