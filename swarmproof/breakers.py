"""The circuit breakers of a run in words: transitions with time and reason, and the refused calls by address."""

from typing import Final

from records.breakers import BreakerChange, Breakers

#: A server that stays away makes a breaker open and half-open once a minute for as long as the run takes.
MAX_CHANGES: Final = 12
_NS_PER_S: Final = 1_000_000_000


def breaker_lines(found: Breakers, start_ns: int | None) -> list[str]:
    """Sentences in the order of time; seconds since `start_ns`. Nothing when no breaker ever did anything."""
    origin_ns = start_ns if start_ns is not None else found.changes[0].at_ns if found.changes else 0
    lines = [_change(change, (change.at_ns - origin_ns) / _NS_PER_S) for change in found.changes[:MAX_CHANGES]]
    more = len(found.changes) - MAX_CHANGES
    if more > 0:
        lines.append(f"... and {_count(more)} more changes")
    lines += [
        f"{address}: {_count(refused)} calls refused (counted apart: they are neither requests nor failures)"
        for address, refused in sorted(found.refused.items())
        if refused
    ]
    return lines


def _change(change: BreakerChange, at_s: float) -> str:
    return f"{at_s:8.1f} s  {change.address}: {change.old} -> {change.new}: {change.reason} ({change.process})"


def _count(number: int) -> str:
    # As in the reports, whose package is too much to load for a load generator.
    return f"{number:,}".replace(",", " ")
