"""A generator at its limit is noticed by how late it wakes and how much CPU it takes; a calm one is not."""

import time

import gevent
import numpy as np
import pytest

from records.histogram import Histogram
from records.recorder import recorder
from swarmproof.fleet.health import PROBE_EVERY_S, Health, HealthProbe


def _taken(lateness_us: list[int], cpu_share: float = 0.1) -> dict[str, object]:
    nothing = Histogram().pack()
    return {"lag": Histogram.of(np.array(lateness_us)).pack(), "unread": nothing, "cpu_share": cpu_share}


def test_a_blocked_event_loop_is_seen_for_as_long_as_it_was_blocked() -> None:
    probe = HealthProbe()
    probe.start()
    gevent.sleep(PROBE_EVERY_S * 3)
    time.sleep(PROBE_EVERY_S * 10)  # nobody else runs meanwhile
    end = time.monotonic() + PROBE_EVERY_S * 3
    while time.monotonic() < end:  # the loop's own clock stood still too: one long sleep would be cut short
        gevent.sleep(0.001)
    probe.stop()
    health = Health()
    health.add("p", probe.take())
    assert health.lag_max_s() >= PROBE_EVERY_S * 8
    # The turns that were missed count too: one long freeze must not look like one late turn.
    assert health.lag_p99_s() >= PROBE_EVERY_S * 7


def test_seconds_in_which_it_lagged_are_marked_and_others_are_not() -> None:
    probe = HealthProbe()
    probe.start()
    gevent.sleep(PROBE_EVERY_S * 3)
    begin_s = int(time.monotonic())
    time.sleep(1.5)
    gevent.sleep(PROBE_EVERY_S * 3)
    gevent.sleep(PROBE_EVERY_S * 3)
    probe.stop()
    taken = probe.take()
    health = Health()
    health.add("p", taken)
    assert {begin_s, begin_s + 1} <= health.lagged
    assert begin_s - 2 not in health.lagged
    assert health.facts()["lagged_seconds"] == sorted(health.lagged)
    elsewhere = Health()  # its monotonic clock began a day later
    monotonic_ns, wall_ns = taken["clock"]
    elsewhere.add("q", taken | {"clock": [monotonic_ns - 86_400 * 10**9, wall_ns]})
    assert elsewhere.lagged == {second + 86_400 for second in health.lagged}


def test_the_cpu_share_is_of_the_time_since_the_last_take() -> None:
    probe = HealthProbe()
    probe.start()
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    busy = probe.take()["cpu_share"]
    gevent.sleep(0.3)
    idle = probe.take()["cpu_share"]
    probe.stop()
    assert idle < busy


def test_the_worst_process_speaks_for_the_run() -> None:
    health = Health()
    health.add("calm", _taken([100] * 100))
    health.add("late", _taken([200_000] * 100, 0.97))
    assert health.lag_p99_s() == pytest.approx(0.2, rel=0.01)
    assert "97% of a core" in health.advice()
    assert "200 ms late" in health.advice()
    assert health.facts()["hub_lag_p99_s"] == pytest.approx(0.2, rel=0.01)


def test_a_calm_generator_needs_no_advice() -> None:
    health = Health()
    health.add("calm", _taken([1_000] * 100, 0.5))
    assert health.advice() == ""


def test_how_long_replies_lay_unread_is_that_of_the_worst_process_and_absent_where_nobody_knows() -> None:
    health = Health()
    health.add("calm", _taken([100]))
    assert "unread_p99_s" not in health.facts()
    for process, unread_us in (("a", [50] * 200), ("b", [3_000] * 3)):
        health.add(process, _taken([100]) | {"unread": Histogram.of(np.array(unread_us)).pack()})
    facts = health.facts()
    assert facts["unread_p99_s"] == facts["unread_max_s"] == pytest.approx(0.003, rel=0.01)


def test_a_probe_tells_what_the_recorder_was_told_since_the_last_take() -> None:
    probe = HealthProbe()
    recorder.unread.add(7_000)  # of the run before
    probe.start()
    recorder.unread.add(500)
    first, second = probe.take(), probe.take()
    probe.stop()
    assert Histogram.unpack(first["unread"]).max_us == 500
    assert Histogram.unpack(second["unread"]).total == 0


def test_a_damaged_report_is_a_value_error() -> None:
    with pytest.raises((ValueError, KeyError)):
        Health().add("p", {"lag": [1]})
