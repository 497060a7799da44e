"""Is the load generator itself well? How late its event loop wakes a sleeper, and how much CPU its process takes.

A generator at its limit measures itself: whatever it reports then as the server's latency contains its own. The
probe is a greenlet that sleeps to absolute due times; how late it wakes is how late every other greenlet may have
been (gevent's timers alone account for up to a millisecond). Where the kernel says when replies came
(`users.kernel_times`), it is also known how long they then lay unread.
"""

import time
from collections.abc import Callable
from typing import Any

import gevent

from records.clock import read_clock, shift_ns
from records.histogram import GrowingHistogram, Histogram, merge
from records.recorder import recorder

PROBE_EVERY_S = 0.05

#: A process that uses more of one core than this has nothing left for punctuality.
CPU_SHARE_LIMIT = 0.9

#: A p99 lateness above this is worth a word: it is more than timers and a busy turn explain.
LAG_LIMIT_S = 0.05

#: So many seconds with lag are kept by name, the first of a run: an hour of nothing else says enough.
LAGGED_KEPT = 3_600

_NS_PER_US = 1_000
_NS_PER_S = 1_000_000_000


class HealthProbe:
    """One process's probe: ``start`` and ``stop`` around a test; ``take`` gives what was seen since the last.

    `idle_cpu_ns`: CPU that the process has spent on waiting (`--busy-poll`), which does not count.
    """

    def __init__(self, idle_cpu_ns: Callable[[], int] = lambda: 0) -> None:
        self._idle_cpu_ns = idle_cpu_ns
        self._lateness = GrowingHistogram()
        self._lagged: set[int] = set()
        self._greenlet: Any = None
        self._cpu_s = self._wall_s = 0.0

    def start(self) -> None:
        self.stop()
        self._lateness = GrowingHistogram()
        self._lagged = set()
        recorder.take_unread()
        self._cpu_s, self._wall_s = self._busy_s(), time.monotonic()
        self._greenlet = gevent.spawn(self._probe)

    def stop(self) -> None:
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None

    def _probe(self) -> None:
        period_ns = int(PROBE_EVERY_S * _NS_PER_S)
        due_ns = time.monotonic_ns()
        while True:
            due_ns += period_ns
            gevent.sleep(max(0.0, (due_ns - time.monotonic_ns()) / _NS_PER_S))
            late_ns = time.monotonic_ns() - due_ns
            self._lateness.add(late_ns // _NS_PER_US)
            if late_ns > LAG_LIMIT_S * _NS_PER_S:
                self._lagged.update(range(due_ns // _NS_PER_S, (due_ns + late_ns) // _NS_PER_S + 1))
            if late_ns > period_ns:  # the turns missed meanwhile were as late as they had been due
                missed = late_ns // period_ns
                for turn in range(1, missed + 1):
                    self._lateness.add((late_ns - turn * period_ns) // _NS_PER_US)
                due_ns += missed * period_ns

    def _busy_s(self) -> float:
        return time.process_time() - self._idle_cpu_ns() / _NS_PER_S

    def take(self) -> dict[str, Any]:
        """Plain data: packed lateness in microseconds, that of reading replies, the share of a core used, the seconds
        that lagged."""
        cpu_s, wall_s = self._busy_s(), time.monotonic()
        share = (cpu_s - self._cpu_s) / max(1e-9, wall_s - self._wall_s)
        self._cpu_s, self._wall_s = cpu_s, wall_s
        lateness, self._lateness = self._lateness, GrowingHistogram()
        lagged, self._lagged = sorted(self._lagged), set()
        return {
            "lag": lateness.pack(),
            "unread": recorder.take_unread().pack(),
            "cpu_share": share,
            "lagged": lagged,
            "clock": read_clock(),
        }


class Health:
    """What all load-generating processes of a run said of themselves."""

    def __init__(self) -> None:
        self.lagged: set[int] = set()  # seconds of our monotonic clock in which some process lagged
        self._clock = read_clock()
        self._lag: dict[str, Histogram] = {}
        self._unread: dict[str, Histogram] = {}
        self._cpu: dict[str, list[float]] = {}

    def add(self, process: str, taken: dict[str, Any]) -> None:
        """Add one process's ``take``. Errors: ValueError, KeyError when it is not one."""
        lag, unread = Histogram.unpack(taken["lag"]), Histogram.unpack(taken["unread"])
        self._lag[process] = merge([self._lag.get(process, Histogram()), lag])
        self._unread[process] = merge([self._unread.get(process, Histogram()), unread])
        self._cpu.setdefault(process, []).append(float(taken["cpu_share"]))
        if taken.get("lagged"):
            shift_s = round(shift_ns(taken["clock"], self._clock) / _NS_PER_S)
            self.lagged.update(int(second) + shift_s for second in taken["lagged"])

    def lag_p99_s(self) -> float:
        """The p99 lateness of the process that was worst, in seconds."""
        return _worst_p99_s(self._lag)

    def lag_max_s(self) -> float:
        return _worst_s(self._lag)

    @property
    def knows_unread(self) -> bool:
        """Whether the kernel has told when replies came."""
        return any(histogram.total for histogram in self._unread.values())

    def unread_p99_s(self) -> float:
        """How long replies lay unread in the process that was worst, p99, in seconds."""
        return _worst_p99_s(self._unread)

    def unread_max_s(self) -> float:
        return _worst_s(self._unread)

    def cpu_share(self) -> float:
        """The mean share of one core of the process that used most."""
        return max((sum(shares) / len(shares) for shares in self._cpu.values()), default=0.0)

    def facts(self) -> dict[str, Any]:
        """For run.json and the verdict's evidence."""
        unread = {"unread_p99_s": round(self.unread_p99_s(), 6), "unread_max_s": round(self.unread_max_s(), 6)}
        return {
            "hub_lag_p99_s": round(self.lag_p99_s(), 6),
            "hub_lag_max_s": round(self.lag_max_s(), 6),
            **(unread if self.knows_unread else {}),
            "generator_cpu_share": round(self.cpu_share(), 3),
            "generator_advice": self.advice(),
            "lagged_seconds": sorted(self.lagged)[:LAGGED_KEPT],
        }

    def advice(self) -> str:
        """One sentence when the generator is at its limit, else nothing."""
        limits = []
        if self.cpu_share() > CPU_SHARE_LIMIT:
            limits.append(f"used {self.cpu_share():.0%} of a core")
        if self.lag_p99_s() > LAG_LIMIT_S:
            limits.append(f"woke its users up to {self.lag_p99_s() * 1000:.0f} ms late (p99)")
        if not limits:
            return ""
        return (
            f"the load generator is at its limit: a process {' and '.join(limits)}; "
            "its latencies contain its own, so spread the users over more workers or lower the load"
        )


def _worst_p99_s(of_processes: dict[str, Histogram]) -> float:
    return max((histogram.percentile_us(99) for histogram in of_processes.values()), default=0.0) / 1e6


def _worst_s(of_processes: dict[str, Histogram]) -> float:
    return max((histogram.max_us for histogram in of_processes.values()), default=0) / 1e6
