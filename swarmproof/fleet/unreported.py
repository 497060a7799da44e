"""What lost workers took with them: how many requests are in no report, and how many in no file either.

A worker on the master's machine writes into the run directory itself: what it had not reported is missing from
Locust's table and from nothing else, and can be counted. What one elsewhere had not reported is gone; about how much
that was is known from how much came with each of its reports.
"""

from typing import Any

from records.latency import Delta, LatencyStore


class Unreported:
    """One run's, in the process that commands it."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._reports: dict[str, list[int]] = {}
        self._is_whole = True

    def heard(self, worker: str, deltas: list[Delta]) -> None:
        """A report of this worker, and what came with it."""
        operations = [seconds for delta in deltas for seconds in delta["operations"].values()]
        count = sum(sum(outcomes) for seconds in operations for outcomes, *_ in seconds.values())
        self._reports.setdefault(worker, []).append(count)

    def reset(self) -> None:
        """Locust's statistics begin anew: reports and files cannot be compared any more."""
        self._is_whole = False

    def facts(
        self, reported: LatencyStore, recorded: LatencyStore, lost: list[str], unsalvaged: list[str]
    ) -> dict[str, Any]:
        """For run.json; {} when no worker was lost. `reported` came in reports, `recorded` is in the files."""
        if not lost:
            return {}
        missing = sum(recorded.outcomes()) - sum(reported.outcomes())
        rates = [sum(counts) / len(counts) for worker in unsalvaged if (counts := self._reports.get(worker))]
        return {
            "unreported_requests": max(0, missing) if self._is_whole else None,
            "unsalvaged_requests_about": round(sum(rates)),
        }
