"""Rates of an open load as people write them, and as stages of a timeline.

    5000                                      constant, per second (also 5000/s, 5,000/s, 300000/m)
    0..5000 in 30s                            a ramp; what it ends at goes on to the end of the run
    1000 for 10s then 2000 for 10s then 500   steps
    0..5000 in 30s, 5000 for 1m, 5000..0 in 10s

A load whose last stage ends at 0 is over then. Used by the users (who keep to it), by plans and by the command line.
"""

import re
from typing import Final, NamedTuple

#: Above this no single schedule makes sense here, and arithmetic in nanoseconds would lose whole arrivals.
MAX_RATE_PER_S: Final = 10_000_000.0

#: A timeline is written by a person; more stages than this are a mistake.
MAX_STAGES: Final = 1_000

FORMS: Final = "2000/s, or 0..5000 in 30s, or 1000 for 10s then 2000"

_UNITS_S: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PER_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_THEN = re.compile(r"\s*;\s*|\s+then\s+|\s*,\s+")
_NUMBER = r"\d[\d,_]*(?:\.\d+)?"
_STAGE = re.compile(
    rf"(?P<first>{_NUMBER})(?:\s*\.\.\s*(?P<last>{_NUMBER}))?\s*(?:/\s*(?P<unit>[smh]))?"
    r"(?:\s+(?:in|for)\s+(?P<duration>.+))?"
)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|s|m|h)\s*)+")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")


class Stage(NamedTuple):
    """From one rate to another, in straight line. `duration_s` None: to the end of the run."""

    first_per_s: float
    last_per_s: float
    duration_s: float | None

    def __str__(self) -> str:
        rate = f"{self.first_per_s:.12g}"
        if self.last_per_s != self.first_per_s:
            rate += f"..{self.last_per_s:.12g}"
        return rate if self.duration_s is None else f"{rate} for {self.duration_s:.12g}s"


Stages = tuple[Stage, ...]


def parse_stages(text: str) -> Stages:
    """The stages of a rate. Errors: ValueError with one sentence."""
    parts = _THEN.split(text.strip())
    if len(parts) > MAX_STAGES:
        raise ValueError(f"a rate of {len(parts)} stages is too long; {MAX_STAGES} are allowed")
    stages = tuple(_stage(part, text) for part in parts)
    for stage in stages[:-1]:
        if stage.duration_s is None:
            raise ValueError(f"in the rate {text!r} only the last stage may be without a duration")
    if not any(stage.first_per_s or stage.last_per_s for stage in stages):
        raise ValueError(f"{text!r} is not a rate; write it such as {FORMS}")
    return stages


def show_stages(stages: Stages) -> str:
    """The text that `parse_stages` reads; a constant rate is a bare number."""
    return " then ".join(map(str, stages))


def _stage(text: str, whole: str) -> Stage:
    match = _STAGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{whole!r} is not a rate; write it such as {FORMS}")
    per_s = _PER_S[match["unit"] or "s"]
    first = _number(match["first"]) / per_s
    last = _number(match["last"]) / per_s if match["last"] is not None else first
    if max(first, last) > MAX_RATE_PER_S:
        raise ValueError(f"the rate {text!r} is above {MAX_RATE_PER_S:,.0f} a second")
    duration_s = None if match["duration"] is None else _duration_s(match["duration"], whole)
    if duration_s is None and first != last:
        raise ValueError(f"the ramp {text!r} needs a duration, such as {text.strip()} in 30s")
    return Stage(first, last, duration_s)


def _number(text: str) -> float:
    return float(text.replace(",", "").replace("_", ""))


def _duration_s(text: str, whole: str) -> float:
    written = text.strip()
    if _DURATION.fullmatch(written) is None:
        raise ValueError(f"{text!r} in the rate {whole!r} is not a duration; write it such as 30s or 1m30s")
    total = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(written))
    if total <= 0:
        raise ValueError(f"a stage of the rate {whole!r} lasts no time")
    return total
