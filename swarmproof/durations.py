"""Durations and rates as people write them: `250ms`, `5s`, `1m30s`, `20s ± 2s`, `2000/s`."""

import re
from typing import Final

from records.rates import parse_stages, show_stages

UNITS_S: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h)?")
_PLUS_MINUS = re.compile(r"±|\+-|\+/-")
FORMS = "such as 250ms, 5s or 1m30s"


def parse_duration_s(text: str | float) -> float:
    """Seconds. A bare number is seconds. Errors: ValueError with a sentence."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        if text < 0:
            raise ValueError(f"{text} is negative; a duration is written {FORMS}")
        return float(text)
    written = str(text).strip()
    total, position = 0.0, 0
    while position < len(written):
        part = _PART.match(written, position)
        if part is None or (part[2] is None and part[0] != written):
            raise ValueError(f"{text!r} is not a duration; write it {FORMS}")
        total += float(part[1]) * UNITS_S[part[2] or "s"]
        position = part.end()
        while position < len(written) and written[position] == " ":
            position += 1
    if not written:
        raise ValueError(f"a duration is missing; write it {FORMS}")
    return total


def parse_period_s(text: str | float) -> tuple[float, float]:
    """`20s ± 2s` as (20.0, 2.0); without ± the second is 0. Errors: ValueError with a sentence."""
    if not isinstance(text, str):
        return parse_duration_s(text), 0.0
    parts = _PLUS_MINUS.split(text)
    if len(parts) > 2:
        raise ValueError(f"{text!r} has more than one ±; write it as in 20s ± 2s")
    period_s = parse_duration_s(parts[0])
    jitter_s = parse_duration_s(parts[1]) if len(parts) == 2 else 0.0
    if period_s <= 0:
        raise ValueError(f"{text!r} is not a period; it must be longer than nothing, as in 20s ± 2s")
    if jitter_s >= period_s:
        raise ValueError(f"in {text!r} the part after ± must be shorter than the period")
    return period_s, jitter_s


def parse_rate_per_s(text: str | float) -> float:
    """`2000/s`, `2,000/s`, `120/m` or a bare number (per second). Errors: ValueError with a sentence."""
    mistake = ValueError(f"{text!r} is not a rate; write it such as 2000/s or 120/m")
    if isinstance(text, bool):
        raise mistake
    if isinstance(text, int | float):
        rate = float(text)
    else:
        number, slash, unit = text.replace(",", "").replace("_", "").replace(" ", "").partition("/")
        if slash and unit not in ("s", "m", "h"):
            raise mistake
        try:
            rate = float(number) / UNITS_S[unit or "s"]
        except ValueError:
            raise mistake from None
    if not 0 < rate < float("inf"):
        raise mistake
    return rate


def parse_load_rate(text: str | float) -> str:
    """The rate of an open load, with its stages, as the users read it: `2000`, `0..500 for 30s then 500`.

    Errors: ValueError with a sentence.
    """
    if isinstance(text, bool):
        raise ValueError(f"{text!r} is not a rate; write it such as 2000/s or 0..5000 in 30s")
    return show_stages(parse_stages(f"{text:.12g}" if isinstance(text, int | float) else text))


def show_s(seconds: float) -> str:
    """A duration for a person: `0.41 s`, `1 min 30 s`."""
    if seconds >= 60:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{seconds:.2f} s".replace(".00 s", " s") if seconds < 10 else f"{seconds:.1f} s".replace(".0 s", " s")
