"""What became of the arrivals of an open load: counted by those who issue them, reported with everything else.

    offered = issued + dropped + unissued

`dropped`: could not be issued within the bound, because every user was busy for so long. `unissued`: was due when the
run was stopped, and its turn had not come. All are zero in a closed load, where nothing is offered but what is taken.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Offered:
    """Counts, and which schedule they are of (`rate` as text, "" in a closed load)."""

    rate: str = ""
    issued: int = 0
    dropped: int = 0
    unissued: int = 0
    _taken: tuple[int, int, int] = field(default=(0, 0, 0), repr=False)

    def set(self, issued: int, dropped: int, unissued: int) -> None:
        """The counts since the run began."""
        self.issued, self.dropped, self.unissued = issued, dropped, unissued

    def take(self) -> list[int]:
        """[issued, dropped, unissued] since the last `take`."""
        now = (self.issued, self.dropped, self.unissued)
        delta = [new - old for new, old in zip(now, self._taken, strict=True)]
        self._taken = now
        return delta

    def add(self, taken: list[int]) -> None:
        """Add what another process took. Errors: ValueError, TypeError when it is not that."""
        issued, dropped, unissued = (int(number) for number in taken)
        self.issued += issued
        self.dropped += dropped
        self.unissued += unissued

    def facts(self) -> dict[str, Any]:
        """For run.json and progress; {} in a closed load."""
        if not self.rate:
            return {}
        return {"issued": self.issued, "dropped": self.dropped, "unissued": self.unissued}

    def lost_about(self, due: int) -> int:
        """How many of the `due` arrivals of the schedule are in no count: whoever had them is lost."""
        return max(0, due - (self.issued + self.dropped + self.unissued))

    def advice(self) -> str:
        """One sentence when arrivals were dropped, else nothing."""
        if not self.dropped:
            return ""
        offered = self.issued + self.dropped + self.unissued
        return (
            f"{self.dropped} of {offered} arrivals were DROPPED: no user was free in time to issue them, so the load "
            f"was less than --rate {self.rate} asked for; use more users (-u, --depth) or workers, or a lower --rate"
        )
