"""The load generator's own health in a few lines: whether what it measured can be believed, and what to do if not."""

from typing import Any


def generator_lines(load: dict[str, Any]) -> list[str]:
    """Of run.json's `load`; [] when it says nothing."""
    parts = []
    p99_s, max_s = load.get("hub_lag_p99_s"), load.get("hub_lag_max_s")
    if isinstance(p99_s, int | float):
        most = f", at most {_ms(max_s)}" if isinstance(max_s, int | float) else ""
        parts.append(f"woke its users {_ms(p99_s)} late or less (p99{most})")
    unread_s, longest_s = load.get("unread_p99_s"), load.get("unread_max_s")
    if isinstance(unread_s, int | float) and isinstance(longest_s, int | float):
        parts.append(f"read replies {_ms(unread_s)} after they came or sooner (p99, at most {_ms(longest_s)})")
    share = load.get("generator_cpu_share")
    if isinstance(share, int | float):
        parts.append(f"used {share:.0%} of a core")
    lagged = load.get("lagged_seconds")
    if isinstance(lagged, list) and lagged:
        parts.append(f"lagged in {len(lagged)} seconds, whose latencies contain its own")
    if load.get("rate"):
        parts.append(f"dropped {load.get('dropped') or 0} arrivals")
    if clocks := clock_text(load):
        parts.append(clocks)
    lines = ["; ".join(parts)] if parts else []
    little = load.get("little")
    if isinstance(little, dict) and little.get("text"):
        lines.append(str(little["text"]))
    if lost := lost_text(load):
        lines.append(lost)
    if dropped := load.get("dropped"):
        lines.append(
            f"{dropped} arrivals were DROPPED: no user was free in time; use more users (-u, --depth) or workers, "
            "or a lower rate"
        )
    if advice := load.get("generator_advice"):
        lines.append(str(advice))
    return lines


def clock_text(load: dict[str, Any]) -> str:
    """How far apart the clocks of the workers' machines are; "" when they share one."""
    clocks = load.get("clocks")
    known = [clock for clock in clocks.values() if isinstance(clock, dict)] if isinstance(clocks, dict) else []
    apart = [clock for clock in known if not clock.get("shared")]
    if not apart:
        return ""
    error_s = max(float(clock.get("error_s") or 0.0) for clock in apart)
    return f"{len(apart)} of {len(known)} workers have clocks of their own, known to ±{_ms(error_s)}"


def lost_text(load: dict[str, Any]) -> str:
    """Which requests went with lost workers, "" when none was lost."""
    lost = load.get("lost_workers") or []
    if not lost:
        return ""
    parts = []
    unreported, about = load.get("unreported_requests"), load.get("unsalvaged_requests_about")
    if unreported:
        parts.append(f"{unreported} requests recorded but not reported are missing from Locust's table only")
    if about:
        parts.append(f"about {about} requests are lost altogether")
    if arrivals := load.get("lost_arrivals_about"):
        parts.append(f"about {arrivals} arrivals are in no count: not issued, or not reported")
    who = f"{len(lost)} workers were" if len(lost) > 1 else "one worker was"
    return f"{who} lost: {'; '.join(parts) or 'nothing that was recorded is missing'}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"
