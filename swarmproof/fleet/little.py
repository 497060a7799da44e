"""Little's law as a check of the load generator: users = rate x mean(response time + think time), in closed load.

A user either waits for a reply or thinks. If what was measured does not fill the users' time, a part of it was lost
in the generator (stock Locust at a thousand users without think time shows 3 ms where the law gives 30). Each
process looks at the seconds in which the number of its users stood still; the master adds them up.
"""

from typing import Any, Final

#: Responses and think times fill the users' time up to this, and to what may be cut off at both ends.
WITHIN: Final = 0.02

#: Requests for each user below which too much of the time is such ends.
LEAST_CYCLES: Final = 50

_CONNECT: Final = " connect"  # part of the request that it was made for
_US_PER_NS: Final = 1e-3


class LittlesLaw:
    """One process's seconds, or those of all of them. All sums in microseconds; a lane is a place for one request."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._lanes_us = self._response_us = self._think_us = self._watched_us = 0.0
        self._count = 0
        self._users = 0
        self._since_ns = 0
        self._think_ns = 0
        self._processes = {""}
        self._gathered = (0, 0)

    def gather(self, delta: dict[str, Any]) -> None:
        """What the recorder has given away since the last time."""
        count, response_us = self._gathered
        for operation, seconds in delta["operations"].items():
            if not operation.endswith(_CONNECT):
                for (ok, failed, unknown, _), response, _service in seconds.values():
                    count += ok + failed + unknown
                    response_us += response[4]  # the sum of a packed histogram
        self._gathered = count, response_us

    def look(self, users: int, lanes: int, think_ns: int, now_ns: int) -> None:
        """Once a second, after `gather`. `think_ns`: since the run began."""
        if users and users == self._users:
            spent_us = (now_ns - self._since_ns) * _US_PER_NS
            self._watched_us += spent_us
            self._lanes_us += lanes * spent_us
            self._think_us += (think_ns - self._think_ns) * _US_PER_NS
            count, response_us = self._gathered
            self._count += count
            self._response_us += response_us
        self._gathered = (0, 0)
        self._users, self._since_ns, self._think_ns = users, now_ns, think_ns

    def take(self) -> list[float]:
        """What was added up since the last `take`, for the master."""
        taken = [self._lanes_us, self._response_us, self._think_us, self._watched_us, self._count]
        self._lanes_us = self._response_us = self._think_us = self._watched_us = 0.0
        self._count = 0
        return taken

    def add(self, process: str, taken: list[float]) -> None:
        """What another process took. Errors: ValueError, TypeError when it is not that."""
        lanes_us, response_us, think_us, watched_us, count = (float(number) for number in taken)
        self._processes = (self._processes | {process}) - {""}
        self._lanes_us += lanes_us
        self._response_us += response_us
        self._think_us += think_us
        self._watched_us += watched_us
        self._count += int(count)

    def facts(self) -> dict[str, Any]:
        """{"little": ...} for run.json, {} when there was nothing to look at."""
        if not self._count or not self._lanes_us:
            return {}
        seconds = self._watched_us / 1e6 / len(self._processes)
        lanes = self._lanes_us / 1e6 / seconds
        rate = self._count / seconds
        response_ms, think_ms = (total / self._count / 1e3 for total in (self._response_us, self._think_us))
        found = rate * (response_ms + think_ms) / 1e3
        cycles = self._count / lanes
        # Half a request of each user is cut off at either end on average, and they need not be equally long.
        holds = abs(found / lanes - 1) <= WITHIN + 1 / cycles if cycles >= LEAST_CYCLES else None
        verdict = {True: "holds", False: "DOES NOT HOLD", None: "cannot be checked, the run was too short"}[holds]
        text = f"{rate:,.1f}/s x ({response_ms:.3f} ms response + {think_ms:.3f} ms think time) = {found:.2f}"
        return {
            "little": {
                "holds": holds,
                "lanes": round(lanes, 3),
                "found": round(found, 3),
                "rate": round(rate, 3),
                "response_ms": round(response_ms, 6),
                "think_ms": round(think_ms, 6),
                "seconds": round(seconds, 3),
                "text": f"Little's law {verdict}: {text} of {lanes:.4g} users",
            }
        }


def applies(environment: Any, rate: str) -> bool:
    """In closed load (`rate` is ""), and where all users are those whose every request is recorded."""
    return not rate and all(hasattr(user_class, "client_class") for user_class in environment.user_classes)


def lanes_of(environment: Any, users: int) -> int:
    return users * int(getattr(environment.parsed_options, "depth", 1) or 1)
