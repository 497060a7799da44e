"""How the device behaves: one mode, or a script of steps.

    SUCCESS       acknowledge at once
    DELAY         acknowledge `delay_s` later (2.0 s)
    DISCONNECT    accept the connection, then close it
    TIMEOUT       never answer
    REJECT        refuse connections: nothing listens

A script is a list of steps, `MODE[:SECONDS][*TIMES]`, separated by commas: "DISCONNECT,SUCCESS" fails the first
attempt and serves all later ones; "SUCCESS*3,DELAY:0.5,TIMEOUT" goes on as it reads. Each step but the last is used
up by one attempt (TIMES of them); the last one stays. An attempt is a packet, or, for DISCONNECT, a connection.
Nobody sees a refused connection, so REJECT in a script takes SECONDS, unless it is the last step.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_DELAY_S = 2.0  # seed 003
MAX_STEP_S = 3600.0
MAX_STEPS = 1000  # a script is written by hand
MAX_TIMES = 1_000_000


class Mode(StrEnum):
    SUCCESS = "SUCCESS"
    DELAY = "DELAY"
    DISCONNECT = "DISCONNECT"
    TIMEOUT = "TIMEOUT"
    REJECT = "REJECT"


_STEP = re.compile(r"\s*(?P<mode>[A-Za-z]+)(?::(?P<seconds>[0-9.]+))?(?:\*(?P<times>[0-9]+))?\s*\Z")
_WITH_SECONDS = frozenset({Mode.DELAY, Mode.REJECT})


class BadScript(ValueError):
    """A script that cannot be read; its text is the sentence for the user."""


@dataclass(frozen=True, slots=True)
class Step:
    """`seconds`: the delay of DELAY, the duration of REJECT (None: see the server's options, or for ever)."""

    mode: Mode
    seconds: float | None = None
    times: int = 1

    def __str__(self) -> str:
        seconds = "" if self.seconds is None else f":{self.seconds:g}"
        return f"{self.mode}{seconds}" + (f"*{self.times}" if self.times > 1 else "")


def parse_script(text: str) -> list[Step]:
    """The steps of a script. Raises BadScript.

    >>> [str(step) for step in parse_script("disconnect*2, DELAY:0.5, SUCCESS")]
    ['DISCONNECT*2', 'DELAY:0.5', 'SUCCESS']
    """
    parts = text.split(",")
    if len(parts) > MAX_STEPS:
        raise BadScript(f"a script has at most {MAX_STEPS} steps, this one has {len(parts)}")
    steps = [_parse_step(part) for part in parts]
    for step in steps[:-1]:
        if step.mode is Mode.REJECT and step.seconds is None:
            raise BadScript("REJECT before the end of a script needs its seconds, such as REJECT:0.5")
        if step.mode is Mode.REJECT and step.times > 1:
            raise BadScript("REJECT takes seconds, not times: nobody counts refused connections")
    return steps


def _parse_step(text: str) -> Step:
    match = _STEP.match(text)
    if match is None or match["mode"].upper() not in Mode.__members__:
        raise BadScript(f"{text.strip()[:40]!r} is no step; write MODE[:SECONDS][*TIMES] with one of {', '.join(Mode)}")
    mode = Mode(match["mode"].upper())
    seconds = None
    if match["seconds"] is not None:
        if mode not in _WITH_SECONDS:
            raise BadScript(f"{mode} takes no seconds; only DELAY and REJECT do")
        try:
            seconds = float(match["seconds"])
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= MAX_STEP_S:
            raise BadScript(f"{match['seconds'][:40]} is no number of seconds from 0 to {MAX_STEP_S:g}")
    times = int(match["times"]) if match["times"] and len(match["times"]) < 10 else 1 if not match["times"] else 0
    if not 1 <= times <= MAX_TIMES:
        raise BadScript(f"a step is repeated 1 to {MAX_TIMES} times")
    return Step(mode, seconds, times)


class Script:
    """Where the device stands in its script.

    >>> script = Script(parse_script("DISCONNECT,SUCCESS"))
    >>> script.take().mode, script.take().mode, script.take().mode
    (<Mode.DISCONNECT: 'DISCONNECT'>, <Mode.SUCCESS: 'SUCCESS'>, <Mode.SUCCESS: 'SUCCESS'>)
    """

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps
        self._index = 0
        self._taken = 0  # of the current step

    @property
    def current(self) -> Step:
        return self._steps[self._index]

    @property
    def last(self) -> bool:
        return self._index == len(self._steps) - 1

    def take(self) -> Step:
        """The current step, used up by one attempt."""
        step = self.current
        self._taken += 1
        if self._taken >= step.times:
            self.advance()
        return step

    def advance(self) -> None:
        """Go to the next step, if there is one."""
        if not self.last:
            self._index += 1
            self._taken = 0

    def remaining(self) -> list[str]:
        """The current step and what is to come, as a script reads."""
        current = self.current
        left = current.times - self._taken if not self.last else 1
        return [str(Step(current.mode, current.seconds, left)), *map(str, self._steps[self._index + 1 :])]
